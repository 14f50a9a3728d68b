"""SEARCH: tasks go in, records in the log database come out. Read :mod:`.session` first."""

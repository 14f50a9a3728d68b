"""The page of ``luthier report``: one self-contained HTML file about a tuning log. Start at :mod:`.page`."""

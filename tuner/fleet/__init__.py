"""Measuring on many machines, through dask.distributed (optional: ``pip install luthier[fleet]``).

    roster = survey("dask://host:8786")          # who is there, and for which target do they measure
    measurer = FleetMeasurer("dask://host:8786", target)

The session runs on one machine (:mod:`.measurer`, its event loop in :mod:`.dispatch`); on each of the others one dask
worker process (:mod:`.serve`) carries out the functions of :mod:`.remote`, which measure with the same builder and
runner processes that a session on one machine has. What goes between them is in :mod:`.messages`: decisions, not code.
"""

from .choose import choose_target, misfit
from .connect import Roster, survey
from .measurer import FleetMeasurer

__all__ = ["FleetMeasurer", "Roster", "choose_target", "misfit", "survey"]

"""``luthier worker``, and the part of ``luthier tune`` that is about workers on other machines."""

from __future__ import annotations

import logging
from argparse import Namespace

from .cli_table import table
from .target import Target
from .tuner.fleet import FleetMeasurer, choose_target, misfit, survey
from .tuner.fleet.choose import describe
from .tuner.fleet.remote import Settings
from .tuner.fleet.serve import serve


def worker(arguments: Namespace) -> None:
    """Be a worker until the scheduler ends, or Ctrl-C."""
    settings = Settings(arguments.name, arguments.machine, arguments.target, arguments.threads)
    serve(arguments.scheduler, settings, lambda text: print(text, flush=True))


def fleet_target(arguments: Namespace) -> Target:
    """List who is there, and choose the target of a session."""
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters of it, the session says itself
    roster = survey(arguments.workers)
    target = choose_target(roster.workers.values(), arguments.target, arguments.threads)
    if arguments.any_target:  # which of the others can run its code, they know
        roster = survey(arguments.workers, target=target)
    rows = []
    for address, w in roster.workers.items():
        reason = misfit(w, target, arguments.any_target)
        rows.append([w.name, address, f"not used: {reason}" if reason else describe(w.target)])
    rows += [["-", address, f"not used: {reason}"] for address, reason in roster.refused.items()]
    print(table(["worker", "address", "measures for"], rows))
    return target


def fleet_measurer(arguments: Namespace, target: Target) -> FleetMeasurer:
    """Connect a session to its workers."""
    return FleetMeasurer(arguments.workers, target, any_target=arguments.any_target, fallback=arguments.fallback)

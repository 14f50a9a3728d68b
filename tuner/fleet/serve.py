"""A worker of a fleet: one dask worker process with the settings that measuring wants (``luthier worker``)."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Callable
from typing import Any

from ...errors import TuningError
from . import remote
from .choose import describe
from .connect import CONNECT_S, dask_distributed, nobody_at, scheduler_address
from .messages import IDENTITY

QUIET = {
    "distributed.worker.profile.enabled": False,  # a sample every 10 ms disturbs what is measured
    "distributed.worker.profile.interval": "10s",  # for versions without the switch
    "distributed.worker.profile.cycle": "60s",
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": False,
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "10s",
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.worker.daemon": False,
}
"""Dask's settings for a process that holds no data and must not be busy between measurements."""


def serve(url: str, settings: remote.Settings, say: Callable[[str], None] = print) -> None:
    """Be a worker of the scheduler at ``url`` until the scheduler ends, or lets it go.

    One thread, as one thing at a time happens here; no nanny: candidates run in processes of their own, so that
    none can harm this one, and a service manager that starts it again knows better when to. Raises TuningError where
    nobody answers at ``url``, TargetError for a target that this machine cannot run.
    """
    dask_distributed(url)
    logging.getLogger("distributed").setLevel(logging.ERROR)
    address = scheduler_address(url)
    remote.settings = settings
    own = remote.greet(IDENTITY)
    say(f"worker {own.name}: {describe(own.target)}; scheduler: {url}")
    asyncio.run(_serve(url, address, say))


async def _serve(url: str, address: str, say: Callable[[str], None]) -> None:
    import dask
    from distributed import Worker

    with dask.config.set(QUIET):
        worker: Any = Worker(
            address, nthreads=1, name=f"{socket.gethostname()}-{os.getpid()}", memory_limit=0, dashboard=False,
            death_timeout=CONNECT_S,
        )  # fmt: skip
        try:
            await worker
        except OSError as error:
            raise TuningError(nobody_at(url, error)) from None
        say(f"ready at {worker.address}")
        stopped: list[signal.Signals] = []
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, _stop, worker, stopped, number)
        await worker.finished()
    say("stopped" if stopped else f"the scheduler at {url} has gone, or let this worker go")


def _stop(worker: Any, stopped: list[signal.Signals], number: signal.Signals) -> None:
    if not stopped:
        stopped.append(number)
        _closing.add(asyncio.ensure_future(worker.close(timeout=2, executor_wait=False, reason=number.name)))


_closing: set[asyncio.Future[Any]] = set()  # the event loop itself keeps no reference

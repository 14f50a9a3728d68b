"""The way to the scheduler of a fleet, and to each of its workers."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any, TypeVar

from ...errors import TuningError
from ...target import Target
from . import remote
from .messages import IDENTITY, Greeting

DEFAULT_PORT = 8786
CONNECT_S = 10.0
GREETING_S = 20.0
_ADDRESS = re.compile(r"dask(?P<tls>\+tls)?://(?P<host>[^\s/:\[\]]+|\[[0-9a-fA-F:]+\])(?::(?P<port>\d{1,5}))?/?")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Roster:
    """Who answered at a scheduler. workers: by dask's address; refused: why others cannot serve this session."""

    scheduler: str
    workers: dict[str, Greeting]
    refused: dict[str, str]


def scheduler_address(url: str) -> str:
    """``dask://host:port`` as dask writes it; ``dask+tls://`` where dask's settings name certificates.

    Raises TuningError for anything else.
    """
    match = _ADDRESS.fullmatch(url)
    if match is None or int(match["port"] or DEFAULT_PORT) > 65535:
        raise TuningError(
            f"workers {url!r}: is not the address of a dask scheduler; write it as dask://host:{DEFAULT_PORT}"
        )
    return f"{'tls' if match['tls'] else 'tcp'}://{match['host']}:{match['port'] or DEFAULT_PORT}"


def dask_distributed(url: str) -> ModuleType:
    """The module ``distributed``, able to connect to ``url``.

    Raises TuningError, with what to do, where it is missing, for a malformed address, and without certificates for TLS.
    """
    try:
        import dask
        import distributed
    except ImportError as error:
        raise TuningError(f"a fleet needs dask, which is not installed ({error}): pip install luthier[fleet]") from None
    if scheduler_address(url).startswith("tls:") and not dask.config.get("distributed.comm.tls.ca-file", None):
        raise TuningError(f"{url}: dask has no certificates; set distributed.comm.tls (ca-file, client, worker) for it")
    module: ModuleType = distributed
    return module


@asynccontextmanager
async def connected(url: str, timeout_s: float) -> AsyncIterator[Any]:
    """An asynchronous dask client of the scheduler at ``url``. Raises TuningError where nobody answers."""
    distributed, address = dask_distributed(url), scheduler_address(url)
    asyncio.get_running_loop().set_exception_handler(_without_dasks_own)
    client = distributed.Client(address, asynchronous=True, timeout=timeout_s, set_as_default=False, name="luthier")
    try:
        await asyncio.wait_for(client, timeout_s + 1.0)
    except OSError as error:
        await _closed(client)
        raise TuningError(nobody_at(url, error)) from None
    try:
        yield client
    finally:
        await _closed(client)


async def call(client: Any, worker: str, timeout_s: float, function: Callable[..., T], *arguments: object) -> T:
    """Carry out ``function`` on one worker and return what it returns, or raise what it raises.

    Raises TimeoutError after ``timeout_s``, and an OSError or CancelledError (of :mod:`concurrent.futures`) where the
    worker or the scheduler is lost meanwhile.
    """
    future = client.submit(function, *arguments, workers=[worker], allow_other_workers=False, pure=False, retries=0)
    try:
        result: T = await asyncio.wait_for(client.gather(future, asynchronous=True), timeout_s)
        return result
    except TimeoutError:
        raise TimeoutError(f"no answer within {timeout_s:g} s") from None
    finally:
        future.release()  # nobody else wants it, so that this cancels what has not started


async def greet(client: Any, worker: str, target: Target | None = None) -> Greeting:
    """Ask a worker who it is. Raises TuningError with the reason where it cannot serve."""
    try:
        return await call(client, worker, GREETING_S, remote.greet, IDENTITY, target)
    except TuningError:
        raise
    except ImportError as error:
        raise TuningError(f"luthier is not installed there ({error}): pip install luthier[fleet]") from None
    except Exception as error:
        raise TuningError(_reason(error)) from None


def survey(url: str, timeout_s: float | None = None, target: Target | None = None) -> Roster:
    """Ask all workers of a scheduler who they are, and whether they can run code for ``target`` if there is one.

    Raises TuningError where nobody can serve.
    """
    roster = run_apart(lambda: _survey(url, timeout_s or CONNECT_S, target))
    if not roster.workers:
        reasons = "".join(f"; {worker}: {why}" for worker, why in roster.refused.items())
        raise TuningError(
            f"no worker at {url} can measure{reasons or ' (it has none)'}; start one on each: luthier worker {url}"
        )
    return roster


async def _survey(url: str, timeout_s: float, target: Target | None) -> Roster:
    async with connected(url, timeout_s) as client:
        try:
            addresses = sorted(await asyncio.wait_for(client.nthreads(), CONNECT_S))
        except TimeoutError:
            raise TuningError(f"the scheduler at {url} does not answer; start it again") from None
        answers = await asyncio.gather(*(greet(client, a, target) for a in addresses), return_exceptions=True)
    workers: dict[str, Greeting] = {}
    refused: dict[str, str] = {}
    for address, answer in zip(addresses, answers, strict=True):
        if isinstance(answer, BaseException):
            refused[address] = str(answer)
        else:
            workers[address] = answer
    return Roster(url, workers, refused)


def run_apart(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end in a thread of its own, as the caller's may run an event loop (notebooks do)."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(asyncio.run(make()))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


async def _closed(client: Any) -> None:
    try:
        await asyncio.wait_for(client.close(timeout=2), 5.0)
    except Exception:  # the other end may be gone in many ways, and nothing is lost with it
        pass


def _without_dasks_own(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Drop complaints about exceptions that dask raises for itself when a call is given up."""
    if type(context.get("exception")).__module__.partition(".")[0] != "distributed":
        loop.default_exception_handler(context)


def nobody_at(url: str, error: OSError) -> str:
    """What to say where no scheduler answers."""
    return f"no dask scheduler answers at {url} ({_reason(error)}); start one there: dask scheduler"


def _reason(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

"""Gives candidates to the workers of a fleet and takes their outcomes back: one event loop, one coroutine a worker.

Nothing here waits without a deadline. A candidate is held by one worker at a time; when that worker dies, falls silent
or leaves, its candidates go back to the front of the queue, and whatever comes of it later is ignored: a ticket is
answered once. A worker that was silent is asked again after a rest. One that is restarted, or joins in the middle of a
session, is used as soon as it has introduced itself.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias, Union

from ...errors import TuningError
from ...target import Target
from ..record import Status
from . import remote
from .choose import describe, misfit
from .connect import call, connected, greet
from .messages import Exchange, Greeting, Order, Outcome, RemoteTask

DEPTH = 16
"""Candidates that a worker holds at most, so that it builds some while it measures others."""
MOST_LOSSES = 3
"""A candidate that this many workers were lost with is to blame; before the last of them it is tried on its own.

A comparison that they were lost with is given up, but says nothing of its candidates: each was measured well before.
"""


@dataclass(frozen=True, slots=True)
class Patience:
    """Times in seconds.

    silence  until a worker (or the scheduler) that does not answer is given up
    results  until a worker that answers, but measures nothing, is given up
    rest     before a worker that was given up is asked again
    alone    until a fleet without any worker is given up
    connect  until a scheduler that cannot be reached is tried again
    poll     between looks at which workers there are
    wait     that a worker may wait for results before it answers
    """

    silence: float = 30.0
    results: float = 900.0
    rest: float = 10.0
    alone: float = 30.0
    connect: float = 5.0
    poll: float = 1.0
    wait: float = 1.0


@dataclass(frozen=True, slots=True)
class Finished:
    """An outcome, and the name of the worker that it is from."""

    outcome: Outcome
    worker: str


@dataclass(frozen=True, slots=True)
class NotCompared:
    """A comparison was given up; group: its number, as in its orders."""

    group: int


@dataclass(frozen=True, slots=True)
class Note:
    """Something that the user should know."""

    text: str


@dataclass(frozen=True, slots=True)
class Lost:
    """No worker is left, and none came back in time."""

    text: str


Event: TypeAlias = Union[Finished, NotCompared, Note, Lost]


@dataclass(slots=True)
class _Site:
    """A worker at work. known: tasks that it has; told: best times that it knows of; held: what it has to measure."""

    name: str
    address: str
    engagement: str
    known: set[str] = field(default_factory=set)
    told: dict[str, float] = field(default_factory=dict)
    held: dict[int, Order] = field(default_factory=dict)
    engaged: bool = False
    drop: bool = False
    heard_s: float = field(default_factory=time.monotonic)


class Dispatcher:
    """All of its methods but :meth:`run`, which is the loop, are called within that loop."""

    def __init__(
        self, url: str, target: Target, any_target: bool, patience: Patience, deliver: Callable[[Event], None]
    ) -> None:
        self.url, self.target, self.any_target, self.patience = url, target, any_target, patience
        self._deliver = deliver
        self._session = uuid.uuid4().hex
        self._engagements = 0
        self._tasks: dict[str, RemoteTask] = {}
        self._best: dict[str, float] = {}
        self._waiting: deque[Order] = deque()
        self._groups: deque[tuple[Order, ...]] = deque()
        self._sites: list[_Site] = []
        self._losses: Counter[int] = Counter()
        self._arrived, self._stopping = asyncio.Event(), asyncio.Event()
        self._attending: dict[str, asyncio.Task[None]] = {}
        self._machines: dict[str, str] = {}
        self._reasons: dict[str, str] = {}
        self._alive_s = time.monotonic()

    @property
    def active(self) -> int:
        """How many workers measure; any thread may ask."""
        return len(self._sites)

    def add(self, order: Order, task: RemoteTask) -> None:
        """Queue an order."""
        self._tasks.setdefault(order.key, task)
        self._waiting.append(order)
        self._arrived.set()

    def add_group(self, orders: tuple[Order, ...], task: RemoteTask) -> None:
        """Queue orders that one worker is to carry out together."""
        self._tasks.setdefault(orders[0].key, task)
        self._groups.append(orders)
        self._arrived.set()

    def drop(self) -> None:
        """Forget all orders, also those that workers hold."""
        self._waiting.clear()
        self._groups.clear()
        for site in self._sites:
            site.drop = True
            site.held.clear()

    def set_best(self, key: str, best_s: float) -> None:
        """Let the workers know of a best time when they next get orders of that task."""
        self._best[key] = best_s

    def stop(self) -> None:
        """Make :meth:`run` end, soon."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until :meth:`stop`, or until there is nobody left; connect again where the scheduler is lost."""
        while not self._stopping.is_set():
            try:
                async with connected(self.url, self.patience.connect) as client:
                    self._reasons.pop(self.url, None)
                    await self._watch(client)
            except (TuningError, OSError) as error:
                lost = f"the scheduler at {self.url} was lost ({str(error) or 'no answer'})"
                self._remark(self.url, str(error) if isinstance(error, TuningError) else lost)
                if self._is_over():
                    return
                await self._sleep(self.patience.poll)

    # ------------------------------------------------------------------ who is there

    async def _watch(self, client: Any) -> None:
        """Keep a coroutine for every worker that the scheduler knows. Raises OSError when the scheduler is lost."""
        try:
            while not self._stopping.is_set() and not self._is_over():
                present = await asyncio.wait_for(client.nthreads(), self.patience.silence)
                if client.status != "running":
                    raise OSError("it ended, or the connection broke")
                for task in self._attending.values():
                    if task.done():
                        task.result()  # a worker that does not fit; or raises what is a defect here
                for address in self._attending.keys() - present.keys():
                    self._attending.pop(address).cancel()
                for address in sorted(present.keys() - self._attending.keys()):
                    self._attending[address] = asyncio.create_task(self._attend(client, address))
                await self._sleep(self.patience.poll)
        finally:
            ended = list(self._attending.values())
            self._attending.clear()
            for task in ended:
                task.cancel()
            await asyncio.gather(*ended, return_exceptions=True)

    def _is_over(self) -> bool:
        """Whether nobody has been there for too long; says so, and stops."""
        if self.active or time.monotonic() - self._alive_s < self.patience.alone:
            return False
        reasons = "".join(f"; {where}: {why}" for where, why in sorted(self._reasons.items()))
        self._deliver(Lost(f"the fleet at {self.url} has no worker left for {describe(self.target)}{reasons}"))
        self.stop()
        return True

    async def _attend(self, client: Any, address: str) -> None:
        """Let one worker measure whenever it can, for as long as the scheduler knows it."""
        while True:
            try:
                greeting = await greet(client, address, self.target)
            except TuningError as error:
                self._remark(address, str(error))
                await asyncio.sleep(self.patience.rest)
                continue
            reason = misfit(greeting, self.target, self.any_target)
            if reason:
                self._remark(address, reason, greeting.name)
                return
            while self._machines.setdefault(greeting.machine, address) != address:
                await asyncio.sleep(self.patience.poll)  # a spare: one measurement at a time on each machine
            try:
                await self._serve(client, address, greeting)
            finally:
                del self._machines[greeting.machine]
            await asyncio.sleep(self.patience.rest)

    # ------------------------------------------------------------------ one worker

    async def _serve(self, client: Any, address: str, greeting: Greeting) -> None:
        """Exchange orders for outcomes with one worker until something is wrong with it."""
        self._engagements += 1
        site = _Site(greeting.name, address, f"{self._session}/{self._engagements}")
        self._sites.append(site)
        trouble = "it left, or its process ended"
        try:
            while True:
                await self._exchange(client, site)
        except TimeoutError as error:
            trouble = str(error)
        except asyncio.CancelledError:
            if site.engaged and self._stopping.is_set():
                trouble = ""
                await self._release(client, site)
            raise
        except Exception as error:
            trouble = str(error) or type(error).__name__
        finally:
            self._sites.remove(site)
            if client.status != "running":
                trouble = ""  # which is no fault of the worker
            self._take_back(site, trouble)

    async def _exchange(self, client: Any, site: _Site) -> None:
        orders = self._take(site)
        if not site.held:
            await self._wait_for_orders()
            orders = self._take(site)
        keys = {order.key for order in orders}
        new = keys - site.known
        best = {k: b for k in keys if (b := self._best.get(k, math.inf)) != site.told.get(k, math.inf)}
        message = Exchange(
            site.engagement,
            None if site.engaged else self.target,
            {k: self._tasks[k] for k in new},
            orders,
            best,
            site.drop,
            self.patience.wait if site.held else 0.0,
        )
        site.drop = False
        outcomes = await call(client, site.address, self.patience.silence, remote.exchange, message)
        self._alive_s = time.monotonic()
        self._reasons.pop(site.address, None)
        site.engaged = True
        site.known |= new
        site.told |= best
        for outcome in outcomes:
            self._finish(site, outcome)
        if outcomes or not site.held:
            site.heard_s = self._alive_s
        elif self._alive_s - site.heard_s > self.patience.results:
            raise TimeoutError(f"no result within {self.patience.results:g} s")

    def _take(self, site: _Site) -> tuple[Order, ...]:
        """A fair share of what waits, or one comparison. Who was lost with workers before goes out with no others."""
        if self._groups and not site.held:
            group = self._groups.popleft()
            site.held = {order.ticket: order for order in group}
            return group
        taken: list[Order] = []
        most = min(DEPTH - len(site.held), math.ceil(len(self._waiting) / self.active))
        if any(self._suspect(order) for order in site.held.values()):
            return ()
        while len(taken) < most:
            if self._suspect(self._waiting[0]) and (taken or site.held):
                break
            taken.append(self._waiting.popleft())
            if self._suspect(taken[-1]):
                break
        site.held |= {order.ticket: order for order in taken}
        return tuple(taken)

    def _suspect(self, order: Order) -> bool:
        return self._losses[order.ticket] >= MOST_LOSSES - 1

    def _finish(self, site: _Site, outcome: Outcome) -> None:
        order = site.held.pop(outcome.ticket, None)
        if order is None:
            return
        values = outcome.values
        if values["verified"]:
            site.told[order.key] = min(values["run_s"])
            self._best[order.key] = min(self._best.get(order.key, math.inf), site.told[order.key])
        self._deliver(Finished(outcome, site.name))

    def _take_back(self, site: _Site, trouble: str) -> None:
        """Queue again what a worker held, but neither candidates nor comparisons that have cost too many workers."""
        if trouble:
            count = f"{len(site.held)} candidate{'s' * (len(site.held) != 1)}"
            self._remark(site.address, f"{trouble}; {count} to be given to others", site.name)
            self._losses.update(site.held.keys())
        groups: dict[int, list[Order]] = {}
        for order in reversed(site.held.values()):
            if order.group is not None:
                groups.setdefault(order.group, []).insert(0, order)
            elif self._losses[order.ticket] >= MOST_LOSSES:
                error = f"{MOST_LOSSES} workers were lost while they had this candidate, the last: {trouble}"
                values = {"status": Status.CRASHED, "error": error}
                self._deliver(Finished(Outcome(order.ticket, values), site.name))
            else:
                self._waiting.appendleft(order)
        for group, orders in groups.items():
            if self._losses[orders[0].ticket] >= MOST_LOSSES:
                count = f"{len(orders)} candidates are not compared"
                self._deliver(Note(f"{count}: {MOST_LOSSES} workers were lost meanwhile, the last: {trouble}"))
                self._deliver(NotCompared(group))
            else:
                self._groups.appendleft(tuple(orders))
        site.held.clear()
        if self._waiting or self._groups:
            self._arrived.set()

    async def _release(self, client: Any, site: _Site) -> None:
        try:
            await call(client, site.address, 2.0, remote.release, site.engagement)
        except Exception:  # it then ends on its own, after a minute without orders
            pass

    # ------------------------------------------------------------------ shared

    async def _wait_for_orders(self) -> None:
        """Wait until there are some, but not for so long that the worker thinks that nobody needs it."""
        if not self._waiting and not self._groups:
            self._arrived.clear()
            await _within(self._arrived.wait(), remote.IDLE_S / 4)
            await asyncio.sleep(0.005)  # more will come at once: a session hands in many

    async def _sleep(self, seconds: float) -> None:
        await _within(self._stopping.wait(), seconds)

    def _remark(self, where: str, reason: str, name: str = "") -> None:
        if self._reasons.get(where) != reason and not self._stopping.is_set():
            self._deliver(Note(f"worker {name or where}: {reason}" if where != self.url else reason))
        self._reasons[where] = reason


async def _within(wait: Any, seconds: float) -> None:
    try:
        await asyncio.wait_for(wait, seconds)
    except TimeoutError:
        pass

"""A worker process: carries out jobs that may crash, hang or exhaust memory. The parent's side is :mod:`.process`.

Started as ``python -m luthier.tuner.worker MODULE:CLASS MEMORY_BYTES [background]`` by its own parent only. Requests
come on standard input, replies go to what was standard output; whatever else a job prints goes to standard error, of
which the parent keeps the end. A message is its length (8 bytes, little-endian) and a pickle; both ends are processes
of one user and one installation.

    request  (task key, pickled task data or None if sent before, job)
    reply    ("ok", value) | ("error", text) | ("memory", text);  the first reply says that the worker is ready
"""

from __future__ import annotations

import importlib
import os
import pickle
import resource
import select
import struct
import sys
import threading
from typing import Any, BinaryIO, Literal, Protocol

from ..errors import Error
from .cpu import end_with_parent, give_way
from .garbage import collect_seldom

HEADER = struct.Struct("<Q")
Reply = tuple[Literal["ok", "error", "memory"], Any]


class Role(Protocol):
    """What a worker does. ``task`` is the data that came with the first job of its key."""

    def handle(self, task: Any, job: Any) -> Any: ...


def main(arguments: list[str]) -> None:
    """Serve requests until the parent closes the pipe."""
    role_name, memory_bytes, *background = arguments
    requests, replies = _take_over_streams()
    _exit_with_parent(requests.fileno())
    if background:
        give_way()
        end_with_parent()
    if int(memory_bytes):
        resource.setrlimit(resource.RLIMIT_AS, (int(memory_bytes), int(memory_bytes)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    module, _, name = role_name.partition(":")
    role: Role = getattr(importlib.import_module(module), name)()
    collect_seldom()
    _send(replies, ("ok", os.getpid()))
    tasks: dict[str, Any] = {}
    while (message := _receive(requests)) is not None:
        key, data, job = pickle.loads(message)
        if data is not None:
            tasks[key] = pickle.loads(data)
        _send(replies, _carry_out(role, tasks.get(key), job))


def _carry_out(role: Role, task: Any, job: Any) -> Reply:
    try:
        return ("ok", role.handle(task, job))
    except MemoryError as e:
        return ("memory", str(e) or "out of memory")
    except Error as e:
        return ("error", str(e))
    except Exception as e:  # a candidate may fail in any way at all; it is the outcome of its measurement
        return ("error", f"{type(e).__name__}: {e}")


def _take_over_streams() -> tuple[BinaryIO, BinaryIO]:
    """Keep the pipes to the parent for messages: a job that prints must not break the protocol."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    return requests, replies


def _exit_with_parent(pipe: int) -> None:
    """End this process as soon as the parent's end of the pipe closes, even in the middle of a job."""

    def watch() -> None:
        poll = select.poll()
        poll.register(pipe, 0)  # 0: only hang-ups, which wake us without any periodic work
        while not any(event & (select.POLLHUP | select.POLLERR) for _, event in poll.poll()):
            pass
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _send(stream: BinaryIO, reply: Reply) -> None:
    try:
        payload = pickle.dumps(reply, pickle.HIGHEST_PROTOCOL)
    except MemoryError:
        payload = pickle.dumps(("memory", "out of memory while sending the result"))
    stream.write(HEADER.pack(len(payload)))
    stream.write(payload)
    stream.flush()


def _receive(stream: BinaryIO) -> bytes | None:
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (size,) = HEADER.unpack(header)
    payload = stream.read(size)
    return payload if len(payload) == size else None


if __name__ == "__main__":
    main(sys.argv[1:])

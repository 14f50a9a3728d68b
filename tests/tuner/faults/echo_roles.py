"""Worker roles that do as the job says; worker processes import this module by its name."""

from __future__ import annotations

import ctypes
import os
import sys
import time


class Echo:
    """Does what the job says."""

    def handle(self, task, job):
        match job:
            case ("echo", value):
                return task, value
            case ("raise", message):
                raise ValueError(message)
            case ("sleep", seconds):
                time.sleep(seconds)
                return task, seconds
            case ("hang",):
                time.sleep(1000)
            case ("spin",):
                while True:
                    pass
            case ("segfault",):
                ctypes.string_at(1)
            case ("abort",):
                os.abort()
            case ("exit", code):
                os._exit(code)
            case ("print", count):
                for stream in (sys.stdout, sys.stderr):
                    stream.write("noise\n" * (count // 6))
                os.write(1, b"noise" * (count // 5))
                return "printed"
            case ("allocate", size):
                return len(bytearray(size))
            case ("reply", size):
                return bytes(size)
            case ("garble",):
                for fd in range(3, 16):  # the pipe to the parent is among them
                    try:
                        os.write(fd, b"\xff" * 64)
                    except OSError:
                        pass
                time.sleep(1000)
            case ("pid",):
                return os.getpid()
        return None


class BrokenAtStart:
    def __init__(self):
        raise RuntimeError("this role cannot be made")

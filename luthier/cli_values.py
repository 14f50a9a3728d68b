"""Values on the command line: text becomes a number, a duration, a shape; files are checked before long work starts."""

from __future__ import annotations

import argparse
import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from .errors import Error

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")
MOST_THREADS = 4096
MOST_SEED = (1 << 63) - 1
"""What a log can hold."""


class UsageError(Error):
    """A combination of arguments that cannot be carried out."""


def with_negative_values(argv: Sequence[str]) -> list[str]:
    """Join ``--budget -5s`` to ``--budget=-5s``: argparse takes what begins with a dash for an option, and says of the
    one before that it has no value, not what is wrong with the value."""
    joined: list[str] = []
    for text in argv:
        if re.match(r"-[0-9]", text) and joined and re.fullmatch(r"--[a-z-]+", joined[-1]):
            joined[-1] += f"={text}"
        else:
            joined.append(text)
    return joined


def count(text: str) -> int:
    """A positive integer."""
    if not re.fullmatch(r"[0-9]+", text) or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def seed(text: str) -> int:
    """A whole number that generators of random numbers and logs take."""
    if not re.fullmatch(r"[0-9]+", text) or int(text) > MOST_SEED:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {MOST_SEED}")
    return int(text)


def fraction(text: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return value


def duration(text: str) -> float:
    """Seconds of a text such as ``90s``, ``10m`` or ``1h30m``."""
    match = _DURATION.fullmatch(text)
    if not match or not text:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time; write it as 90s, 10m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    total = hours * 3600 + minutes * 60 + seconds
    if total <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} leaves no time; give at least 1s")
    return total


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``data=1,3,224,224`` as a name and a shape; the name may hold ``=``."""
    name, equals, dims = text.rpartition("=")
    if not equals or not name or not re.fullmatch(r"\d+(,\d+)*", dims):
        raise argparse.ArgumentTypeError(f"{text!r} is not an input and its shape; write data=1,3,224,224")
    return name, tuple(int(d) for d in dims.split(","))


def input_file(text: str) -> tuple[str, Path]:
    """``name=file.npy`` as a name and a path; the name is empty for a lone ``file.npz``."""
    if text.endswith(".npz") and Path(text).exists():
        return "", Path(text)
    name, equals, path = text.partition("=")
    if not equals or not name or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not an input and its file; write data=image.npy or all.npz")
    return name, Path(path)


def shapes_of(pairs: list[tuple[str, tuple[int, ...]]]) -> dict[str, tuple[int, ...]] | None:
    """Collect ``--shape`` options; raises UsageError where a name comes twice."""
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--shape {name}=...: given twice; give it once")
    return dict(pairs) or None


def shape_options(shapes: Mapping[str, Sequence[int]] | None) -> str:
    """The ``--shape`` options that :func:`shapes_of` collected, each with a space before it."""
    texts = (f"{name}={','.join(map(str, dims))}" for name, dims in (shapes or {}).items())
    return "".join(f" --shape {shlex.quote(text)}" for text in texts)


def output_path(text: str | Path, option: str = "--output", reads: Iterable[str | Path | None] = ()) -> Path:
    """Check that a file can be created at ``text`` before the work for it begins.

    reads: files that the command reads; none of them is written over
    """
    path = Path(text)
    for other in reads:
        if other and same_file(path, other):
            raise UsageError(f"{option} {path}: is read by this command, and would be lost; give another name")
    if path.is_dir():
        raise UsageError(f"{option} {path}: is a directory; give a file name")
    if not path.parent.is_dir():
        raise UsageError(f"{option} {path}: the directory {path.parent} does not exist; create it first")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"{option} {path}: no permission to write into {path.parent}")
    return path


def model_name(model: str) -> str:
    """The name that files made from a model start with: ``models/net.onnx`` -> ``net``."""
    return Path(model).name.removesuffix(".onnx") or "model"


def same_file(a: str | Path, b: str | Path) -> bool:
    """Whether both paths lead to one existing file."""
    try:
        return Path(a).samefile(b)
    except OSError:
        return False

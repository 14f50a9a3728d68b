"""What an engine with a format of its own needs around it: a file to convert, a converter, and what both print."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx

from .engine import Model, PeerError

TIMEOUT_S = 900
_FLATTENING = ("Softmax", "LogSoftmax", "Hardmax")


@dataclass(frozen=True, slots=True)
class Source:
    """A model's file, ready for a converter, and its interface in its own order."""

    file: Path
    inputs: tuple[str, ...]
    input_types: tuple[int, ...]
    outputs: tuple[str, ...]


def explicit_defaults(model: onnx.ModelProto) -> bool:
    """Write out, in place, defaults that the standard has changed since the model's version; True if there were any.

    Before version 13, ``axis`` of Softmax and its kin is 1 by default, not -1 (Operators.md, Softmax-11). Some readers
    take today's default for every version, and normalise over a dimension of one. The model means the same as before.
    """
    changed = False
    if any(o.domain in ("", "ai.onnx") and o.version < 13 for o in model.opset_import):
        for node in model.graph.node:
            if node.op_type in _FLATTENING and not any(a.name == "axis" for a in node.attribute):
                node.attribute.append(onnx.helper.make_attribute("axis", 1))
                changed = True
    return changed


def source(model: Model, folder: Path) -> Source:
    """Put ``model`` into ``folder`` as one file, by a link where it can stay as it is."""
    file = folder / "model.onnx"
    proto = onnx.load(model) if isinstance(model, Path) else onnx.load_from_string(model)
    external = isinstance(model, Path) and _has_external_data(model)
    if explicit_defaults(proto) or external:
        onnx.save(proto, file)
    elif isinstance(model, Path):
        file.symlink_to(model.resolve())
    else:
        file.write_bytes(model)
    weights = {t.name for t in proto.graph.initializer}
    inputs = [i for i in proto.graph.input if i.name not in weights]
    return Source(
        file,
        tuple(i.name for i in inputs),
        tuple(i.type.tensor_type.elem_type for i in inputs),
        tuple(o.name for o in proto.graph.output),
    )


def _has_external_data(model: Path) -> bool:
    skeleton = onnx.load(model, load_external_data=False)
    return any(t.data_location == onnx.TensorProto.EXTERNAL for t in skeleton.graph.initializer)


def convert(python: str, arguments: Sequence[str], products: Sequence[Path]) -> None:
    """Run a converter, given as ``python`` source, in a process of its own; it may crash there.

    Raises PeerError with the end of what it printed, where it fails or does not write all ``products``.
    """
    command = [sys.executable, "-c", python, *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=products[0].parent,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PeerError(f"the conversion took more than {TIMEOUT_S} s") from None
    missing = [p.name for p in products if not p.exists()]
    if done.returncode or missing:
        how = f"exit code {done.returncode}" if done.returncode else f"no {', '.join(missing)}"
        raise PeerError(f"the conversion failed ({how}): {_tail(done.stdout)}")


class Printed:
    """What was printed while it was captured."""

    text = ""


@contextmanager
def captured() -> Iterator[Printed]:
    """Keep what native code prints from the terminal; it holds the reasons of failures that have no others."""
    printed = Printed()
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [os.dup(1), os.dup(2)]
    with tempfile.TemporaryFile() as file:
        try:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield printed
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in zip((1, 2), saved, strict=True):
                os.dup2(copy, number)
                os.close(copy)
            file.seek(0)
            printed.text = _tail(file.read())


def _tail(printed: bytes, lines: int = 6) -> str:
    kept = [line.strip() for line in printed.decode(errors="replace").splitlines() if line.strip()]
    return "; ".join(kept[-lines:]) or "it printed nothing"

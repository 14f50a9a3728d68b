"""Print the loop IR as a readable loop nest.

kernel f(x: float32[64, 32], out y: float32[64]):
  parallel i in 0..64:
    y[i] = 0.0
    for k in 0..32:
      y[i] = y[i] + x[i, k]
"""

from __future__ import annotations

from ..te.printer import format_expr
from .nodes import Alloc, Barrier, Buffer, For, Function, If, Let, Prefetch, Seq, Stmt, Store

_KINDS = {"serial": "for", "unroll": "unroll", "vectorize": "vectorize", "parallel": "parallel"}


def format_function(fn: Function) -> str:
    """Print a whole function: its parameters, scratch buffers and body."""
    first_output = len(fn.params) - fn.outputs
    params = ", ".join(("out " if i >= first_output else "") + _declare(b) for i, b in enumerate(fn.params))
    lines = [f"kernel {fn.name}({params}):"]
    for scope, buffers in (("shared", fn.shared), ("thread", fn.thread)):
        lines += [f"  {scope} {_declare(b)}" for b in buffers]
    for i, o in fn.in_place:
        lines.append(f"  {fn.params[first_output + o].name} may overwrite {fn.params[i].name}")
    _print(fn.body, 1, lines)
    return "\n".join(lines)


def format_stmt(s: Stmt) -> str:
    """Print one statement and what it contains."""
    lines: list[str] = []
    _print(s, 0, lines)
    return "\n".join(lines)


def _declare(b: Buffer) -> str:
    return f"{b.name}: {b.dtype}[{', '.join(map(str, b.shape))}]{' past the caches' if b.past_caches else ''}"


def _print(s: Stmt, depth: int, lines: list[str]) -> None:
    indent = "  " * depth
    match s:
        case For():
            begin, end = format_expr(s.begin), format_expr(s.begin + s.extent)
            lines.append(f"{indent}{_KINDS[s.kind]} {s.var.name} in {begin}..{end}:")
            _print(s.body, depth + 1, lines)
        case Let():
            lines.append(f"{indent}let {s.var.name} = {format_expr(s.value)}")
            _print(s.body, depth, lines)
        case If():
            lines.append(f"{indent}if {format_expr(s.condition)}:")
            _print(s.then, depth + 1, lines)
            if s.otherwise is not None:
                lines.append(f"{indent}else:")
                _print(s.otherwise, depth + 1, lines)
        case Store():
            lines.append(f"{indent}{_element(s.buffer, s.indices)} = {format_expr(s.value)}")
        case Alloc():
            lines.append(f"{indent}{s.buffer.scope} {_declare(s.buffer)}")
            _print(s.body, depth, lines)
        case Prefetch():
            lines.append(f"{indent}prefetch {_element(s.buffer, s.indices)} {_purpose(s)}")
        case Barrier():
            lines.append(f"{indent}barrier")
        case Seq():
            for part in s.stmts:
                _print(part, depth, lines)
            if not s.stmts:
                lines.append(f"{indent}pass")


def _purpose(s: Prefetch) -> str:
    return "to write" if s.write else f"locality {s.locality}"


def _element(b: Buffer, indices: tuple[object, ...]) -> str:
    return f"{b.name}[{', '.join(format_expr(i) for i in indices)}]"  # type: ignore[arg-type]

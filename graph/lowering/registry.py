"""The table from operators to lowering rules.

    @lowers("Relu")
    def relu(ctx: Context, node: Node) -> Compute: ...

A rule returns the tensor of each output, in the physical shape of the output's layout. ``check`` says why a node is
not supported (None: it is); it sees the node before layouts are assigned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from ...te.tensor import Tensor
from ..ir import Node
from .context import Context

Lowered: TypeAlias = Tensor | list[Tensor]
Rule: TypeAlias = Callable[[Context, Node], Lowered]
Check: TypeAlias = Callable[[Node], str | None]


@dataclass(frozen=True, slots=True)
class Entry:
    """How one operator is lowered."""

    rule: Rule
    check: Check | None = None


_RULES: dict[str, Entry] = {}


def lowers(*ops: str, check: Check | None = None) -> Callable[[Rule], Rule]:
    """Make a function the rule of the operators ``ops``."""

    def add(rule: Rule) -> Rule:
        for op in ops:
            _RULES[op] = Entry(rule, check)
        return rule

    return add


def rule_of(op: str) -> Entry | None:
    """The rule of an operator, None where there is none."""
    from . import (  # noqa: F401  (they register)
        dense,
        elementwise,
        movement,
        normalization,
        quantization,
        reductions,
        resize,
        windows,
    )

    return _RULES.get(op)


def supports(node: Node) -> str | None:
    """Why no code can be generated for ``node``; None if it can."""
    entry = rule_of(node.op)
    if entry is None:
        return f"operator {node.op} is not supported"
    return entry.check(node) if entry.check is not None else None


def supported_operators() -> tuple[str, ...]:
    """The names of all operators that have a rule."""
    rule_of("")
    return tuple(sorted(_RULES))

"""Passes over the loop IR; :mod:`.pipeline` lists them in order."""

from __future__ import annotations

from dataclasses import replace

from ..target import Target
from ..te.expr import binary
from .nodes import Alloc, For, Function, If, Let, Seq, Stmt, map_stmts


def remove_empty(fn: Function, target: Target) -> Function:
    """Drop loops, branches and bindings whose body does nothing.

    for i in 0..4:            ->    (nothing)
      if c: (nothing)
    """
    body = _without_empty(fn.body)
    return fn if body is fn.body else replace(fn, body=body)


def _without_empty(s: Stmt) -> Stmt:
    s = map_stmts(s, _without_empty)
    match s:
        case For() | Let() | Alloc() if _is_empty(s.body):
            return Seq(())
        case If() if _is_empty(s.then) and (s.otherwise is None or _is_empty(s.otherwise)):
            return Seq(())
        case If() if s.otherwise is not None and _is_empty(s.otherwise):
            return If(s.condition, s.then)
        case _:
            return s


def _is_empty(s: Stmt) -> bool:
    return isinstance(s, Seq) and not s.stmts


def merge_conditions(fn: Function, target: Target) -> Function:
    """Make one branch of two that are directly nested.

    if a:                     ->    if a and b:
      if b: body                      body
    """
    body = _merged(fn.body)
    return fn if body is fn.body else replace(fn, body=body)


def _merged(s: Stmt) -> Stmt:
    s = map_stmts(s, _merged)
    match s:
        case If(condition, If(inner, then, None), None):
            return If(binary("and", condition, inner), then)
        case _:
            return s

"""Printed expressions: alike only if the expressions are, and parenthesised as Python reads them."""

import ast

from hypothesis import given, settings
from hypothesis import strategies as st

from luthier import te
from luthier.te.expr import Binary, Compare, Const, Not, Select, Var
from luthier.te.printer import format_expr

VARS = {name: Var(name) for name in "abc"}
OPS = ["add", "sub", "mul", "floordiv", "floormod", "min", "max"]


def _extend(inner):
    raw = st.builds(lambda op, x, y: Binary(op, x, y, "int64"), st.sampled_from(OPS), inner, inner)
    condition = st.builds(Compare, st.sampled_from(["lt", "ge", "eq"]), inner, inner)
    condition = condition | condition.map(Not)
    condition |= st.builds(
        lambda op, p, q: Binary(op, p, q, "bool"), st.sampled_from(["and", "or"]), condition, condition
    )
    return raw | raw | st.builds(lambda p, x, y: Select(p, x, y, "int64"), condition, inner, inner)


LEAVES = st.sampled_from(list(VARS.values())) | st.integers(-3, 9).map(lambda n: Const(n, "int64"))
EXPRS = st.recursive(LEAVES, _extend, max_leaves=10)


def structure(e):
    """The expression as nested tuples, with nothing left out."""
    match e:
        case Var():
            return e.name
        case Const():
            return ("const", e.value)
        case Binary() | Compare():
            return (e.op, structure(e.a), structure(e.b))
        case Not():
            return ("not", structure(e.a))
        case Select():
            return ("select", structure(e.condition), structure(e.a), structure(e.b))
    raise AssertionError(e)


def _parse(text):
    """Read the text back with Python's grammar."""

    def walk(node):
        match node:
            case ast.Name():
                return node.id
            case ast.Constant():
                return ("const", node.value)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant()):
                return ("const", -node.operand.value)
            case ast.UnaryOp(op=ast.Not()):
                return ("not", walk(node.operand))
            case ast.BinOp():
                names = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.FloorDiv: "floordiv", ast.Mod: "floormod"}
                return (names[type(node.op)], walk(node.left), walk(node.right))
            case ast.BoolOp():
                name = "and" if isinstance(node.op, ast.And) else "or"
                first, *rest = map(walk, node.values)
                for part in rest:
                    first = (name, first, part)
                return first
            case ast.Compare(ops=[op]):
                names = {ast.Lt: "lt", ast.GtE: "ge", ast.Eq: "eq"}
                return (names[type(op)], walk(node.left), walk(node.comparators[0]))
            case ast.Call():
                return (node.func.id, *map(walk, node.args))
        raise AssertionError(ast.dump(node))

    return walk(ast.parse(text, mode="eval").body)


@given(EXPRS)
@settings(max_examples=150, deadline=None)
def test_text_reads_back_to_the_same_expression(e):
    assert _parse(format_expr(e)) == structure(e)


@given(EXPRS, EXPRS)
@settings(max_examples=100, deadline=None)
def test_different_expressions_print_differently(e, f):
    assert (format_expr(e) == format_expr(f)) == (structure(e) == structure(f))


def _key(e, name):
    """The key of a workload that computes ``e``."""

    def body(i, j, k):
        return te.traversal.substitute(e, dict(zip(VARS.values(), (i, j, k), strict=True)))

    return te.workload(te.compute((2, 3, 4), body, name)).key


@given(EXPRS, EXPRS)
@settings(max_examples=100, deadline=None)
def test_keys_tell_bodies_apart_and_ignore_names(e, f):
    assert _key(e, "one") == _key(e, "two")
    same = _canonical(e) == _canonical(f)
    assert (_key(e, "one") == _key(f, "one")) == same


def _canonical(e):
    """What the body is after substitution, which folds constants."""
    return structure(te.traversal.substitute(e, {v: Var(n) for n, v in VARS.items()}))

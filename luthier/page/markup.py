"""HTML and SVG as text that is safe by construction: whatever is not markup already is escaped where it is put in.

h("p", "a < b", h("b", name), class_="note")    ->  <p class="note">a &lt; b<b>...</b></p>
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import TypeAlias, Union

VOID = frozenset({"br", "col", "hr", "input", "link", "meta"})
_STRANGE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
"""Control characters, which no page may hold, and those that turn the direction of text, which could mislead."""


class Markup(str):
    """Text that is markup; made by :func:`h` and :func:`join` only."""

    __slots__ = ()


Child: TypeAlias = Union[str, float, Iterable["Child"], None]


def h(tag: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """One element. Attributes: ``class_`` is class, ``data_x`` is data-x; of True only the name stands, False and None
    are left out."""
    parts = [tag]
    for name, value in attributes.items():
        if value is None or value is False:
            continue
        name = name.rstrip("_").replace("_", "-")
        parts.append(name if value is True else f'{name}="{html.escape(_text(value))}"')
    head = f"<{' '.join(parts)}>"
    return Markup(head if tag in VOID else f"{head}{join(*children)}</{tag}>")


def join(*children: Child) -> Markup:
    """Several pieces as one."""
    return Markup("".join(map(_markup, children)))


def _markup(child: Child) -> str:
    if isinstance(child, Markup):
        return child
    if child is None:
        return ""
    if isinstance(child, (str, int, float)):
        return html.escape(_text(child), quote=False)
    return "".join(map(_markup, child))


def _text(value: str | float) -> str:
    if isinstance(value, str):
        return _STRANGE.sub("\ufffd", value)
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)

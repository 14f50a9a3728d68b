"""Plain text tables and numbers for people."""

from __future__ import annotations

import math
from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Lay out columns, the first ``left`` of them flush left and the others flush right."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def seconds(value_s: float) -> str:
    """A time with three significant digits and a fitting unit; ``-`` where there is none."""
    if not math.isfinite(value_s):
        return "-"
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if value_s * factor >= 0.9995 or unit == "us":
            return f"{_digits(value_s * factor)} {unit}"
    return "-"


def _digits(value: float) -> str:
    return f"{value:.{max(0, 2 - max(0, math.floor(math.log10(value))))}f}" if value > 0 else "0"


def ratio(before: float, after: float) -> str:
    """How many times faster: ``1.84x``; ``-`` where either is unknown."""
    return f"{before / after:.2f}x" if math.isfinite(before) and math.isfinite(after) and after > 0 else "-"


def percent(part: float, whole: float) -> str:
    """``81%``; ``-`` where it cannot be said."""
    return f"{100 * part / whole:.0f}%" if whole > 0 and math.isfinite(part) and part > 0 else "-"


def shorten(text: str, width: int) -> str:
    """Cut the middle out of a long text."""
    return text if len(text) <= width else f"{text[: width // 2 - 1]}..{text[len(text) - (width - width // 2 - 1) :]}"

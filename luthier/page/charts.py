"""Charts as inline SVG: small drawings that know nothing of tuning. Colours come from classes in ``page.css``.

Every chart has a title and a description for those who do not see it; what a chart shows is also in a table or text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .markup import Markup, h, join

WIDTH, HEIGHT = 440.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 18.0, 24.0, 38.0

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Scale:
    """A map from values to positions, linear or logarithmic. Values outside are drawn at the nearer end."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, v = (map(math.log, (self.low, self.high, value))) if self.log else (self.low, self.high, value)
        part = (v - low) / (high - low) if high > low else 0.5
        return self.start + min(max(part, 0.0), 1.0) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Some round values between the ends."""
        return _log_ticks(self.low, self.high) if self.log else _linear_ticks(self.low, self.high)


def x_scale(low: float, high: float, log: bool = False) -> Scale:
    return Scale(low, high, LEFT, WIDTH - RIGHT, log)


def y_scale(low: float, high: float, log: bool = False) -> Scale:
    return Scale(low, high, HEIGHT - BOTTOM, TOP, log)


def span(values: Iterable[float], log: bool = False) -> tuple[float, float]:
    """Ends of an axis that shows all values with some room; logarithmic axes need positive values."""
    found = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
    if not found:
        return (1.0, 10.0) if log else (0.0, 1.0)
    low, high = min(found), max(found)
    if log:
        room = max((high / low) ** 0.05, 1.05)
        return low / room, high * room
    room = 0.05 * (high - low) or abs(high) * 0.05 or 1.0
    return low - room, high + room


@dataclass(frozen=True, slots=True)
class Label:
    """An axis: what it shows, and how a value is written."""

    text: str
    write: object = None

    def format(self, value: float) -> str:
        return self.write(value) if callable(self.write) else f"{value:g}"


def chart(title: str, text: str, x: Scale, y: Scale, labels: tuple[Label, Label], *marks: Markup) -> Markup:
    """A frame with axes around ``marks``. text: what a reader would see, in words."""
    lines = []
    for value in x.ticks():
        at = x(value)
        lines.append(h("line", x1=at, x2=at, y1=TOP, y2=HEIGHT - BOTTOM, class_="grid"))
        lines.append(h("text", labels[0].format(value), x=at, y=HEIGHT - BOTTOM + 13, text_anchor="middle"))
    for value in y.ticks():
        at = y(value)
        lines.append(h("line", x1=LEFT, x2=WIDTH - RIGHT, y1=at, y2=at, class_="grid"))
        lines.append(h("text", labels[1].format(value), x=LEFT - 5, y=at + 3.5, text_anchor="end"))
    names = [
        h("text", labels[0].text, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 6, text_anchor="middle", class_="axis"),
        h("text", labels[1].text, x=6, y=12, class_="axis"),
    ]
    inside = h("g", lines, class_="ticks", aria_hidden="true")
    return h(
        "svg", h("title", title), h("desc", text), inside, h("g", names, aria_hidden="true"), marks,
        class_="chart", viewBox=f"0 0 {WIDTH:g} {HEIGHT:g}", role="img", aria_label=f"{title}: {text}",
    )  # fmt: skip


def dots(points: Iterable[Point], x: Scale, y: Scale, class_: str) -> Markup:
    """Many points as one path: ten characters each."""
    path = "".join(f"M{x(a):.1f} {y(b):.1f}h0" for a, b in points)
    return h("path", d=path, class_=f"dots {class_}") if path else join()


def steps(points: Sequence[Point], x: Scale, y: Scale, class_: str) -> Markup:
    """A line that stays level until the next point."""
    if not points:
        return join()
    path = f"M{x(points[0][0]):.1f} {y(points[0][1]):.1f}"
    for a, b in points[1:]:
        path += f"H{x(a):.1f}V{y(b):.1f}"
    return h("path", d=path, class_=f"line {class_}")


def line(points: Sequence[Point], x: Scale, y: Scale, class_: str) -> Markup:
    path = "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in points)
    return h("path", d=f"M{path}", class_=f"line {class_}")


def ticks_below(values: Iterable[float], x: Scale, class_: str) -> Markup:
    """Short strokes at the lower edge: where something happened that has no height."""
    bottom = HEIGHT - BOTTOM
    path = "".join(f"M{x(v):.1f} {bottom:.0f}v-7" for v in values)
    return h("path", d=path, class_=f"line {class_}") if path else join()


def circle(at: Point, x: Scale, y: Scale, class_: str, tip: str, radius: float = 3.5) -> Markup:
    """A point that says what it is when it is pointed at."""
    return h("circle", h("title", tip), cx=x(at[0]), cy=y(at[1]), r=radius, class_=class_)


def note(at: Point, x: Scale, y: Scale, text: str, dx: float = 6, dy: float = 3, anchor: str = "start") -> Markup:
    """A few words beside a point."""
    return h("text", text, x=x(at[0]) + dx, y=y(at[1]) + dy, text_anchor=anchor, class_="note")


def bars(counts: Sequence[tuple[float, float, int]], x: Scale, y: Scale, class_: str) -> list[Markup]:
    """A histogram: (from, to, count) for each bar."""
    bottom = HEIGHT - BOTTOM
    return [
        h(
            "rect", h("title", f"{count}"), x=x(a) + 0.5, width=max(x(b) - x(a) - 1, 0.5), y=y(count),
            height=max(bottom - y(count), 0.0), class_=class_,
        )
        for a, b, count in counts
        if count
    ]  # fmt: skip


def legend(*entries: tuple[str, str]) -> Markup:
    """What the colours stand for: (class, words) pairs."""
    return h(
        "p", [[h("span", h("i", class_=f"key {c}", aria_hidden="true"), text)] for c, text in entries], class_="legend"
    )


def sample(count: int, most: int, keep: Iterable[int] = ()) -> list[int]:
    """At most about ``most`` of the positions 0 .. count - 1, evenly, besides those of ``keep``; in order."""
    if count <= most:
        return list(range(count))
    return sorted({*(i * count // most for i in range(most)), count - 1, *keep})


def apart(places: Sequence[Point], dx: float = 26, dy: float = 13) -> list[int]:
    """Which of these places can have a few words beside them without covering those of an earlier one."""
    taken: list[Point] = []
    found = []
    for i, (a, b) in enumerate(places):
        if all(abs(a - c) >= dx or abs(b - d) >= dy for c, d in taken):
            taken.append((a, b))
            found.append(i)
    return found


def _linear_ticks(low: float, high: float) -> list[float]:
    if not high > low:
        return [low]
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= raw)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, int(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    decades = math.log10(high / low)
    steps = (1, 2, 5) if 0.6 <= decades < 3 else (1,)
    if decades < 0.6:
        return [v for v in _linear_ticks(low, high) if v > 0]
    values = [m * 10.0**e for e in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1) for m in steps]
    found = [v for v in values if low <= v <= high]
    return found[:: -(-len(found) // 8)] if len(found) > 8 else found

"""Layer by layer, who wins: a profile of Luthier beside those of other engines.

Comes in: a :class:`~.runtime.profile.Profile` and some :class:`~.peer_profiles.PeerProfile`. Goes out: rows, each with
the time of every engine on the same ONNX nodes. Engines fuse differently; what overlaps is put together until every row
has whole kernels on all sides. Nothing is lost: layers without known nodes are rows of their own, and for each engine
the rows and what is between its layers add up to its latency.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .peer_profiles import Layer, PeerProfile
from .runtime.profile import Profile


@dataclass(frozen=True, slots=True)
class Row:
    """label: Luthier's kernels, or else the operators of an engine that runs some. nodes: in Luthier's order. times_s:
    for each engine, Luthier first; None where it runs nothing of its own for these nodes."""

    label: str
    nodes: tuple[str, ...]
    times_s: tuple[float | None, ...]


def side_by_side(profile: Profile, peers: Sequence[PeerProfile]) -> tuple[list[Row], list[Row]]:
    """Match by the names of ONNX nodes. Returns the matched rows in Luthier's order, and the remainder: layers of one
    engine whose nodes nobody else computes, or are not known."""
    ours = [Layer(k.name, "", k.median_s, frozenset(k.nodes)) for k in profile.kernels]
    sides: list[Sequence[Layer]] = [ours, *(peer.layers for peer in peers)]
    joined = _Joined()
    for layers in sides:
        for layer in layers:
            joined.join(layer.nodes)
    order = {name: i for i, name in enumerate(n for k in profile.kernels for n in k.nodes)}
    cells: dict[str, list[list[Layer]]] = {}
    places: dict[str, float] = {}  # Luthier's order; what it has no kernel for comes behind what a peer runs before it
    remainder: list[Row] = []
    for position, layers in enumerate(sides):
        before = -1.0
        for number, layer in enumerate(layers):
            if not layer.nodes:
                remainder.append(_row([[layer] if p == position else [] for p in range(len(sides))], order))
                continue
            root = joined.root(min(layer.nodes))
            cells.setdefault(root, [[] for _ in sides])[position].append(layer)
            before = places.setdefault(root, float(number) if position == 0 else before + 0.5)
    views = set(profile.views)
    matched: list[Row] = []
    for root in sorted(cells, key=places.__getitem__):
        row = _row(cells[root], order)
        alone = sum(t is not None for t in row.times_s) == 1 and not views.issuperset(row.nodes)
        (remainder if alone else matched).append(row)
    return matched, remainder


def _row(columns: Sequence[Sequence[Layer]], order: dict[str, int]) -> Row:
    ours, *theirs = columns
    label = " ; ".join(layer.name for layer in ours)
    if not ours:
        label = "no kernel: " + next(" ; ".join(x.op or x.name for x in column) for column in theirs if column)
    nodes = {name for column in columns for layer in column for name in layer.nodes}
    return Row(
        label,
        tuple(sorted(nodes, key=lambda n: (order.get(n, len(order)), n))),
        tuple(sum(layer.median_s for layer in column) if column else None for column in columns),
    )


class _Joined:
    """Sets of names that grow together (union-find)."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def root(self, name: str) -> str:
        self._parent.setdefault(name, name)
        while self._parent[name] != name:
            self._parent[name] = self._parent[self._parent[name]]
            name = self._parent[name]
        return name

    def join(self, names: frozenset[str]) -> None:
        ordered = sorted(names)
        for name in ordered:
            self._parent[self.root(name)] = self.root(ordered[0])

"""Implementations by name: those that ship, and those that installed packages offer as entry points.

[project.entry-points."luthier.searchers"]
annealing = "my_package.annealing:Annealing"
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from ..errors import TuningError

T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., object])


class Registry(Generic[T]):
    """Classes of one kind. kind: for messages; group: of the entry points; base: what they derive from."""

    def __init__(self, kind: str, group: str, base: type[T]) -> None:
        self.kind, self.group, self.base = kind, group, base
        self._known: dict[str, type[T]] = {}

    def register(self, name: str) -> Callable[[C], C]:
        """Decorate a class to make it available as ``name``."""

        def add(cls: C) -> C:
            self._known[name] = self._checked(name, cls)
            return cls

        return add

    def names(self) -> list[str]:
        """All names, those of entry points included."""
        return sorted({*self._known, *(e.name for e in entry_points(group=self.group))})

    def get(self, name: str) -> type[T]:
        """Find a class. Raises TuningError when there is none of this name, or its package does not load."""
        if name in self._known:
            return self._known[name]
        for entry in entry_points(group=self.group):
            if entry.name == name:
                try:
                    return self._checked(name, entry.load())
                except Exception as e:  # whatever an extension's import raises
                    raise TuningError(f"{self.kind} {name!r} ({entry.value}) cannot be loaded: {e}") from e
        raise TuningError(f"{self.kind} {name!r} is unknown; use one of {', '.join(self.names())}")

    def _checked(self, name: str, cls: object) -> type[T]:
        if not (isinstance(cls, type) and issubclass(cls, self.base)):
            raise TuningError(f"{self.kind} {name!r} is {cls!r}; it must be a class derived from {self.base.__name__}")
        return cls

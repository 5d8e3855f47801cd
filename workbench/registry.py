"""One shape for every extension point: a name and what it opens.

Built-ins and plug-ins enter by the same door, the entry points of installed packages; a project's own
Python can also `register`. A name is taken once; a near miss is suggested. Nothing is imported before it
is asked for.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

from workbench.errors import UnknownName, UseError


class Registry:
    """Names of one kind of thing.

    >>> shapes = Registry("shape")
    >>> shapes.register("square", dict)
    >>> shapes.get("square")
    <class 'dict'>
    """

    def __init__(self, what: str, group: str | None = None) -> None:
        self.what = what
        self._group = group
        self._own: dict[str, Any] = {}
        self._points: dict[str, EntryPoint] | None = None

    def register(self, name: str, thing: Any) -> None:
        """Add a thing; raises UseError where the name is taken."""
        if name in self._own or name in self._entry_points():
            raise UseError(f"{self.what} '{name}' is registered twice; give one of the two another name")
        self._own[name] = thing

    def get(self, name: str) -> Any:
        """The thing of that name; raises UnknownName with the nearest right one."""
        if name in self._own:
            return self._own[name]
        point = self._entry_points().get(name)
        if point is None:
            raise UnknownName(self.what, name, self.names())
        return point.load()

    def names(self) -> list[str]:
        return sorted({*self._own, *self._entry_points()})

    def _entry_points(self) -> dict[str, EntryPoint]:
        if self._points is None:
            self._points = {}
            for point in entry_points(group=self._group) if self._group else ():
                other = self._points.setdefault(point.name, point)
                if other.value != point.value:
                    raise UseError(
                        f"{self.what} '{point.name}' is offered by {_package(other)} and by {_package(point)}; "
                        "uninstall one of the two"
                    )
        return self._points


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


ENGINES = Registry("engine", "workbench.engines")
SCORERS = Registry("scorer", "workbench.scorers")

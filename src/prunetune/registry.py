"""Names to objects: the only global state, and a name registered twice is an error."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Generic, TypeVar, cast

from prunetune.errors import InputError, unknown_name

T = TypeVar("T")


class Registry(Generic[T]):
    """A table of names. An entry is an object, or ``"module:attribute"``, imported when it is first asked for.

    Example
    -------
    >>> colours: Registry[str] = Registry("colour")
    >>> colours.register("red", "#f00")
    >>> colours["red"]
    '#f00'
    >>> colours["rad"]
    Traceback (most recent call last):
        ...
    prunetune.errors.InputError: unknown colour 'rad' (did you mean 'red'?); known: red
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._lazy: dict[str, str] = {}

    def register(self, name: str, entry: T) -> None:
        """Add ``entry`` under ``name``. Raises InputError if the name is taken."""
        self._refuse_twice(name)
        self._entries[name] = entry

    def register_lazy(self, name: str, location: str) -> None:
        """Add the object at ``location`` (``"package.module:attribute"``), imported on first use."""
        self._refuse_twice(name)
        self._lazy[name] = location

    def _refuse_twice(self, name: str) -> None:
        if name in self:
            raise InputError(f"{self.kind} {name!r} is registered already; choose another name")

    def __getitem__(self, name: str) -> T:
        if name in self._lazy:
            module, _, attribute = self._lazy[name].partition(":")
            self._entries[name] = cast(T, getattr(importlib.import_module(module), attribute))
            del self._lazy[name]
        try:
            return self._entries[name]
        except KeyError:
            raise unknown_name(self.kind, name, self.names()) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._lazy

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def names(self) -> list[str]:
        """All names, sorted, without importing anything."""
        return sorted([*self._entries, *self._lazy])

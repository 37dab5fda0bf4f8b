"""The hyperparameters as a train function gets them: a dict of its own that knows which of them were read."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping
from typing import Any


class ReadDict(dict[str, Any]):
    """A copy of ``values`` that knows which were read, also in a process that was forked from this one.

    To read one is to ask for it by name. Whoever takes all (``items()``, ``**params``, a copy, pickle, JSON) has read
    all, for nobody knows what becomes of them. To print them, to count them and to go through the names reads none.

    >>> params = ReadDict({"lr": 0.1, "dropout": 0.5})
    >>> params["lr"], params.unread
    (0.1, ('dropout',))
    >>> {**params}, params.unread
    ({'lr': 0.1, 'dropout': 0.5}, ())
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self._places = {name: place for place, name in enumerate(values)}
        self._read = mmap.mmap(-1, max(1, len(values)))  # memory that forked processes share

    @property
    def unread(self) -> tuple[str, ...]:
        """The names of those that nobody has read."""
        return tuple(name for name, place in self._places.items() if not self._read[place])

    def _note(self, name: object) -> None:
        if (place := self._places.get(name)) is not None:  # type: ignore[call-overload]
            self._read[place] = 1

    def _note_all(self) -> None:
        for name in self._places:
            self._note(name)

    def __getitem__(self, name: str) -> Any:
        self._note(name)
        return super().__getitem__(name)

    def __iter__(self) -> Iterator[str]:
        return super().__iter__()  # with one of its own, Python copies it by way of __getitem__

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return dict, (dict(self),)


def _by_name(method: str) -> Any:
    inherited = getattr(dict, method)

    def read(self: ReadDict, name: str, *default: Any) -> Any:
        self._note(name)
        return inherited(self, name, *default)

    return read


def _of_all(method: str) -> Any:
    inherited = getattr(dict, method)

    def read(self: ReadDict, *others: Any) -> Any:
        self._note_all()
        return inherited(self, *others)

    return read


for _method in ("get", "pop", "setdefault"):
    setattr(ReadDict, _method, _by_name(_method))
for _method in ("items", "values", "copy", "popitem", "__or__", "__ror__", "__eq__", "__ne__"):
    setattr(ReadDict, _method, _of_all(_method))

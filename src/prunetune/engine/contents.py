"""What is in containers, objects, variables and random generators: noted, and put back."""

from __future__ import annotations

import functools
import operator
import queue
import random
import sys
import threading
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch

_NOT_THEIRS = frozenset(
    (
        *(*sys.stdlib_module_names, "torch", "numpy", "scipy", "prunetune", "torchgen", "triton"),
        *("_pytest", "pytest", "pluggy", "xdist", "execnet"),  # met by way of every assert that pytest has rewritten
    )
)
"""Top-level packages whose code keeps nothing that a recording could spoil."""
OF_THREADS = (
    *(type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.Event, threading.Semaphore),
    *(threading.Thread, queue.Queue, queue.SimpleQueue),
)
"""What an object has that is used by several threads."""
CODE = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)
"""What is registered once, when a module is imported: it stays."""
ABSENT = object()
SEED = 0


@functools.cache
def is_foreign_name(module: str) -> bool:
    return module.partition(".")[0] in _NOT_THEIRS


def is_foreign(value: Any) -> bool:
    """Whether a class or function is torch's, numpy's, or Python's own."""
    name = getattr(value, "__module__", None)
    return not isinstance(name, str) or is_foreign_name(name)


class Contents:
    """What is in containers and objects; `put_back` makes it so again, in the same containers."""

    def __init__(self) -> None:
        self._dicts: list[tuple[dict[Any, Any], dict[Any, Any]]] = []
        self._lists: list[tuple[Any, list[Any]]] = []
        self._sets: list[tuple[set[Any], set[Any]]] = []
        self._slots: list[tuple[Any, str, Any]] = []
        self._seen: set[int] = set()
        self._kept: list[Any] = []  # keeps ids from being reused

    def new(self, value: Any) -> bool:
        """Whether this is met for the first time."""
        if id(value) in self._seen:
            return False
        self._seen.add(id(value))
        self._kept.append(value)
        return True

    def note(self, value: Any) -> Iterable[Any]:
        """Remember what is in a container or an object; returns that."""
        if isinstance(value, dict):
            self._dicts.append((value, _items(value)))
            return self._dicts[-1][1].values()
        if isinstance(value, (list, deque)):
            self._lists.append((value, list(value)))
            return value
        if isinstance(value, set):
            self._sets.append((value, set(value)))
            return value
        if isinstance(value, (tuple, frozenset)):
            return value
        inside: list[Any] = []
        state = getattr(value, "__dict__", None)
        if type(state) is dict:
            self._dicts.append((state, dict(state)))
            inside += state.values()
        for name in _slots(type(value)):  # type: ignore[arg-type]
            held = _slot(value, name)
            self._slots.append((value, name, held))
            inside.append(held)
        return inside

    def put_back(self) -> None:
        """As it was when it was noted; only functions and classes that have been registered since stay."""
        for mapping, before in self._dicts:
            now = mapping if type(mapping) is dict else _items(mapping)
            if _same(now.values(), before.values()) and _same(now, before):
                continue
            of = _dict_of(mapping)
            code = {key: value for key, value in now.items() if key not in before and isinstance(value, CODE)}
            of.clear(mapping)
            for key, value in (*before.items(), *code.items()):
                of.__setitem__(mapping, key, value)
        for items, was in self._lists:
            if not _same(items, was):
                items.clear()
                items.extend(was)
        for members, were in self._sets:
            if members != were:
                members.clear()
                members.update(were)
        for owner, name, held in self._slots:
            if _slot(owner, name) is not held:
                if held is ABSENT:
                    object.__delattr__(owner, name)
                else:
                    object.__setattr__(owner, name, held)


def _dict_of(mapping: dict[Any, Any]) -> Any:
    """The class that knows how a dict is kept; one derived from it may do anything on access."""
    return OrderedDict if isinstance(mapping, OrderedDict) else dict


def _items(mapping: dict[Any, Any]) -> dict[Any, Any]:
    if type(mapping) is dict:
        return mapping.copy()
    return {key: dict.__getitem__(mapping, key) for key in _dict_of(mapping).__iter__(mapping)}


def _same(left: Any, right: Any) -> bool:
    """Whether two collections hold the very same objects: a recorded size is equal to the int that it stands for."""
    return len(left) == len(right) and all(map(operator.is_, left, right))


@functools.cache
def _slots(kind: Any) -> tuple[str, ...]:
    """Names of the slots of a class, as they are looked up."""
    return tuple(
        name
        for owner in kind.__mro__
        if "__slots__" in vars(owner) and not is_foreign(owner)
        for name, value in vars(owner).items()
        if isinstance(value, types.MemberDescriptorType)
    )


def _slot(value: Any, name: str) -> Any:
    try:
        return object.__getattribute__(value, name)
    except AttributeError:
        return ABSENT


class Place:
    """Where a value is kept."""

    def get(self) -> Any:
        raise NotImplementedError

    def put(self, value: Any) -> None:
        raise NotImplementedError


class Cell(Place):
    """A variable of an enclosing function."""

    def __init__(self, cell: types.CellType) -> None:
        self.cell = cell

    def get(self) -> Any:
        try:
            return self.cell.cell_contents
        except ValueError:
            return ABSENT

    def put(self, value: Any) -> None:
        if value is ABSENT:
            del self.cell.cell_contents
        else:
            self.cell.cell_contents = value


class Item(Place):
    """A global variable of a module."""

    def __init__(self, owner: dict[str, Any], name: str) -> None:
        self.owner, self.name = owner, name

    def get(self) -> Any:
        return self.owner.get(self.name, ABSENT)

    def put(self, value: Any) -> None:
        if value is ABSENT:
            del self.owner[self.name]
        else:
            self.owner[self.name] = value


class Attribute(Place):
    """An attribute of a class."""

    def __init__(self, owner: type, name: str) -> None:
        self.owner, self.name = owner, name

    def get(self) -> Any:
        return vars(self.owner).get(self.name, ABSENT)

    def put(self, value: Any) -> None:
        type.__setattr__(self.owner, self.name, value)


class Names(Place):
    """How many attributes a class has; put back, it has no new ones but functions and classes."""

    def __init__(self, owner: type) -> None:
        self.owner, self.names = owner, set(vars(owner))

    def get(self) -> int:
        return len(vars(self.owner))

    def put(self, value: Any) -> None:
        for name in vars(self.owner).keys() - self.names:
            if not isinstance(vars(self.owner)[name], CODE):
                type.__delattr__(self.owner, name)


GENERATORS: dict[Any, tuple[Callable[[Any], Any], Callable[[Any, Any], None]]] = {
    torch.Generator: (lambda g: g.get_state(), lambda g, state: g.set_state(state)),
    random.Random: (lambda g: g.getstate(), lambda g, state: g.setstate(state)),
    np.random.RandomState: (lambda g: g.get_state(), lambda g, state: g.set_state(state)),
    np.random.Generator: (
        lambda g: g.bit_generator.state,
        lambda g, state: setattr(g.bit_generator, "state", state),
    ),
}
"""Of each kind of generator: how to read its state, and how to set it."""


def global_generators() -> list[Any]:
    """The generators of Python, of numpy, and of torch on every device that is in use."""
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = torch.cuda.default_generators if in_use else ()
    return [random._inst, np.random.mtrand._rand, torch.default_generator, *devices]


def seed_generators() -> None:
    python, numpy, *torchs = global_generators()
    python.seed(SEED)
    numpy.seed(SEED)
    for generator in torchs:
        generator.manual_seed(SEED)


def generator_state(generator: Any) -> Callable[[], None]:
    """Puts a generator back where it is now."""
    get, put = next(ways for kind, ways in GENERATORS.items() if isinstance(generator, kind))
    state = get(generator)
    return lambda: put(generator, state)


__all__ = [
    "ABSENT",
    "CODE",
    "GENERATORS",
    "OF_THREADS",
    "Attribute",
    "Cell",
    "Contents",
    "Item",
    "Names",
    "Place",
    "generator_state",
    "global_generators",
    "is_foreign",
    "is_foreign_name",
    "seed_generators",
]

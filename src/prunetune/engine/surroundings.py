"""What a run of a model can change besides its results, put back as it was: caches, globals, random generators.

A recording runs somebody's code on tensors without values. What that code keeps for later (a table at its class, an
entry of a `functools.lru_cache`, a variable in a closure) must not be met by the user's own model afterwards, nor by
the next recording. So all that the code of `forward` mentions is looked up before it runs, and put back after.
"""

from __future__ import annotations

import dis
import functools
import inspect
import operator
import random
import sys
import threading
import types
from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunetune.engine.copies import named_modules, own_attributes

_NOT_THEIRS = frozenset((*sys.stdlib_module_names, "torch", "numpy", "scipy", "prunetune", "torchgen", "triton"))
"""Top-level packages whose code keeps nothing that a recording could spoil."""
_ATOMS = frozenset((int, float, bool, str, bytes, complex, type(None), torch.dtype, torch.device, torch.Size))
_LRU: Any = functools._lru_cache_wrapper
_CODE = (type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)
_CONTAINERS = (dict, OrderedDict, defaultdict, list, set, deque, tuple, frozenset)
_ABSENT = object()
_SEED = 0
_ALONE = threading.RLock()
"""There is one set of caches and generators, and one recording at a time that sets it aside."""


@contextmanager
def set_aside(model: nn.Module) -> Iterator[Surroundings]:
    """Meanwhile `model` may run: what its code changes, in it and outside of it, is put back at the end.

    Not put back are the values of its parameters and buffers: what runs is a copy.

    All random generators begin with the same seed, and go on afterwards where they were.
    """
    with _ALONE:
        around = Surroundings(model)
        try:
            around.begin()
            yield around
        finally:
            around.put_back()


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
            code = {key: value for key, value in now.items() if key not in before and isinstance(value, _CODE)}
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
                if held is _ABSENT:
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
    found = []
    for owner in kind.__mro__:
        for name, value in vars(owner).items():
            if isinstance(value, types.MemberDescriptorType) and not _is_foreign(owner):
                found.append(name)
    return tuple(found)


def _slot(value: Any, name: str) -> Any:
    try:
        return object.__getattribute__(value, name)
    except AttributeError:
        return _ABSENT


def _is_atomic(value: Any) -> bool:
    """Whether it is a number or a name, or a tuple of such."""
    return type(value) in _ATOMS or (type(value) is tuple and _ATOMS.issuperset(map(type, value)))


class Surroundings:
    """All that a model and its code hold: attributes of its modules, and what the code mentions besides.

    Followed are `forward` and hooks, whatever functions they name, the classes of what they name, and so on; a name
    stands for every global, attribute, or method of that name. Code of torch, numpy and Python itself is left out.
    """

    def __init__(self, model: nn.Module) -> None:
        self.tensors: list[Tensor] = []
        """Tensors that the code holds outside of the model."""
        self._contents = Contents()
        self._values: list[Callable[[], None]] = []
        self._bindings: list[tuple[Callable[[], Any], Callable[[Any], None], Any]] = []
        self._names: set[str] = {"forward"}
        self._classes: dict[type, set[str]] = {}
        self._todo: list[tuple[Any, _Place | None]] = []
        self._values += [_generator_state(generator) for generator in _global_generators()]
        modules = [module for _, module in named_modules(model)]
        self._of_model = {owner for kind in set(map(type, modules)) for owner in kind.__mro__}
        for module in modules:
            self._contents.new(module)
            self._see_module(module)
        self._follow()

    def begin(self) -> None:
        """Before each run: as it was, every generator with the same seed, and nothing cached yet."""
        self.put_back()
        _seed_generators()
        self._use_empty_caches()

    def _use_empty_caches(self) -> None:
        """Give the code caches of its own, instead of each `functools.lru_cache` that it calls."""
        fresh: dict[int, Any] = {}
        for _, put, value in self._bindings:
            cache = _cache_in(value)
            if cache is None or _is_singleton(cache):
                continue
            if id(cache) not in fresh:
                own = functools.lru_cache(**cache.cache_parameters())(cache.__wrapped__)
                fresh[id(cache)] = functools.update_wrapper(own, cache.__wrapped__)
            put(type(value)(fresh[id(cache)]) if isinstance(value, _WRAPPERS) else fresh[id(cache)])

    def put_back(self) -> None:
        """Make everything as it was."""
        for get, put, value in self._bindings:
            if get() is not value:
                put(value)
        self._contents.put_back()
        for restore in self._values:
            restore()

    # -- looking around ----------------------------------------------------------------------------------------------

    def _see_module(self, module: nn.Module) -> None:
        """Torch's own modules keep nothing when they run, but may hold functions that do."""
        state = vars(module)
        self._see_class(type(module))
        hooks = [hook for key in _HOOKS for hook in state[key].values()]
        self._todo += [(hook, None) for hook in hooks]
        if hooks or not _is_foreign(type(module)):
            for held in (state, state["_parameters"], state["_buffers"], state["_modules"]):
                self._contents.note(held)
        names = [name for name, value in own_attributes(module) if type(value) not in _ATOMS]
        self._todo += [(state[name], _Item(state, name)) for name in names if not _is_atomic(state[name])]

    def _follow(self) -> None:
        while True:
            while self._todo:
                self._see(*self._todo.pop())
            for kind in self._classes.keys() & self._of_model:
                fresh = (self._names & vars(kind).keys()) - self._classes[kind]
                self._classes[kind] |= fresh
                self._todo += [(vars(kind)[name], None) for name in fresh]
            if not self._todo:
                return

    def _see(self, value: Any, place: _Place | None) -> None:
        kind = type(value)
        if kind in _ATOMS:
            return
        if place is not None and _cache_in(value) is not None:
            self._bindings.append((place.get, place.put, value))
        if not self._contents.new(value):
            return
        see = _SEEN_AS.get(kind)
        if see is not None:
            see(self, value)
        elif isinstance(value, type):
            self._see_class(value)
        elif isinstance(value, Tensor):
            self._see_tensor(value)
        elif isinstance(value, tuple(_STATES)):
            self._values.append(_generator_state(value))
        elif isinstance(value, (dict, list, set, deque, tuple, frozenset)):
            inside = self._contents.note(value)
            if len(value) < _MANY:
                self._todo += [(item, None) for item in inside if not _is_atomic(item)]
        elif isinstance(value, nn.Module):  # another network, outside of the model
            self._see_module(value)
            inside = (value._parameters, value._buffers, value._modules)
            self._todo += [(item, None) for held in inside for item in held.values()]
        elif not isinstance(value, types.ModuleType) and not _is_foreign(kind):
            self._see_class(kind)
            self._todo += [(item, None) for item in self._contents.note(value)]

    def _see_function(self, function: Any) -> None:
        if _is_foreign(function):
            return
        for cell in function.__closure__ or ():
            place = _Cell(cell)
            self._bind(place)
        self._todo += [(item, None) for item in self._contents.note(vars(function))]
        for default in (function.__defaults__ or (), (function.__kwdefaults__ or {}).values()):
            self._todo += [(item, None) for item in default]
        names = _mentioned(function.__code__)
        self._names |= names
        known = function.__globals__
        for name in names:
            value = known.get(name, _ABSENT)
            if type(value) is types.ModuleType and not _is_foreign_name(value.__name__):
                for each in names & vars(value).keys():
                    self._bind(_Item(vars(value), each))
            elif value is not _ABSENT or name in _stored(function.__code__):
                self._bind(_Item(known, name))

    def _bind(self, place: _Place) -> None:
        """Something that the code may give another value."""
        value = place.get()
        if _cache_in(value) is None and type(value) not in (types.FunctionType, types.ModuleType):
            self._bindings.append((place.get, place.put, value))
        self._todo.append((value, place))

    def _see_class(self, kind: type) -> None:
        for owner in kind.__mro__:
            if owner in self._classes or _is_foreign(owner):
                continue
            self._classes[owner] = set()
            for name, value in list(vars(owner).items()):
                if type(value) is types.FunctionType:
                    if name in _CALLED_BY_ITSELF:
                        self._todo.append((value, None))
                elif not name.startswith("__") or name == "__slots__":
                    self._bind(_Attribute(owner, name))
            names = _Names(owner)
            self._bindings.append((names.get, names.put, names.get()))

    def _see_tensor(self, tensor: Tensor) -> None:
        self.tensors.append(tensor)
        if tensor.is_meta or tensor.layout is not torch.strided:
            return
        before = tensor.detach().clone()

        def restore() -> None:
            with torch.no_grad():
                tensor.data.copy_(before)  # always: batch norms write without a new version

        self._values.append(restore)

    def _see_array(self, array: np.ndarray[Any, Any]) -> None:
        before = array.copy()

        def restore() -> None:
            if array.flags.writeable:
                array[...] = before

        self._values.append(restore)

    def _see_inside(self, wrapper: Any) -> None:
        """What a method, a property, a partial function is made of."""
        for name in ("__func__", "__wrapped__", "func", "fget", "__self__", "args", "keywords"):
            self._todo.append((getattr(wrapper, name, None), None))


_MANY = 10_000
"""What holds more than that is data."""
_WRAPPERS = (staticmethod, classmethod)
_HOOKS = ("_forward_hooks", "_forward_pre_hooks")
_CALLED_BY_ITSELF = frozenset(
    ("__call__", "__getattr__", "__getattribute__", "__getitem__", "__setattr__", "__enter__", "__exit__", "__iter__")
)
_SEEN_AS: dict[type, Callable[[Surroundings, Any], None]] = {
    types.FunctionType: Surroundings._see_function,
    np.ndarray: Surroundings._see_array,
    **dict.fromkeys(
        (types.MethodType, functools.partial, property, functools.cached_property, *_WRAPPERS, _LRU),
        Surroundings._see_inside,
    ),
}


class _Place:
    """Where a value is kept."""

    def get(self) -> Any:
        raise NotImplementedError

    def put(self, value: Any) -> None:
        raise NotImplementedError


class _Cell(_Place):
    """A variable of an enclosing function."""

    def __init__(self, cell: types.CellType) -> None:
        self.cell = cell

    def get(self) -> Any:
        try:
            return self.cell.cell_contents
        except ValueError:
            return _ABSENT

    def put(self, value: Any) -> None:
        if value is _ABSENT:
            del self.cell.cell_contents
        else:
            self.cell.cell_contents = value


class _Item(_Place):
    """A global variable of a module."""

    def __init__(self, owner: dict[str, Any], name: str) -> None:
        self.owner, self.name = owner, name

    def get(self) -> Any:
        return self.owner.get(self.name, _ABSENT)

    def put(self, value: Any) -> None:
        if value is _ABSENT:
            del self.owner[self.name]
        else:
            self.owner[self.name] = value


class _Attribute(_Place):
    """An attribute of a class."""

    def __init__(self, owner: type, name: str) -> None:
        self.owner, self.name = owner, name

    def get(self) -> Any:
        return vars(self.owner).get(self.name, _ABSENT)

    def put(self, value: Any) -> None:
        type.__setattr__(self.owner, self.name, value)


class _Names(_Place):
    """How many attributes a class has; put back, it has no new ones but functions and classes."""

    def __init__(self, owner: type) -> None:
        self.owner, self.names = owner, set(vars(owner))

    def get(self) -> int:
        return len(vars(self.owner))

    def put(self, value: Any) -> None:
        for name in vars(self.owner).keys() - self.names:
            if not isinstance(vars(self.owner)[name], _CODE):
                type.__delattr__(self.owner, name)


def _cache_in(value: Any) -> Any:
    """The `functools.lru_cache` that this is, or that it makes a method of."""
    inner = value.__func__ if isinstance(value, _WRAPPERS) else value
    return inner if type(inner) is _LRU else None


def _is_singleton(cache: Any) -> bool:
    """Whether a cache holds the one thing that its function makes: no size goes into that, and it is there already."""
    code = getattr(cache.__wrapped__, "__code__", None)
    if code is None or code.co_argcount or code.co_kwonlyargcount:
        return False
    return not code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS) and cache.cache_info().currsize > 0


@functools.cache
def _is_foreign_name(module: str) -> bool:
    return module.partition(".")[0] in _NOT_THEIRS


def _is_foreign(value: Any) -> bool:
    """Whether a class or function is torch's, numpy's, or Python's own."""
    name = getattr(value, "__module__", None)
    return not isinstance(name, str) or _is_foreign_name(name)


@functools.lru_cache(100_000)
def _mentioned(code: types.CodeType) -> frozenset[str]:
    """The names that a function's code mentions, also in the functions within it and in its strings."""
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found |= _mentioned(constant)
    return frozenset(found)


@functools.lru_cache(100_000)
def _stored(code: types.CodeType) -> frozenset[str]:
    """Those that it may make global variables of."""
    stores = dis.opmap["STORE_GLOBAL"] in code.co_code[::2]
    found = {i.argval for i in dis.get_instructions(code) if i.opname == "STORE_GLOBAL"} if stores else set()
    inner = [_stored(constant) for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return frozenset(found.union(*inner))


# -- random generators -------------------------------------------------------------------------------------------------

_STATES: dict[Any, tuple[Callable[[Any], Any], Callable[[Any, Any], None]]] = {
    torch.Generator: (lambda g: g.get_state(), lambda g, state: g.set_state(state)),
    random.Random: (lambda g: g.getstate(), lambda g, state: g.setstate(state)),
    np.random.RandomState: (lambda g: g.get_state(), lambda g, state: g.set_state(state)),
    np.random.Generator: (
        lambda g: g.bit_generator.state,
        lambda g, state: setattr(g.bit_generator, "state", state),
    ),
}
"""Of each kind of generator: how to read its state, and how to set it."""


def _global_generators() -> list[Any]:
    """The generators of Python, of numpy, and of torch on every device that is in use."""
    in_use = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = torch.cuda.default_generators if in_use else ()
    return [random._inst, np.random.mtrand._rand, torch.default_generator, *devices]


def _seed_generators() -> None:
    python, numpy, *torchs = _global_generators()
    python.seed(_SEED)
    numpy.seed(_SEED)
    for generator in torchs:
        generator.manual_seed(_SEED)


def _generator_state(generator: Any) -> Callable[[], None]:
    """Puts a generator back where it is now."""
    get, put = next(ways for kind, ways in _STATES.items() if isinstance(generator, kind))
    state = get(generator)
    return lambda: put(generator, state)


__all__ = ["Contents", "Surroundings", "set_aside"]

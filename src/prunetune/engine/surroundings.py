"""What a run of a model can change besides its results, put back as it was: caches, globals, random generators.

A recording runs somebody's code on tensors without values. What that code keeps for later (a table at its class, an
entry of a `functools.lru_cache`, a variable in a closure) must not be met by the user's own model afterwards, nor by
the next recording. So all that the code of `forward` mentions is looked up before it runs, and put back after.
"""

from __future__ import annotations

import dis
import functools
import inspect
import threading
import types
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunetune.engine.contents import (
    ABSENT,
    GENERATORS,
    OF_THREADS,
    Attribute,
    Cell,
    Contents,
    Item,
    Names,
    Place,
    generator_state,
    global_generators,
    is_foreign,
    is_foreign_name,
    seed_generators,
)
from prunetune.engine.tracing.copies import named_modules, own_attributes

_ATOMS = frozenset((int, float, bool, str, bytes, complex, type(None), torch.dtype, torch.device, torch.Size))
_LRU: Any = functools._lru_cache_wrapper
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
        self._todo: list[tuple[Any, Place | None]] = []
        self._values += [generator_state(generator) for generator in global_generators()]
        modules = [module for _, module in named_modules(model)]
        self._of_model = {owner for kind in set(map(type, modules)) for owner in kind.__mro__}
        self._packages = {owner.__module__.partition(".")[0] for owner in self._of_model}
        for module in modules:
            self._contents.new(module)
            self._see_module(module)
        self._follow()

    def begin(self) -> None:
        """Before each run: as it was, every generator with the same seed, and nothing cached yet."""
        self.put_back()
        seed_generators()
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
        if self._contents.new(type(module)):
            self._see_class(type(module))
        hooks = [hook for key in _HOOKS for hook in state[key].values()]
        self._todo += [(hook, None) for hook in hooks]
        if hooks or not is_foreign(type(module)):
            for held in (state, *(state[key] for key in _HELD)):
                self._contents.note(held)
        for key in _HOOKS:
            self._values.append(_as_it_is(state[key]))
        names = [name for name, value in own_attributes(module) if type(value) not in _ATOMS]
        self._todo += [(state[name], Item(state, name)) for name in names if not _is_atomic(state[name])]

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

    def _see(self, value: Any, place: Place | None) -> None:
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
        elif isinstance(value, tuple(GENERATORS)):
            self._values.append(generator_state(value))
        elif isinstance(value, (dict, list, set, deque, tuple, frozenset)):
            inside = self._contents.note(value)
            if len(value) < _MANY:
                self._todo += [(item, None) for item in inside if not _is_atomic(item)]
        elif isinstance(value, nn.Module):  # another network, outside of the model
            self._see_module(value)
            inside = (value._parameters, value._buffers, value._modules)
            self._todo += [(item, None) for held in inside for item in held.values()]
        elif not isinstance(value, types.ModuleType) and not is_foreign(kind) and not self._is_of_threads(value):
            self._see_class(kind)
            self._todo += [(item, None) for item in self._contents.note(value)]
        elif not isinstance(getattr(value, "__self__", None), types.ModuleType):  # a method that is not Python's code
            self._todo.append((getattr(value, "__self__", None), None))

    def _is_of_threads(self, value: Any) -> bool:
        """Whether another package's object works in threads, a logger's or a tracker's: they change it meanwhile, and
        what they did would be undone.
        """
        state = getattr(value, "__dict__", None)
        if type(state) is not dict or type(value).__module__.partition(".")[0] in self._packages:
            return False
        return any(isinstance(held, OF_THREADS) for held in list(state.values()))

    def _see_function(self, function: Any) -> None:
        if is_foreign(function):
            return
        for cell in function.__closure__ or ():
            place = Cell(cell)
            self._bind(place)
        self._todo += [(item, None) for item in self._contents.note(vars(function))]
        for default in (function.__defaults__ or (), (function.__kwdefaults__ or {}).values()):
            self._todo += [(item, None) for item in default]
        names = _mentioned(function.__code__)
        self._names |= names
        known = function.__globals__
        for name in names:
            value = known.get(name, ABSENT)
            if type(value) is types.ModuleType and not is_foreign_name(value.__name__):
                for each in names & vars(value).keys():
                    self._bind(Item(vars(value), each))
            elif value is not ABSENT or name in _stored(function.__code__):
                self._bind(Item(known, name))

    def _bind(self, place: Place) -> None:
        """Something that the code may give another value."""
        value = place.get()
        if _cache_in(value) is None and type(value) not in (types.FunctionType, types.ModuleType):
            self._bindings.append((place.get, place.put, value))
        self._todo.append((value, place))

    def _see_class(self, kind: type) -> None:
        for owner in kind.__mro__:
            if owner in self._classes or is_foreign(owner):
                continue
            self._classes[owner] = set()
            for name, value in list(vars(owner).items()):
                if type(value) is types.FunctionType:
                    if name in _CALLED_BY_ITSELF:
                        self._todo.append((value, None))
                elif not name.startswith("__") or name == "__slots__":
                    self._bind(Attribute(owner, name))
            names = Names(owner)
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


def _as_it_is(hooks: dict[int, Any]) -> Callable[[], None]:
    """What takes hooks off again that a forward has set at its first call; that it has is forgotten, too."""
    before = dict(hooks)

    def restore() -> None:
        if hooks.keys() != before.keys():
            hooks.clear()
            hooks.update(before)

    return restore


_MANY = 10_000
"""What holds more than that is data."""
_WRAPPERS = (staticmethod, classmethod)
_HELD = ("_parameters", "_buffers", "_modules")
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


__all__ = ["Contents", "Surroundings", "set_aside"]

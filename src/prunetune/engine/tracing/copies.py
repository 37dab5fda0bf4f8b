"""Copies of a model that share nothing they should not, and cost no more than they must."""

from __future__ import annotations

import copy
import itertools
import pickle
import weakref
from collections import OrderedDict
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from prunetune.errors import InputError


def named_modules(model: nn.Module, without: Collection[int] = ()) -> list[tuple[str, nn.Module]]:
    """As `model.named_modules()`, without its generators within generators, and without the modules of these ids."""
    found: list[tuple[str, nn.Module]] = []
    seen: set[int] = set(without)
    todo: list[tuple[str, nn.Module]] = [("", model)]
    while todo:
        path, module = todo.pop()
        if id(module) in seen:
            continue
        seen.add(id(module))
        found.append((path, module))
        if module._modules:
            prefix = f"{path}." if path else ""
            todo += [(prefix + name, child) for name, child in reversed(module._modules.items()) if child is not None]
    return found


def named_tensors(model: nn.Module, without: Collection[int] = ()) -> dict[str, Tensor]:
    """Parameters and buffers by their first qualified name; a tied tensor appears once.

    With `without`, those that a model has besides what is in the modules of these ids.
    """
    seen: set[int] = set()
    tensors: dict[str, Tensor] = {}
    modules = named_modules(model, without)
    for kind in ("_parameters", "_buffers"):
        for path, module in modules:
            for name, tensor in getattr(module, kind).items():
                if tensor is not None and id(tensor) not in seen:
                    seen.add(id(tensor))
                    tensors[f"{path}.{name}" if path else name] = tensor
    return tensors


def transient_buffers(model: nn.Module) -> frozenset[str]:
    """Names of the buffers that no state dict holds, as `register_buffer(persistent=False)` makes them."""
    return frozenset(
        f"{path}.{name}" if path else name
        for path, module in named_modules(model)
        for name in module._non_persistent_buffers_set
    )


def copy_with(
    model: nn.Module, replacements: Mapping[int, Tensor], stand_ins: Mapping[int, nn.Module] | None = None
) -> nn.Module:
    """A deep copy of `model` in which each tensor whose `id` is in `replacements` is that replacement.

    Likewise the modules that have stand-ins: nothing in them is copied but the hooks around their calls, which the
    stand-in gets.

    The copy never holds the weights twice: `deepcopy` finds each replacement in its memo. What a run has left on the
    model with its history (`self.features = ...`), which torch does not copy, is copied without.
    """
    memo: dict[int, Any] = dict(replacements)
    for tensor in all_tensors(model):
        if tensor.grad_fn is not None and id(tensor) not in memo:
            memo[id(tensor)] = tensor.detach().clone()
    return _copied(model, memo, stand_ins or {})


def _copied(model: nn.Module, memo: dict[int, Any], stand_ins: Mapping[int, nn.Module]) -> nn.Module:
    memo.update(stand_ins)
    twin = _copy_module(model, memo)
    for state, key, reference in memo.get(_WEAK, ()):
        if id(reference()) in memo:  # to something in the model: then to its copy
            state[key] = weakref.ref(memo[id(reference())])
    for module in model.modules() if stand_ins else ():
        if id(module) in stand_ins:
            hooks = {key: copy.deepcopy(vars(module)[key], memo) for key in _CALL_HOOKS}
            vars(memo[id(module)]).update(hooks)
    return twin


_CALL_HOOKS = tuple(
    [f"_forward{kind}_hooks{more}" for kind in ("", "_pre") for more in ("", "_with_kwargs")]
    + ["_forward_hooks_always_called", "_backward_hooks", "_backward_pre_hooks", "_is_full_backward_hook"]
)


def _copy_module(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """`copy.deepcopy`, several times as fast for modules that do not say otherwise how they are copied."""
    if id(module) in memo:
        known: nn.Module = memo[id(module)]
        return known
    kind = type(module)
    if kind not in _PLAIN:
        _PLAIN[kind] = _copies_plainly(kind)
    if not _PLAIN[kind]:
        return _copy_by_its_own_way(module, memo)
    twin: nn.Module = kind.__new__(kind)
    memo[id(module)] = twin
    state = vars(twin)
    own = vars(module)
    state.update(own)
    for key, value in own.items():
        of = type(value)
        if of in _ATOMS:
            continue
        if of in _CONTAINERS and not value:  # in this order: tensors and arrays have no truth
            state[key] = of()
        elif key == "_modules":
            state[key] = {k: None if m is None else _copy_module(m, memo) for k, m in value.items()}
        elif key in _TENSORS:
            state[key] = {k: memo[id(t)] if id(t) in memo else _copy_tensor(k, t, memo) for k, t in value.items()}
        elif key == "_compiled_call_impl":  # belongs to the original, as torch's own copies have it
            del state[key]
        elif of is weakref.ref:
            memo.setdefault(_WEAK, []).append((state, key, value))
        elif of is list and _ATOMS.issuperset(map(type, value)):
            state[key] = list(value)
        elif of is not tuple or not _ATOMS.issuperset(map(type, value)):
            state[key] = _copy_value(value, memo)
    return twin


def _copy_by_its_own_way(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    try:
        twin: nn.Module = copy.deepcopy(module, memo)
    except Exception as error:  # a class may copy itself in any way, and fail in any
        raise InputError(
            f"the {type(module).__name__} cannot be copied ({type(error).__name__}: {error}), and prunetune works on "
            "copies; leave out what it keeps that has no copy, or give its class a __deepcopy__"
        ) from error
    if isinstance(module, torch.jit.ScriptModule):
        _put_into_script(module, twin, memo)
    return twin


def _put_into_script(module: nn.Module, twin: nn.Module, memo: Mapping[int, Any]) -> None:
    """Give a copied TorchScript its replacements: torch copies it in C++, which does not know of the memo."""
    for own, copied in zip(module.modules(), twin.modules(), strict=True):
        for kind in _TENSORS:
            for name, tensor in getattr(own, kind).items():
                if id(tensor) in memo:
                    getattr(copied, kind)[name] = memo[id(tensor)]


def _copy_value(value: Any, memo: dict[int, Any]) -> Any:
    """`copy.deepcopy`; what has no copy (a lock, a file, a writer to a log) is shared, and all around it copied."""
    if id(value) in memo:
        return memo[id(value)]
    known = len(memo)
    try:
        return copy.deepcopy(value, memo)
    except (TypeError, NotImplementedError, RuntimeError, copy.Error, pickle.PicklingError):
        for key in list(itertools.islice(memo, known, None)):  # parts of what came to nothing
            del memo[key]
    if type(value) in (dict, OrderedDict):
        memo[id(value)] = twin = type(value)()
        twin.update((key, _copy_value(item, memo)) for key, item in value.items())
    elif type(value) is list:
        memo[id(value)] = twin = []
        twin += [_copy_value(item, memo) for item in value]
    elif type(value) is tuple:
        memo[id(value)] = twin = tuple(_copy_value(item, memo) for item in value)
    elif _is_plain_object(type(value)):
        memo[id(value)] = twin = object.__new__(type(value))
        vars(twin).update((key, _copy_value(item, memo)) for key, item in vars(value).items())
    else:
        memo[id(value)] = twin = value
    return twin


def _is_plain_object(kind: type[Any]) -> bool:
    """Whether its attributes are all there is to an object of a class written in Python."""
    said = {name for owner in kind.__mro__[:-1] for name in vars(owner)}
    own_ways = {"__deepcopy__", "__reduce_ex__", "__reduce__", "__getnewargs__", "__getnewargs_ex__", "__getstate__"}
    return "__dict__" in said and said.isdisjoint(own_ways | {"__new__", "__slots__"})


def _copy_tensor(name: str, tensor: Tensor | None, memo: dict[int, Any]) -> Any:
    """`copy.deepcopy`, without its search for who shares the memory of a batch norm's counter, which nobody does."""
    if name == "num_batches_tracked" and type(tensor) is Tensor and not (tensor.requires_grad or vars(tensor)):
        memo[id(tensor)] = tensor.clone()
        return memo[id(tensor)]
    return copy.deepcopy(tensor, memo)


_WEAK = -1
"""Where in a memo the weak references stand, which can only be copied when all else has been."""
_ATOMS = frozenset((int, float, bool, str, type(None), torch.dtype, torch.device))
_CONTAINERS = frozenset((dict, OrderedDict, set, list))
_TENSORS = frozenset(("_parameters", "_buffers"))


_PLAIN: dict[type[nn.Module], bool] = {}


def _copies_plainly(kind: type[nn.Module]) -> bool:
    """Whether nothing but the attributes makes a copy of such a module.

    torch's own `__setstate__` only mend what older versions of torch have pickled; recurrent layers keep references to
    their weights besides, and TorchScript has its state in C++.
    """
    if issubclass(kind, (nn.RNNBase, torch.jit.ScriptModule)):
        return False
    said = {name: owner.__module__ for owner in reversed(kind.__mro__[:-1]) for name in vars(owner)}
    own_ways = ("__deepcopy__", "__reduce_ex__", "__reduce__", "__getnewargs__", "__getnewargs_ex__")
    states = [said.get(name, "torch.nn.modules.") for name in ("__getstate__", "__setstate__")]
    return not any(name in said for name in own_ways) and all(s.startswith("torch.nn.modules.") for s in states)


def meta_like(tensor: Tensor) -> Tensor:
    """A tensor on the meta device that is like another in everything but its values."""
    return parameter_like(tensor, torch.empty_like(tensor, device="meta"))


def parameter_like(tensor: Tensor, values: Tensor) -> Tensor:
    """`values`, as a parameter where `tensor` is one."""
    if type(tensor) is nn.Parameter:  # what its constructor comes to, and half of the time of a copy without values
        return Tensor._make_subclass(nn.Parameter, values, tensor.requires_grad)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(values, requires_grad=tensor.requires_grad)
    return values


_INTERNAL = frozenset(vars(nn.Module())) | {"_is_full_backward_hook"}
_INTERNAL_COUNT, _FIRST_INTERNAL = len(vars(nn.Module())), next(iter(vars(nn.Module())))


def own_attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What a module's class put on it, besides parameters, buffers, submodules and hooks."""
    items = vars(module).items()
    first = next(iter(items), ("", None))[0]
    # The internal ones come first, unless somebody has been there before `nn.Module.__init__`.
    later = itertools.islice(items, _INTERNAL_COUNT, None) if first == _FIRST_INTERNAL else items
    return ((key, value) for key, value in later if key not in _INTERNAL)


def plain_attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """Those of them that are numbers, flags, names, or sequences of such."""
    for key, value in own_attributes(module):
        if type(value) in _ATOMS:
            yield key, value
        elif type(value) in (tuple, list) and all(type(v) in _ATOMS for v in value):
            yield key, type(value)(value)


def all_tensors(model: nn.Module) -> list[Tensor]:
    """Parameters, buffers, and the tensors that modules keep as plain attributes."""
    found: list[Tensor] = []
    for _, module in named_modules(model):
        for tensors in (module._parameters, module._buffers):
            found += [tensor for tensor in tensors.values() if tensor is not None]
        for value in own_values(module):
            kind = type(value)
            if kind not in _ATOMS and not (kind is tuple and _ATOMS.issuperset(map(type, value))):
                found += _tensors_in(value)
    return found


def own_values(module: nn.Module) -> Collection[Any]:
    """As `own_attributes`, without the names."""
    state = vars(module)
    if next(iter(state), "") != _FIRST_INTERNAL:
        return [value for _, value in own_attributes(module)]
    return list(state.values())[_INTERNAL_COUNT:]  # what torch adds there later holds no tensors


def _tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            if type(item) not in _ATOMS:
                yield from _tensors_in(item)


def set_mode(model: nn.Module, training: bool) -> nn.Module:
    """`model.train(training)`, without a call for every module where no class has its own way of doing it."""
    modules = [module for _, module in named_modules(model)]
    if any(type(m).train is not nn.Module.train or isinstance(m, torch.jit.ScriptModule) for m in modules):
        return model.train(training)
    for module in modules:
        vars(module)["training"] = training
    return model


def meta_copy(model: nn.Module) -> nn.Module:
    """A copy of `model` whose tensors have shapes but no values; costs no memory for the weights."""
    return _copied(model, {id(t): meta_like(t) for t in all_tensors(model)}, {})

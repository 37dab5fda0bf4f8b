"""The recorder: a `TorchFunctionMode` that writes every torch function a model calls into a `torch.fx.Graph`."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from prunetune.engine.lines import running_line
from prunetune.engine.rules.table import rule_of_module
from prunetune.engine.tracing.copies import all_tensors, named_modules, named_tensors, own_attributes
from prunetune.engine.tracing.placeholders import alias, attribute, constant, decided, hidden, left, pinned
from prunetune.engine.tracing.replay import ReplayGraph
from prunetune.engine.tracing.sizes import COMPUTES, SizeFloat, SizeProxy, SizeTuple
from prunetune.engine.ways import CallChecker, observed

_ABOUT = (type(None), bool, int, str, tuple, torch.dtype, torch.device, torch.layout, torch.memory_format)
"""What torch functions say about a tensor. What else is no tensor took numbers out of it, and where they go is not
seen."""
_DECIDES = (torch.Tensor.__bool__, torch.Tensor.__int__, torch.Tensor.__float__, torch.Tensor.item)
_PRODUCTS = (torch.Tensor.numel, torch.Tensor.nelement, torch.numel)
_COUNTS = frozenset((*_PRODUCTS, torch.Tensor.__len__, torch.Tensor.stride))
_GET_SHAPE = torch.Tensor.shape.__get__  # type: ignore[attr-defined]


@dataclass(frozen=True)
class ModuleCall:
    """One call of a module's `forward`: nodes number `start` to `stop - 1` of the graph were recorded meanwhile."""

    path: str
    start: int
    stop: int
    entered: fx.Node | None
    """What made the tensor that is its first argument."""
    left: fx.Node | None
    """What made the tensor that it returned, if that has the shape and the type of the first argument."""


class Unrecorded(TorchFunctionMode):
    """Runs a model as the recorder does, and compares what it calls with what was predicted, if anything was."""

    def __init__(self, model: nn.Module, run: Callable[..., Any], checker: CallChecker | None = None) -> None:
        super().__init__()
        self.run = run
        self.checker = checker
        self.names = {id(tensor): name for name, tensor in named_tensors(model).items()}

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        out = self.run(func, args, kwargs or {})
        if self.checker is not None and (_has_tensor(out) or func is torch.Tensor.__setitem__):
            with torch._C.DisableTorchFunction():
                self.checker.compare(observed(func, args, kwargs or {}, out, self.names))
        return out


class Recorder(TorchFunctionMode):
    """Appends every torch function that is called to a graph."""

    compares = True
    """Whether a run that does the same as the one before may share its graph: what it allocates is not noted then."""

    keep_sizes = False
    """Whether every size that the model's code reads must stay, as its further way may not be seen."""

    graph: ReplayGraph

    def __init__(self, model: nn.Module, run: Callable[..., Any], *, values: bool) -> None:
        super().__init__()
        self.run = run
        """Runs a torch function: for its shape, or on values."""
        self.device = "values" if values else "meta"
        self.names = {id(tensor): name for name, tensor in named_tensors(model).items()}
        self.submodules = named_modules(model)
        self.scope: list[str] = []
        self.muted = False
        """Inside a module that has a rule of its own nothing is recorded."""
        self.listening = False
        """Whether what happens to sizes is the model's own doing, and recorded."""

    def __enter__(self) -> Recorder:
        """Record; also what comes from numpy, which torch lets no mode see."""
        self._from_numpy: Callable[[Any], Tensor] = torch.from_numpy
        setattr(torch, "from_numpy", self._of_numpy)  # noqa: B010
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        setattr(torch, "from_numpy", self._from_numpy)  # noqa: B010
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def _of_numpy(self, array: Any) -> Tensor:
        """The numbers left torch before, and what they came from stays as it is."""
        made = self._from_numpy(array)
        self.constants.add(id(made))
        self.alive.append(made)
        return made

    def restart(self, model: nn.Module, outside: Sequence[Tensor] = (), *, compare: bool = False) -> None:
        """Begin a new graph; or go along the last one, to see whether another run does the same (`ReplayGraph.rewind`).

        `outside` are tensors that the model's code holds elsewhere.
        """
        if compare:
            self.graph.rewind()
        else:
            self.graph = ReplayGraph()
            tensors = all_tensors(model)
            self.constants = {id(t) for t in (*tensors, *outside)} - set(self.names)
            self.storages = {_memory(t) for t in tensors}
            """Memory that exists: what a view or an operation in place returns makes none."""
        self.known: dict[int, fx.Node] = {}
        self.alive: list[Any] = []  # keeps ids from being reused
        self.attributes: dict[tuple[str, int | None], fx.Node] = {}
        self.calls: list[tuple[str, fx.Node | None]] = []
        """All functions that return tensors, in their order; without a node where nothing is recorded."""
        self.modules: list[ModuleCall] = []
        """All calls of modules, for subclasses that note them."""
        self.muted, self.listening = False, True
        self.scope.clear()
        if self.keep_sizes:
            for size in self.own_sizes:
                self.note_size(pinned, size, COMPUTES)

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        self.listening = False
        try:
            return self._called(func, args, kwargs or {})
        finally:
            self.listening = not self.muted

    def _called(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self.muted:
            out = self.run(func, args, kwargs)
            if _has_tensor(out) or func is torch.Tensor.__setitem__:
                self.calls.append((func.__name__, None))
            return out
        if func is torch.Tensor.size or func == _GET_SHAPE:
            return self._shape(func, args, kwargs)
        if func in _COUNTS:
            return self._count(func, args, kwargs)
        out = self.run(func, args, kwargs)
        with torch._C.DisableTorchFunction():  # no other mode needs to see what is looked up here
            written = args[0] if func is torch.Tensor.__setitem__ else out
            if _has_tensor(written):
                node = self._call(func, args, kwargs)
                self.calls.append((func.__name__, node))
                self._remember(written, node)
                return out
            if func in _DECIDES:
                self._call(decided, (), {})
            if not isinstance(out, _ABOUT):
                self._call(left, tuple(v for v in pytree.tree_leaves((args, kwargs)) if isinstance(v, Tensor)), {})
        return out

    def _count(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Numbers that are computed from a tensor's sizes."""
        sizes = self._shape(_GET_SHAPE, args[:1], {})
        if func in _PRODUCTS:
            self.listening = True  # to the multiplications
            return sizes.numel()
        for size in sizes[:1] if func is torch.Tensor.__len__ else sizes[1:]:
            self.note_size(pinned, size, COMPUTES)  # `len` gives a plain number, and strides are computed out of sight
        return func(*args, **kwargs)

    def _call(self, func: Callable[..., Any], args: Any, kwargs: Any) -> fx.Node:
        node_args = map_aggregate(tuple(args), self.argument)
        node_kwargs = map_aggregate(kwargs, self.argument) if kwargs else {}
        node = self.graph.create_node("call_function", func, node_args, node_kwargs)
        self.graph.note(node, "module", self.scope[-1] if self.scope else "")
        return node

    def argument(self, value: Any) -> Any:
        """What stands for `value` in the graph."""
        if isinstance(value, Tensor):
            return self.node_of(value)
        if isinstance(value, SizeProxy):
            return value.argument(self.graph)
        return float(value) if isinstance(value, SizeFloat) else value

    def note_size(self, function: Callable[..., Any], *args: Any) -> None:
        """What the model's code asks of a size, or does with it that can't be followed."""
        node = self.graph.create_node("call_function", function, tuple(map(self.argument, args)))
        self.graph.note(node, "module", self.scope[-1] if self.scope else "")
        node.meta["line"] = running_line()

    def node_of(self, tensor: Tensor) -> fx.Node:
        """The node that made a tensor: a parameter, a constant, or an operation that was not seen."""
        if id(tensor) not in self.known:
            name = self.names.get(id(tensor))
            outside = id(tensor) in self.constants or (self.device == "meta" and not tensor.is_meta)
            if name is not None:
                node = self.graph.create_node("get_attr", name)
            elif outside:
                node = self.graph.create_node("call_function", constant, ())
            elif (twin := self._twin(tensor)) is not None:
                node = self.graph.create_node("call_function", alias, (twin,))
            else:
                node = self.graph.create_node("call_function", hidden, ())
            self._remember(tensor, node)
        return self.known[id(tensor)]

    def _twin(self, tensor: Tensor) -> fx.Node | None:
        """The node of the tensor that this is another view of, the same elements in the same order."""
        for other in reversed(self.alive):
            if isinstance(other, Tensor) and id(other) in self.known and _place(other) == _place(tensor):
                return self.known[id(other)]
        return None

    def placeholder(self, tensor: Tensor, name: str) -> None:
        """An input of the model."""
        self.storages.add(_memory(tensor))
        self._remember(tensor, self.graph.placeholder(name))

    def _remember(self, out: Any, node: fx.Node) -> None:
        """Note which node made each tensor of `out`, with its shape as it is now."""
        self.alive.append(out)
        self.graph.note(node, "shape", _shapes(out))
        if isinstance(out, Tensor):
            self.known[id(out)] = node
            storage = _memory(out)
            if storage not in self.storages and not self.graph.rewound:
                self.storages.add(storage)
                node.meta["itemsize"] = out.itemsize
        elif isinstance(out, (tuple, list)):
            for i, item in enumerate(out):
                if isinstance(item, (Tensor, tuple, list)):
                    self._remember(item, self.graph.call_function(operator.getitem, (node, i)))

    def _shape(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        tensor = args[0]
        sizes = func(*args, **kwargs)
        source = self.node_of(tensor)

        def proxy(dim: int, value: int) -> SizeProxy:
            return SizeProxy.of(value, self, lambda: self.graph.call_function(torch.Tensor.size, (source, dim)))

        if isinstance(sizes, int):
            dim = args[1] if len(args) > 1 else kwargs["dim"]
            read = [proxy(int(dim) % tensor.ndim, sizes)]
        else:
            read = [proxy(i, value) for i, value in enumerate(sizes)]
        if self.keep_sizes:
            for size in read:
                self.note_size(pinned, size, COMPUTES)
        return read[0] if isinstance(sizes, int) else SizeTuple(read)

    def trace_attributes(self) -> None:
        """Replace the integer attributes of the modules by proxies (and tuples of integers by tuples of proxies).

        What is 1 or less stays as it is: no cut makes a size that small any smaller.
        """
        self.own_sizes: list[SizeProxy] = []
        for path, module in self.submodules:
            for key, value in list(own_attributes(module)):
                target = f"{path}.{key}" if path else key
                proxies: list[Any] = []
                if type(value) is int and value > 1:
                    proxies = [self._attribute(value, target)]
                    vars(module)[key] = proxies[0]
                elif isinstance(value, (tuple, list)) and value and all(type(v) is int for v in value):
                    proxies = [self._attribute(v, target, i) if v > 1 else v for i, v in enumerate(value)]
                    vars(module)[key] = proxies if isinstance(value, list) else tuple(proxies)
                if not type(module).__module__.startswith("torch."):
                    self.own_sizes += [size for size in proxies if isinstance(size, SizeProxy)]

    def _attribute(self, value: int, target: str, index: int | None = None) -> SizeProxy:
        def make_node() -> fx.Node:
            if (target, index) not in self.attributes:
                node = self.graph.call_function(attribute, (target, index))
                node.meta["size"] = value
                self.attributes[target, index] = node
            return self.attributes[target, index]

        return SizeProxy.of(value, self, make_node, outlives_graphs=True)

    def trace_scopes(self) -> None:
        """Let every module of the copy say when it runs, so that nodes know where in the model they stand.

        A module whose class has a rule becomes one node.
        """
        for path, module in self.submodules:
            whole = rule_of_module(type(module)) is not None
            forward = self._whole(path, module.forward) if whole else module.forward
            vars(module)["forward"] = self._scoped(path, forward)

    def leave(self) -> None:
        """Take the recorder out of the copy again: no longer held in circles, all of it is freed at once."""
        self.listening = False
        for _, module in self.submodules:
            del vars(module)["forward"]

    def _whole(self, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            if self.muted:
                return forward(*args, **kwargs)
            inputs = map_aggregate(args, self.argument), map_aggregate(kwargs, self.argument)
            self.muted, self.listening = True, False
            result = forward(*args, **kwargs)
            self.muted, self.listening = False, True  # not on an error: the recording is over then
            node = self.graph.create_node("call_module", path, *inputs)
            self.graph.note(node, "module", path)
            with torch._C.DisableTorchFunction():  # looking at its shape is not the model's doing
                self._remember(result, node)
            return result

        return run

    def _scoped(self, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            self.scope.append(path)
            result = forward(*args, **kwargs)
            self.scope.pop()  # not on an error: the scope then says where it happened
            return result

        return run


def _memory(tensor: Tensor) -> Any:
    """Where a tensor's elements lie; those within `torch.vmap` and `torch.func.grad` do not say."""
    try:
        return tensor.untyped_storage()._cdata
    except NotImplementedError:
        return ()


def _place(tensor: Tensor) -> tuple[Any, ...]:
    """Which elements of that memory they are."""
    memory = _memory(tensor)
    if memory == () or tensor.layout is not torch.strided:
        return (id(tensor),)
    if not tensor.is_meta:
        memory = tensor.data_ptr()  # what numpy has given back has another storage there
    return memory, tensor.storage_offset(), tensor.shape, tensor.stride(), tensor.dtype


def _has_tensor(out: Any) -> bool:
    if isinstance(out, Tensor):
        return True
    return isinstance(out, (tuple, list, dict)) and any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(out))


def _shapes(out: Any) -> Any:
    """The shapes of the tensors in `out`, in its structure."""
    if isinstance(out, Tensor):
        return tuple(out.shape)
    return tuple(map(_shapes, out)) if isinstance(out, (tuple, list)) else None

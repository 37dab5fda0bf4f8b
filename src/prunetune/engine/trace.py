"""A `torch.fx.Graph` of one run of the model, sizes included.

`torch.fx.symbolic_trace` runs a model on proxies, which every `isinstance(x, Tensor)`, `if x.shape[0] > 1` and
`for _ in range(n)` in somebody's code can break. Here the model runs on *meta* tensors (shapes without values), so
that all such code just works, and a `TorchFunctionMode` records each call of a torch function as an fx node. Integers
that come out of a shape or an attribute of a module are recorded too (`SizeProxy`): `x.reshape(b, heads, c // heads)`
says how the width of `x` flows, and the engine needs that. See `docs/decisions/0002-tracing.md`.
"""

from __future__ import annotations

import copy
import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from prunetune.errors import InputError, TraceError

ExampleInputs: TypeAlias = Tensor | Sequence[Any] | Mapping[str, Any]
"""What the model is called with: a tensor, positional arguments, or keyword arguments."""


@dataclass(frozen=True)
class Trace:
    """One run of a model: the graph, with `node.meta["shape"]`, `["dtype"]` and `["module"]` on every node."""

    graph: fx.Graph
    shapes: Mapping[str, tuple[int, ...]]
    """Shape of every parameter and buffer, by its first qualified name (tied tensors have one name)."""
    parameters: frozenset[str]
    """Which of them are parameters."""


def call_arguments(example_inputs: ExampleInputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments for the model.

    >>> call_arguments((1, 2))
    ((1, 2), {})
    """
    if isinstance(example_inputs, Tensor):
        return (example_inputs,), {}
    if isinstance(example_inputs, Mapping):
        return (), dict(example_inputs)
    if isinstance(example_inputs, Sequence) and not isinstance(example_inputs, str):
        return tuple(example_inputs), {}
    raise InputError(
        f"example_inputs must be a tensor, a tuple of arguments or a dict of keyword arguments; got {example_inputs!r:.80}"
    )


def named_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by their first qualified name; a tied tensor appears once."""
    seen: dict[int, str] = {}
    tensors: dict[str, Tensor] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if id(tensor) not in seen:
            seen[id(tensor)] = name
            tensors[name] = tensor
    return tensors


def copy_with(model: nn.Module, replacements: Mapping[int, Tensor]) -> nn.Module:
    """A deep copy of `model` in which each tensor whose `id` is in `replacements` is that replacement.

    The copy never holds the weights twice: `deepcopy` finds each replacement in its memo.
    """
    memo: dict[int, Any] = dict(replacements)
    return copy.deepcopy(model, memo)


def _meta_like(tensor: Tensor) -> Tensor:
    meta = torch.empty_like(tensor, device="meta")
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(meta, requires_grad=tensor.requires_grad)
    return meta


def _all_tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
    for module in model.modules():  # tensors kept as plain attributes
        for key, value in vars(module).items():
            if key not in ("_parameters", "_buffers", "_modules"):
                yield from (leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor))


def meta_copy(model: nn.Module) -> nn.Module:
    """A copy of `model` whose tensors have shapes but no values; costs no memory for the weights."""
    return copy_with(model, {id(t): _meta_like(t) for t in _all_tensors(model)})


class SizeProxy(int):
    """An int that knows the graph node it came from; arithmetic with it is recorded."""

    make_node: Callable[[], fx.Node]

    @staticmethod
    def of(value: int, make_node: Callable[[], fx.Node]) -> SizeProxy:
        proxy = SizeProxy(value)
        proxy.make_node = functools.cache(make_node)
        return proxy

    def __deepcopy__(self, memo: dict[int, Any]) -> SizeProxy:
        return self

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int(self),)


def _recorded(function: Callable[[Any, Any], Any], reflected: bool) -> Callable[[SizeProxy, Any], Any]:
    def method(self: SizeProxy, other: Any) -> Any:
        if not isinstance(other, int) or isinstance(other, bool):
            plain = getattr(int, f"__{'r' if reflected else ''}{function.__name__}__")
            return plain(self, other)
        left, right = (other, self) if reflected else (self, other)
        return SizeProxy.of(
            function(int(left), int(right)),
            lambda: self.make_node().graph.call_function(function, (_size_argument(left), _size_argument(right))),
        )

    return method


def _size_argument(value: int) -> fx.Node | int:
    return value.make_node() if isinstance(value, SizeProxy) else value


for _function in (operator.add, operator.sub, operator.mul, operator.floordiv):
    for _reflected in (False, True):
        setattr(
            SizeProxy,
            f"__{'r' if _reflected else ''}{_function.__name__}__",
            _recorded(_function, _reflected),
        )


class SizeTuple(tuple[int, ...]):
    """The shape of a tensor: like `torch.Size`, which would turn `SizeProxy` into plain int."""

    def numel(self) -> int:
        return functools.reduce(operator.mul, self, 1)

    def __getitem__(self, index: Any) -> Any:
        item = super().__getitem__(index)
        return SizeTuple(item) if isinstance(index, slice) else item


_GET_SHAPE = torch.Tensor.shape.__get__  # type: ignore[attr-defined]
_HIDDEN = "prunetune: a tensor from an operation that torch functions do not show"


class _Recorder(TorchFunctionMode):
    """Appends every torch function that is called to a graph."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.graph = fx.Graph(owning_module=model)
        self.names = {id(tensor): name for name, tensor in named_tensors(model).items()}
        self.known: dict[int, fx.Node] = {}
        self.alive: list[Any] = []  # keeps ids from being reused
        self.scope: list[str] = []
        self.constants = {id(t) for t in _all_tensors(model)} - set(self.names)

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.size or func == _GET_SHAPE:
            return self._shape(func, args, kwargs)
        out = func(*args, **kwargs)
        if any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(out)):
            self._remember(out, self._call(func, args, kwargs))
        elif func is torch.Tensor.__setitem__:
            node = self._call(func, args, kwargs)
            self._remember(args[0], node)
        return out

    def _call(self, func: Callable[..., Any], args: Any, kwargs: Any) -> fx.Node:
        node_args = map_aggregate(tuple(args), self.argument)
        node_kwargs = map_aggregate(dict(kwargs), self.argument)
        node = self.graph.create_node("call_function", func, node_args, node_kwargs)  # type: ignore[arg-type]
        node.meta["module"] = ".".join(self.scope[-1:])
        return node

    def argument(self, value: Any) -> Any:
        """What stands for `value` in the graph."""
        if isinstance(value, SizeProxy):
            return value.make_node()
        if isinstance(value, Tensor):
            return self._node_of(value)
        return value

    def _node_of(self, tensor: Tensor) -> fx.Node:
        if id(tensor) not in self.known:
            name = self.names.get(id(tensor))
            if name is not None:
                node = self.graph.create_node("get_attr", name)
            else:
                target = _constant if id(tensor) in self.constants or tensor.device.type != "meta" else _hidden
                node = self.graph.create_node("call_function", target, ())
            self._remember(tensor, node)
        return self.known[id(tensor)]

    def _remember(self, out: Any, node: fx.Node) -> None:
        """Note which node made each tensor of `out`, with its shape as it is now."""
        self.alive.append(out)
        describe(node, out)
        if isinstance(out, Tensor):
            self.known[id(out)] = node
        elif isinstance(out, (tuple, list)):
            for i, item in enumerate(out):
                if isinstance(item, (Tensor, tuple, list)):
                    self._remember(item, self.graph.call_function(operator.getitem, (node, i)))

    def _shape(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        tensor = args[0]
        sizes = func(*args, **kwargs)
        source = self._node_of(tensor)

        def proxy(dim: int, value: int) -> SizeProxy:
            return SizeProxy.of(value, lambda: self.graph.call_function(torch.Tensor.size, (source, dim)))

        if isinstance(sizes, int):
            dim = args[1] if len(args) > 1 else kwargs["dim"]
            return proxy(int(dim) % tensor.ndim, sizes)
        return SizeTuple(proxy(i, v) for i, v in enumerate(sizes))

    def trace_attributes(self, model: nn.Module) -> None:
        """Replace the integer attributes of the modules by proxies (and tuples of integers by tuples of proxies)."""
        for path, module in model.named_modules():
            for key, value in vars(module).items():
                target = f"{path}.{key}" if path else key
                if type(value) is int:
                    vars(module)[key] = self._attribute(value, target)
                elif isinstance(value, (tuple, list)) and value and all(type(v) is int for v in value):
                    items = [self._attribute(v, target, i) for i, v in enumerate(value)]
                    vars(module)[key] = items if isinstance(value, list) else tuple(items)

    def _attribute(self, value: int, target: str, index: int | None = None) -> SizeProxy:
        def make_node() -> fx.Node:
            node = self.graph.call_function(_attribute, (target, index))
            node.meta["size"] = value
            return node

        return SizeProxy.of(value, make_node)

    def trace_scopes(self, model: nn.Module) -> None:
        """Let every module of the copy say when it runs, so that nodes know where in the model they stand."""
        for path, module in model.named_modules():
            vars(module)["forward"] = self._scoped(path, module.forward)

    def _scoped(self, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(forward)
        def run(*args: Any, **kwargs: Any) -> Any:
            self.scope.append(path)
            result = forward(*args, **kwargs)
            self.scope.pop()  # not on an error: the scope then says where it happened
            return result

        return run


def _constant() -> Tensor:
    """Stands in the graph for a tensor that the code holds itself, outside parameters and buffers."""
    raise RuntimeError("a constant of the traced code; the graph is for analysis only")


def _hidden() -> Tensor:
    """Stands in the graph for the result of an operation that the recorder could not see."""
    raise RuntimeError(_HIDDEN)


def _attribute(target: str, index: int | None) -> int:
    """Stands in the graph for an integer attribute of a module."""
    raise RuntimeError("an attribute of the traced model; the graph is for analysis only")


constant, hidden, attribute = _constant, _hidden, _attribute


def describe(node: fx.Node, out: Any) -> None:
    """Put the shapes and types of `out` on the node, in the structure of `out`."""
    node.meta["shape"] = map_aggregate(out, lambda t: tuple(t.shape) if isinstance(t, Tensor) else None)
    node.meta["dtype"] = map_aggregate(out, lambda t: t.dtype if isinstance(t, Tensor) else None)


def _tensors_in(value: Any, depth: int = 3) -> Iterator[Tensor]:
    for leaf in pytree.tree_leaves(value):
        if isinstance(leaf, Tensor):
            yield leaf
        elif depth and hasattr(leaf, "__dict__") and not isinstance(leaf, (type, nn.Module)):
            yield from _tensors_in(dict(vars(leaf)), depth - 1)


def trace(model: nn.Module, example_inputs: ExampleInputs, *, training: bool) -> Trace:
    """The graph of one run of `model` on `example_inputs`, in training or in evaluation mode.

    Nothing is computed (the run is on the meta device) and `model` is not touched.

    Raises
    ------
    TraceError
        If the model cannot be run on the inputs; the message names the module and what went wrong.
    """
    shadow = meta_copy(model).train(training)
    recorder = _Recorder(shadow)
    args, kwargs = pytree.tree_map(
        lambda leaf: _meta_like(leaf) if isinstance(leaf, Tensor) else leaf, call_arguments(example_inputs)
    )
    for i, leaf in enumerate(pytree.tree_leaves((args, kwargs))):
        if isinstance(leaf, Tensor):
            recorder._remember(leaf, recorder.graph.placeholder(f"input_{i}"))
    recorder.trace_attributes(shadow)
    recorder.trace_scopes(shadow)
    try:
        with torch.no_grad(), torch.device("meta"), recorder:
            out = shadow(*args, **kwargs)
    except Exception as error:
        where = f" in module {recorder.scope[-1]!r}" if recorder.scope and recorder.scope[-1] else ""
        shapes = pytree.tree_map(lambda leaf: tuple(leaf.shape) if isinstance(leaf, Tensor) else leaf, (args, kwargs))
        raise TraceError(
            f"{type(model).__name__} could not be run on the example inputs (shapes {shapes[0] or shapes[1]}): "
            f"{type(error).__name__}{where}: {str(error).splitlines()[0] if str(error) else 'no message'}; "
            "check that model(example_inputs) works and that the shapes are right"
        ) from error
    outputs = tuple(recorder._node_of(t) for t in _tensors_in(out) if id(t) in recorder.known)
    recorder.graph.output(outputs)
    tensors = named_tensors(model)
    return Trace(
        recorder.graph,
        {name: tuple(t.shape) for name, t in tensors.items()},
        frozenset(name for name, t in tensors.items() if isinstance(t, nn.Parameter)),
    )

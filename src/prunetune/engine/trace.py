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
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_aggregate
from torch.nn import functional
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


_INTERNAL = frozenset(vars(nn.Module())) | {"_is_full_backward_hook"}


def _own_attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """What a module's class put on it, besides parameters, buffers, submodules and hooks."""
    return ((key, value) for key, value in vars(module).items() if key not in _INTERNAL)


def _all_tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
    for module in model.modules():  # tensors kept as plain attributes
        for _, value in _own_attributes(module):
            if isinstance(value, (Tensor, list, tuple, dict)):
                yield from (leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor))


def meta_copy(model: nn.Module) -> nn.Module:
    """A copy of `model` whose tensors have shapes but no values; costs no memory for the weights."""
    return copy_with(model, {id(t): _meta_like(t) for t in _all_tensors(model)})


class SizeProxy(int):
    """An int that knows the graph node it came from; arithmetic with it is recorded."""

    _make: Callable[[], fx.Node]
    _node: fx.Node | None

    @staticmethod
    def of(value: int, make_node: Callable[[], fx.Node]) -> SizeProxy:
        proxy = SizeProxy(value)
        proxy._make, proxy._node = make_node, None
        return proxy

    def make_node(self) -> fx.Node:
        """The node that computes this number; made when it is first used."""
        if self._node is None:
            self._node = self._make()
        return self._node

    def __deepcopy__(self, memo: dict[int, Any]) -> SizeProxy:
        return self

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int(self),)


class AttributeProxy(SizeProxy):
    """An integer attribute of a module; it outlives the graph of one run, so its recorder knows its node."""

    def make_node(self) -> fx.Node:
        return self._make()


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

# Results of these have the shape of their first argument. Saying so is a hundred times faster than letting the meta
# kernels find out: that of batch norm alone takes milliseconds.
_KEEPS_SHAPE: frozenset[Any] = frozenset(
    [
        *(functional.batch_norm, functional.layer_norm, functional.group_norm, functional.instance_norm),
        *(functional.relu, functional.relu6, functional.leaky_relu, functional.elu, functional.silu, functional.hardswish),
        *(functional.hardsigmoid, functional.gelu, functional.softmax, functional.log_softmax, functional.dropout),
        *(functional.dropout2d, functional.sigmoid, functional.tanh, functional.hardtanh, functional.mish),
        *(torch.relu, torch.sigmoid, torch.tanh, torch.softmax, torch.nn.functional.softplus),
    ]
)
_KEEPS_SHAPE_IN_PLACE: frozenset[Any] = frozenset([torch.relu_, torch.Tensor.relu_, torch.Tensor.add_, torch.Tensor.mul_])


def _run(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The result of a torch function on meta tensors."""
    if func in _KEEPS_SHAPE and kwargs.get("dtype") is None:
        first = args[0] if args else kwargs["input"]
        return first if kwargs.get("inplace") is True else torch.empty_like(first)
    if func in _KEEPS_SHAPE_IN_PLACE:
        return args[0]
    return func(*args, **kwargs)


def _call(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    return func(*args, **kwargs)


class _ShapesOnly(TorchFunctionMode):
    """Runs a model for its shapes, without recording."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(func, args, kwargs or {})


class _Recorder(TorchFunctionMode):
    """Appends every torch function that is called to a graph."""

    def __init__(self, model: nn.Module, *, values: bool) -> None:
        super().__init__()
        self.run = _call if values else _run
        self.device = "values" if values else "meta"
        self.names = {id(tensor): name for name, tensor in named_tensors(model).items()}
        self.constants = {id(t) for t in _all_tensors(model)} - set(self.names)
        self.scope: list[str] = []
        self.restart(model)

    def restart(self, model: nn.Module) -> None:
        """Begin a new graph."""
        self.graph = fx.Graph(owning_module=model)
        self.known: dict[int, fx.Node] = {}
        self.alive: list[Any] = []  # keeps ids from being reused
        self.attributes: dict[tuple[str, int | None], fx.Node] = {}
        self.scope.clear()

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.Tensor.size or func == _GET_SHAPE:
            return self._shape(func, args, kwargs)
        out = self.run(func, args, kwargs)
        if isinstance(out, Tensor) or (out is not None and _has_tensor(out)):
            self._remember(out, self._call(func, args, kwargs))
        elif func is torch.Tensor.__setitem__:
            self._remember(args[0], self._call(func, args, kwargs))
        return out

    def _call(self, func: Callable[..., Any], args: Any, kwargs: Any) -> fx.Node:
        node_args = map_aggregate(tuple(args), self.argument)
        node_kwargs = map_aggregate(kwargs, self.argument) if kwargs else {}
        node = self.graph.create_node("call_function", func, node_args, node_kwargs)  # type: ignore[arg-type]
        node.meta["module"] = self.scope[-1] if self.scope else ""
        return node

    def argument(self, value: Any) -> Any:
        """What stands for `value` in the graph."""
        if isinstance(value, SizeProxy):
            return value.make_node()
        if isinstance(value, Tensor):
            return self.node_of(value)
        return value

    def node_of(self, tensor: Tensor) -> fx.Node:
        """The node that made a tensor: a parameter, a constant, or an operation that was not seen."""
        if id(tensor) not in self.known:
            name = self.names.get(id(tensor))
            if name is not None:
                node = self.graph.create_node("get_attr", name)
            else:
                outside = id(tensor) in self.constants or (self.device == "meta" and not tensor.is_meta)
                node = self.graph.create_node("call_function", constant if outside else hidden, ())
            self._remember(tensor, node)
        return self.known[id(tensor)]

    def placeholder(self, tensor: Tensor, name: str) -> None:
        """An input of the model."""
        self._remember(tensor, self.graph.placeholder(name))

    def _remember(self, out: Any, node: fx.Node) -> None:
        """Note which node made each tensor of `out`, with its shape as it is now."""
        self.alive.append(out)
        node.meta["shape"] = _shapes(out)
        if isinstance(out, Tensor):
            self.known[id(out)] = node
        elif isinstance(out, (tuple, list)):
            for i, item in enumerate(out):
                if isinstance(item, (Tensor, tuple, list)):
                    self._remember(item, self.graph.call_function(operator.getitem, (node, i)))

    def _shape(self, func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        tensor = args[0]
        sizes = func(*args, **kwargs)
        source = self.node_of(tensor)

        def proxy(dim: int, value: int) -> SizeProxy:
            return SizeProxy.of(value, lambda: self.graph.call_function(torch.Tensor.size, (source, dim)))

        if isinstance(sizes, int):
            dim = args[1] if len(args) > 1 else kwargs["dim"]
            return proxy(int(dim) % tensor.ndim, sizes)
        return SizeTuple(proxy(i, v) for i, v in enumerate(sizes))

    def trace_attributes(self, model: nn.Module) -> None:
        """Replace the integer attributes of the modules by proxies (and tuples of integers by tuples of proxies)."""
        for path, module in model.named_modules():
            for key, value in list(_own_attributes(module)):
                target = f"{path}.{key}" if path else key
                if type(value) is int:
                    vars(module)[key] = self._attribute(value, target)
                elif isinstance(value, (tuple, list)) and value and all(type(v) is int for v in value):
                    items = [self._attribute(v, target, i) for i, v in enumerate(value)]
                    vars(module)[key] = items if isinstance(value, list) else tuple(items)

    def _attribute(self, value: int, target: str, index: int | None = None) -> SizeProxy:
        def make_node() -> fx.Node:
            if (target, index) not in self.attributes:
                node = self.graph.call_function(attribute, (target, index))
                node.meta["size"] = value
                self.attributes[target, index] = node
            return self.attributes[target, index]

        proxy = AttributeProxy(value)
        proxy._make = make_node
        return proxy

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


def _has_tensor(out: Any) -> bool:
    return isinstance(out, (tuple, list, dict)) and any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(out))


def _shapes(out: Any) -> Any:
    """The shapes of the tensors in `out`, in its structure."""
    if isinstance(out, Tensor):
        return tuple(out.shape)
    return tuple(map(_shapes, out)) if isinstance(out, (tuple, list)) else None


def constant() -> Tensor:
    """Stands in the graph for a tensor that the code holds itself, outside parameters and buffers."""
    raise RuntimeError("a constant of the traced code: the graph is for analysis, not for running")


def hidden() -> Tensor:
    """Stands in the graph for the result of an operation that the recorder could not see."""
    raise RuntimeError("an operation hidden from tracing: the graph is for analysis, not for running")


def attribute(target: str, index: int | None) -> int:
    """Stands in the graph for an integer attribute of a module."""
    raise RuntimeError("an attribute of the traced model: the graph is for analysis, not for running")


def _tensors_in(value: Any, depth: int = 3) -> Iterator[Tensor]:
    for leaf in pytree.tree_leaves(value):
        if isinstance(leaf, Tensor):
            yield leaf
        elif depth and hasattr(leaf, "__dict__") and not isinstance(leaf, (type, nn.Module)):
            yield from _tensors_in(dict(vars(leaf)), depth - 1)


def traces(model: nn.Module, example_inputs: ExampleInputs) -> tuple[Trace, Trace]:
    """The graphs of one run of `model` on `example_inputs` in evaluation mode, and of one in training mode.

    Nothing is computed (the runs are on the meta device), unless the model's code asks for the value of a tensor: then
    it runs on the example inputs themselves. `model` and the random state are not touched.

    Raises
    ------
    TraceError
        If the model cannot be run on the inputs; the message names the module and what went wrong.
    """
    try:
        return _traces(model, meta_copy(model), example_inputs, values=False)
    except TraceError as error:
        if not _asks_for_values(error.__cause__):
            raise
    with torch.random.fork_rng():
        return _traces(model, _value_copy(model), example_inputs, values=True)


def _asks_for_values(error: BaseException | None) -> bool:
    return isinstance(error, NotImplementedError) or "meta" in str(error)


def _value_copy(model: nn.Module) -> nn.Module:
    """A copy that shares the parameters, which a run does not change, and has buffers of its own."""
    return copy_with(model, {id(p): p for p in model.parameters()} | {id(b): b.clone() for b in model.buffers()})


def _traces(model: nn.Module, shadow: nn.Module, example_inputs: ExampleInputs, *, values: bool) -> tuple[Trace, Trace]:
    recorder = _Recorder(shadow, values=values)
    recorder.trace_attributes(shadow)
    recorder.trace_scopes(shadow)
    tensors = named_tensors(model)
    shapes = {name: tuple(t.shape) for name, t in tensors.items()}
    parameters = frozenset(name for name, t in tensors.items() if isinstance(t, nn.Parameter))
    graphs = []
    for training in (False, True):
        recorder.restart(shadow)
        args, kwargs = _arguments(example_inputs, torch.clone if values else _meta_like)
        for i, leaf in enumerate(pytree.tree_leaves((args, kwargs))):
            if isinstance(leaf, Tensor):
                recorder.placeholder(leaf, f"input_{i}")
        out = _forward(shadow.train(training), args, kwargs, recorder, recorder.scope)
        recorder.graph.output(tuple(recorder.node_of(t) for t in _tensors_in(out) if id(t) in recorder.known))
        graphs.append(Trace(recorder.graph, shapes, parameters))
    return graphs[0], graphs[1]


def check_runs(model: nn.Module, example_inputs: ExampleInputs) -> None:
    """Run `model` for its shapes in both modes; raises TraceError as `traces` does."""
    try:
        _check(meta_copy(model), example_inputs, _ShapesOnly(), _meta_like)
    except TraceError as error:
        if not _asks_for_values(error.__cause__):
            raise
        with torch.random.fork_rng():
            _check(_value_copy(model), example_inputs, None, torch.clone)


def _check(
    shadow: nn.Module, example_inputs: ExampleInputs, mode: TorchFunctionMode | None, each: Callable[[Tensor], Tensor]
) -> None:
    for training in (False, True):
        args, kwargs = _arguments(example_inputs, each)
        _forward(shadow.train(training), args, kwargs, mode, [])


def _arguments(example_inputs: ExampleInputs, each: Callable[[Tensor], Tensor]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args, kwargs = pytree.tree_map(
        lambda leaf: each(leaf) if isinstance(leaf, Tensor) else leaf, call_arguments(example_inputs)
    )
    return args, kwargs


def _forward(model: nn.Module, args: Any, kwargs: Any, mode: TorchFunctionMode | None, scope: list[str]) -> Any:
    meta = any(isinstance(leaf, Tensor) and leaf.is_meta for leaf in pytree.tree_leaves((args, kwargs)))
    try:
        with ExitStack() as stack:
            stack.enter_context(torch.no_grad())
            if meta:
                stack.enter_context(torch.device("meta"))
            if mode is not None:
                stack.enter_context(mode)
            return model(*args, **kwargs)
    except Exception as error:
        where = f" in module {scope[-1]!r}" if scope and scope[-1] else ""
        shapes = pytree.tree_map(lambda leaf: tuple(leaf.shape) if isinstance(leaf, Tensor) else leaf, (args, kwargs))
        raise TraceError(
            f"{type(model).__name__} could not be run on the example inputs (shapes {shapes[0] or shapes[1]}): "
            f"{type(error).__name__}{where}: {str(error).splitlines()[0] if str(error) else 'no message'}; "
            "check that model(example_inputs) works and that the shapes are right"
        ) from error

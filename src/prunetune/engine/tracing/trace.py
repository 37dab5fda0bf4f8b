"""A `torch.fx.Graph` of one run of the model, sizes included.

`torch.fx.symbolic_trace` runs a model on proxies, which every `isinstance(x, Tensor)`, `if x.shape[0] > 1` and
`for _ in range(n)` in somebody's code can break. Here the model runs on *meta* tensors (shapes without values), so
that all such code works, and a `TorchFunctionMode` records each call of a torch function as an fx node. Integers
that come out of a shape or an attribute of a module are recorded too (`SizeProxy`): `x.reshape(b, heads, c // heads)`
says how the width of `x` flows, and the engine needs that. See `docs/decisions/0002-tracing.md`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from prunetune.engine.lines import raising_line
from prunetune.engine.outputs import tensors_of
from prunetune.engine.surroundings import set_aside
from prunetune.engine.tracing.copies import meta_copy, meta_like, named_tensors, set_mode
from prunetune.engine.tracing.lazy_values import LazyValues, lazy_copy
from prunetune.engine.tracing.recorder import ModuleCall, Recorder, Unrecorded
from prunetune.engine.tracing.replay import OtherRunError, ReplayGraph
from prunetune.engine.tracing.shapes import run_for_shape
from prunetune.engine.ways import Call, CallChecker, ComputedFraction, OtherWayError
from prunetune.errors import InputError, TraceError

ExampleInputs: TypeAlias = Tensor | Sequence[Any] | Mapping[str, Any]
"""What the model is called with: a tensor, positional arguments, or keyword arguments."""


@dataclass(frozen=True)
class Trace:
    """One run of a model: the graph, with `node.meta["shape"]` and `["module"]` on every node that is a tensor."""

    graph: ReplayGraph
    model: nn.Module
    shapes: Mapping[str, tuple[int, ...]]
    """Shape of every parameter and buffer, by its first qualified name (tied tensors have one name)."""
    parameters: frozenset[str]
    """Which of them are parameters."""
    calls: tuple[tuple[str, fx.Node | None], ...]
    """Names of the functions that were called, in their order, with their nodes."""
    by_values: bool
    """Whether values decided, and so chance."""
    modules: tuple[ModuleCall, ...] = ()
    """Calls of modules in the order in which they returned, if the recorder notes them."""


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
        "example_inputs must be a tensor, a tuple of arguments or a dict of keyword arguments; "
        f"got {example_inputs!r:.80}"
    )


def to_device(example_inputs: ExampleInputs, device: torch.device) -> ExampleInputs:
    """The same inputs with all tensors on `device`."""
    moved: ExampleInputs = pytree.tree_map(
        lambda leaf: leaf.to(device) if isinstance(leaf, Tensor) else leaf, example_inputs
    )
    return moved


def traces(
    model: nn.Module,
    example_inputs: ExampleInputs,
    recorder: type[Recorder] = Recorder,
    *,
    keep_sizes: bool = False,
) -> tuple[Trace, Trace]:
    """The graphs of one run of `model` on `example_inputs` in evaluation mode, and of one in training mode.

    If both modes do the same, up to flags and the counters of batch norms, they share one graph. With `keep_sizes`, all
    sizes that the model's code reads must stay.

    Nothing is computed (the runs are on the meta device), unless the model's code asks for the value of a tensor, or a
    kernel knows none without values: then it runs on the example inputs themselves. `model`, what its code keeps
    elsewhere, and the random states are not touched; every run begins with those alike.

    Raises
    ------
    TraceError
        If the model cannot be run on the inputs; the message names the module and what went wrong.
    """
    try:
        with _as_written():
            return _on_shapes_or_values(
                lambda values: _traces(model, example_inputs, recorder, keep_sizes, values=values)
            )
    except TraceError as error:
        if not isinstance(example_inputs, list):
            raise
        raise TraceError(
            f"{error}; a list is taken as {len(example_inputs)} arguments: for a model that is called with one list, "
            "as detection models are, write ([…],)"
        ) from error.__cause__


T = TypeVar("T")


def _on_shapes_or_values(run: Callable[[bool], T], *, known_to_work: bool = False) -> T:
    """What `run` returns of shapes only, or of values where that does not work: some kernels are not known without.

    With `known_to_work`, for shapes it has worked before the cut.
    """
    try:
        return run(False)
    except TraceError as error:
        asks = isinstance(error.__cause__, NotImplementedError) or "meta" in str(error.__cause__)
        if known_to_work and not asks:
            raise
        try:
            return run(True)
        except TraceError as other:
            if asks:
                raise
            raise error from other.__cause__


def _shadow(model: nn.Module, *, values: bool) -> tuple[nn.Module, Callable[..., Any], Callable[[Tensor], Tensor]]:
    """A copy of `model` to run, what runs its functions, and what its inputs become."""
    if not values:
        return meta_copy(model), run_for_shape, meta_like
    shadow, weights = lazy_copy(model)
    return shadow, LazyValues(shadow, weights), torch.clone


def _traces(
    model: nn.Module, example_inputs: ExampleInputs, kind: type[Recorder], keep_sizes: bool, *, values: bool
) -> tuple[Trace, Trace]:
    shadow, function, each = _shadow(model, values=values)
    recorder = kind(shadow, function, values=values)
    recorder.keep_sizes = keep_sizes
    recorder.trace_attributes()
    recorder.trace_scopes()
    tensors = named_tensors(model)
    shapes = {name: tuple(t.shape) for name, t in tensors.items()}
    parameters = frozenset(name for name, t in tensors.items() if isinstance(t, nn.Parameter))

    def run(training: bool, *, compare: bool = False) -> Trace:
        around.begin()
        recorder.restart(shadow, around.tensors, compare=compare)
        args, kwargs = _arguments(example_inputs, each)
        for i, leaf in enumerate(pytree.tree_leaves((args, kwargs))):
            if isinstance(leaf, Tensor):
                recorder.placeholder(leaf, f"input_{i}")
        out = _forward(set_mode(shadow, training), args, kwargs, recorder, recorder.scope)
        recorder.listening = False
        recorder.graph.output(tuple(recorder.node_of(t) for t in tensors_of(out)))
        calls = tuple(recorder.calls)
        return Trace(recorder.graph, model, shapes, parameters, calls, values, tuple(recorder.modules))

    with set_aside(shadow) as around:
        trained = run(True)
        evaluated = _same(lambda: run(False, compare=True)) if kind.compares else None
        if evaluated is None:
            evaluated = run(False)
    recorder.leave()
    return evaluated, trained


def _same(run: Callable[[], Trace]) -> Trace | None:
    """The trace of a run that is compared with the one before, if it does the same."""
    try:
        trace = run()
    except OtherRunError:
        return None
    return trace if trace.graph.at_its_end() else None


def check_runs(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    training: Sequence[bool] = (True, False),
    calls: Mapping[bool, Sequence[Call]] | None = None,
    by_values: bool = False,
) -> tuple[ComputedFraction, ...]:
    """Run `model` for its shapes, with each of these training flags; raises TraceError as `traces` does.

    With `calls`, what it is expected to call in each mode, also if it calls anything else: a model whose code decides
    by a size (`if x.shape == y.shape`) may decide otherwise when it has been cut. Returns the fractions in the code
    that are others than expected, as a factor `1 / x.shape[1]` is. `by_values` says that those were recorded on values.
    """
    with _as_written():
        return _on_shapes_or_values(
            lambda values: _check(model, example_inputs, training, calls or {}, values=values),
            known_to_work=bool(calls) and not by_values,
        )


def _check(
    model: nn.Module,
    example_inputs: ExampleInputs,
    training: Sequence[bool],
    calls: Mapping[bool, Sequence[Call]],
    *,
    values: bool,
) -> tuple[ComputedFraction, ...]:
    shadow, function, inputs = _shadow(model, values=values)
    fractions: dict[ComputedFraction, None] = {}
    with set_aside(shadow) as around:
        for flag in training:
            around.begin()
            checker = CallChecker(calls[flag], by_values=values) if flag in calls else None
            mode = Unrecorded(shadow, function, checker)
            args, kwargs = _arguments(example_inputs, inputs)
            try:
                _forward(set_mode(shadow, flag), args, kwargs, mode, [])
                if checker is not None:
                    checker.end()
                    fractions.update(dict.fromkeys(checker.fractions))
            except OtherWayError as error:
                kind = type(shadow).__name__
                raise TraceError(
                    f"{kind} takes another way through its code once it is cut, at {raising_line(error)}: {error}; its "
                    "code decides by a size, so keep that size (protect=[...])"
                ) from error
    return tuple(fractions)


def _arguments(
    example_inputs: ExampleInputs, each: Callable[[Tensor], Tensor]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args, kwargs = pytree.tree_map(
        lambda leaf: each(leaf) if isinstance(leaf, Tensor) else leaf, call_arguments(example_inputs)
    )
    return args, kwargs


def _as_written() -> AbstractContextManager[Any]:
    """Meanwhile nothing is compiled: `torch.compile` would compile the recorder as well."""
    if "torch._dynamo" not in sys.modules:  # then nothing asks for it, and the compiler takes a second to import
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


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
        where = f" at {raising_line(error)}" + (f" in module {scope[-1]!r}" if scope and scope[-1] else "")
        shapes = pytree.tree_map(lambda leaf: tuple(leaf.shape) if isinstance(leaf, Tensor) else leaf, (args, kwargs))
        raise TraceError(
            f"{type(model).__name__} could not be run on the example inputs (shapes {shapes[0] or shapes[1]}): "
            f"{type(error).__name__}{where}: {str(error).splitlines()[0] if str(error) else 'no message'}; "
            "check that model(example_inputs) works and that the shapes are right"
        ) from error

"""What the nodes of a trace say about each other, and the choices that an analysis has."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import fx

from prunetune.engine.labels import Labelled, LabelSpace, Vec, tensors_in
from prunetune.engine.rules import Context, rule_of, rule_of_module
from prunetune.engine.rules.context import Operation
from prunetune.engine.trace import Trace
from prunetune.errors import InputError

Heads: TypeAlias = Literal["auto", "dims", "whole"]

NO_RULE = "no rule for"


@dataclass(frozen=True)
class Analysis:
    """The labels of a model, solved, for one way of making the choices that there are."""

    space: LabelSpace
    evaluation: Context
    training: Context
    component: Vec

    @staticmethod
    def of(traced: Sequence[Trace], otherwise: frozenset[fx.Node]) -> Analysis:
        space = LabelSpace()
        *before, training = (walk(t, space, otherwise) for t in _different(traced))
        return Analysis(space, before[0] if before else training, training, space.solve())

    @property
    def choices(self) -> dict[fx.Node, list[Vec]]:
        return self.evaluation.choices | self.training.choices

    def in_vain(self, node: fx.Node) -> bool:
        """Whether a choice left nothing to choose from: all frozen, or all one."""
        return all(len(np.unique(self.component[vec])) == 1 for vec in self.choices[node])

    @property
    def prunable(self) -> Vec:
        """Components that hold output channels of weights."""
        if not self.space.produced:
            return np.zeros(0, dtype=np.int64)
        found: Vec = np.unique(self.component[np.concatenate(self.space.produced)])
        moving: Vec = found[found != 0]
        return moving

    @property
    def unit_count(self) -> int:
        return len(self.prunable)


def analysed(traced: Sequence[Trace], heads: Heads) -> Analysis:
    """The analysis that makes the choices as `heads` says; see `DependencyGraph.of`."""
    usual = Analysis.of(traced, frozenset())
    switched = [node for node in usual.choices if heads == "whole" or (heads == "auto" and usual.in_vain(node))]
    if not switched:
        return usual
    other = Analysis.of(traced, frozenset(switched).union(*(_divisions_before(node) for node in switched)))
    return other if heads == "whole" or other.unit_count > usual.unit_count else usual


def _different(traced: Sequence[Trace]) -> Sequence[Trace]:
    """The traces of the two modes; only that of training if both do the same."""
    evaluation, training = traced
    return (training,) if same_operations(evaluation.graph, training.graph) else traced


def same_operations(first: fx.Graph, second: fx.Graph) -> bool:
    """Whether two graphs have the same nodes up to flags, such as those of dropout, and batch norms' counters."""
    nodes = [node for node in first.nodes if not _counts(node)]
    others = [node for node in second.nodes if not _counts(node)]
    if len(nodes) != len(others):
        return False
    twin: dict[fx.Node, fx.Node] = {}
    for a, b in zip(nodes, others, strict=True):
        if a.op != b.op or a.target != b.target or a.meta.get("shape") != b.meta.get("shape"):
            return False
        if not (_alike(a.args, b.args, twin) and _alike(a.kwargs, b.kwargs, twin)):
            return False
        twin[a] = b
    return True


def _counts(node: fx.Node) -> bool:
    """Whether all that a node does is to count the batches that a batch norm has seen."""
    if node.op == "get_attr":
        return str(node.target).endswith("num_batches_tracked")
    return node.target is torch.Tensor.add_ and _counts(node.all_input_nodes[0])


def _alike(a: Any, b: Any, twin: Mapping[fx.Node, fx.Node]) -> bool:
    if isinstance(a, fx.Node):
        return twin[a] is b
    if type(a) is not type(b):
        return False
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(_alike(x, y, twin) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_alike(x, b[key], twin) for key, x in a.items())
    if isinstance(a, slice):
        return all(_alike(getattr(a, n), getattr(b, n), twin) for n in ("start", "stop", "step"))
    return isinstance(a, bool) or bool(a == b)


def _divisions_before(node: fx.Node) -> set[fx.Node]:
    """Divisions of sizes whose result is an argument of `node`, as in `width // heads`."""
    return {n for n in node.all_input_nodes if n.target is operator.floordiv}


def walk(traced: Trace, space: LabelSpace, otherwise: frozenset[fx.Node] = frozenset()) -> Context:
    """Let every node of a trace say what it ties; the ties go to `space`."""
    values: dict[fx.Node, Any] = {}
    ctx = Context(space, next(iter(traced.graph.nodes)), dict(traced.shapes), traced.model, otherwise=otherwise)
    space.where = lambda: ctx.where
    for node in traced.graph.nodes:
        ctx.node = node
        value = values[node] = _interpret(ctx, node, values)
        if isinstance(value, Labelled) and "itemsize" in node.meta:
            ctx.occupy(value, node.meta["itemsize"])
    return ctx


def _interpret(ctx: Context, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
    if node.op == "placeholder":
        return ctx.fixed()
    if node.op == "get_attr":
        name = str(node.target)
        return Labelled(ctx.shapes[name], (None,) * len(ctx.shapes[name]), name=name)
    args = fx.node.map_arg(node.args, lambda n: values[n])
    kwargs = fx.node.map_arg(node.kwargs, lambda n: values[n])
    if node.op == "output":
        for tensor in tensors_in(args):
            ctx.freeze_all([tensor], "it is the model's output")
        return None
    counted = len(ctx.flops)
    result = _result(ctx, node, args, kwargs)
    if "shape" in node.meta:  # it is about tensors, not about sizes
        flops = tuple(ctx.flops[counted:])
        ctx.operations.append(Operation(node.target, args, kwargs, result, "itemsize" in node.meta, flops))
    return result


def _result(ctx: Context, node: fx.Node, args: Any, kwargs: Any) -> Any:
    """What the rule of a node says of its result."""
    whole = node.op == "call_module"
    rule = rule_of_module(type(ctx.model.get_submodule(str(node.target)))) if whole else rule_of(node.target)
    if rule is None:
        ctx.freeze_all(list(tensors_in((*args, kwargs))), f"{NO_RULE} this operation")
        return ctx.fixed()
    shape = node.meta.get("shape")
    try:
        result = rule(ctx, *args, **kwargs)
    except InputError:
        raise
    except (TypeError, ValueError, IndexError) as error:  # a form of the call that the rule does not know
        ctx.freeze_all(list(tensors_in((*args, kwargs))), f"{NO_RULE} this form of it ({error})")
        return ctx.fixed()
    if shape is not None and not _fits(result, shape):
        ctx.freeze_all(list(tensors_in((*args, kwargs))), f"{NO_RULE} this form of it (another result)")
        return ctx.fixed()
    return result


def _fits(result: Any, shape: Any) -> bool:
    """Whether a rule's result has the structure of the real one: a tensor, or so many of them."""
    if all(isinstance(n, int) for n in shape):
        return isinstance(result, Labelled)
    return isinstance(result, (tuple, list)) and len(result) == len(shape)

"""What the nodes of a trace say about each other, and the choices that an analysis has."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
from torch import fx

from prunetune.engine.labels import Labelled, LabelSpace, Vec, tensors_in
from prunetune.engine.reductions import seen
from prunetune.engine.rules import RuleContext, rule_of, rule_of_module
from prunetune.engine.rules.common import is_weight
from prunetune.engine.rules.context import Operation
from prunetune.engine.tracing.placeholders import hidden
from prunetune.engine.tracing.trace import Trace
from prunetune.errors import InputError

Heads: TypeAlias = Literal["auto", "dims", "whole"]

NO_RULE = "no rule for"


@dataclass(frozen=True)
class Analysis:
    """The labels of a model, solved, for one way of making the choices that there are."""

    space: LabelSpace
    evaluation: RuleContext
    training: RuleContext
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
        moving = np.ones(int(self.component.max(initial=0)) + 1, dtype=bool)
        moving[0] = False
        for vecs in (self.space.produced, {id(vec): vec for vec in self.space.axes.values()}.values()):
            there = np.zeros_like(moving)
            there[self.component[np.concatenate([np.zeros(0, dtype=np.int64), *vecs])]] = True
            moving &= there
        return np.flatnonzero(moving)

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
    return (training,) if evaluation.graph is training.graph else traced


def _divisions_before(node: fx.Node) -> set[fx.Node]:
    """Divisions of sizes whose result is an argument of `node`, as in `width // heads`."""
    return {n for n in node.all_input_nodes if n.target is operator.floordiv}


def walk(traced: Trace, space: LabelSpace, otherwise: frozenset[fx.Node] = frozenset()) -> RuleContext:
    """Let every node of a trace say what it ties; the ties go to `space`."""
    values: dict[fx.Node, Any] = {}
    ctx = RuleContext(space, next(iter(traced.graph.nodes)), dict(traced.shapes), traced.model, otherwise=otherwise)
    space.where = lambda: ctx.where
    for node in traced.graph.nodes:
        ctx.node = node
        value = values[node] = _interpret(ctx, node, values)
        if isinstance(value, Labelled) and "itemsize" in node.meta:
            ctx.occupy(value, node.meta["itemsize"])
    space.where = str  # nobody is being looked at any more, and a closure would not pickle
    return ctx


def _interpret(ctx: RuleContext, node: fx.Node, values: Mapping[fx.Node, Any]) -> Any:
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
    result = _result(ctx, node, args, kwargs)
    if "shape" in node.meta:  # it is about tensors, not about sizes
        ctx.called[node] = Operation(node.target, args, kwargs, result)
        ctx.seen.extend(s for s in seen(ctx.called[node], ctx.where, ctx.space) if s.sizes)
    return result


def _result(ctx: RuleContext, node: fx.Node, args: Any, kwargs: Any) -> Any:
    """What the rule of a node says of its result."""
    whole = node.op == "call_module"
    rule = rule_of_module(type(ctx.model.get_submodule(str(node.target)))) if whole else rule_of(node.target)
    if rule is None:
        return _unknown(ctx, args, kwargs, f"{NO_RULE} this operation")
    shape = node.meta.get("shape")
    try:
        result = rule(ctx, *args, **kwargs)
    except InputError:
        raise
    except (TypeError, ValueError, IndexError) as error:  # a form of the call that the rule does not know
        return _unknown(ctx, args, kwargs, f"{NO_RULE} this form of it ({error})")
    if not _fits(result, shape):
        return _unknown(ctx, args, kwargs, f"{NO_RULE} this form of it (another result)")
    of_weights = all(map(is_weight, tensors_in((*args, kwargs)))) and node.target is not hidden
    return _marked(result) if of_weights else result


def _marked(result: Any) -> Any:
    """What was computed from weights alone is a weight."""
    if isinstance(result, Labelled):
        return result if is_weight(result) else replace(result, from_weights=True)
    return tuple(map(_marked, result)) if isinstance(result, (tuple, list)) else result


def _unknown(ctx: RuleContext, args: Any, kwargs: Any, reason: str) -> Any:
    """The result of what no rule is known for: all that it takes stays as it is."""
    ctx.freeze_all(list(tensors_in((*args, kwargs))), reason)
    ctx.keep_numbers((*args, kwargs))
    return ctx.fixed()


def _fits(result: Any, shape: Any) -> bool:
    """Whether a rule's result has the structure of the real one: a tensor of its sizes, or so many of them."""
    if shape is None:
        return True
    if all(isinstance(n, int) for n in shape):
        if not isinstance(result, Labelled) or result.shape != shape:
            return False
        return all(vec is None or len(vec) == n for vec, n in zip(result.dims, shape, strict=True))
    return isinstance(result, (tuple, list)) and len(result) == len(shape) and all(map(_fits, result, shape))

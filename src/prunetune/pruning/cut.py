"""`prune`: from a network to its proxy, in one call."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import islice

import numpy as np
import torch
from torch import nn

from prunetune._utils.caller import random_state_kept
from prunetune.engine import (
    DependencyGraph,
    ExampleInputs,
    Heads,
    PruningPlan,
    apply,
    check_runs,
)
from prunetune.engine.cost import cost_of
from prunetune.engine.reductions import Reduction
from prunetune.engine.selection.names import reasons
from prunetune.engine.selection.ranking import Mask, Ratio, Scores
from prunetune.engine.surgery import cut_tensor
from prunetune.engine.tracing.collector import paused
from prunetune.engine.ways import ComputedFraction
from prunetune.errors import InputError, PlanError, TraceError
from prunetune.events import Notice, Observer, silent
from prunetune.plugins import make_scorer
from prunetune.plugins.base import Batch, Context, Loss, Scorer
from prunetune.plugins.scoring import score
from prunetune.pruning.budget import PAPER_FLOOR, Budget
from prunetune.pruning.checks import check_inputs, check_network, on_meta
from prunetune.pruning.fit import ScoredNetwork, choose
from prunetune.pruning.result import CostChange, PruneResult


@random_state_kept()
def prune(
    model: nn.Module,
    example_inputs: ExampleInputs,
    *,
    scorer: str | Scorer = "synflow",
    percentile: float | None = None,
    ratio: Ratio | None = None,
    flops: float | None = None,
    params: float | None = None,
    speedup: float | None = None,
    depth: bool = False,
    floor: float = PAPER_FLOOR,
    protect: Sequence[str] = (),
    multiple_of: int = 1,
    heads: Heads = "auto",
    data: Iterable[Batch] | None = None,
    loss: Loss = nn.functional.cross_entropy,
    seed: int = 0,
    observer: Observer = silent,
) -> PruneResult:
    """Cut `model` down to a proxy of the same architecture; `model` itself is not changed.

    Parameters
    ----------
    model
        Any module that runs on `example_inputs`.
    example_inputs
        What the model is called with: a tensor, a tuple of arguments, or a dict of keyword arguments.
    scorer
        A name of the registry (`prunetune list scorers`), combined with parts if you like (`"magnitude+max+lamp"`), or
        a `Scorer`.
    percentile
        Algorithm 1 of the paper: this share of all channels falls below the threshold; 85 if no budget is given.
    ratio
        Instead: that share of every group's channels stays; or a mapping from patterns of layers' names
        (`{"layer1": 0.75, "layer4.*.conv1": 0.25}`) to shares, see `engine.by_ratio`.
    flops, params
        Instead: at most that share of the FLOPs of a forward pass, or of the parameters, is left.
    speedup
        Instead: a training step (forward and backward, on the model's device, with the example inputs as its batch)
        is so many times faster. Found by measuring; what was measured is in the result.
    depth
        With `flops`, `params` or `speedup`: residual blocks may be bypassed, too. As few as are needed for the rest to
        be had within the paper's percentile.
    floor
        The share of each group's channels that stays at least (the paper's gamma); it has no part in a `ratio`, and is
        refused beside one.
    protect
        Patterns of layers that stay as they are, with all their input and output channels.
    multiple_of
        Layers keep a multiple of so many output channels, where they have as many.
    heads
        Whether attentions lose whole heads or dimensions of each, see `DependencyGraph.of`.
    data
        For scorers that need it: batches of inputs (as `example_inputs`) and targets, a list or a DataLoader, of which
        a scorer takes as many as it needs.
    loss
        `loss(outputs, targets)`, for scorers that need one; of several outputs the first is taken.
    seed
        For scorers that draw random numbers, and for the order of a DataLoader.
    observer
        Hears of every measurement that `speedup` takes, each a `prunetune.events.Notice`.

    Raises
    ------
    InputError
        For an unknown scorer or layer, a value out of range, several budgets, or something that the scorer needs and
        was not given.
    BudgetError
        If the budget cannot be reached; the message says what can, and what is in the way.
    TraceError
        If the model does not run on the example inputs.

    Example
    -------
    >>> from torch import nn, ones
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> prune(net, ones(1, 4), scorer="magnitude", ratio=0.5).model[0]
    Linear(in_features=4, out_features=4, bias=True)
    """
    start = time.perf_counter()
    if not isinstance(model, nn.Module):
        hint = ": give the module that was exported" if type(model).__name__ == "ExportedProgram" else ""
        raise InputError(f"model must be a torch.nn.Module; got {type(model).__name__}{hint}")
    check_network(model)
    check_inputs(example_inputs)
    budget = Budget(
        scorer=scorer,
        percentile=percentile,
        ratio=ratio,
        flops=flops,
        params=params,
        speedup=speedup,
        depth=depth,
        floor=floor,
        protect=protect,
        multiple_of=multiple_of,
        heads=heads,
    )
    method = make_scorer(scorer) if isinstance(scorer, str) else scorer
    if not isinstance(method, Scorer):
        raise InputError(f"the scorer must be a name, or an object of a Scorer; got {type(method).__name__}")
    if isinstance(data, Iterator):  # for it may be asked again
        data = list(islice(data, method.batches))

    def attempt(*, keep_sizes: bool) -> PruneResult:
        def score_network(network: nn.Module) -> ScoredNetwork:
            graph = DependencyGraph.of(network, example_inputs, heads=heads, keep_sizes=keep_sizes)
            if not graph.groups:
                raise InputError(f"{type(model).__name__} has no channels that can be removed: {reasons(graph)}")
            try:
                scores = score(network, example_inputs, graph, method, data=data, loss=loss, seed=seed)
            except (RuntimeError, NotImplementedError) as error:
                if reason := on_meta(network, example_inputs):
                    raise InputError(f"{reason}, and {method.title} needs them; give real tensors") from error
                raise
            return ScoredNetwork(network, graph, scores)

        # While steps are measured, which may take minutes, the collector runs as ever.
        with nullcontext() if budget.speedup is not None else paused():
            selection = choose(
                model, example_inputs, budget, score_network, lambda sentence: observer(Notice(sentence))
            )
            scored, graph, keep = selection.scored, selection.scored.graph, selection.keep
            widths = PruningPlan.of(graph, keep)
            if budget.kind == "percentile" and not widths.tensors:
                _check_told_apart(scored.scores, method)
            proxy = cut(scored.model, example_inputs, graph, keep, widths, method)
            plan = scored.bypass.then(widths)
            fractions = _checked(proxy, example_inputs, graph, keep, keep_sizes=keep_sizes)
            change = CostChange(selection.base, cost_of(graph, keep))
        seconds = time.perf_counter() - start
        reductions = (*graph.reductions(keep), *(Reduction(f"{s.name} at {s.line}", str(s)) for s in fractions))
        return PruneResult(proxy, plan, graph, scored.scores, change, seconds, selection.measurements, reductions)

    try:
        return attempt(keep_sizes=False)
    except _OtherNetworkError:  # then no size that its code reads may change
        try:
            return attempt(keep_sizes=True)
        except _OtherNetworkError as error:
            raise PlanError(str(error)) from error.__cause__


class _OtherNetworkError(PlanError):
    """The cut network does something else than the full one: it decides by a size in a way that was not seen."""


def _checked(
    proxy: nn.Module, example_inputs: ExampleInputs, graph: DependencyGraph, keep: Mask, *, keep_sizes: bool
) -> tuple[ComputedFraction, ...]:
    """The last line of defence: the cut network must run, as predicted, before anyone gets it."""
    modes = (True,) if graph.one_mode else (True, False)  # in the order of the recording: models keep things
    # What no size has decided any more, values have, and those are others.
    calls = None if keep_sizes and graph.by_values else graph.calls_after(keep)
    try:
        return check_runs(proxy, example_inputs, training=modes, calls=calls, by_values=graph.by_values)
    except TraceError as error:
        raise _OtherNetworkError(f"the cut network would not do what the full one does: {error}") from error


def _check_told_apart(scores: Scores, method: Scorer) -> None:
    """Raise InputError if all channels have one score: none is under a threshold then, and nothing would be cut."""
    scored = scores[1:][np.isfinite(scores[1:])]
    if len(scored) > 1 and np.ptp(scored) == 0:
        raise InputError(
            f"{method.title} gives all {len(scored)} channels the same score, {scored[0]:g}, so a percentile cuts none "
            "of them; give other example inputs or data, a trained network, a ratio, or another scorer"
        )


def cut(
    model: nn.Module,
    example_inputs: ExampleInputs,
    graph: DependencyGraph,
    keep: Mask,
    plan: PruningPlan,
    scorer: Scorer,
) -> nn.Module:
    """The network that `plan` leaves, with the weights that the scorer's method makes up for what went."""
    with torch.inference_mode(False):  # the proxy is there to be trained
        proxy = apply(plan, model)
        changes = scorer.compensate(Context(model, example_inputs, graph, torch.Generator()), keep)
        tensors = dict(proxy.named_parameters()) if changes else {}
        with torch.no_grad():
            for name, value in changes.items():
                tensors[name].copy_(cut_tensor(value, plan.tensors[name]) if name in plan.tensors else value)
    return proxy


__all__ = ["PruneResult", "cut", "prune"]

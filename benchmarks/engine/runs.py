"""What one child does: build a model, prune it with one engine, and see what came of it."""

from __future__ import annotations

import argparse
import copy
import fnmatch
import functools
import gc
import math
import statistics
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.common.lines import Row
from benchmarks.common.processes import Outcome, Report, Task, measured, run_all
from benchmarks.engine.cases import Case, Family
from benchmarks.engine.rivals import Engine, Pruned, call, leaves
from prunetune.engine import PruningPlan, TensorCut
from prunetune.testing.oracle import largest_error, masked_norms

QUICK = 1.0
"""CPU seconds: what takes less is measured several times, for the median."""
REPEATS = 15
"""At most so many times, and no more than three after they have taken a second together."""

EXACT = 1e-9
"""Largest error of an exact cut, relative to the largest output, in float64."""

Shapes = dict[str, tuple[int, ...]]


class WrongCutError(Exception):
    """The cut network runs, but does not compute what the original without the removed channels computes."""


class NothingCutError(Exception):
    """The engine returned without an error, and the model has as many parameters as before."""


def run_small(engine: Engine) -> None:
    """Prune a small network: a child that has just been forked copies every page of memory that it first touches."""
    small = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    engine.prepare(small, torch.randn(2, 3, 8, 8))()


def _again(family: Family, name: str, engine: Engine, first: float) -> list[float]:
    """CPU seconds of pruning the model, built anew, twice more or oftener; of one that takes long, not again."""
    seconds: list[float] = []
    for number in range(1, REPEATS if first < QUICK else 1):
        if number > 2 and first + sum(seconds) > QUICK:
            break
        torch.manual_seed(0)
        case = family.build(name)
        run = engine.prepare(case.model, case.inputs)
        with measured() as usage:
            run()
        seconds.append(usage.cpu_seconds)
    return seconds


def measure(family: Family, name: str, engine: Engine, report: Report) -> None:
    """Build, prune (on the clock), and run the cut network; everything learned goes to `report` as it is learned."""
    torch.manual_seed(0)
    report.stage("building")
    case = family.build(name)
    original = copy.deepcopy(case.model) if family.exact else None
    before = layer_shapes(case.model)
    whole = _parameters(case.model)
    report.add(layers=len(before), parameters_before=whole)
    report.stage("running the original")
    run = engine.prepare(case.model, case.inputs)
    run_small(engine)
    report.stage("pruning")
    with measured() as usage:
        pruned = run()
    seconds = [usage.cpu_seconds, *_again(family, name, engine, usage.cpu_seconds)]
    after = layer_shapes(pruned.model)
    report.add(
        cpu_seconds=statistics.median(seconds),
        wall_seconds=usage.wall_seconds,
        peak_mib=usage.peak_mib,
        layers_shrunk=sum(math.prod(after.get(n, ())) < math.prod(shape) for n, shape in before.items()),
        parameters_after=_parameters(pruned.model),
        frozen=list(pruned.frozen),
    )
    if _parameters(pruned.model) == whole:
        raise NothingCutError("it returned the model as it was")
    if original is not None:  # before training, which changes running statistics
        report.stage("comparing with the oracle")
        _compare(original, pruned, case)
    _run(pruned.model, case.inputs, report)
    if engine.analyse is not None:
        report.stage("analysing again")
        with measured() as usage:
            engine.analyse(case.model, case.inputs)
        report.add(analysis_seconds=usage.cpu_seconds)


def layer_shapes(model: nn.Module) -> Shapes:
    """Shapes of the layers' weights.

    A layer is a parameter of two or more dimensions called `weight...` or `..._weight` (convolutions, linear layers,
    embeddings, recurrent and attention projections, also with weight norm or a parametrisation) that has more than one
    row or column, and more than one number a row. Bias tables, positions, tokens, scales, the lengths of weight norm
    and everything with one dimension are none.
    """
    shapes = {}
    for name, parameter in model.named_parameters():
        own = name.partition(".parametrizations.")[2] or name.rpartition(".")[2]
        matrix = parameter.ndim > 1 and max(parameter.shape[:2]) > 1 and parameter.numel() > parameter.shape[0]
        if matrix and (own.startswith("weight") or own.endswith("_weight")):
            shapes[name] = tuple(parameter.shape)
    return shapes


def _parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def _run(model: nn.Module, inputs: Any, report: Report) -> None:
    """Forward and backward in training mode, forward in evaluation mode: an exception is the child's failure."""
    report.stage("training the cut network")
    outputs = [t for t in leaves(call(model.requires_grad_(True).train(), inputs)) if t.is_floating_point()]
    torch.stack([t.float().sum() for t in outputs]).sum().backward()
    report.stage("evaluating the cut network")
    with torch.no_grad():
        call(model.eval(), inputs)


def _compare(original: nn.Module, pruned: Pruned, case: Case) -> None:
    """Raises WrongCutError if the oracle finds a difference."""
    plan = kept_indices(original, pruned.model)
    try:
        error = largest_error(masked_norms(original, plan), pruned.model.eval(), plan, case.inputs)
    except AssertionError as failure:
        raise WrongCutError("the outputs have another shape") from failure
    if not error < EXACT:
        raise WrongCutError(f"relative error {error:.1e}")


def kept_indices(original: nn.Module, pruned: nn.Module) -> PruningPlan:
    """Which indices of which parameters an engine kept, found by value: no two random weights agree."""
    smaller = dict(pruned.named_parameters())
    cuts = {}
    for name, before in original.named_parameters():
        if name not in smaller:
            raise WrongCutError(f"the cut network has no {name}")
        if smaller[name].shape != before.shape:
            cuts[name] = TensorCut(tuple(before.shape), _matches(name, before.detach(), smaller[name].detach()))
    return PruningPlan(cuts, {})


def _matches(name: str, before: Tensor, after: Tensor) -> dict[int, tuple[int, ...]]:
    sortable = [each.real.contiguous() if each.is_complex() else each for each in (before, after)]
    values, order = torch.sort(sortable[0].flatten())
    where = torch.searchsorted(values, sortable[1].flatten()).clamp(max=len(values) - 1)
    places = torch.stack(torch.unravel_index(order[where], before.shape)).reshape(before.ndim, *after.shape)
    keep = {}
    for dim in range(before.ndim):
        kept = places[dim].transpose(0, dim).flatten(1)[:, 0] if before.ndim > 1 else places[dim]
        if len(kept) != before.shape[dim]:
            keep[dim] = tuple(kept.tolist())
    part = before
    for dim, kept in keep.items():
        part = part.index_select(dim, torch.tensor(kept))
    if before.ndim != after.ndim or not torch.equal(part, after):
        raise WrongCutError(f"{name} of the cut network is no part of the original's")
    return keep


Key = tuple[str, str, str]
"""Family, model, engine."""


def warm_up(engines: Mapping[str, Engine]) -> None:
    """Run every engine once, so that what it loads on first use is not counted for a model."""
    torch.ones(2, device="meta").softmax(0).mul(2).var()  # the first of many meta kernels loads a second's worth
    for engine in engines.values():
        run_small(engine)
    gc.collect()
    gc.freeze()  # children need not look through what the parent has loaded


def measured_side_by_side(
    families: Mapping[str, Family], engines: Mapping[str, Engine], options: argparse.Namespace, done: set[Key]
) -> Iterator[Row]:
    over: dict[tuple[str, str], str] = {}  # (engine, series) → the model that took it too long
    skipped: list[Row] = []

    def tasks() -> Iterator[Task]:
        for family_name, family in families.items():
            for model in fnmatch.filter(family.names(), options.model):
                for name, engine in engines.items():
                    key = (family_name, model, name)
                    series = family.depths[model][0] if family.depths else ""
                    if key in done:
                        continue
                    if (name, series) in over:
                        reason = f"not run: {over[name, series]} was over {options.limit:g} s"
                        skipped.append(_row(key, family, Outcome(failure=reason)))
                        continue
                    seconds = options.limit if family.depths else options.timeout
                    yield Task(key, functools.partial(measure, family, model, engine), seconds)

    for task, outcome in run_all(tasks(), options.jobs):
        family_name, model, name = task.key
        family = families[family_name]
        if outcome.timed_out and family.depths:
            over.setdefault((name, family.depths[model][0]), model)
        yield _row(task.key, family, outcome)
        yield from _drain(skipped)
    yield from _drain(skipped)


def _drain(rows: list[Row]) -> list[Row]:
    taken, rows[:] = list(rows), []
    return taken


def _row(key: Key, family: Family, outcome: Outcome) -> Row:
    row: Row = dict(zip(("family", "model", "engine"), key, strict=True))
    row |= {"ok": outcome.failure is None, "reason": outcome.failure, "stage": outcome.stage, **outcome.values}
    if family.depths:
        row["series"], row["depth"] = family.depths[key[1]]
    return row

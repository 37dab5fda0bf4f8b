"""One training of the language model, and a search for its hyperparameters."""

from __future__ import annotations

import math
import tempfile
import time
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn import functional as F

import prunetune
from benchmarks.common.reports import PlainReport
from benchmarks.common.sobol import sobol
from benchmarks.gpt.cases import CHARACTERS, SCALES, SPACE, WAYS, Scale, Way, text
from prunetune import PruningPlan, Search, prune
from prunetune._utils.caller import seed_all
from prunetune.engine import apply, bypass, fresh_proxy, residual_blocks
from prunetune.transfer.groups import proxy_groups

Row: TypeAlias = dict[str, Any]
JUDGED: int = 24
"""Batches of text on which a network is judged."""


def train(model: nn.Module, params: dict[str, Any], report: Any, scale: Scale) -> float:
    """Train as the hyperparameters say, with AdamW and a cosine; nats for a character of the validation text."""
    groups = report.param_groups(
        model, lr=params["learning_rate"], weight_decay=params["weight_decay"], optimizer="adam"
    )
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 1 - params["forgetting"]), fused=True)
    total = report.epochs * scale.steps
    rise = params["warmup"] * total

    def rate(step: int) -> float:
        if step < rise:
            return float((step + 1) / (rise + 1))
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(total - rise, 1)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    source = torch.Generator().manual_seed(report.seed)
    score = math.nan
    for epoch in range(1, report.epochs + 1):
        model.train()
        for _ in range(scale.steps):
            optimizer.zero_grad()
            _loss(model, _batch(text().train, scale, source)).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
        score = judged(model, text().val, scale)
        report(score, epoch)
        if not math.isfinite(score):
            break
    return score


def _batch(of: torch.Tensor, scale: Scale, source: torch.Generator) -> torch.Tensor:
    """(batch, context + 1) characters from places drawn at random."""
    starts = torch.randint(len(of) - scale.context, (scale.batch, 1), generator=source)
    return of[starts + torch.arange(scale.context + 1)]


def _loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(model(batch[:, :-1]).reshape(-1, CHARACTERS), batch[:, 1:].reshape(-1))


@torch.no_grad()
def judged(model: nn.Module, of: torch.Tensor, scale: Scale) -> float:
    """Mean nats for a character, on the same pieces each time."""
    model.eval()
    source = torch.Generator().manual_seed(0)
    return sum(_loss(model, _batch(of, scale, source)).item() for _ in range(JUDGED)) / JUDGED


@lru_cache(maxsize=8)
def plan_of(scale: Scale, width: float, depth: float) -> PruningPlan:
    """What leaves these shares of every layer's channels, and of the blocks."""
    seed_all(0)
    model: nn.Module = scale.build()
    tokens = text().train[: scale.context][None].repeat(2, 1)
    plan = PruningPlan({}, {})
    if depth < 1:
        gone = bypass(residual_blocks(model, tokens)[round(depth * scale.depth) :])
        plan, model = replace(gone, depth=depth), apply(gone, model)
    return plan.then(prune(model, tokens, scorer="uniform", ratio=width).plan) if width < 1 else plan


def trained(scale: str, way: Way, configuration: int) -> Row:
    """The row of one training: nats on both texts, higher is worse; infinite where it diverged."""
    torch.set_num_threads(1)
    of = SCALES[scale]
    params = sobol(SPACE, of.configurations)[configuration]
    plan = plan_of(of, way.width, way.depth) if way.width < 1 or way.depth < 1 else None
    report = PlainReport(
        1000 * way.seed + configuration,
        1 if way.short else of.epochs,
        proxy=None if plan is None else proxy_groups(plan, way.rule, "redraw"),
    )
    text()
    begun = time.process_time()
    seed_all(report.seed)
    model = of.build() if plan is None else fresh_proxy(of.build, plan)
    val = train(model, params, report, of)
    seconds = time.process_time() - begun
    test = judged(model, text().test, of) if math.isfinite(val) else math.inf
    return {"way": way.name, "configuration": configuration, "val": _number(val), "test": _number(test), "cpu": seconds}


def _number(value: float) -> float | None:
    """None for what diverged: JSON has no infinity."""
    return round(value, 5) if math.isfinite(value) else None


def searched(scale: str, seed: int) -> Row:
    """The row of one search as `prunetune.tune` does it: what it took and how good its winner is."""
    torch.set_num_threads(1)
    of = SCALES[scale]
    tokens = text().train[: of.context][None].repeat(of.batch, 1)
    begun = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        found = prunetune.tune(
            of.build, partial(train, scale=of), SPACE, example_inputs=tokens, epochs=of.epochs,
            steps_per_epoch=of.steps, run_dir=f"{folder}/run", search=Search(direction="minimize"), seed=seed,
            observer=lambda event: None,
        )  # fmt: skip
        winner = of.build()
        found.load_weights(winner)
    seconds = time.process_time() - begun
    rungs = [
        {name: rung[name] for name in ("network", "entrants", "price")} for rung in found.record["ladder"]["rungs"]
    ]
    test = judged(winner, text().test, of)
    return {"way": "ladder", "configuration": seed, "test": _number(test), "cpu": seconds, "rungs": rungs,
            "params": found.params}  # fmt: skip


def measured(scale: str, way: str, configuration: int) -> Row:
    """The row of a training or of a search."""
    if way == "ladder":
        return searched(scale, configuration)
    return trained(scale, next(each for each in WAYS if each.name == way), configuration)

"""One pretrained network, what is made of it, and one training of that."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeAlias

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.common.sobol import sobol
from benchmarks.finetuning.cases import SCALES, TASKS, WAYS, Examples, Task, Way
from prunetune import PruningPlan, prune
from prunetune._utils.caller import seed_all
from prunetune.engine import bypass, fresh_proxy, recover, residual_blocks
from prunetune.pruning.fit import depth_order
from prunetune.transfer.groups import plain_groups, proxy_groups
from prunetune.transfer.norms import normed

Row: TypeAlias = dict[str, Any]
SHOWN = 256
"""Examples that a cut network is recovered on."""
PRETRAINED = 32
"""Examples of a batch, then."""
DISTILLED = 100
"""Steps of distillation."""


def train(
    task: Task, network: nn.Module, params: Mapping[str, float], examples: Examples, epochs: int, *, groups: Any
) -> None:
    """SGD with momentum, or AdamW, whose rate falls to 0 along a cosine."""
    parameters = groups(
        network, lr=params["learning_rate"], weight_decay=params["weight_decay"], optimizer=task.optimizer
    )
    keeps = 1 - params["forgetting"]
    optimizer: torch.optim.Optimizer = (
        torch.optim.SGD(parameters, momentum=keeps, fused=True)
        if task.optimizer == "sgd"
        else torch.optim.AdamW(parameters, betas=(keeps, 0.99), fused=True)
    )
    inputs, targets = examples
    steps = len(inputs) // task.batch
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps * epochs)
    network.train()
    for _ in range(epochs):
        order = torch.randperm(len(inputs))
        for chosen in order[: steps * task.batch].split(task.batch):
            optimizer.zero_grad()
            loss = _loss(network(inputs[chosen]), targets[chosen], params["smoothing"])
            if not math.isfinite(loss.item()):
                return
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()


def _loss(logits: torch.Tensor, targets: torch.Tensor, smoothing: float = 0.0) -> torch.Tensor:
    return F.cross_entropy(logits.flatten(0, -2), targets.flatten(), label_smoothing=smoothing)


@torch.no_grad()
def judged(task: Task, network: nn.Module) -> float | None:
    """Cross-entropy on the test part of the new task; None for what diverged."""
    network.eval()
    inputs, targets = task.after().test
    chosen = torch.linspace(0, len(inputs) - 1, task.judged).long()
    loss = _loss(network(inputs[chosen]), targets[chosen]).item()
    return round(loss, 5) if math.isfinite(loss) else None


@lru_cache(maxsize=2)
def pretrained(task: Task, seed: int, share: float) -> nn.Module:
    """The network after its first task, with a new head; its training is not counted anywhere."""
    seed_all(seed)
    network = task.build()
    data = task.before()
    count = min(len(data.train[0]), int(share * task.pretraining))
    epochs = max(1, round(share * task.pretraining / count))
    examples = data.train[0][:count], data.train[1][:count]
    params = {"learning_rate": task.rate, "weight_decay": 5e-4, "forgetting": 0.1, "smoothing": 0.0}
    train(replace(task, batch=PRETRAINED), network, params, examples, epochs, groups=plain_groups)
    return network


@lru_cache(maxsize=16)
def start(task: Task, way: Way, seed: int, share: float) -> tuple[nn.Module, PruningPlan, float]:
    """What the trainings of a way begin with, but for the head; its plan; and the seconds that this took."""
    full = pretrained(task, seed, share)
    inputs = task.after().train[0][:SHOWN]
    begun = time.process_time()
    plan = _plan(task, full, inputs[:32], way)
    proxy = fresh_proxy(lambda: deepcopy(full), plan, weights="redraw" if way.weights == "redraw" else "sliced")
    if way.weights in ("recovered", "distilled"):
        proxy.load_state_dict(recover(full, plan, inputs).tensors, strict=False)
    if way.weights == "distilled":
        _distilled(task, full, proxy)
    return proxy, plan, time.process_time() - begun


def _plan(task: Task, full: nn.Module, inputs: torch.Tensor, way: Way) -> PruningPlan:
    if way.depth < 1:
        order = depth_order([block for block in residual_blocks(full, inputs) if block.inside is None])
        gone = round((1 - way.depth) * len(order))
        return replace(bypass(order[:gone]), depth=1 - gone / len(order))
    if way.width == 1:
        return PruningPlan({}, {})
    cut = prune(full, inputs, scorer="magnitude", ratio=way.width)
    return cut.with_norms(normed(full, inputs)).plan


def _distilled(task: Task, full: nn.Module, proxy: nn.Module) -> None:
    """So that its answers on the new task's inputs become those of the full network, head and all."""
    inputs = task.after().train[0][: task.examples]
    optimizer = torch.optim.AdamW(proxy.parameters(), 1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, DISTILLED)
    full.eval()
    proxy.train()
    for _ in range(DISTILLED):
        batch = inputs[torch.randint(len(inputs), (task.batch,))]
        with torch.no_grad():
            asked = full(batch)
        optimizer.zero_grad()
        F.mse_loss(proxy(batch), asked).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()


def measured(scale: str, task_name: str, way_name: str, seed: int, configuration: int) -> Row:
    """The row of one training."""
    torch.set_num_threads(1)
    of = SCALES[scale]
    task = next(each for each in TASKS if each.name == task_name)
    way = next(each for each in WAYS if each.name == way_name)
    params = sobol(task.space, of.configurations)[configuration]
    begins, plan, before = start(task, replace(way, name="", seed=0, epochs=1.0, data=1.0, frozen=0.0), seed, of.share)
    inputs, targets = task.after().train
    count = round(way.data * task.examples)
    begun = time.process_time()
    seed_all(10_000 * way.seed + 100 * configuration + seed)
    network = deepcopy(begins)
    if task.head:
        network.get_submodule(task.head).reset_parameters()  # type: ignore[operator]
    parameters = list(network.parameters())
    for parameter in parameters[: round(way.frozen * len(parameters))]:
        parameter.requires_grad_(False)
    groups = proxy_groups(plan, way.rule, "redraw" if way.weights == "redraw" else "sliced")
    train(
        task, network, params, (inputs[:count], targets[:count]), max(1, round(way.epochs * task.epochs)), groups=groups
    )
    seconds = time.process_time() - begun
    return {
        "task": task.name, "way": way.name, "seed": seed, "configuration": configuration,
        "loss": judged(task, network), "cpu": round(seconds, 3), "before": round(before, 3),
    }  # fmt: skip

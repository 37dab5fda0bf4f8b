"""A rule without a table: every parameter's rate so that its layer moves as far in a step as the full network's does.

What a coordinate check looks at (Tensor Programs V, appendix D.1) is set here instead: how far a step of one weight
alone moves the outputs of its layer, as a share of their size, over the first steps of a training.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

import torch
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from prunetune._utils.caller import seed_all

Moves: TypeAlias = dict[str, float]
Batch: TypeAlias = tuple[torch.Tensor, torch.Tensor]

STEPS: Final = 40
SEEDS: Final = 2
ROUNDS: Final = 3
"""A factor changes what the others see, so that one correction is not enough."""
SAMPLES: Final = 16
LIMIT: Final = 64.0


def factors(
    full: Callable[[], nn.Module],
    proxy: Callable[[], nn.Module],
    batch: Callable[[torch.Generator], Batch],
    optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
    rate: float,
) -> dict[str, float]:
    """The factor for the rate of each of the proxy's parameters."""
    asked = _moves(full, batch, optimizer, rate, {})
    found: dict[str, float] = {}
    for _ in range(ROUNDS):
        seen = _moves(proxy, batch, optimizer, rate, found)
        for name, moved in seen.items():
            by = found.get(name, 1.0)
            if moved > 0 and asked[name] > 0:  # a bias of attention's keys has no gradient
                by *= asked[name] / moved
            found[name] = min(max(by, 1 / LIMIT), LIMIT)
    return found


def _moves(
    build: Callable[[], nn.Module],
    batch: Callable[[torch.Generator], Batch],
    optimizer: Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
    rate: float,
    by: Mapping[str, float],
) -> Moves:
    """How far each parameter moves its layer in a step, in the mean over steps and seeds."""
    total: Moves = {}
    for seed in range(SEEDS):
        seed_all(5000 + seed)
        model = build()
        source = torch.Generator().manual_seed(seed)
        named = dict(model.named_parameters())
        stepper = optimizer([{"params": [each], "lr": rate * by.get(name, 1.0)} for name, each in named.items()])
        inputs: dict[str, torch.Tensor] = {}
        layers = {name: each for name, each in model.named_modules() if isinstance(each, nn.Linear | nn.Conv2d)}
        for name, layer in layers.items():
            layer.register_forward_pre_hook(partial(_keep, inputs, name))
        model.train()
        for _ in range(STEPS):
            before = {name: each.detach().clone() for name, each in named.items()}
            images, labels = batch(source)
            stepper.zero_grad()
            torch.autograd.backward(F.cross_entropy(model(images), labels))
            stepper.step()
            with torch.no_grad():
                for name, each in named.items():
                    place, _, key = name.rpartition(".")
                    change = each - before[name]
                    moved = (
                        _relative(layers[place], inputs[place], change, before[name])
                        if place in layers and key == "weight"
                        else change.square().mean().sqrt()
                    )
                    total[name] = total.get(name, 0.0) + float(moved) / (STEPS * SEEDS)
    return total


def _keep(inputs: dict[str, torch.Tensor], name: str, layer: nn.Module, given: tuple[torch.Tensor, ...]) -> None:
    inputs[name] = given[0][:SAMPLES].detach()


def _relative(layer: nn.Module, x: torch.Tensor, change: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What the change makes of the inputs, as a share of what the weight makes of them."""
    without = {} if layer.bias is None else {"bias": torch.zeros_like(layer.bias)}
    hooks, layer._forward_pre_hooks = layer._forward_pre_hooks, type(layer._forward_pre_hooks)()
    moved, size = (functional_call(layer, {"weight": w, **without}, (x,)) for w in (change, weight))
    layer._forward_pre_hooks = hooks
    return moved.norm() / size.norm().clamp_min(1e-12)

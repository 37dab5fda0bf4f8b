"""Fresh weights for a proxy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import torch
from torch import nn

from prunetune.engine.plan import PruningPlan
from prunetune.engine.surgery import apply
from prunetune.errors import InputError, unknown_name

Weights: TypeAlias = Literal["redraw", "reset", "sliced", "recovered"]


def fresh_proxy(
    model_fn: Callable[[], nn.Module],
    plan: PruningPlan,
    *,
    weights: Weights = "redraw",
    recovered: Mapping[str, torch.Tensor] | None = None,
) -> nn.Module:
    """A new proxy: a model from `model_fn`, under the present random state, cut by `plan`.

    Parameters
    ----------
    weights
        What it begins with. `"redraw"`: what `model_fn` has drawn, of which the plan's part stays, so that a custom
        initialisation survives; a cut shortens the fan-in, so every weight with a fan-in is scaled by sqrt(fan-in
        before / fan-in after), which is what He's and Glorot's initialisations would have drawn for the narrow layer
        (He et al. 2015, eq. 10), without knowing which of them was used. Embeddings have none: a row of them is read at
        a time. `"sliced"`: the same without the factor.
        `"reset"`: the modules' own `reset_parameters`, after the cut; parameters of modules without one are sliced.
        `"recovered"`, of a pretrained network: sliced, but for those in `recovered`.
    recovered
        Parameters by name, see `prunetune.engine.recover`.

    Raises
    ------
    InputError
        If `weights` is none of the four, or `"recovered"` without any.
    PlanError
        If `model_fn` builds another architecture than the plan was made for.
    """
    if weights not in WAYS:
        raise unknown_name("way to fresh weights", str(weights), WAYS)
    if weights == "recovered" and recovered is None:
        raise InputError("weights='recovered' needs the parameters that prunetune.engine.recover finds")
    proxy = apply(plan, model_fn())
    WAYS[weights](proxy, plan)
    if weights == "recovered":
        proxy.load_state_dict(dict(recovered or {}), strict=False)
    return proxy


def _redraw(proxy: nn.Module, plan: PruningPlan) -> None:
    looked_up = {id(m.weight) for m in proxy.modules() if isinstance(m, nn.Embedding | nn.EmbeddingBag)}
    parameters = {name: p for name, p in proxy.named_parameters() if id(p) not in looked_up}
    with torch.no_grad():
        for name, cut in plan.tensors.items():
            if name in parameters and len(cut.shape) > 1 and 1 in cut.keep:
                parameters[name].mul_((cut.shape[1] / len(cut.keep[1])) ** 0.5)


def _reset(proxy: nn.Module, plan: PruningPlan) -> None:
    for module in proxy.modules():
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if callable(reset) and any(True for _ in module.parameters(recurse=False)):
            reset()


WAYS: dict[str, Callable[[nn.Module, PruningPlan], None]] = {
    "redraw": _redraw,
    "reset": _reset,
    "sliced": lambda proxy, plan: None,
    "recovered": lambda proxy, plan: None,
}

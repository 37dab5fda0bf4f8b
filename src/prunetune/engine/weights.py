"""Fresh weights for a proxy."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from prunetune.engine.plan import PruningPlan
from prunetune.engine.surgery import apply


def fresh_proxy(model_fn: Callable[[], nn.Module], plan: PruningPlan) -> nn.Module:
    """A new proxy: a model from `model_fn`, under the present random state, cut by `plan`.

    The weights that stay keep the user's own initialisation. A cut shortens the fan-in, so every weight with a
    fan-in is scaled by sqrt(fan-in before / fan-in after): what He's and Glorot's initialisations would have drawn
    for the narrow layer (He et al. 2015, eq. 10), without knowing which of them was used.
    """
    proxy = apply(plan, model_fn())
    parameters = dict(proxy.named_parameters())
    with torch.no_grad():
        for name, cut in plan.tensors.items():
            if name in parameters and len(cut.shape) > 1 and 1 in cut.keep:
                parameters[name].mul_((cut.shape[1] / len(cut.keep[1])) ** 0.5)
    return proxy

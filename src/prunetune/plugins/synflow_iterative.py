"""SynFlow, iterative (Tanaka et al. 2020, "Pruning neural networks without any data by iteratively conserving synaptic
flow"), for channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from prunetune.errors import InputError
from prunetune.plugins.base import Context, Scorer, join, of_units, sum_except
from prunetune.plugins.gradients import gradients_of, one_of_equals, run, sum_of_outputs
from prunetune.plugins.parts import Reduction


class IterativeSynFlow(Scorer):
    """Algorithm 1: score, remove a few, score what is left again; |w| everywhere, an input of ones, float64.

    A weight's score is w * dR/dw, R the sum of all outputs (eq. 1), of the network in which all parameters are their
    magnitudes; a channel's is the sum over its filter, a unit's the mean over its members. After round k of n the
    share density^(k / n) of all units is left (the exponential schedule), of which every layer keeps what it earns:
    there is no floor, and by theorem 3 no layer is emptied before another.

    A unit's final score is the order in which it went, the last ones by their last score, so that any budget of
    `density` or more keeps what the algorithm itself would have kept at that budget.

    Parameters
    ----------
    rounds
        n, 100 in the paper.
    density
        The share of units that is left after the last round.

    Notes
    -----
    ReLU6 saturates under these inputs, and a saturated unit has no gradient: it is run as ReLU, whose flow is
    conserved (the theorem's condition is a homogeneous activation).
    """

    def __init__(self, *, rounds: int = 100, density: float = 0.01) -> None:
        if rounds < 1:
            raise InputError(f"rounds must be at least 1; got {rounds}")
        if not 0 < density < 1:
            raise InputError(f"density must be over 0 and below 1; got {density}")
        self.rounds, self.density = rounds, density

    def channel_scores(self, context: Context) -> dict[Any, Tensor]:
        """Of every producing axis, the scores of the units that its channels belong to."""
        return of_units(self.unit_scores(context), context.graph)

    def unit_scores(self, context: Context) -> NDArray[np.float64]:
        network = _Masked(context, self.reduce)
        count = context.graph.unit_count
        rank = np.zeros(count + 1)
        left = np.arange(1, count + 1)
        flow = network.flow(left)
        for k in range(1, self.rounds + 1):
            wanted = max(1, round(count * self.density ** (k / self.rounds)))
            if wanted >= len(left):
                continue
            order = left[np.argsort(flow[left], kind="stable")]
            gone, left = order[: len(order) - wanted], order[len(order) - wanted :]
            rank[gone] = np.arange(count - len(order), count - wanted)
            flow = network.flow(left)
        order = left[np.argsort(flow[left], kind="stable")]
        rank[order] = np.arange(count - len(order), count)
        return self.normalise(rank / max(count, 1), context.graph)

    def flow(self, context: Context) -> NDArray[np.float64]:
        """The scores of the first round: one a unit, shape (unit_count + 1,)."""
        return _Masked(context, self.reduce).flow(np.arange(1, context.graph.unit_count + 1))


class _Masked:
    """The network of magnitudes, with the units that have gone multiplied by zero."""

    def __init__(self, context: Context, reduce: Reduction) -> None:
        self.context, self.reduce = context, reduce
        self.model = context.model.double()
        self.inputs, _ = one_of_equals(self.model, pytree.tree_map(_ones, context.example_inputs))
        self.weights = context.weights()
        self.parameters = dict(self.model.named_parameters())
        with torch.no_grad():
            for parameter in self.parameters.values():
                parameter.abs_()
        self.full = {name: p.detach().clone() for name, p in self.parameters.items()}
        self.device = next(iter(self.parameters.values())).device

    def flow(self, left: NDArray[np.int64]) -> NDArray[np.float64]:
        """One score a unit, for those that are left."""
        self._mask(left)
        for weight in self.weights.values():
            weight.requires_grad_(True)
        with torch.enable_grad(), _Unbounded():
            total = sum_of_outputs(run(self.model, self.inputs))
        gradients = gradients_of(total, list(self.weights.values()))
        channels = {
            axis: sum_except((w * g).detach(), axis[1])
            for (axis, w), g in zip(self.weights.items(), gradients, strict=True)
        }
        flow = join(channels, self.context.graph, self.reduce)
        if not np.isfinite(flow[left]).all():
            raise InputError(
                "synflow-iterative overflows float64 in this network (its flow grows with every layer); "
                "take 'synflow-absolute', or scale the weights down"
            )
        return flow

    def _mask(self, left: NDArray[np.int64]) -> None:
        stays = np.zeros(self.context.graph.unit_count + 1)
        stays[left] = 1.0
        stays[0] = 1.0
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(self.full[name])
            for (name, dim), units in self.context.graph.axes.items():
                if name in self.parameters:
                    shape = [-1 if d == dim else 1 for d in range(self.parameters[name].ndim)]
                    mask = torch.from_numpy(stays[units]).to(self.device)
                    self.parameters[name].mul_(mask.view(shape))


def _ones(leaf: Any) -> Any:
    return torch.ones_like(leaf).double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf


class _Unbounded(TorchFunctionMode):
    """ReLU6 is run as ReLU."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (F.relu6, F.hardtanh) and _lower_bound(func, args, kwargs) == 0.0:
            return F.relu(args[0])
        return func(*args, **kwargs)


def _lower_bound(func: Callable[..., Any], args: Any, kwargs: Any) -> float:
    if func is F.relu6:
        return 0.0
    return float(kwargs.get("min_val", args[1] if len(args) > 1 else -1.0))

"""Neuron merging (Kim et al. 2020, "Neuron Merging: Compensating for Pruned Neurons").

Written from the algebra of sections 3 and 4: the authors' code exchanges the indices of batch norm's scale and
deviation and uses the variance where the deviation belongs, see `docs/decisions/0013-scorers.md`.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunetune.engine import DependencyGraph, Group
from prunetune.engine.labels import Axis
from prunetune.plugins.base import ChannelScores, Context, Need, Scorer
from prunetune.plugins.fpgm import GeometricMedian


class Merging(Scorer):
    """Keep channels as another scorer says, and merge each that goes into the most similar one that stays.

    A removed channel i whose output is S times that of a kept channel j, S > 0, loses nothing if whatever read i reads
    S times j: the next layer's weights become W' = W Z^T over its input channels, Z[j, j] = 1 and Z[j, i] = S_ij
    (section 3; ReLU passes a positive factor through). With batch norm, sigma the running deviation and
    s = |w_i| / |w_j| (section 4):

        S_ij = s (gamma_i / gamma_j) (sigma_j / sigma_i)
        B_ij = (gamma_i / sigma_i) (s (mu_j - sigma_j beta_j / gamma_j) - mu_i) + beta_i

    and y_i = S_ij y_j + B_ij for colinear filters. Of the kept channels with S > 0 that one takes i over which
    minimises balance (1 - cos(w_i, w_j)) + (1 - balance) minmax(|B_ij| / S_ij), unless its cosine is below
    `threshold`; then i goes without compensation, as it does where channels have several producers (the stream of a
    ResNet: the paper merges a block's inner convolution only) or something other than one batch norm between.

    Parameters
    ----------
    select
        Which channels stay: the paper's l1, l2 or, here, l2-GM (geometric median); any scorer, with its needs.
    threshold
        t, 0.1 in the paper.
    balance
        The paper's lambda: 0.85 for CIFAR-10, 0.7 for CIFAR-100.
    """

    def __init__(self, select: Scorer | None = None, *, threshold: float = 0.1, balance: float = 0.85) -> None:
        self.select = select or GeometricMedian()
        self.threshold, self.balance = threshold, balance
        self.only_reads, self.batches = self.select.only_reads, self.select.batches
        self.needs = self.select.needs | {Need.TRAINED}

    def check(self, model: nn.Module, data: object) -> None:
        self.select.check(model, data)

    def channel_scores(self, context: Context) -> ChannelScores:
        return self._selecting().channel_scores(context)

    def unit_scores(self, context: Context) -> NDArray[np.float64]:
        return self._selecting().unit_scores(context)

    def _selecting(self) -> Scorer:
        """The scorer that selects, with the parts that this one was combined with (`"merging+max"`)."""
        select = copy.copy(self.select)
        for part in ("reduce", "normalise"):
            if part in vars(self):
                setattr(select, part, vars(self)[part])
        return select

    @torch.no_grad()
    def compensate(self, context: Context, keep: NDArray[np.bool_]) -> Mapping[str, Tensor]:
        """The weights of the next layers, W Z^T written into the columns that stay."""
        changed: dict[str, Tensor] = {}
        tensors = {**dict(context.model.named_parameters()), **dict(context.model.named_buffers())}
        modules = dict(context.model.named_modules())
        for group in context.graph.groups:
            layer = _layer(context.graph, group, tensors, modules)
            if layer is None:
                continue
            channels = context.graph.unit_of(layer.producer)
            kept, gone = (np.flatnonzero((channels > 0) & (keep[channels] == side)) for side in (True, False))
            if not len(gone):
                continue
            scale = self._scales(layer, kept, gone)
            for name, dim in layer.consumers:
                weight = changed.get(name, tensors[name].detach().clone())
                changed[name] = _merged(weight, dim, context.graph.unit_of((name, dim)), channels, kept, gone, scale)
        return changed

    def _scales(self, layer: _Layer, kept: NDArray[np.int64], gone: NDArray[np.int64]) -> Tensor:
        """Z's part for what goes: S_ij in row i at the column of its kept channel j, shape (gone, kept), float64."""
        j, i = torch.from_numpy(kept).to(layer.filters.device), torch.from_numpy(gone).to(layer.filters.device)
        norm = layer.filters.norm(dim=1)
        cosine = (layer.filters[i] @ layer.filters[j].T) / (norm[i, None] * norm[None, j])
        s = norm[i, None] / norm[None, j]
        gamma, sigma, beta, mu = layer.gamma, layer.sigma, layer.beta, layer.mean
        scale = s * (gamma[i, None] / gamma[None, j]) * (sigma[None, j] / sigma[i, None])
        shift = (gamma / sigma)[i, None] * (s * (mu - sigma * beta / gamma)[None, j] - mu[i, None]) + beta[i, None]
        possible = (scale > 0) & torch.isfinite(scale) & torch.isfinite(shift) & torch.isfinite(cosine)
        ratio = torch.where(possible, shift.abs() / scale, torch.nan)
        low, high = _nan_extremes(ratio)
        spread = torch.where(high > low, (ratio - low) / (high - low), torch.zeros_like(ratio))
        distance = self.balance * (1 - cosine) + (1 - self.balance) * spread
        distance = torch.where(possible, distance, torch.inf)
        best = distance.argmin(dim=1)
        rows = torch.arange(len(gone), device=best.device)
        result = torch.zeros_like(scale)
        similar = possible[rows, best] & (cosine[rows, best] >= self.threshold)
        result[rows, best] = torch.where(similar, scale[rows, best], 0.0)
        return result


@dataclass(frozen=True)
class _Layer:
    """A layer whose channels go through one batch norm at most and are read by other layers; all in float64."""

    producer: Axis
    filters: Tensor
    gamma: Tensor
    beta: Tensor
    mean: Tensor
    sigma: Tensor
    consumers: tuple[Axis, ...]


def _layer(
    graph: DependencyGraph, group: Group, tensors: Mapping[str, Tensor], modules: Mapping[str, nn.Module]
) -> _Layer | None:
    """The layer that a group is, if it has one producer, each unit is one channel, and no more than a norm between."""
    if len(group.producers) != 1:
        return None
    (producer,) = group.producers
    path = producer[0].rpartition(".")[0]
    layer = modules.get(path)
    units = graph.unit_of(producer)
    if not isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)) or getattr(layer, "groups", 1) != 1:
        return None
    if getattr(layer, "transposed", False) or producer[0] != f"{path}.weight":
        return None
    if len(np.unique(units[units > 0])) != (units > 0).sum():
        return None
    between = {name.rpartition(".")[0] for name, _ in group.axes if tensors[name].ndim == 1} - {path}
    consumers = tuple(axis for axis in group.axes if tensors[axis[0]].ndim > 1 and axis != producer)
    if len(between) > 1 or not all(_is_read_by_a_layer(axis, modules) for axis in consumers):
        return None
    n = tensors[producer[0]].shape[0]
    weight = tensors[producer[0]].detach().double()
    zeros, ones = weight.new_zeros(n), weight.new_ones(n)
    bias = zeros if layer.bias is None else layer.bias.detach().double()
    if not between:
        return _Layer(producer, weight.flatten(1), ones, zeros, -bias, ones, consumers)
    (name,) = between
    norm = modules[name]
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or norm.running_mean is None or norm.running_var is None:
        return None
    place = _places(units, graph.unit_of((f"{name}.running_mean", 0)))
    if place is None:
        return None
    gamma = ones if norm.weight is None else norm.weight.detach().double()[place]
    beta = zeros if norm.bias is None else norm.bias.detach().double()[place]
    mean, variance = norm.running_mean.double()[place], norm.running_var.double()[place]
    sigma = (variance + norm.eps).sqrt()
    return _Layer(producer, weight.flatten(1), gamma, beta, mean - bias, sigma, consumers)


def _is_read_by_a_layer(axis: Axis, modules: Mapping[str, nn.Module]) -> bool:
    """Whether it is the input axis of a linear layer or convolution."""
    (name, dim), layer = axis, modules.get(axis[0].rpartition(".")[0])
    return dim == 1 and name.endswith("weight") and isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd))


def _places(channels: NDArray[np.int64], norm: NDArray[np.int64]) -> Tensor | None:
    """Where in a norm each channel is (behind a concatenation not at its own number); None if at several places."""
    found = [np.flatnonzero(norm == unit) for unit in channels[channels > 0]]
    if any(len(places) != 1 for places in found):
        return None
    place = np.zeros(len(channels), dtype=np.int64)  # of those that are frozen nothing is asked
    place[channels > 0] = np.concatenate(found)
    return torch.from_numpy(place)


def _nan_extremes(values: Tensor) -> tuple[Tensor, Tensor]:
    """The least and the largest number of each row, shape (rows, 1), of those that are numbers."""
    low = torch.where(values.isnan(), torch.inf, values).amin(dim=1, keepdim=True)
    high = torch.where(values.isnan(), -torch.inf, values).amax(dim=1, keepdim=True)
    return low, high


def _merged(
    weight: Tensor,
    dim: int,
    inputs: NDArray[np.int64],
    channels: NDArray[np.int64],
    kept: NDArray[np.int64],
    gone: NDArray[np.int64],
    scale: Tensor,
) -> Tensor:
    """W Z^T over the inputs: a flattened map has each channel at several places, and each place is merged alike."""
    place: dict[int, list[int]] = {}
    for index, unit in enumerate(inputs.tolist()):
        place.setdefault(unit, []).append(index)
    here = torch.tensor([place[int(u)] for u in channels[kept]], device=weight.device)  # (kept, places)
    there = torch.tensor([place[int(u)] for u in channels[gone]], device=weight.device)  # (gone, places)
    moved = weight.movedim(dim, 0).clone()
    added = torch.tensordot(scale.T.to(weight.dtype), moved[there], dims=1)  # (kept, places, …)
    moved[here] += added
    return moved.movedim(0, dim).contiguous()

"""What a scorer is: it says how much every output channel of every weight is worth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunetune.engine import DependencyGraph, ExampleInputs
from prunetune.engine.labels import Axis

ChannelScores: TypeAlias = Mapping[Axis, Tensor]
"""For each axis (parameter name, dimension) one score an index, shape (size of the axis,)."""

Reduction: TypeAlias = Callable[[NDArray[np.float64], NDArray[np.int64], int], NDArray[np.float64]]
"""`reduce(values, units, n)`: n numbers, entry u made of the values whose unit is u."""


@dataclass(frozen=True)
class Context:
    """What a scorer may look at.

    `model` is its own copy, in evaluation mode, to do with as it likes; a scorer that only reads gets the user's model.
    """

    model: nn.Module
    example_inputs: ExampleInputs
    graph: DependencyGraph
    generator: torch.Generator

    def weights(self) -> dict[Axis, Tensor]:
        """The weights that have channels to remove, by their output axis."""
        parameters = dict(self.model.named_parameters())
        axes = dict.fromkeys(axis for group in self.graph.groups for axis in group.producers)
        return {axis: parameters[axis[0]] for axis in axes if axis[0] in parameters}


def mean_over_members(values: NDArray[np.float64], units: NDArray[np.int64], n: int) -> NDArray[np.float64]:
    """The mean over all channels of a unit: a sum would make large groups hard to prune only for being large."""
    total = np.bincount(units, weights=values, minlength=n)
    members = np.bincount(units, minlength=n)
    return total / np.maximum(members, 1)


class Scorer(ABC):
    """Base of all scorers: one abstract method, and how the scores of coupled channels become one."""

    reduce: Reduction = staticmethod(mean_over_members)
    only_reads: bool = False
    """Whether the model is neither run nor changed: then no copy of it is made for the scorer."""

    @abstractmethod
    def channel_scores(self, context: Context) -> ChannelScores:
        """One score for every index of the axes that this method looks at; higher is worth more."""

    def unit_scores(self, context: Context) -> NDArray[np.float64]:
        """One score a unit, shape (unit_count + 1,); entry 0 stands for what is frozen."""
        graph = context.graph
        values: list[NDArray[np.float64]] = [np.zeros(0)]
        units: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
        for axis, scores in self.channel_scores(context).items():
            values.append(scores.detach().to("cpu", torch.float64).numpy())
            units.append(graph.unit_of(axis))
        return self.reduce(np.concatenate(values), np.concatenate(units), graph.unit_count + 1)


def mean_except(scores: Tensor, dim: int) -> Tensor:
    """The mean over all dimensions but one; shape (size of that dimension,)."""
    others = [d for d in range(scores.ndim) if d != dim]
    return scores.mean(dim=others) if others else scores

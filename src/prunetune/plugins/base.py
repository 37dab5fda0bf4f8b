"""What a scorer is: it says how much every output channel of every weight is worth."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunetune.engine import DependencyGraph, ExampleInputs
from prunetune.engine.labels import Axis
from prunetune.errors import InputError
from prunetune.plugins.parts import Normaliser, Reduction, as_it_is, mean_over_members

ChannelScores: TypeAlias = Mapping[Axis, Tensor]
"""For each axis (parameter name, dimension) one score an index, shape (size of the axis,)."""

Batch: TypeAlias = tuple[ExampleInputs, Any]
"""Inputs of the model, and targets."""

Loss: TypeAlias = Callable[[Any, Any], Tensor]
"""`loss(outputs, targets)`, a number to be made small."""


class Need(Enum):
    """What a scorer may need besides the network; the value is what people read."""

    DATA = "labelled data"
    LOSS = "a loss"
    TRAINED = "a trained network"
    BATCH_NORM = "batch norm"


@dataclass(frozen=True)
class Context:
    """What a scorer may look at.

    `model` is its own copy, in evaluation mode, to do with as it likes; a scorer that only reads gets the user's model.
    """

    model: nn.Module
    example_inputs: ExampleInputs
    graph: DependencyGraph
    generator: torch.Generator
    data: Sequence[Batch] = ()
    """Batches of inputs and targets, on the model's device, as many as the scorer asked for."""
    loss: Loss = nn.functional.cross_entropy

    def weights(self) -> dict[Axis, Tensor]:
        """The weights that have channels to remove, by their output axis."""
        parameters = dict(self.model.named_parameters())
        axes = dict.fromkeys(axis for group in self.graph.groups for axis in group.producers)
        return {axis: parameters[axis[0]] for axis in axes if axis[0] in parameters}


class Scorer(ABC):
    """Base of all scorers: one abstract method, and what becomes of the scores of coupled channels.

    A unit that no score is given for is not judged: it stays.
    """

    reduce: Reduction = staticmethod(mean_over_members)
    """How the scores of coupled channels become one."""
    normalise: Normaliser = staticmethod(as_it_is)
    """What makes the scores of different groups comparable."""
    needs: frozenset[Need] = frozenset()
    only_reads: bool = False
    """Whether the model is neither run nor changed: then no copy of it is made for the scorer."""
    name: str = ""
    """Under which it was made, for messages."""
    batches: int = 1
    """How many batches of the user's data it looks at, if it needs data."""

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.name or type(self).__name__

    @abstractmethod
    def channel_scores(self, context: Context) -> ChannelScores:
        """One score for every index of the axes that this method looks at; higher is worth more."""

    def unit_scores(self, context: Context) -> NDArray[np.float64]:
        """One score a unit, shape (unit_count + 1,); entry 0 stands for what is frozen, inf for what is not judged."""
        graph = context.graph
        return self.normalise(join(self.channel_scores(context), graph, self.reduce), graph)

    def compensate(self, context: Context, keep: NDArray[np.bool_]) -> Mapping[str, Tensor]:
        """New values for tensors of the full network, given that only the units `keep` stay; none unless overridden."""
        return {}

    def check(self, model: nn.Module, data: object) -> None:
        """Raise InputError, in one sentence, for what this scorer needs and the caller has not given."""
        name = self.title
        if Need.DATA in self.needs and data is None:
            raise InputError(
                f"{name} needs labelled data; give batches of inputs and targets, prune(…, data=[(inputs, targets)]), "
                "or a DataLoader"
            )
        if Need.BATCH_NORM in self.needs and not any(True for _ in batch_norms(model)):
            raise InputError(
                f"{name} reads the scales of batch norms, and {type(model).__name__} has none with a scale; "
                "take a scorer that reads weights, for example 'magnitude'"
            )


def join(scores: ChannelScores, graph: DependencyGraph, reduce: Reduction) -> NDArray[np.float64]:
    """Scores of channels to scores of units, shape (unit_count + 1,); inf for units without any."""
    values: list[NDArray[np.float64]] = [np.zeros(0)]
    units: list[NDArray[np.int64]] = [np.zeros(0, dtype=np.int64)]
    for axis, each in scores.items():
        values.append(each.detach().to("cpu", torch.float64).numpy())
        units.append(graph.unit_of(axis))
    n = graph.unit_count + 1
    of = np.concatenate(units)
    joined = reduce(np.concatenate(values), of, n)
    joined[np.bincount(of, minlength=n) == 0] = np.inf
    joined[0] = 0.0
    return joined


def of_units(scores: NDArray[np.float64], graph: DependencyGraph) -> dict[Axis, Tensor]:
    """Of every producing axis, the scores of the units that its channels belong to: `join` the other way around."""
    axes = dict.fromkeys(axis for group in graph.groups for axis in group.producers)
    return {axis: torch.from_numpy(scores[graph.unit_of(axis)]) for axis in axes}


def batch_norms(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """Names and values of the scales of all batch norms."""
    for path, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.weight is not None:
            yield f"{path}.weight" if path else "weight", module.weight


def mean_except(scores: Tensor, dim: int) -> Tensor:
    """The mean over all dimensions but one; shape (size of that dimension,)."""
    others = [d for d in range(scores.ndim) if d != dim]
    return scores.mean(dim=others) if others else scores


def sum_except(scores: Tensor, dim: int) -> Tensor:
    """The sum over all dimensions but one; shape (size of that dimension,)."""
    others = [d for d in range(scores.ndim) if d != dim]
    return scores.sum(dim=others) if others else scores

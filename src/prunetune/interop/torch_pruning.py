"""torch-pruning, both ways: its importances as our scorers, and our scorers as its importances.

Needs `pip install 'prunetune[torch-pruning]'`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from prunetune.engine import DependencyGraph, ExampleInputs, Group
from prunetune.engine.labels import Axis, Vec
from prunetune.engine.selection.ranking import Scores
from prunetune.engine.tracing.copies import named_modules, named_tensors
from prunetune.errors import InputError
from prunetune.plugins import make_scorer
from prunetune.plugins.base import ChannelScores, Context, Scorer
from prunetune.plugins.scoring import score

# Layers with channels: dimension of the weight that holds the outputs, and the inputs (None: they are the outputs).
# The first kind that fits counts.
CHANNELS: tuple[tuple[type[nn.Module], int, int | None], ...] = (
    (nn.modules.conv._ConvTransposeNd, 1, 0),
    (nn.modules.conv._ConvNd, 0, 1),
    (nn.Linear, 0, 1),
    (nn.Embedding, 1, None),
    (nn.modules.batchnorm._NormBase, 0, None),  # of instance normalisation too
    (nn.GroupNorm, 0, None),
    (nn.LayerNorm, -1, None),
    (nn.PReLU, 0, None),
)
OF_OUTPUTS = ("bias", "running_mean", "running_var")


def _channel_dims(layer: nn.Module) -> tuple[int, int | None] | None:
    return next(((out, into) for kind, out, into in CHANNELS if isinstance(layer, kind)), None)


# -- its importances as our scorers ------------------------------------------------------------------------------------


class FromTorchPruning(Scorer):
    """The scores that an importance of torch-pruning gives: `prune(model, x, scorer=FromTorchPruning(importance))`.

    Every group of channels is shown to the importance as a `torch_pruning.Group` whose root is the first layer that
    makes the channels, so torch-pruning need not know the architecture. Where several channels can only go together
    (grouped convolutions, the same dimension of all heads), their scores are averaged, as torch-pruning's pruners do.
    Parameters outside of convolutions, linear layers and normalisations are shown as `nn.Parameter`s, which
    torch-pruning's own importances don't read; a group that has nothing else, as the heads of
    `nn.MultiheadAttention`, is shown as linear layers with these weights.

    Importances that read gradients find those that the model has: call `backward()` before. Neither the gradients nor
    what the importance has accumulated are changed.

    Parameters
    ----------
    importance
        An object of `torch_pruning.importance`, or any callable that takes a group and returns one score a channel.

    Raises
    ------
    InputError
        If torch-pruning is not installed, or, on use, the importance has no score for a group or lacks gradients.
    """

    only_reads = True

    def __init__(self, importance: Any) -> None:
        _torch_pruning()
        if isinstance(importance, type) or not callable(importance):
            raise InputError(
                "importance must be an object such as torch_pruning.importance.GroupMagnitudeImportance(); "
                f"got {importance!r}"
            )
        self.importance = importance

    def channel_scores(self, context: Context) -> ChannelScores:
        """Of every producing axis, the scores of the units that its channels belong to."""
        scores, graph = self.unit_scores(context), context.graph
        axes = dict.fromkeys(axis for group in graph.groups for axis in group.producers)
        return {axis: torch.from_numpy(scores[graph.unit_of(axis)]) for axis in axes}

    def unit_scores(self, context: Context) -> NDArray[np.float64]:
        importance = copy.copy(self.importance)  # GroupHessianImportance forgets what it has accumulated on first use
        scores = np.zeros(context.graph.unit_count + 1)
        layers = dict(named_modules(context.model))
        with torch.no_grad(), _shielded_gradients(context.model):
            for group in context.graph.groups:
                items = _items(context.graph, group, layers)
                root = items[0].units
                given = _scores_of(importance, group, items)
                members = np.bincount(root, minlength=len(scores))
                total = np.bincount(root, weights=given, minlength=len(scores))
                scores[members > 0] = total[members > 0] / members[members > 0]
        return scores


@dataclass(frozen=True)
class _Item:
    """One side of one layer, cut with a group."""

    layer: nn.Module | nn.Parameter
    name: str
    outputs: bool
    indices: Vec
    """Which of its channels."""
    units: Vec
    """And to which unit each of them belongs."""


def _items(graph: DependencyGraph, group: Group, layers: dict[str, nn.Module]) -> list[_Item]:
    """The layers of a group, each side once, the root first."""
    inside = np.zeros(graph.unit_count + 1, dtype=bool)
    inside[np.asarray(group.units)] = True
    known: dict[tuple[str, bool], _Item] = {}
    others: list[_Item] = []
    matrices: list[_Item] = []
    # What makes the channels comes first: it is the root, as far as torch-pruning knows such layers.
    for name, dim in dict.fromkeys((*group.producers, *group.axes)):
        units = graph.unit_of((name, dim))
        indices = np.flatnonzero(inside[units])
        path, _, attribute = name.rpartition(".")
        layer, tensor = layers[path], getattr(layers[path], attribute)
        outputs = None if _within_attention(path, layers) else _side(layer, attribute, dim, tensor.ndim)
        if outputs is not None:
            if not outputs and isinstance(layer, nn.modules.conv._ConvNd):  # inputs of all groups have one weight index
                starts = range(0, layer.in_channels, len(units))
                indices = np.concatenate([start + indices for start in starts])
            known.setdefault((path, outputs), _Item(layer, path, outputs, indices, units[indices % len(units)]))
        elif isinstance(tensor, nn.Parameter):
            others.append(_Item(tensor, name, True, indices, units[indices]))
            if tensor.ndim > 1 and dim < 2:
                matrices.append(_Item(_as_linear(tensor), name, dim == 0, indices, units[indices]))
    return [*(known.values() or matrices), *others]


def _side(layer: nn.Module, attribute: str, dim: int, ndim: int) -> bool | None:
    """Whether an axis of a layer's tensor holds its outputs (True) or its inputs (False); None if nobody knows."""
    dims = _channel_dims(layer)
    if dims is None:
        return None
    outputs, inputs = dims
    if attribute in OF_OUTPUTS:
        return True if dim == ndim - 1 else None
    if attribute != "weight":
        return None
    return True if dim == outputs % ndim else False if dim == inputs else None


def _within_attention(path: str, layers: dict[str, nn.Module]) -> bool:
    """Whether a layer is a part of `nn.MultiheadAttention`, which torch-pruning takes as one."""
    return isinstance(layers[path.rpartition(".")[0]], nn.MultiheadAttention)


def _as_linear(weight: nn.Parameter) -> nn.Linear:
    with torch.device("meta"):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = weight
    return layer


def _scores_of(importance: Any, group: Group, items: list[_Item]) -> NDArray[np.float64]:
    """What the importance says, one number an index of the root."""
    name = type(importance).__name__
    without = [
        item.name
        for item in items
        if isinstance(weight := getattr(item.layer, "weight", None), nn.Parameter) and weight.grad is None
    ]
    hint = f"; if it reads gradients, call backward() on a loss before: {without[0]} has none" if without else ""
    try:
        scores = importance(_group(items))
    except AttributeError as error:
        if not without:
            raise
        raise InputError(f"{name} could not score the channels of {group.name} ({error}){hint}") from error
    if scores is None:
        kinds = ", ".join(sorted({type(item.layer).__name__ for item in items}))
        raise InputError(
            f"{name} has no score for the channels of {group.name}, which lie on {kinds}{hint or '; try another'}"
        )
    count = len(items[0].indices)
    if tuple(scores.shape) != (count,):
        raise InputError(f"{name} gave scores of shape {tuple(scores.shape)} for the {count} channels of {group.name}")
    numbers: NDArray[np.float64] = scores.detach().to("cpu", torch.float64).numpy()
    return numbers


def _group(items: list[_Item]) -> Any:
    """A `torch_pruning.Group` of these layers, as its `get_pruning_group` makes them."""
    tp = _torch_pruning()
    pruners = tp.DependencyGraph()
    group = tp.Group()
    nodes = {id(item.layer): tp.Node(item.layer, None, item.name) for item in items}
    source, trigger = nodes[id(items[0].layer)], None
    for item in items:
        pruner = pruners.get_pruner_of_module(item.layer)
        handler = pruner.prune_out_channels if item.outputs else pruner.prune_in_channels
        trigger = trigger or handler
        group.add_dep(tp.Dependency(trigger, handler, source, nodes[id(item.layer)]), item.indices.tolist())
        group[len(group) - 1].root_idxs = _roots(items[0].units, item.units).tolist()
    return group


def _roots(root: Vec, units: Vec) -> Vec:
    """For every index of a layer, the index of the root that it goes with; both are given by their units.

    Of a unit with several of them, the first go with the first.
    """
    found = np.empty_like(units)
    order = np.argsort(units, kind="stable")
    mine, theirs = np.bincount(units), np.bincount(root, minlength=int(units.max()) + 1)
    sorted_units = units[order]
    rank = np.arange(len(units)) - (np.cumsum(mine) - mine)[sorted_units]
    place = (np.cumsum(theirs) - theirs)[sorted_units] + rank * theirs[sorted_units] // mine[sorted_units]
    found[order] = np.argsort(root, kind="stable")[place]
    return found


@contextmanager
def _shielded_gradients(model: nn.Module) -> Iterator[None]:
    """Meanwhile, gradients are aliases: `GroupHessianImportance` puts others in their place."""
    gradients = [(p, p.grad) for p in model.parameters() if p.grad is not None]
    for parameter, gradient in gradients:
        parameter.grad = gradient.detach()
    try:
        yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient


def _torch_pruning() -> Any:
    try:
        import torch_pruning
    except ImportError:
        raise InputError(
            "torch-pruning is not installed; install it with pip install 'prunetune[torch-pruning]'"
        ) from None
    return torch_pruning


# -- our scorers as its importances ------------------------------------------------------------------------------------


class ToTorchPruning:
    """One of our scorers as an `importance` of torch-pruning's pruners.

    Called with a group, it returns one score for each channel of the group's root, shape (channels,). Channels that
    the engine would not cut score infinity; if that is all of them, the result is None, at which torch-pruning leaves
    the group whole. The scores of the whole model are computed at the first call, and again when a weight has changed.

    Parameters
    ----------
    scorer
        A name of the registry (`prunetune list scorers`) or a `Scorer`.
    model
        The model that torch-pruning prunes.
    example_inputs
        What the model is called with: a tensor, a tuple of arguments, or a dict of keyword arguments.
    seed
        For scorers that draw random numbers.

    Example
    -------
    ::

        importance = ToTorchPruning("synflow", model, x)
        torch_pruning.pruner.BasePruner(model, x, importance, pruning_ratio=0.5, ignored_layers=[model.fc]).step()
    """

    def __init__(self, scorer: str | Scorer, model: nn.Module, example_inputs: ExampleInputs, *, seed: int = 0) -> None:
        self.scorer: Scorer = make_scorer(scorer) if isinstance(scorer, str) else scorer
        self.model = model
        self.example_inputs = example_inputs
        self.seed = seed
        self._state: dict[str, Tensor] = {}
        self._scored: tuple[DependencyGraph, Scores] | None = None

    def __call__(self, group: Any) -> Tensor | None:
        graph, scores = self._up_to_date()
        dep, indices = group[0]
        (name, dim), layer = self._axis(dep), dep.target.module
        units = graph.unit_of((name, dim))
        found = units[np.asarray(indices) % len(units)]  # of a grouped convolution, inputs of all groups have one index
        if not found.any():
            return None
        given = np.where(found > 0, scores[found], np.inf)
        return torch.from_numpy(given).to(layer.weight.device)

    def _axis(self, dep: Any) -> Axis:
        """The axis of our graph that a dependency of torch-pruning cuts."""
        layer, dims = dep.target.module, None
        if isinstance(layer, nn.Module):
            dims = _channel_dims(layer)
        if dims is None:
            raise InputError(
                f"prunetune has no channels for {dep.target.name} as the root of a group; put it into ignored_layers"
            )
        outputs, inputs = dims
        dim = inputs if inputs is not None and dep.handler.__name__ == "prune_in_channels" else outputs
        names = {id(tensor): name for name, tensor in named_tensors(self.model).items()}
        if id(layer.weight) not in names:
            raise InputError(f"{dep.target.name} is no layer of the model that ToTorchPruning was made for")
        return names[id(layer.weight)], dim % layer.weight.ndim

    def _up_to_date(self) -> tuple[DependencyGraph, Scores]:
        state = _state(self.model)
        if self._scored is None or not _same(state, self._state):
            graph = DependencyGraph.of(self.model, self.example_inputs)
            self._scored = graph, score(self.model, self.example_inputs, graph, self.scorer, seed=self.seed)
            self._state = {name: tensor.clone() for name, tensor in state.items()}
        return self._scored


def _state(model: nn.Module) -> dict[str, Tensor]:
    """All that scores can depend on: parameters, buffers and gradients."""
    tensors = {name: tensor.detach() for name, tensor in named_tensors(model).items()}
    gradients = {f"{n}.grad": p.grad.detach() for n, p in model.named_parameters() if p.grad is not None}
    return tensors | gradients


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


__all__ = ["FromTorchPruning", "ToTorchPruning"]

"""How each engine is driven: as its own documentation does it, half of all channels, and no help for single models.

An engine is prepared outside the clock (what a user knows beforehand: which layers are the model's outputs, that the
model is in evaluation mode), and what it returns is timed: from the model to the cut network that runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import torch
from torch import Tensor, nn

from prunetune import prune
from prunetune.engine import DependencyGraph

RATIO = 0.5


@dataclass(frozen=True)
class Pruned:
    """The cut network, and what the engine says it could not cut: (operation, reason, channels)."""

    model: nn.Module
    frozen: Sequence[tuple[str, str, int]] = ()


@dataclass(frozen=True)
class Engine:
    """`prepare(model, inputs)` returns the function that analyses and prunes; `analyse` does only the first of that."""

    package: str
    prepare: Callable[[nn.Module, Any], Callable[[], Pruned]]
    analyse: Callable[[nn.Module, Any], object] | None = None

    @property
    def version(self) -> str:
        return metadata.version(self.package)


def leaves(value: Any) -> list[Tensor]:
    """All tensors in an output: a tensor, a sequence, or a mapping such as the outputs of transformers."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = list(value.values())
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, (list, tuple)) else []


def call(model: nn.Module, inputs: Any) -> Any:
    """Run the model on example inputs: a tensor, positional arguments in a tuple, or keyword arguments in a dict."""
    if isinstance(inputs, Mapping):
        return model(**inputs)
    return model(*inputs) if isinstance(inputs, tuple) else model(inputs)


def prunetune(percentile: float | None = None) -> Engine:
    """Ours: half of every group of channels, or the percentile of the paper over all of them."""

    def prepare(model: nn.Module, inputs: Any) -> Callable[[], Pruned]:
        def run() -> Pruned:
            ratio = RATIO if percentile is None else None
            result = prune(model, inputs, scorer="magnitude", ratio=ratio, percentile=percentile)
            return Pruned(result.model, [(f.node, f.reason, int(f.channels)) for f in result.frozen])

        return run

    return Engine("prunetune", prepare, DependencyGraph.of)


def _outputs(model: nn.Module, inputs: Any) -> list[nn.Module]:
    """Layers with as many outputs as the model: torch-pruning's documentation ignores `out_features == 1000`."""
    with torch.no_grad():
        found = [t for t in leaves(call(model, inputs)) if t.ndim > 1]
    last, channels = {t.shape[-1] for t in found}, {t.shape[1] for t in found}
    return [
        m
        for m in model.modules()
        if (isinstance(m, nn.Linear) and m.out_features in last)
        or (isinstance(m, nn.modules.conv._ConvNd) and m.out_channels in channels)
    ]


def _torch_pruning(model: nn.Module, inputs: Any) -> Callable[[], Pruned]:
    """The README's "High-level Pruners", with the loop of its example for timm, which tells it the attention heads."""
    import torch_pruning

    model.eval().requires_grad_(True)
    example = inputs[:1] if isinstance(inputs, Tensor) else inputs  # its documentation gives one image: half the work
    ignored = _outputs(model, example)
    attentions: list[Any] = [m for m in model.modules() if hasattr(m, "num_heads") and hasattr(m, "qkv")]

    def run() -> Pruned:
        pruner = torch_pruning.pruner.BasePruner(
            model,
            example,
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=RATIO,
            ignored_layers=ignored,
            num_heads={m.qkv: m.num_heads for m in attentions},
            output_transform=lambda out: [t for t in leaves(out) if t.grad_fn is not None],  # no caches, no labels
        )
        pruner.step()
        for m in attentions:
            m.num_heads = pruner.num_heads[m.qkv]
            m.head_dim = m.qkv.out_features // (3 * m.num_heads)
        return Pruned(model)

    return run


def _torch_kirigami(model: nn.Module, inputs: Any) -> Callable[[], Pruned]:
    """A removal by hand, as in its "Getting started": every second output of every layer but the model's outputs.

    Its automatic selection looks at every channel by itself: to discover the candidates takes 18 s for ResNet-18.
    Every second channel is what goes well with groups, heads, chunks and shuffles.
    """
    from torch_kirigami import DependencyGraph as Graph
    from torch_kirigami.pruning import Pruner

    model.eval()
    kwargs = dict(inputs) if isinstance(inputs, Mapping) else {}
    args = () if kwargs else inputs if isinstance(inputs, tuple) else (inputs,)
    outputs = _outputs(model, inputs)
    layers = [
        (name, 1 if getattr(m, "transposed", False) else 0)
        for name, m in model.named_modules()
        if isinstance(m, (nn.Linear, nn.modules.conv._ConvNd)) and m not in outputs
    ]

    def run() -> Pruned:
        graph = Graph.build(model, args=args, kwargs=kwargs)
        axes = [graph.parameter(f"{name}.weight").axis(dim) for name, dim in layers]
        remove = [axis.select(range(1, axis.tensor.shape[axis.dim], 2)) for axis in axes]
        pruner = Pruner(model, graph=graph)
        pruned, _ = pruner.apply(pruner.plan_remove(remove))
        return Pruned(pruned)

    return run


ENGINES: dict[str, Engine] = {
    "prunetune": prunetune(),
    "torch-pruning": Engine("torch-pruning", _torch_pruning),
    "torch-kirigami": Engine("torch-kirigami", _torch_kirigami),
}

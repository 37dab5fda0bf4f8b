"""Weights with which a cut pretrained network computes what the full one did, as well as least squares can."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunetune.engine.outputs import tensors_of
from prunetune.engine.plan import PruningPlan
from prunetune.engine.surgery import apply
from prunetune.engine.tracing.trace import ExampleInputs, call_arguments, to_device
from prunetune.errors import InputError

RIDGE: Final = 1e-2
"""How firmly a weight stays where it is, as a share of the mean square of its layer's inputs."""
FEWEST_ROWS: Final = 4096
ROWS_PER_INPUT: Final = 8
"""Positions of the activations that a layer is fitted to: so many for each of its inputs, and at least the fewest."""

Convolution: TypeAlias = nn.Conv1d | nn.Conv2d | nn.Conv3d
Layer: TypeAlias = Any
"""A linear layer, a convolution, or a module that is nothing but a product with its weight."""
Kept: TypeAlias = tuple[int, ...] | None
"""The outputs of a layer that stay; None for all."""
Call: TypeAlias = Callable[[nn.Module], None]
"""Runs a network on the example inputs."""
Seen: TypeAlias = Callable[[str, Layer, Tensor, Tensor], None]
"""Of a layer's name, itself, its input and its output."""


@dataclass(frozen=True)
class Recovered:
    """The weights of a cut network, and how much they explain of what the full network computes.

    That is the share of the variance, over the example inputs, of the outputs of its last layer whose outputs vary: the
    readout, or what is before one that begins with zeros. 1 is all of it; it may be negative.
    """

    tensors: Mapping[str, Tensor]
    """By name, those of parameters that were changed."""
    sliced: float
    """The share before."""
    recovered: float
    """The share afterwards."""


@torch.no_grad()
def recover(full: nn.Module, plan: PruningPlan, example_inputs: ExampleInputs) -> Recovered:
    """Weights for what ``plan`` leaves of a trained network, with which its layers' outputs are as in the full network.

    Layer by layer, in the order of the forward pass: the inputs that a layer has now, in the cut network, against the
    outputs that it had in the full one, of the channels that stay. The weights that come nearest, by ridge regression
    around the sliced ones, make up for what was cut. ThiNet (Luo et al. 2017, arXiv 1707.06342, eq. 7) and channel
    pruning by reconstruction (He et al. 2017, arXiv 1707.06168, eq. 1) do so behind each layer that is cut. Weights
    that no layer of its own calls (projections inside ``nn.MultiheadAttention``), that are computed from others or used
    in two places (a readout tied to an embedding), and those of transposed convolutions stay sliced. Both networks run
    in evaluation mode, once for each layer.

    Parameters
    ----------
    full
        The trained network; it is not changed.
    plan
        What is cut and bypassed.
    example_inputs
        Real inputs, some hundred or more: what the layers see of them is all that counts.

    Raises
    ------
    InputError
        The inputs are all the same number, as zeros: nothing can be learnt from them.
    """
    original, proxy = apply(PruningPlan({}, {}), full).eval(), apply(plan, full).eval()
    arguments, keywords = _arguments(original, example_inputs)
    if not any(bool((each != each.flatten()[:1]).any()) for each in tensors_of((arguments, keywords))):
        raise InputError(
            "the example inputs are all the same number, and tell nothing of what a pretrained network's layers see; "
            "give real inputs, some hundred of them, as example_inputs"
        )

    def call(network: nn.Module) -> None:
        network(*arguments, **keywords)

    order, alone = _order(proxy, call), _own_weights(proxy)
    kept = {name: _kept(plan, name, proxy.get_submodule(name)) for name in order}
    before = _explained(original, proxy, kept, call)
    changed = [name for name in order if name in alone and _refitted(original, proxy, name, kept[name], call)]
    tensors = {
        f"{name}.{key}": parameter.detach()
        for name in changed
        for key, parameter in proxy.get_submodule(name).named_parameters(recurse=False)
    }
    return Recovered(tensors, before, _explained(original, proxy, kept, call))


def _arguments(network: nn.Module, inputs: ExampleInputs) -> tuple[tuple[Any, ...], dict[str, Any]]:
    parameter = next(network.parameters(), None)
    return call_arguments(inputs if parameter is None else to_device(inputs, parameter.device))


def _explained(full: nn.Module, proxy: nn.Module, layers: Mapping[str, Kept], call: Call) -> float:
    """The share of the variance of the outputs of the last layer that has any; 0 where there is none."""
    for name in reversed([*layers]):
        asked = _outputs(full, name, layers[name], call)
        spread = (asked - asked.mean(0)).square().sum()
        given = _outputs(proxy, name, None, call)
        if spread > 0 and given.shape == asked.shape:
            return 1 - float((given - asked).square().sum() / spread)
    return 0.0


def _outputs(network: nn.Module, name: str, kept: Kept, call: Call) -> Tensor:
    """(rows, channels that stay) of a layer's outputs."""
    found: list[Tensor] = []
    with _watched(network, lambda _, layer, given, out: found.append(_channels(layer, out, kept)), only=name):
        call(network)
    return torch.cat(found).float()


def _kept(plan: PruningPlan, name: str, layer: Layer) -> Kept:
    cut = plan.tensors.get(f"{name}.weight")
    return None if cut is None else cut.keep.get(1 if _is_turned(layer) else 0)


def _own_weights(network: nn.Module) -> set[str]:
    """The names of the layers whose weight is a parameter, and of no other module."""
    users = Counter(id(each) for module in network.modules() for each in module.parameters(recurse=False))
    return {
        name
        for name, module in network.named_modules()
        if _may_be_layer(module) and users[id(module._parameters.get("weight"))] == 1
    }


def _order(network: nn.Module, call: Call) -> list[str]:
    """The names of the layers in the order in which they are called first."""
    order: dict[str, bool] = {}

    def seen(name: str, layer: Layer, given: Tensor, out: Tensor) -> None:
        order[name] = order.get(name, True) and (not _is_turned(layer) or _is_product(layer, given, out))

    with _watched(network, seen):
        call(network)
    return [name for name, is_layer in order.items() if is_layer]


def _may_be_layer(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear | Convolution) or _is_turned(module)


def _is_turned(module: nn.Module) -> bool:
    """Whether it is none of torch's layers and has a matrix, and beside it at most a bias, as GPT-2's layers do."""
    known = {name: each for name, each in module._parameters.items() if each is not None}
    torchs = isinstance(module, nn.Linear | Convolution | nn.Embedding | nn.EmbeddingBag) or module._modules
    return not torchs and "weight" in known and known.keys() <= {"weight", "bias"} and known["weight"].dim() == 2


def _is_product(layer: Layer, given: Tensor, out: Tensor) -> bool:
    """Whether what it does is to multiply by its weight, (inputs, outputs), and to add its bias."""
    bias = layer._parameters.get("bias")
    if not given.is_floating_point() or given.shape[-1] != layer.weight.shape[0]:
        return False
    made = given @ layer.weight + (0 if bias is None else bias)
    return made.shape == out.shape and torch.allclose(made, out, rtol=1e-3, atol=1e-4)


@contextmanager
def _watched(network: nn.Module, seen: Seen, only: str | None = None) -> Iterator[None]:
    def hook(name: str) -> Callable[[Any, tuple[Any, ...], Any], None]:
        def tell(layer: Any, given: tuple[Any, ...], out: Any) -> None:
            if given and isinstance(given[0], Tensor) and isinstance(out, Tensor):
                seen(name, layer, given[0], out)

        return tell

    handles = [
        module.register_forward_hook(hook(name))
        for name, module in network.named_modules()
        if _may_be_layer(module) and only in (None, name)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _refitted(full: nn.Module, proxy: nn.Module, name: str, kept: Kept, call: Call) -> bool:
    """Whether a layer of the proxy got new weights: where it sees as many places as in the full network."""
    layer: Layer = proxy.get_submodule(name)
    inputs: list[Tensor] = []
    with _watched(proxy, lambda _, layer, given, out: inputs.append(_rows(layer, given)), only=name):
        call(proxy)
    x, y = torch.cat(inputs), _outputs(full, name, kept, call)
    return len(x) == len(y) and _fit(layer, x, y)


def _fit(layer: Layer, x: Tensor, y: Tensor) -> bool:
    """Give ``layer`` the weights that make (rows, outputs) ``y`` of its patches (rows, inputs) ``x``, about."""
    groups = layer.groups if isinstance(layer, Convolution) else 1
    sees, makes = x.shape[1] // groups, y.shape[1] // groups
    most = max(FEWEST_ROWS, ROWS_PER_INPUT * sees)
    if len(x) > most:
        chosen = torch.linspace(0, len(x) - 1, most, device=x.device).long()
        x, y = x[chosen], y[chosen]
    x, y = x.float(), y.float()
    bias, turned = layer._parameters.get("bias"), _is_turned(layer)
    weights = (layer.weight.T if turned else layer.weight.flatten(1)).float()
    fitted = []
    for group in range(groups):
        rows = slice(group * makes, (group + 1) * makes)
        own, before = x[:, group * sees : (group + 1) * sees], weights[rows]
        if bias is not None:
            own = torch.cat([own, own.new_ones(len(own), 1)], 1)
            before = torch.cat([before, bias[rows, None].float()], 1)
        gram, left = (own.T @ own).cpu().double(), (own.T @ (y[:, rows] - own @ before.T)).cpu().double()
        size = float(gram.diagonal()[:sees].mean())
        if not size > 0:  # a layer that sees zeros; NaN, too
            return False
        gram.diagonal().add_(RIDGE * size)
        fitted.append(before + torch.linalg.solve(gram, left).T.to(before))
    found = torch.cat(fitted)
    if not bool(found.isfinite().all()):
        return False
    layer.weight.copy_(found[:, :sees].T if turned else found[:, :sees].reshape(layer.weight.shape))
    if bias is not None:
        bias.copy_(found[:, sees])
    return True


def _channels(layer: Layer, output: Tensor, kept: Kept) -> Tensor:
    """(rows, channels that stay) of a layer's output."""
    places = output.movedim(1, -1) if isinstance(layer, Convolution) else output
    rows = places.flatten(0, -2) if places.dim() > 1 else places[None]
    return rows if kept is None else rows[:, list(kept)]


def _rows(layer: Layer, inputs: Tensor) -> Tensor:
    """(rows, inputs of an output): for a convolution the patches that it sees."""
    if not isinstance(layer, Convolution):
        return inputs.flatten(0, -2) if inputs.dim() > 1 else inputs[None]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    patches = F.pad(inputs, layer._reversed_padding_repeated_twice, mode=mode)
    for place, (size, stride, apart) in enumerate(zip(layer.kernel_size, layer.stride, layer.dilation, strict=True), 2):
        patches = patches.unfold(place, apart * (size - 1) + 1, stride)[..., ::apart]
    spatial = len(layer.kernel_size)
    return patches.movedim(1, spatial + 1).flatten(0, spatial).flatten(1)

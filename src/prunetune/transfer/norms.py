"""Which weights stand before a norm: those whose scale nothing depends on, found by Euler's theorem."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunetune._utils.caller import random_state_kept
from prunetune.engine import ExampleInputs, call_arguments
from prunetune.engine.outputs import tensors_of
from prunetune.engine.tracing.copies import copy_with, set_mode
from prunetune.errors import warn_caller
from prunetune.transfer import transfers

EXAMPLES: Final = 8
"""More say nothing new: a batch norm needs a few."""
DRAWS: Final = 16
CHANCE: Final = 0.05
"""A weight stands before a norm where w dy/dw, summed over its entries, is so small: its square is below this share of
what entries with signs by chance would sum to. It would be 0 but for the epsilon of norms, and elsewhere is about 1."""


def norms_for(transfer: str, model: nn.Module, example_inputs: ExampleInputs) -> frozenset[str]:
    """``normed`` where the rule of that name asks for it by an attribute ``norms`` that is true; else nothing."""
    return normed(model, example_inputs) if getattr(transfers[transfer], "norms", False) else frozenset()


@random_state_kept()
def normed(model: nn.Module, example_inputs: ExampleInputs) -> frozenset[str]:
    """Names of the weights (two dimensions or more) whose scale does not change the outputs in training.

    What a weight's scale changes in the outputs y is the sum of w dy/dw over its entries (Euler). Of a random
    projection of y it is the product of w with one gradient, so that a few backward passes tell it of all weights at
    once, whatever norm it is and wherever it is written: batch norm, layer norm, weight standardisation, or four lines
    of somebody's own. Neither ``model`` nor the inputs are changed. Empty where the inputs have no values (meta
    tensors) or no output depends on a weight; empty, with a UserWarning, for a network that cannot be looked at so.
    """
    if any(each.is_meta for each in [*tensors_of(example_inputs), *model.parameters()]):
        return frozenset()
    for prepared in (_few(example_inputs), pytree.tree_map(_own, example_inputs)):
        torch.manual_seed(0)
        try:
            return _normed(model, prepared)
        except Exception as error:  # what a network makes of eight examples, or of noise, is its own
            failed = error
    warn_caller(
        f"which weights stand before a norm cannot be found ({type(failed).__name__}: {failed}), so that the transfer "
        "rule takes none of them for such"
    )
    return frozenset()


def _normed(model: nn.Module, inputs: ExampleInputs) -> frozenset[str]:
    args, kwargs = call_arguments(inputs)
    twin = set_mode(copy_with(model, {}), training=True)
    weights = {name: each for name, each in twin.named_parameters() if _is_matrix(each)}
    with torch.no_grad():
        for name, each in twin.named_parameters():
            if name in weights:
                if bool((each == each.flatten()[0]).all()):  # a readout or the end of a branch that begins with zeros
                    each.normal_(std=0.1)
                each.requires_grad_(True)
            elif each.is_floating_point() and "bias" not in name.rpartition(".")[2]:
                each.uniform_(0.5, 1.5)  # a gain of 0 or 1e-6, as many blocks have, hides what is behind it
    with torch.enable_grad():
        outputs = [y for y in tensors_of(twin(*args, **kwargs)) if y.requires_grad]
        if not outputs or not weights:
            return frozenset()
        sums, by_chance = dict.fromkeys(weights, 0.0), dict.fromkeys(weights, 0.0)
        for draw in range(DRAWS):
            projected = sum(((y * torch.randn_like(y)).real.sum() for y in outputs), torch.zeros(()))
            gradients = torch.autograd.grad(
                projected, list(weights.values()), retain_graph=draw < DRAWS - 1, allow_unused=True
            )
            for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
                if gradient is not None:
                    products = (weight.detach() * gradient).double()
                    sums[name] += float(products.sum()) ** 2
                    by_chance[name] += float(products.square().sum())
    return frozenset(name for name, square in sums.items() if square < CHANCE * by_chance[name])


def _few(example_inputs: ExampleInputs) -> Any:
    """The first examples, of all tensors that are as long as the first one; noise for those that are constant."""
    first = next(tensors_of(example_inputs), None)
    length = first.shape[0] if first is not None and first.ndim else 0

    def part(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.ndim:
            return value
        few = _own(value[:EXAMPLES] if value.shape[0] == length else value)
        constant = few.is_floating_point() and few.numel() > 1 and bool((few == few.flatten()[0]).all())
        return torch.randn_like(few) if constant else few

    return pytree.tree_map(part, example_inputs)


def _own(value: Any) -> Any:
    """A copy of a tensor, which the network may change."""
    return value.detach().clone() if isinstance(value, Tensor) else value


def _is_matrix(parameter: Tensor) -> bool:
    return parameter.is_floating_point() and sum(size > 1 for size in parameter.shape) > 1

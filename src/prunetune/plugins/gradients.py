"""Weight times gradient of the loss, which several methods begin with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunetune.engine import ExampleInputs, call_arguments
from prunetune.engine.labels import Axis
from prunetune.errors import InputError
from prunetune.plugins.base import Context


def run(model: nn.Module, inputs: ExampleInputs) -> Any:
    """The outputs of the model."""
    args, kwargs = call_arguments(inputs)
    return model(*args, **kwargs)


def weights_times_gradients(context: Context, weights: dict[Axis, Tensor]) -> dict[Axis, Tensor]:
    """w * dL/dw, L the mean loss over the batches of data, for every weight; shape of the weight."""
    for weight in weights.values():
        weight.requires_grad_(True)
    totals: list[Tensor] | None = None
    for inputs, targets in context.data:
        with torch.enable_grad():
            loss = loss_of(context, run(context.model, inputs), targets)
        gradients = gradients_of(loss, list(weights.values()))
        totals = gradients if totals is None else [a + b for a, b in zip(totals, gradients, strict=True)]
    assert totals is not None  # `score` has seen to it
    return {
        axis: (weight * total).detach() / len(context.data)
        for (axis, weight), total in zip(weights.items(), totals, strict=True)
    }


def loss_of(context: Context, outputs: Any, targets: Any) -> Tensor:
    """The loss, a number with a gradient. Raises InputError, with what the loss function said, if it is none."""
    try:
        loss = context.loss(first_output(outputs), targets)
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        name = getattr(context.loss, "__name__", type(context.loss).__name__)
        raise InputError(
            f"the loss {name} cannot be computed of this model's outputs and these targets ({error}); "
            "give loss=…, a function of outputs and targets"
        ) from error
    if not isinstance(loss, Tensor) or loss.ndim or not loss.requires_grad:
        raise InputError(
            "the loss must be a tensor without dimensions that depends on the weights; "
            f"got {type(loss).__name__}" + (f" of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else "")
        )
    return loss


def first_output(outputs: Any) -> Any:
    """What a loss is computed of: auxiliary outputs, which come after the first, have no part in it."""
    if isinstance(outputs, (tuple, list)) and outputs:
        return outputs[0]
    return getattr(outputs, "logits", outputs)


def gradients_of(total: Tensor, tensors: Sequence[Tensor], *, create_graph: bool = False) -> list[Tensor]:
    """d total / d tensor for each; zeros for those that `total` does not depend on."""
    gradients = torch.autograd.grad(total, list(tensors), allow_unused=True, create_graph=create_graph)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, gradients, strict=True)]


def sum_of_outputs(outputs: Any) -> Tensor:
    """R, the sum of all that the model returns. Raises InputError if no output depends on the weights."""
    leaves = [t for t in pytree.tree_leaves(outputs) if isinstance(t, Tensor) and t.requires_grad]
    if not leaves:
        raise InputError("synflow needs an output that depends on the weights; the model's outputs carry no gradient")
    return torch.stack([t.sum() for t in leaves]).sum()


def in_double(inputs: ExampleInputs) -> ExampleInputs:
    """The same inputs with all floating-point tensors in float64."""
    return pytree.tree_map(  # type: ignore[no-any-return]
        lambda leaf: leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, inputs
    )


def use_batch_statistics(model: nn.Module) -> None:
    """Batch norms normalise by the batch, as in training; all else stays in evaluation mode."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()

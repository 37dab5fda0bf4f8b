"""Weight times gradient of the loss, which several methods begin with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunetune.engine import ExampleInputs, call_arguments
from prunetune.engine.labels import Axis
from prunetune.engine.outputs import tensors_of
from prunetune.errors import InputError
from prunetune.plugins.base import Context, sum_except
from prunetune.plugins.parts import Reduction, gate


def run(model: nn.Module, inputs: ExampleInputs) -> Any:
    """The outputs of the model."""
    args, kwargs = call_arguments(inputs)
    return model(*args, **kwargs)


def weights_times_gradients(context: Context, weights: Mapping[Axis, Tensor]) -> dict[Axis, Tensor]:
    """w * dL/dw, L the mean loss over the batches of data, for every weight; shape of the weight."""
    tensors = list(weights.values())
    losses = (loss_of(context, run(context.model, inputs), targets) for inputs, targets in context.data)
    gradients = mean_gradients(losses, tensors)
    return {axis: (w * g).detach() for (axis, w), g in zip(weights.items(), gradients, strict=True)}


def mean_gradients(losses: Iterable[Tensor], tensors: Sequence[Tensor]) -> list[Tensor]:
    """The mean of the gradients of these losses, one for each tensor; `losses` makes them one after the other."""
    for tensor in tensors:
        tensor.requires_grad_(True)
    totals, count = [torch.zeros_like(t) for t in tensors], 0
    with torch.enable_grad():
        for loss in losses:  # not all at once: each has a graph of the whole network
            totals = [a + b for a, b in zip(totals, gradients_of(loss, tensors), strict=True)]
            count += 1
    return [total / count for total in totals]


def gate_derivatives(context: Context, reduce: Reduction) -> dict[Axis, Tensor]:
    """dL/dz of a gate z = 1 that multiplies a channel: the sum of w * dL/dw over its filter and its bias.

    With the reduction `gate` they have their signs, so that the members of a unit add up to the derivative by one gate
    on all of them; any other reduction gets magnitudes, as the sign of one channel's derivative says nothing.
    """
    weights = context.weights()
    biases = {axis: bias for axis in weights if (bias := _bias(context, axis)) is not None}
    parameters = dict(context.model.named_parameters())
    tensors = {**weights, **{(name, 0): parameters[name] for name in biases.values()}}
    products = weights_times_gradients(context, tensors)
    gates = {axis: sum_except(products[axis], axis[1]) for axis in weights}
    for axis, name in biases.items():
        gates[axis] = gates[axis] + products[name, 0]
    return gates if reduce is gate else {axis: g.abs() for axis, g in gates.items()}


def _bias(context: Context, axis: Axis) -> str | None:
    """The name of the bias of a weight, if there is one and its entries are the weight's channels."""
    path, dot, own = axis[0].rpartition(".")
    name = path + dot + own.replace("weight", "bias")
    units = context.graph.axes.get((name, 0))
    if name == axis[0] or units is None or not np.array_equal(units, context.graph.unit_of(axis)):
        return None
    return name


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
    if not total.requires_grad:
        return [torch.zeros_like(t) for t in tensors]
    gradients = torch.autograd.grad(total, list(tensors), allow_unused=True, create_graph=create_graph)
    return [torch.zeros_like(t) if g is None else g for t, g in zip(tensors, gradients, strict=True)]


def sum_of_outputs(outputs: Any) -> Tensor:
    """R, the sum of all that the model returns. Raises InputError if no output depends on the weights."""
    leaves = [t for t in tensors_of(outputs) if t.requires_grad]
    if not leaves:
        raise InputError("synflow needs an output that depends on the weights; the model's outputs carry no gradient")
    return torch.stack([t.sum() for t in leaves]).sum()


def in_double(inputs: ExampleInputs) -> ExampleInputs:
    """The same inputs with all floating-point tensors in float64."""
    return pytree.tree_map(  # type: ignore[no-any-return]
        lambda leaf: leaf.double() if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, inputs
    )


def ones_for_zeros(inputs: ExampleInputs) -> ExampleInputs:
    """The same inputs with ones for floating-point tensors that are all zeros."""

    def filled(leaf: Any) -> Any:
        blank = isinstance(leaf, Tensor) and leaf.is_floating_point() and not bool(leaf.any())
        return torch.ones_like(leaf) if blank else leaf

    return pytree.tree_map(filled, inputs)  # type: ignore[no-any-return]


def one_of_equals(model: nn.Module, inputs: ExampleInputs) -> tuple[ExampleInputs, int]:
    """The first of a batch of equal examples, and how many there are; all inputs and 1 where they are no such batch.

    Ones that stand for a shape are such a batch. What the model, in evaluation mode, makes of n of them is n times the
    same, and so the sum of all outputs and its gradients are n times those of the first. A model that mixes its
    examples, or whose first dimension is not the batch, shows that by making something else of two than of one.
    """
    leaves = [leaf for leaf in pytree.tree_leaves(inputs) if isinstance(leaf, Tensor)]
    lengths = {len(leaf) if leaf.ndim else 0 for leaf in leaves}
    if len(lengths) != 1 or min(lengths) < 2 or not all(bool((leaf == leaf[:1]).all()) for leaf in leaves):
        return inputs, 1
    one, two = (pytree.tree_map(lambda x, n=n: x[:n] if isinstance(x, Tensor) else x, inputs) for n in (1, 2))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            each, both = (list(tensors_of(run(model, few))) for few in (one, two))
            alike = len(each) == len(both) and all(map(_is_doubled, each, both))
    except (RuntimeError, ValueError, IndexError, TypeError):  # it wants so many examples
        return inputs, 1
    return (one, lengths.pop()) if alike else (inputs, 1)


def _is_doubled(each: Tensor, both: Tensor) -> bool:
    """Whether a result of two examples is that of one, twice."""
    shape = tuple(each.shape)
    return shape[:1] == (1,) and both.shape == (2, *shape[1:]) and torch.allclose(both, each.expand_as(both))


def use_batch_statistics(model: nn.Module) -> None:
    """Batch norms normalise by the batch, as in training; all else stays in evaluation mode."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()

"""What sees only the channels that were kept: means, normalisations, scales by a number of channels.

A cut network computes exactly what the full one computes without the channels that went, but for these: a mean over
eight channels of which four are left is the mean of four. They are named, so that nobody has to guess.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from torch.nn import functional

from prunetune.engine.labels import Labelled, LabelSpace, LinearForm, leaves_in, plain, sizes_in
from prunetune.engine.rules.context import Operation
from prunetune.engine.rules.elementwise import elementwise, unary
from prunetune.engine.rules.sizes import data
from prunetune.engine.rules.table import functions, rule_of


@dataclass(frozen=True)
class Reduction:
    """An operation that sees only what was kept."""

    node: str
    """The operation, and where in the model: `layer_norm in encoder.norm1`."""
    reason: str


@dataclass(frozen=True)
class Seen:
    """Sizes that an operation's values depend on."""

    node: str
    reason: str
    sizes: tuple[LinearForm, ...]


Dims = Callable[[Labelled, Operation], Sequence[int]]
"""The dimensions of its first argument that an operation goes over."""


def _gone(input: Labelled, op: Operation) -> Sequence[int]:
    """Those that are not in the result."""
    result = next((r for r in leaves_in((op.result,)) if isinstance(r, Labelled)), None)
    left = [] if result is None else [vec for vec in result.dims if vec is not None]
    return [d for d, vec in enumerate(input.dims) if not any(vec is other for other in left)]


def _given(input: Labelled, op: Operation) -> Sequence[int]:
    dim = op.kwargs.get("dim", op.args[1] if len(op.args) > 1 else None)
    return [] if dim is None else [plain(dim) % input.ndim]


def _trailing(input: Labelled, op: Operation) -> Sequence[int]:
    shape = op.kwargs.get("normalized_shape", op.args[1] if len(op.args) > 1 else ())
    return range(input.ndim - len(shape), input.ndim)


def _head_size(input: Labelled, op: Operation) -> Sequence[int]:
    return [] if op.kwargs.get("scale") is not None or len(op.args) > 6 else [input.ndim - 1]


_STATISTIC, _NORM, _SCALE = "a statistic of what is kept", "normalises what is kept", "scales by a number of channels"
_TABLE: tuple[tuple[Dims, str, tuple[str, ...]], ...] = (
    (_gone, _STATISTIC, ("mean", "nanmean", "std", "var", "std_mean", "var_mean", "median", "prod")),
    (_gone, _STATISTIC, ("max", "min", "amax", "amin", "aminmax", "logsumexp")),
    (lambda input, op: [0], _STATISTIC, ("dot", "vdot")),  # spectral norms compute their scale by them
    (_given, _NORM, ("softmax", "log_softmax", "softmin")),
    (_trailing, _NORM, ("layer_norm", "rms_norm")),
    (lambda input, op: [1], _NORM, ("group_norm",)),
    (_head_size, _SCALE, ("scaled_dot_product_attention",)),
)
_SEES = {function: (dims, reason) for dims, reason, names in _TABLE for name in names for function in functions(name)}


def seen(op: Operation, node: str, space: LabelSpace) -> Iterator[Seen]:
    """What the values of an operation's result depend on, beside the values of the tensors that it takes."""
    if op.target is functional.multi_head_attention_forward:
        yield Seen(node, _SCALE, tuple(sizes_in(op.args[3:4])))
    elif op.target in _SEES and op.args and isinstance(op.args[0], Labelled):
        (dims, reason), input = _SEES[op.target], op.args[0]
        sizes = (_size(space, input, d) for d in dims(input, op))
        yield Seen(node, reason, tuple(s for s in sizes if not s.fixed))
    elif rule_of(op.target) in (elementwise, unary, data):
        yield Seen(node, _SCALE, tuple(sizes_in((op.args, op.kwargs))))


def _size(space: LabelSpace, input: Labelled, dim: int) -> LinearForm:
    vec = input.dims[dim] if input.name is None else space.axes.get((input.name, dim))
    return LinearForm.count(vec, input.shape[dim])


__all__ = ["Reduction", "Seen", "seen"]

"""Operations that take dimensions away: sums, means, maxima, norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prunetune.engine.labels import Labelled, LinearForm, plain, plain_all, tensors_in
from prunetune.engine.rules.context import RuleContext
from prunetune.engine.rules.elementwise import elementwise
from prunetune.engine.rules.table import rule


@rule("sum", "mean", "prod", "amax", "amin", "nansum", "nanmean", "logsumexp", "std", "var", "std_mean", "var_mean")
@rule("all", "any", "count_nonzero", "max", "min", "median", "nanmedian", "aminmax")
def reduce(ctx: RuleContext, input: Labelled, *args: Any, **kwargs: Any) -> Any:
    """The given dimensions go (a mean over channels is one over the channels that were kept)."""
    if any(tensors_in((args, kwargs))):  # max(a, b)
        return elementwise(ctx, input, *args, **kwargs)
    shape = ctx.shape
    many = bool(shape) and isinstance(shape[0], tuple)
    kept = _kept_dims(input, args, kwargs, shape[0] if many else shape)
    vecs = ctx.vecs(input)
    dims = [vecs[d] if d is not None else None for d in kept]
    if not many:
        return ctx.result(dims)
    return tuple(ctx.result(dims, s) for s in shape)


def _kept_dims(input: Labelled, args: Any, kwargs: Any, shape: tuple[int, ...]) -> list[int | None]:
    """For every dimension of the result the input's dimension, or None where that was reduced to size 1."""
    given = kwargs.get("dim", kwargs.get("axis"))
    if given is None:
        given = next((a for a in args if isinstance(a, (tuple, list, LinearForm)) or type(a) is int), None)
    if given is None or given == ():
        return [None] * len(shape)
    reduced = {d % input.ndim for d in plain_all(given)}
    if len(shape) == input.ndim:
        return [None if d in reduced else d for d in range(input.ndim)]
    return [d for d in range(input.ndim) if d not in reduced]


@rule("norm", "vector_norm")
def norm(ctx: RuleContext, input: Labelled, ord: Any = 2, dim: Any = None, keepdim: bool = False, **kwargs: Any) -> Any:
    """As a sum; the order comes first."""
    return reduce(ctx, input, dim=dim)


@rule("argmax", "argmin")
def index_of(ctx: RuleContext, input: Labelled, dim: LinearForm | int | None = None, keepdim: bool = False) -> Labelled:
    """An index into a dimension: that dimension must stay as it is."""
    for d in range(input.ndim) if dim is None else [plain(dim)]:
        ctx.freeze(ctx.vec(input, d), "its indices are used")
    vecs = ctx.vecs(input)
    kept = _kept_dims(input, (), {"dim": dim}, ctx.shape)
    return ctx.result([vecs[d] if d is not None else None for d in kept])


@rule("unique", "unique_consecutive")
def distinct(ctx: RuleContext, input: Labelled, *args: Any, **kwargs: Any) -> Any:
    """How many there are hangs on the values; along one dimension, or over all of them."""
    dim = kwargs.get("dim", next((a for a in args if type(a) is not bool), None))
    if dim is None:
        ctx.freeze_all([input], "its values are counted")
        return ctx.fixed()
    return ordered(ctx, input, dim=dim)


@rule("topk", "sort", "argsort", "kthvalue", "cumsum", "cumprod", "mode")
def ordered(ctx: RuleContext, input: Labelled, *args: Any, **kwargs: Any) -> Any:
    """What has an order along a dimension keeps that dimension whole."""
    numbers: Sequence[int] = [plain(a) for a in args if isinstance(a, (int, LinearForm)) and not isinstance(a, bool)]
    first_is_dim = ctx.node.target.__name__ not in ("topk", "kthvalue")  # type: ignore[union-attr]
    default = numbers[0] if first_is_dim and numbers else numbers[1] if len(numbers) > 1 else -1
    dim = plain(kwargs.get("dim", default))
    ctx.freeze(ctx.vec(input, dim), "has an order along it")
    vecs = ctx.vecs(input)
    vecs[dim] = None
    shapes = ctx.shape if ctx.shape and isinstance(ctx.shape[0], tuple) else (ctx.shape,)
    if any(len(s) != input.ndim for s in shapes):
        vecs.pop(dim)
    results = tuple(ctx.result(vecs, s) if len(s) == len(vecs) else ctx.fixed(s) for s in shapes)
    return results if ctx.shape and isinstance(ctx.shape[0], tuple) else results[0]

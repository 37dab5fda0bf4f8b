"""Fourier transforms, and complex numbers as pairs of real ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prunetune.engine.labels import Labelled, plain, plain_all
from prunetune.engine.rules.common import Size
from prunetune.engine.rules.context import RuleContext
from prunetune.engine.rules.table import rule


@rule("fft", "ifft", "rfft", "irfft", "hfft", "ihfft")
def transform(
    ctx: RuleContext, input: Labelled, n: Size | None = None, dim: Size = -1, norm: str | None = None, **kwargs: Any
) -> Labelled:
    """Along one dimension, which stays; all others pass."""
    return _transformed(ctx, input, None if n is None else [n], plain_all(dim))


@rule("fft2", "ifft2", "rfft2", "irfft2", "hfft2", "ihfft2")
def transform_of_two(
    ctx: RuleContext,
    input: Labelled,
    s: Sequence[Size] | None = None,
    dim: Any = (-2, -1),
    norm: str | None = None,
    **kwargs: Any,
) -> Labelled:
    """Along two dimensions."""
    return _transformed(ctx, input, s, plain_all(dim))


@rule("fftn", "ifftn", "rfftn", "irfftn", "hfftn", "ihfftn")
def transform_of_many(
    ctx: RuleContext,
    input: Labelled,
    s: Sequence[Size] | None = None,
    dim: Any = None,
    norm: str | None = None,
    **kwargs: Any,
) -> Labelled:
    """Along the given dimensions, or the last ones that there are sizes for, or all."""
    number = input.ndim if s is None else len(s)
    return _transformed(ctx, input, s, range(-number, 0) if dim is None else plain_all(dim))


def _transformed(ctx: RuleContext, input: Labelled, sizes: Sequence[Size] | None, dims: Sequence[int]) -> Labelled:
    vecs = ctx.vecs(input)
    for d in dims:
        ctx.freeze(vecs[d], "a Fourier transform goes over it")
        vecs[d] = None
    for size in sizes or ():
        if plain(size) != -1:
            ctx.require(size, None, plain(size))
    return ctx.result(vecs)


@rule("fftshift", "ifftshift")
def shifted(ctx: RuleContext, input: Labelled, dim: Any = None) -> Labelled:
    """Halves change places, so that the middle must stay where it is."""
    return _transformed(ctx, input, None, range(input.ndim) if dim is None else plain_all(dim))


@rule("view_as_real")
def as_pairs(ctx: RuleContext, input: Labelled) -> Labelled:
    """One dimension more, of real and imaginary parts."""
    return ctx.result([*ctx.vecs(input), None])


@rule("view_as_complex")
def from_pairs(ctx: RuleContext, input: Labelled) -> Labelled:
    """One dimension less."""
    *vecs, parts = ctx.vecs(input)
    ctx.freeze(parts, "holds real and imaginary parts")
    return ctx.result(vecs)

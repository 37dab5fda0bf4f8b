"""Normalisations, and poolings and other operations over places that leave channels alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.modules.instancenorm import _InstanceNorm

from prunetune.engine.labels import Labelled, LinearForm, plain
from prunetune.engine.rules.context import RuleContext
from prunetune.engine.rules.table import rule


@rule("batch_norm", "instance_norm")
def batch_norm(
    ctx: RuleContext,
    input: Labelled,
    running_mean: Labelled | None = None,
    running_var: Labelled | None = None,
    weight: Labelled | None = None,
    bias: Labelled | None = None,
    *args: Any,
    **kwargs: Any,
) -> Labelled:
    """Channel i (dimension 1) has weight, bias, running mean and variance i."""
    if ctx.node.target in (torch.batch_norm, torch.instance_norm):  # these take weight and bias first
        running_mean, running_var, weight, bias = weight, bias, running_mean, running_var
    channels = ctx.vec(input, 1)
    for tensor in (running_mean, running_var, weight, bias):
        ctx.bind(tensor, 0, channels)
    module = ctx.module
    if isinstance(module, _InstanceNorm) and channels is not None and module.num_features == len(channels):
        ctx.require(ctx.attribute("num_features"), channels)  # which it compares with its input
    return ctx.result(ctx.vecs(input))


@rule("rms_norm")
def rms_norm(
    ctx: RuleContext,
    input: Labelled,
    normalized_shape: Sequence[LinearForm | int],
    weight: Labelled | None = None,
    eps: float | None = None,
) -> Labelled:
    """As a layer norm without a bias."""
    return layer_norm(ctx, input, normalized_shape, weight)


@rule("layer_norm")
def layer_norm(
    ctx: RuleContext,
    input: Labelled,
    normalized_shape: Sequence[LinearForm | int],
    weight: Labelled | None = None,
    bias: Labelled | None = None,
    *args: Any,
    **kwargs: Any,
) -> Labelled:
    """Over the last dimensions, which have a weight and a bias an element."""
    first = input.ndim - len(normalized_shape)
    for i, size in enumerate(normalized_shape):
        vec = ctx.vec(input, first + i)
        ctx.require(size, vec, input.shape[first + i])
        ctx.bind(weight, i, vec)
        ctx.bind(bias, i, vec)
    return ctx.result(ctx.vecs(input))


@rule("_weight_norm")
def weight_norm(ctx: RuleContext, direction: Labelled, length: Labelled, dim: LinearForm | int = 0) -> Labelled:
    """A length for each index of `dim`; the norm is taken over the other indices, those that stay."""
    if length.ndim:
        along = plain(dim)
        ctx.tie(ctx.vec(length, along), ctx.vec(direction, along))
    return ctx.result(ctx.vecs(direction))


@rule("group_norm")
def group_norm(
    ctx: RuleContext,
    input: Labelled,
    num_groups: LinearForm | int,
    weight: Labelled | None = None,
    bias: Labelled | None = None,
    *args: Any,
    **kwargs: Any,
) -> Labelled:
    """Channels (dimension 1) in equal groups: the same position goes from every group."""
    channels = ctx.vec(input, 1)
    groups = plain(num_groups)
    if channels is not None and groups == len(channels):
        ctx.require(num_groups, channels)
    else:
        ctx.require(num_groups, None, groups)
        ctx.across(channels, groups)
    ctx.bind(weight, 0, channels)
    ctx.bind(bias, 0, channels)
    return ctx.result(ctx.vecs(input))


@rule("local_response_norm")
def windowed(ctx: RuleContext, input: Labelled, *args: Any, **kwargs: Any) -> Labelled:
    """A window over channels: their neighbourhood must stay."""
    ctx.freeze(ctx.vec(input, 1), "a window slides over the channels")
    return ctx.result(ctx.vecs(input))


def _over_places(ctx: RuleContext, input: Labelled, places: int) -> Any:
    """Labels of the channels and before; the last `places` dimensions are slid over."""
    for dim in range(input.ndim - places, input.ndim):
        ctx.freeze(ctx.vec(input, dim), "a window slides over it")
    lead = ctx.vecs(input)[: input.ndim - places]
    shape = ctx.shape
    if isinstance(shape[0], tuple):  # values and indices
        return tuple(ctx.result([*lead, *[None] * places], s) for s in shape)
    return ctx.result([*lead, *[None] * places])


for _n in (1, 2, 3):
    for _name in (
        f"max_pool{_n}d",
        f"avg_pool{_n}d",
        f"adaptive_max_pool{_n}d",
        f"adaptive_avg_pool{_n}d",
        f"lp_pool{_n}d",
        f"max_pool{_n}d_with_indices",
    ):
        rule(_name)(lambda ctx, input, *args, _n=_n, **kwargs: _over_places(ctx, input, _n))


@rule("interpolate", "upsample", "upsample_nearest", "upsample_bilinear")
def interpolate(ctx: RuleContext, input: Labelled, *args: Any, **kwargs: Any) -> Any:
    """Places are resized, channels (dimension 1) stay."""
    return _over_places(ctx, input, input.ndim - 2)


@rule("grid_sample")
def grid_sample(ctx: RuleContext, input: Labelled, grid: Labelled, *args: Any, **kwargs: Any) -> Any:
    """Places are looked up, channels (dimension 1) stay."""
    ctx.freeze_all([grid], "addresses places")
    return _over_places(ctx, input, input.ndim - 2)

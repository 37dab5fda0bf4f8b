"""torchvision's own operators: regions of a feature map, deformable convolutions, and the choice of boxes."""

from __future__ import annotations

from typing import Any

from prunetune.engine.labels import Labelled
from prunetune.engine.rules.context import RuleContext
from prunetune.engine.rules.contractions import channels_of
from prunetune.engine.rules.table import rule


@rule("torchvision::roi_align", "torchvision::roi_pool")
def regions(ctx: RuleContext, input: Labelled, rois: Labelled, *args: Any, **kwargs: Any) -> Any:
    """Parts of input (N, C, H, W), each pooled to one size: (R, C, h, w); the channels are kept apart."""
    ctx.freeze_all([rois], "gives coordinates")
    if isinstance(ctx.shape[0], tuple):  # roi_pool also returns where each maximum was
        return tuple(ctx.result([None, ctx.vec(input, 1), None, None], s) for s in ctx.shape)
    return ctx.result([None, ctx.vec(input, 1), None, None])


@rule("torchvision::deform_conv2d")
def deformable_convolution(
    ctx: RuleContext, input: Labelled, weight: Labelled, offset: Labelled, mask: Labelled, bias: Labelled, *args: Any
) -> Labelled:
    """As a convolution; the offsets and the mask belong to places of the kernel, so they stay.

    `args`: stride (2), padding (2), dilation (2), groups, groups of offsets, whether the mask is used.
    """
    ctx.freeze_all([offset, mask], "gives coordinates")
    groups, offset_groups = args[6], args[7]
    ctx.require(offset_groups, None, int(offset_groups))
    x = ctx.across(ctx.vec(input, 1), int(offset_groups))
    full = None if x is None else ctx.vec(input, 1)
    out = channels_of(ctx, full, input.shape[1], weight, groups, transposed=False)
    ctx.bind(bias, 0, out)
    return ctx.result([None, out, None, None])


@rule("torchvision::nms")
def chosen_boxes(ctx: RuleContext, boxes: Labelled, scores: Labelled, *args: Any) -> Any:
    """Indices of boxes: what they are computed from stays."""
    ctx.freeze_all([boxes, scores], "its indices are used")
    return ctx.fixed()

"""Operations that work on each element: one tensor in, the same labels out; several tensors joined by broadcasting."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from prunetune.engine.labels import Labelled, Vec, tensors_in
from prunetune.engine.rules.common import is_weight, moved
from prunetune.engine.rules.context import RuleContext
from prunetune.engine.rules.table import rule


def join(ctx: RuleContext, tensors: list[Labelled]) -> Labelled:
    """Broadcast the tensors together: what meets in one place is cut alike."""
    shape = tuple(np.broadcast_shapes(*(t.shape for t in tensors)))
    dims: list[Vec | None] = []
    for dim in range(-len(shape), 0):
        members = [t for t in tensors if t.ndim >= -dim and t.shape[dim] == shape[dim]]
        dims.append(join_dim(ctx, members, dim) if shape[dim] > 1 else None)
    return Labelled(shape, tuple(dims))


def join_dim(ctx: RuleContext, tensors: list[Labelled], dim: int) -> Vec | None:
    """Labels of one dimension that all these tensors share. Labels known already are handed to unused parameters."""
    known = [t for t in tensors if t.name is None or (t.name, dim % t.ndim) in ctx.space.axes]
    if not known:
        known = tensors[:1]
    vec = ctx.vec(known[0], dim)
    for tensor in known[1:]:
        other = ctx.vec(tensor, dim)
        vec = other if vec is None and other is None else ctx.tie(vec, other)
    of_weights = all(map(is_weight, tensors))
    for tensor in tensors:
        if all(tensor is not k for k in known):
            ctx.bind(tensor, dim, vec)
            if of_weights and tensor.name is not None:  # a factor of a weight is as good as the other
                ctx.space.own[tensor.name, dim % tensor.ndim] = None
    return vec


@rule("add", "sub", "subtract", "mul", "multiply", "div", "divide", "true_divide", "floor_divide", "remainder", "fmod")
@rule("pow", "float_power", "atan2", "hypot", "copysign", "ldexp", "logaddexp", "xlogy", "lerp", "addcmul", "addcdiv")
@rule("maximum", "minimum", "fmax", "fmin", "clamp", "clip", "clamp_min", "clamp_max", "masked_fill")
@rule("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or")
@rule(
    "rsub",
    "heaviside",
    "isclose",
    "bitwise_xor",
    "copy_",
    "complex",
    "polar",
    torch.Tensor.__rsub__,
    torch.Tensor.__rpow__,
)
@rule(torch.Tensor.__rdiv__, torch.Tensor.__rfloordiv__, torch.Tensor.__pow__, torch.Tensor.__ipow__)
@rule(torch.Tensor.__rmul__, torch.Tensor.__radd__, torch.Tensor.__and__, torch.Tensor.__or__, torch.Tensor.__xor__)
@rule(torch.Tensor.__iand__, torch.Tensor.__ior__)
def elementwise(ctx: RuleContext, *args: Any, **kwargs: Any) -> Labelled:
    """Any number of tensors, joined."""
    return join(ctx, list(tensors_in((*args, kwargs))))


@rule("where")
def where(ctx: RuleContext, condition: Labelled, *args: Any, **kwargs: Any) -> Any:
    """Elements of one tensor or the other; or, from a condition alone, the places where it is true."""
    if args or kwargs:
        return elementwise(ctx, condition, *args, **kwargs)
    ctx.freeze_all([condition], "its indices are used")
    return ctx.fixed()


@rule("relu", "relu6", "leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "hardtanh", "hardswish")
@rule("hardsigmoid", "sigmoid", "logsigmoid", "tanh", "softplus", "softsign", "tanhshrink", "softshrink", "hardshrink")
@rule("threshold", "rrelu", "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sqrt", "rsqrt", "square")
@rule("reciprocal", "abs", "absolute", "neg", "negative", "sign", "sgn", "sin", "cos", "tan", "asin", "acos", "atan")
@rule("sinh", "cosh", "asinh", "acosh", "atanh", "erf", "erfc", "erfinv", "floor", "ceil", "round", "trunc", "frac")
@rule(
    "isnan", "isinf", "isfinite", "logical_not", "bitwise_not", "nan_to_num", "logit", "positive", "digamma", "lgamma"
)
@rule("dropout", "alpha_dropout", "feature_dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout")
@rule("softmax", "log_softmax", "softmin", "clone", "detach", "contiguous", "requires_grad_", "float", "double", "half")
@rule("bfloat16", "to", "type", "type_as", "cpu", "cuda", "int", "long", "bool", "alias_copy", "bernoulli", "fill_")
@rule("zero_", "normal_", "uniform_", "zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like")
@rule("normalize", "sinc", "conj", "resolve_conj", "resolve_neg", "conj_physical", "real", "imag", "angle")
@rule(*(getattr(torch.Tensor, name).__get__ for name in ("data", "real", "imag")))
@rule(functional.gumbel_softmax, torch.Tensor.__invert__)
def unary(ctx: RuleContext, input: Labelled, *args: Any, **kwargs: Any) -> Labelled:
    """The labels of the first tensor, unchanged (a softmax or a norm sees only what was kept)."""
    return moved(ctx, input, ctx.vecs(input))


@rule("prelu")
def prelu(ctx: RuleContext, input: Labelled, weight: Labelled) -> Labelled:
    """One slope a channel (dimension 1), or a single slope."""
    if weight.shape[0] > 1:
        ctx.bind(weight, 0, ctx.vec(input, min(1, input.ndim - 1)))
    return unary(ctx, input)


@rule("glu")
def glu(ctx: RuleContext, input: Labelled, dim: int = -1) -> Labelled:
    """The first half gated by the second."""
    dims = ctx.vecs(input)
    dims[dim] = ctx.across(dims[dim], 2)
    return ctx.result(dims)


@rule(operator.getitem)
def item(ctx: RuleContext, values: Any, index: int) -> Any:
    """One of several results."""
    return values[index]

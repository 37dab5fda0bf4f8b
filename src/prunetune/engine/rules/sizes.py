"""Sizes in the model's code: `x.shape[1] // 2`, `self.groups`."""

from __future__ import annotations

import operator
from fractions import Fraction
from typing import Any

import torch
from torch import nn

from prunetune.engine.labels import Labelled, LinearForm, Relation, plain, tensors_in
from prunetune.engine.rules.common import moved
from prunetune.engine.rules.context import RuleContext
from prunetune.engine.rules.table import rule
from prunetune.engine.tracing.placeholders import alias, asked, attribute, constant, decided, hidden, left, pinned

Size = LinearForm | int


@rule(torch.Tensor.size)
def size(ctx: RuleContext, input: Labelled, dim: int) -> LinearForm:
    return LinearForm.count(ctx.vec(input, dim), input.shape[dim])


@rule(attribute)
def attribute_size(ctx: RuleContext, target: str, index: int | None) -> LinearForm:
    name, value = target if index is None else f"{target}[{index}]", ctx.node.meta["size"]
    described = _described(ctx, target) if index is None else None
    if described is not None and described.value == value:
        return described
    ctx.space.attribute_values[name] = value
    return LinearForm(value, Fraction(0), (), ((name, Fraction(1)),))


DESCRIBED: dict[type[nn.Module], dict[str, int]] = {
    nn.Linear: {"out_features": 0, "in_features": 1},
    nn.Embedding: {"num_embeddings": 0, "embedding_dim": 1},
    nn.modules.conv._ConvNd: {"out_channels": 0, "in_channels": 1},
    nn.modules.batchnorm._NormBase: {"num_features": 0},
    nn.GroupNorm: {"num_channels": 0},
    nn.PReLU: {"num_parameters": 0},
}
"""Attributes in which layers say what their weight's dimensions are, as surgery keeps them."""


def _described(ctx: RuleContext, target: str) -> LinearForm | None:
    """The size of the weight's dimension that an attribute repeats, if it is one of these."""
    path, _, name = target.rpartition(".")
    module = ctx.model.get_submodule(path)
    dim = next((dims[name] for kind, dims in DESCRIBED.items() if isinstance(module, kind) and name in dims), None)
    weight = None if dim is None else ctx.names.get(id(module.weight))
    if dim is None or weight is None:
        return None
    dim = 1 - dim if getattr(module, "transposed", False) else dim
    tensor = Labelled(ctx.shapes[weight], (None,) * len(ctx.shapes[weight]), name=weight)
    return LinearForm.count(ctx.vec(tensor, dim), tensor.shape[dim])


@rule(operator.add)
def add(ctx: RuleContext, left: Size, right: Size) -> LinearForm:
    return ctx.space.settled(left).plus(ctx.space.settled(right), 1)


@rule(operator.sub)
def sub(ctx: RuleContext, left: Size, right: Size) -> LinearForm:
    return ctx.space.settled(left).plus(ctx.space.settled(right), -1)


@rule(operator.mul)
def mul(ctx: RuleContext, left: Size, right: Size) -> LinearForm:
    left, right = ctx.space.settled(left), ctx.space.settled(right)
    if _varies(right) > _varies(left):
        left, right = right, left
    return left.scaled(Fraction(_pinned(ctx, right)), plain(left) * plain(right))


@rule(operator.floordiv)
def floordiv(ctx: RuleContext, left: Size, right: Size) -> LinearForm:
    left, right = ctx.space.settled(left), ctx.space.settled(right)
    value, rest = divmod(plain(left), plain(right))
    if not rest and ctx.node in ctx.otherwise:  # width // heads, where it is the number of heads that is cut
        ctx.space.require(left, right.scaled(Fraction(value), plain(left)), ctx.where)
        return LinearForm.of(value)
    share = left.plus(LinearForm.of(rest), -1).scaled(Fraction(1, _pinned(ctx, right)), value)
    ctx.space.require(share, 0, ctx.where, relation=Relation.WHOLE, reason="a size is divided and the rest is dropped")
    return share


def _varies(form: LinearForm) -> int:
    """How much a size varies: computed from what can be cut, from an attribute, or not at all."""
    return 2 if form.terms else 1 if form.attributes else 0


def _pinned(ctx: RuleContext, form: LinearForm) -> int:
    """A size that is multiplied by another or divides it: it must stay what it is."""
    ctx.space.require(form, form.value, ctx.where)
    if not form.terms and len(form.attributes) == 1:
        ctx.space.attributes.setdefault(
            form.attributes[0][0], LinearForm.of(ctx.space.attribute_values[form.attributes[0][0]])
        )
    return form.value


@rule(pinned)
def pinned_size(ctx: RuleContext, size: Size, how: str) -> None:
    ctx.space.require(size, plain(size), ctx.where, reason=how, checked=True)


@rule(asked)
def asked_size(ctx: RuleContext, left: Size, sign: str, right: Size) -> None:
    """What the code has seen of its sizes when it chose its way: it must see that after the cut."""
    relation = {"==": Relation.SAME, "<": Relation.POSITIVE, "<=": Relation.NOT_NEGATIVE}[sign]
    reason = "the code asks for this size" if sign == "==" else "the code decides by this size"
    ctx.space.require(right, left, ctx.where, relation=relation, reason=reason, checked=True)


@rule("tensor", "as_tensor", "asarray", "scalar_tensor", "new_tensor")
def data(ctx: RuleContext, *args: Any, **kwargs: Any) -> Any:
    """Numbers as a tensor."""
    ctx.freeze_all(list(tensors_in((*args, kwargs))), "becomes data")
    return ctx.fixed()


@rule(constant)
def constant_tensor(ctx: RuleContext) -> Any:
    return ctx.fixed()


@rule(hidden)
def hidden_tensor(ctx: RuleContext) -> Any:
    """Nobody saw where this came from: whatever came before may be behind it, so all of it stays."""
    for name, dim in list(ctx.space.axes):
        ctx.freeze(ctx.space.axes[name, dim], "an operation hidden from tracing may depend on it")
    return ctx.fixed()


@rule(alias)
def same_elements(ctx: RuleContext, tensor: Labelled) -> Labelled:
    return moved(ctx, tensor, ctx.vecs(tensor))


@rule(left)
def numbers_that_left(ctx: RuleContext, *tensors: Labelled) -> None:
    """Whatever becomes of them outside of torch relies on their number."""
    ctx.freeze_all(tensors, "its numbers leave torch")


@rule(decided)
def decision(ctx: RuleContext) -> None:
    """Other values may let the module make its unsaved buffers anew, as dynamic rotary embeddings do: they stay."""
    for name in ctx.module._non_persistent_buffers_set:
        buffer = ctx.parameter(name)
        if buffer is not None:
            ctx.freeze_all([buffer], "its module decides by values, and may make it anew")

"""What several families of rules share."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, TypeAlias

from prunetune.engine.labels import Labelled, LinearForm, Vec, plain
from prunetune.engine.rules.context import RuleContext

Size: TypeAlias = LinearForm | int


def sizes_of(args: tuple[Any, ...]) -> list[Size]:
    """Sizes given one by one or as one sequence."""
    if len(args) == 1 and isinstance(args[0], (tuple, list)):
        return list(args[0])
    return list(args)


def is_weight(tensor: Labelled) -> bool:
    """Whether it is a parameter, or computed without the model's inputs."""
    return tensor.name is not None or tensor.from_weights


def moved(ctx: RuleContext, input: Labelled, dims: Sequence[Vec | None]) -> Labelled:
    """The input with its labels in other places; other tensors of the call say where, but are not in the result."""
    result = ctx.result(dims)
    return Labelled(result.shape, result.dims, from_weights=is_weight(input))


def moves(size: Size) -> bool:
    """Whether a size is computed from something that can be cut."""
    return isinstance(size, LinearForm) and bool(size.terms)


def negative(size: Size) -> LinearForm:
    """The size with the other sign."""
    return LinearForm.of(size).scaled(Fraction(-1), -plain(size))

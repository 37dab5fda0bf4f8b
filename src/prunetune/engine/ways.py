"""Does a cut network go the way through its code that was predicted?

What was predicted of each call of a torch function: its name, the weights among its arguments, its numbers, and the
shapes of what it returns. A network that chooses a layer, an index or a length by a size in a way that nobody saw
(`layers[c // 8]`, `int(0.5 * c)`) does something else once it is cut, and that shows here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from prunetune.engine.labels import LabelSpace, LinearForm, Vec, leaves_in, tensors_in
from prunetune.engine.lines import running_line
from prunetune.engine.rules.context import Operation


class OtherWayError(BaseException):
    """The cut network does something else.

    Raised in the middle of the model's code, whose `except Exception` must not stop it.
    """


@dataclass(frozen=True)
class Call:
    """A torch function that was called; before it is known what stays, numbers and shapes are forms and labels."""

    name: str
    weights: tuple[str, ...] = ()
    numbers: tuple[Any, ...] = ()
    shapes: tuple[tuple[Any, ...], ...] | None = None
    """None inside of a module that has a rule of its own, of which the name is all that is known."""


@dataclass(frozen=True)
class ComputedFraction:
    """A fraction in the code that is another once the network is cut, because it is computed from a size."""

    name: str
    """The function that it was handed to."""
    line: str
    before: float
    after: float

    def __str__(self) -> str:
        return f"by {self.before:.6g} in the full network and {self.after:.6g} here, computed from a size"


def predicted(name: str, operation: Operation | None) -> Call:
    """What the rules say of a call."""
    if operation is None:
        return Call(name)
    arguments = (operation.args, operation.kwargs)
    weights = tuple(t.name for t in tensors_in(arguments) if t.name is not None)
    results = [r for r in tensors_in((operation.result,)) if r.name is None]
    shapes = (tuple(n if v is None else v for v, n in zip(r.dims, r.shape, strict=True)) for r in results)
    return Call(name, weights, tuple(_numbers(arguments)), tuple(shapes))


def observed(func: Callable[..., Any], args: Any, kwargs: Any, out: Any, names: Mapping[int, str]) -> Call:
    """A call as it was made; `names` are those of the weights by their ids."""
    weights = tuple(names[id(t)] for t in leaves_in((args, kwargs)) if id(t) in names)
    shapes = tuple(tuple(t.shape) for t in leaves_in((out,)) if isinstance(t, Tensor))
    return Call(func.__name__, weights, tuple(_numbers((args, kwargs))), shapes)


def _numbers(arguments: Any) -> Iterator[Any]:
    for value in leaves_in(arguments):
        if isinstance(value, (LinearForm, int, float)) and not isinstance(value, bool):
            yield value


class SizesAfter:
    """Sizes when the units stay for which `keep` is true; `units` are those of all labels."""

    def __init__(self, space: LabelSpace, units: Vec, keep: NDArray[np.bool_]) -> None:
        self.space, self.units = space, units
        self.stays = keep.copy()
        self.stays[0] = True
        self.counts: dict[int, int] = {}

    def __call__(self, size: Any) -> Any:
        """The number that labels or a form come to; any other value is what it is."""
        if isinstance(size, np.ndarray):
            if id(size) not in self.counts:
                self.counts[id(size)] = int(self.stays[self.units[size]].sum())
            return self.counts[id(size)]
        if not isinstance(size, LinearForm):
            return size
        total = size.constant + sum((c * self(vec) for vec, c in size.terms), Fraction(0))
        for name, coefficient in size.attributes:
            total += coefficient * self(self.space.attributes.get(name, self.space.attribute_values[name]))
        return total

    def of(self, call: Call) -> Call:
        """A call with numbers in the place of forms and labels."""
        if call.shapes is None:
            return call
        shapes = tuple(tuple(map(self, shape)) for shape in call.shapes)
        return replace(call, numbers=tuple(map(self, call.numbers)), shapes=shapes)


class CallChecker:
    """Goes along the predicted calls while the cut network makes its own.

    With `by_values`, the network looks at values, which are noise: numbers and shapes may be others by chance, and only
    functions and weights are compared.
    """

    def __init__(self, calls: Sequence[Call], *, by_values: bool = False) -> None:
        self.calls, self.by_values = calls, by_values
        self.done = 0
        self.fractions: list[ComputedFraction] = []

    def compare(self, call: Call) -> None:
        """Note the fractions in which a call differs from the next one predicted. Raises OtherWayError for all else."""
        expected = self.calls[self.done] if self.done < len(self.calls) else Call("nothing")
        self.done += 1
        self._same("was", expected.name, call.name)
        if expected.shapes is None or call.shapes is None:
            return
        place = f"{call.name}, "
        if not set(expected.weights) <= set(call.weights):  # a buffer that was written to has lost its name
            self._same(f"{place}was given", expected.weights, call.weights)
        if self.by_values:
            return
        self._same(f"{place}was given so many numbers:", len(expected.numbers), len(call.numbers))
        for one, other in zip(expected.numbers, call.numbers, strict=True):
            if isinstance(one, float) and isinstance(other, float):
                if one != other and not (one != one and other != other):
                    self.fractions.append(ComputedFraction(call.name, running_line(), one, other))
            else:
                self._same(f"{place}was given", one, other)
        if len(expected.shapes) == len(call.shapes):
            self._same(f"{place}was to give", expected.shapes, call.shapes)

    def end(self) -> None:
        """Nothing follows. Raises OtherWayError if something was to."""
        if self.done < len(self.calls):
            self.compare(Call("nothing"))

    def _same(self, what: str, before: Any, after: Any) -> None:
        if before != after:
            raise OtherWayError(f"operation {self.done} {what} {_text(before)}, and is now {_text(after)}")


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(_text, value)) if value else "nothing"
    return str(value)


__all__ = ["Call", "CallChecker", "ComputedFraction", "OtherWayError", "SizesAfter", "observed", "predicted"]

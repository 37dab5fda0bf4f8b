"""Labels: which index of which tensor belongs together.

Every index of every axis of a weight gets a number, its *label*; activations carry the labels of the weights that
made them. Label 0 is frozen. Operations *tie* labels; the connected components of all ties are what can be removed.

Sizes used in the model's code are linear in the number of channels that stay, so each is a `LinearForm` over labels;
where the code demands that two sizes agree, they must agree for every cut. That is an `Equation`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Vec: TypeAlias = NDArray[np.int64]
"""The labels of one dimension of a tensor, one an index; `None` in its place means a size that cannot change."""

Axis: TypeAlias = tuple[str, int]
"""A dimension of a parameter or buffer: its qualified name and the dimension."""


@dataclass(frozen=True)
class Labelled:
    """A tensor as the rules see it: its shape, and for each dimension its labels, or None where the size is fixed."""

    shape: tuple[int, ...]
    dims: tuple[Vec | None, ...]
    name: str | None = None
    """Qualified name, if this is a parameter or buffer itself; its labels are then in `LabelSpace.axes`."""
    from_weights: bool = False
    """Whether it was computed from parameters alone, as a weight under weight normalisation is."""

    @property
    def ndim(self) -> int:
        return len(self.shape)


@dataclass(frozen=True)
class LinearForm:
    """An integer of the model's code: `constant + sum(coefficient * number of vec that stays) + attributes`."""

    value: int
    constant: Fraction
    terms: tuple[tuple[Vec, Fraction], ...] = ()
    attributes: tuple[tuple[str, Fraction], ...] = ()

    @staticmethod
    def of(size: LinearForm | int) -> LinearForm:
        return size if isinstance(size, LinearForm) else LinearForm(int(size), Fraction(int(size)))

    @staticmethod
    def count(vec: Vec | None, size: int) -> LinearForm:
        """The size of a dimension."""
        return LinearForm(size, Fraction(size)) if vec is None else LinearForm(size, Fraction(0), ((vec, Fraction(1)),))

    @property
    def fixed(self) -> bool:
        return not self.terms and not self.attributes

    def scaled(self, factor: Fraction, value: int) -> LinearForm:
        return LinearForm(
            value,
            self.constant * factor,
            tuple((v, c * factor) for v, c in self.terms),
            tuple((a, c * factor) for a, c in self.attributes),
        )

    def plus(self, other: LinearForm, sign: int) -> LinearForm:
        flipped = other.scaled(Fraction(sign), other.value)
        return LinearForm(
            self.value + sign * other.value,
            self.constant + flipped.constant,
            self.terms + flipped.terms,
            self.attributes + flipped.attributes,
        )


@dataclass(frozen=True)
class Equation:
    """`left` and `right` must be equal whatever is cut; `where` is the operation that says so."""

    left: LinearForm
    right: LinearForm
    where: str


@dataclass(frozen=True)
class Freeze:
    """Labels that may not be removed, the operation that says so, and why."""

    vec: Vec
    where: str
    reason: str


@dataclass
class LabelSpace:
    """All labels and ties that were found so far."""

    axes: dict[Axis, Vec] = field(default_factory=dict)
    produced: list[Vec] = field(default_factory=list)
    """Labels that are output indices of some weight: only these are worth removing."""
    equations: list[Equation] = field(default_factory=list)
    freezes: list[Freeze] = field(default_factory=list)
    attributes: dict[str, LinearForm] = field(default_factory=dict)
    """What an attribute of a module must be set to (known after `solve`)."""
    attribute_values: dict[str, int] = field(default_factory=dict)
    """Present values of the attributes that were read."""
    _next: int = 1
    _left: list[Vec] = field(default_factory=list)
    _right: list[Vec] = field(default_factory=list)

    def fresh(self, size: int) -> Vec:
        """New labels for `size` indices."""
        vec = np.arange(self._next, self._next + size, dtype=np.int64)
        self._next += size
        return vec

    def tie(self, left: Vec, right: Vec) -> None:
        """Label i of `left` and label i of `right` belong together (arrays of one shape, or broadcast to it)."""
        if left is right:
            return
        left, right = np.broadcast_arrays(left, right)
        self._left.append(left.ravel())
        self._right.append(right.ravel())

    def freeze(self, vec: Vec | None, where: str, reason: str) -> None:
        """None of these labels may be removed."""
        if vec is not None and vec.any():
            self.freezes.append(Freeze(vec, where, reason))
            self._left.append(np.unique(vec))
            self._right.append(np.zeros(len(self._left[-1]), dtype=np.int64))

    def require(self, left: LinearForm | int, right: LinearForm | int, where: str) -> None:
        """The two sizes must stay equal."""
        left, right = LinearForm.of(left), LinearForm.of(right)
        if not (left.fixed and right.fixed):
            self.equations.append(Equation(left, right, where))

    def components(self) -> Vec:
        """For every label the number of its component; label 0, the frozen ones, is in component 0."""
        if not self._left:
            return np.arange(self._next, dtype=np.int64)
        left, right = np.concatenate(self._left), np.concatenate(self._right)
        graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(self._next, self._next))
        _, component = connected_components(graph, directed=False)
        renamed = component.astype(np.int64)
        return np.where(renamed == renamed[0], 0, np.where(renamed == 0, renamed[0], renamed))

    def solve(self) -> Vec:
        """Components once every equation holds: where one does not, labels are tied, or frozen if that can't help."""
        equations = [e for e in map(self._without_attributes, self.equations) if e is not None]
        tried: set[int] = set()
        while True:
            component = self.components()
            violated = [e for e in equations if not holds(e, component)]
            if not violated:
                return component
            for equation in violated:
                if id(equation) in tried or not self._tie_to_hold(equation, component):
                    for vec, _ in (*equation.left.terms, *equation.right.terms):
                        self.freeze(vec, equation.where, "a size is fixed in the model's code")
                tried.add(id(equation))

    def _without_attributes(self, equation: Equation) -> Equation | None:
        """The equation with attributes replaced by what they stand for; the first one that names one defines it."""
        difference = equation.left.plus(equation.right, -1)
        coefficients: dict[str, Fraction] = {}
        for name, coefficient in difference.attributes:
            coefficients[name] = coefficients.get(name, Fraction(0)) + coefficient
        unknown = [name for name, c in coefficients.items() if c and name not in self.attributes]
        if len(unknown) == 1:
            others = [(n, c) for n, c in coefficients.items() if n != unknown[0]]
            rest = self._substituted(LinearForm(0, difference.constant, difference.terms), others)
            answer = rest.scaled(-1 / coefficients[unknown[0]], self.attribute_values[unknown[0]])
            if all(c.denominator == 1 for _, c in answer.terms):
                self.attributes[unknown[0]] = answer
                return None
        for name in unknown:  # cannot be solved for: the attribute keeps its value
            self.attributes[name] = LinearForm.of(self.attribute_values[name])
        rest = self._substituted(LinearForm(0, difference.constant, difference.terms), list(coefficients.items()))
        return Equation(rest, LinearForm.of(0), equation.where)

    def _substituted(self, form: LinearForm, attributes: list[tuple[str, Fraction]]) -> LinearForm:
        for name, coefficient in attributes:
            form = form.plus(self.attributes[name].scaled(coefficient, 0), 1)
        return form

    def _tie_to_hold(self, equation: Equation, component: Vec) -> bool:
        """Where one size is a multiple of another, tie its position h * n + j with position j of the smaller one."""
        terms = [
            (vec, coefficient)
            for vec, coefficient in (*equation.left.terms, *equation.right.terms)
            if coefficient and component[vec].any()
        ]
        if len(terms) != 2:
            return False
        (small, _), (large, _) = sorted(terms, key=lambda term: len(term[0]))
        if len(large) % len(small):
            return False
        self.tie(large.reshape(-1, len(small)), small[None, :])
        return True


def holds(equation: Equation, component: Vec) -> bool:
    """Whether both sides change alike with every component (frozen ones are constants and do not count)."""
    terms = (*equation.left.terms, *((v, -c) for v, c in equation.right.terms))
    if not terms:
        return True
    denominator = np.lcm.reduce([c.denominator for _, c in terms])
    vecs = np.concatenate([component[v] for v, _ in terms])
    weights = np.concatenate([np.full(len(v), int(c * int(denominator)), dtype=np.int64) for v, c in terms])
    members, inverse = np.unique(vecs, return_inverse=True)
    total = np.zeros(len(members), dtype=np.int64)
    np.add.at(total, inverse, weights)
    return not total[members != 0].any()


def tensors_in(values: Iterable[Any]) -> Iterator[Labelled]:
    """All tensors in nested arguments, in order."""
    for value in values:
        if isinstance(value, Labelled):
            yield value
        elif isinstance(value, (tuple, list)):
            yield from tensors_in(value)
        elif isinstance(value, dict):
            yield from tensors_in(value.values())


def plain(value: LinearForm | int) -> int:
    """The number itself."""
    return value.value if isinstance(value, LinearForm) else int(value)


def plain_all(values: Sequence[LinearForm | int] | LinearForm | int) -> tuple[int, ...]:
    """The numbers themselves."""
    return tuple(plain(v) for v in (values if isinstance(values, (tuple, list)) else (values,)))

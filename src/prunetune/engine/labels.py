"""Labels: which index of which tensor belongs together.

Every index of every axis of a weight gets a number, its *label*; activations carry the labels of the weights that
made them. Label 0 is frozen. Operations *tie* labels; the connected components of all ties are what can be removed.

Sizes used in the model's code are linear in the number of channels that stay, so each is a `LinearForm` over labels;
where the code demands that two sizes agree, they must agree for every cut. That is an `Equation`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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


MANY = 4096
"""Ties of more labels than this are made free of repetitions: places of a feature map repeat the same few."""


@dataclass
class LabelSpace:
    """All labels and ties that were found so far."""

    axes: dict[Axis, Vec] = field(default_factory=dict)
    own: dict[Axis, None] = field(default_factory=dict)
    """Axes that labels were made for; all others were handed those of what they met first."""
    produced: list[Vec] = field(default_factory=list)
    """Labels that are output indices of some weight: only these are worth removing."""
    equations: list[Equation] = field(default_factory=list)
    freezes: list[Freeze] = field(default_factory=list)
    attributes: dict[str, LinearForm] = field(default_factory=dict)
    """What an attribute of a module must be set to (known after `solve`)."""
    attribute_values: dict[str, int] = field(default_factory=dict)
    """Present values of the attributes that were read."""
    where: Callable[[], str] = lambda: "?"
    """The operation that is being looked at."""
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
        if left.size > MANY:
            left, right = np.divmod(np.unique(left * self._next + right), self._next)
        self._left.append(left.ravel())
        self._right.append(right.ravel())
        fixed = (left == 0) != (right == 0)
        if fixed.any():
            self.freezes.append(Freeze((left + right)[fixed], self.where(), "meets something that is fixed"))

    def freeze(self, vec: Vec | None, where: str, reason: str) -> None:
        """None of these labels may be removed."""
        if vec is not None and vec.any():
            labels = self._distinct(vec) if vec.size > MANY else vec.ravel()
            self.freezes.append(Freeze(labels, where, reason))
            self._left.append(labels)
            self._right.append(np.zeros(labels.size, dtype=np.int64))

    def _distinct(self, vec: Vec) -> Vec:
        """The labels that occur; faster than sorting them."""
        occurs = np.zeros(self._next, dtype=bool)
        occurs[vec] = True
        return np.flatnonzero(occurs)

    def require(self, left: LinearForm | int, right: LinearForm | int, where: str) -> None:
        """The two sizes must stay equal."""
        left, right = LinearForm.of(left), LinearForm.of(right)
        if not (left.fixed and right.fixed):
            self.equations.append(Equation(left, right, where))

    def components(self) -> Vec:
        """For every label the number of its component; label 0, the frozen ones, is in component 0."""
        return self._connected(*self._ties())

    def components_but_for_freezes(self) -> Vec:
        """The components there would be if nothing were frozen: what each freeze reaches."""
        left, right = self._ties()
        free = (left != 0) & (right != 0)
        return self._connected(left[free], right[free])

    def _ties(self) -> tuple[Vec, Vec]:
        empty = np.zeros(0, dtype=np.int64)
        return np.concatenate([empty, *self._left]), np.concatenate([empty, *self._right])

    def _connected(self, left: Vec, right: Vec) -> Vec:
        graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(self._next, self._next))
        _, component = connected_components(graph, directed=False)
        renamed = component.astype(np.int64)
        return np.where(renamed == renamed[0], 0, np.where(renamed == 0, renamed[0], renamed))

    def solve(self) -> Vec:
        """Components once every equation holds: where one does not, components are tied, or frozen if that can't help.

        One pass is enough: an equation that holds for some components holds for unions of them too.
        """
        component = self.components()
        for equation in [e for e in map(self._without_attributes, self.equations) if e is not None]:
            excess, order = _excess(equation, component)
            if not excess:
                continue
            sets, left_over = _balanced(excess, order)
            self._hold(left_over, equation, component)
            renamed = np.arange(component.max() + 1)
            for members in sets:
                renamed[members] = members[0]
            renamed[left_over] = 0
            component = renamed[component]
        return component

    def _hold(self, components: list[int], equation: Equation, component: Vec) -> None:
        """Note what is frozen by an equation that no tie can make true."""
        for vec, _ in (*equation.left.terms, *equation.right.terms):
            held = vec[np.isin(component[vec], components)]
            if len(held):
                self.freezes.append(Freeze(held, equation.where, "a size is fixed in the model's code"))

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


def _excess(equation: Equation, component: Vec) -> tuple[dict[int, int], dict[int, int]]:
    """By how much more the left side changes than the right with each component, where it does; and their order.

    Frozen components are constants. Position h * n + j of a size that is a multiple of another of n comes beside that
    one's position j, as in a width made of heads.
    """
    terms = (*equation.left.terms, *((v, -c) for v, c in equation.right.terms))
    if not terms:
        return {}, {}
    denominator = int(np.lcm.reduce([c.denominator for _, c in terms]))
    period = min(len(v) for v, _ in terms)
    members = np.concatenate([component[v] for v, _ in terms])
    weights = np.concatenate([np.full(len(v), int(c * denominator), dtype=np.int64) for v, c in terms])
    places = np.concatenate([np.arange(len(v)) % period * len(members) + np.arange(len(v)) for v, _ in terms])
    found, first, inverse = np.unique(members, return_index=True, return_inverse=True)
    total = np.zeros(len(found), dtype=np.int64)
    np.add.at(total, inverse, weights)
    odd = (total != 0) & (found != 0)
    excess = dict(zip(found[odd].tolist(), total[odd].tolist(), strict=True))
    return excess, dict(zip(found[odd].tolist(), places[first[odd]].tolist(), strict=True))


def _balanced(excess: Mapping[int, int], order: Mapping[int, int]) -> tuple[list[list[int]], list[int]]:
    """Sets of components whose excesses sum to zero, each as small as can be, and the components left over.

    >>> _balanced({1: 1, 2: 1, 3: 1, 4: 1, 5: -2, 6: -2, 7: 1}, {i: i for i in range(8)})
    ([[1, 2, 5], [3, 4, 6]], [7])
    """
    sides = [
        deque(sorted((c for c in excess if sign * excess[c] > 0), key=lambda c: (abs(excess[c]), order[c])))
        for sign in (1, -1)
    ]
    sets: list[list[int]] = []
    while all(sides):
        members = [side.popleft() for side in sides]
        total = sum(excess[c] for c in members)
        while total:
            side = sides[0] if total < 0 else sides[1]
            if not side:
                return sets, [*members, *sides[0], *sides[1]]
            members.append(side.popleft())
            total += excess[members[-1]]
        sets.append(sorted(members))
    return sets, [*sides[0], *sides[1]]


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

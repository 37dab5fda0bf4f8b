"""Labels: which index of which tensor belongs together.

Every index of every axis of a weight gets a number, its *label*; activations carry the labels of the weights that
made them. Label 0 is frozen. Operations *tie* labels; the connected components of all ties are what can be removed.

Sizes used in the model's code are linear in the number of channels that stay, so each is a `LinearForm` over labels;
where the code demands that two sizes agree, they must agree for every cut. That is a `Demand`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from prunetune.engine.demands import RANKS, Demand, Relation
from prunetune.engine.linear import LinearForm, Vec

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
    """Whether it was computed without the model's inputs, as a weight under weight normalisation is."""

    @property
    def ndim(self) -> int:
        return len(self.shape)


@dataclass(frozen=True)
class Freeze:
    """Labels that may not be removed, the operation that says so, and why."""

    vec: Vec
    where: str
    reason: str


FIXED_SIZE = "a size is fixed in the model's code"

MANY = 4096
"""Ties of more labels than this are made free of repetitions: places of a feature map repeat the same few."""


@dataclass
class LabelSpace:
    """All labels and ties that were found so far."""

    axes: dict[Axis, Vec] = field(default_factory=dict)
    own: dict[Axis, None] = field(default_factory=dict)
    """Axes of weights that labels were made for; all others were handed those of what they met first."""
    produced: list[Vec] = field(default_factory=list)
    """Labels that are output indices of some weight: only these are worth removing."""
    demands: list[Demand] = field(default_factory=list)
    """What must be true of the sizes in the model's code."""
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

    def require(
        self,
        left: LinearForm | int,
        right: LinearForm | int,
        where: str,
        *,
        relation: Relation = Relation.SAME,
        reason: str = FIXED_SIZE,
        checked: bool = False,
    ) -> None:
        """The two sizes must stay equal, or their difference what else is demanded of it (see `Demand`)."""
        left, right = LinearForm.of(left), LinearForm.of(right)
        if not (left.fixed and right.fixed):
            self.demands.append(Demand(left.plus(right, -1), relation, where, reason, checked))

    def settled(self, size: LinearForm | int) -> LinearForm:
        """The size as a form, without the attributes that are known to stay as they are."""
        form = LinearForm.of(size)
        if not form.attributes or all(name not in self.attributes for name, _ in form.attributes):
            return form
        known = [(name, c) for name, c in form.attributes if name in self.attributes]
        unknown = tuple((name, c) for name, c in form.attributes if name not in self.attributes)
        return replace(self._substituted(form, known), value=form.value, attributes=unknown)

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
        """Components once every demand is met: where one is not, components are tied, or frozen if that can't help.

        One pass is enough: a demand that is met for some components is met for unions of them too.
        """
        component = self.components()
        for rank in RANKS:
            demands = [d for d in self.demands if d.rank == rank]
            self._define(demands)
            for demand in map(self._without_attributes, demands):
                sets, left_over = demand.met_by(component)
                if not (sets or left_over):
                    continue
                self._hold(left_over, demand, component)
                renamed = np.arange(component.max() + 1)
                for members in sets:
                    renamed[members] = members[0]
                renamed[left_over] = 0
                component = renamed[component]
        return component

    def _hold(self, components: list[int], demand: Demand, component: Vec) -> None:
        """Note what is frozen by a demand that no tie can meet."""
        for vec, _ in demand.size.terms:
            held = vec[np.isin(component[vec], components)]
            if len(held):
                self.freezes.append(Freeze(held, demand.where, demand.reason))

    def _define(self, demands: Sequence[Demand]) -> None:
        """Solve the equations for the attributes in them, those first that say a whole number of channels."""
        waiting = [d for d in demands if d.size.attributes and d.relation is Relation.SAME]
        whole = True
        while waiting:
            rest = [d for d in waiting if not self._defines(d, whole=whole)]
            if len(rest) == len(waiting) and not whole:
                return
            whole = len(rest) < len(waiting)
            waiting = rest

    def _defines(self, demand: Demand, *, whole: bool) -> bool:
        """Whether this equation says what an attribute is, or has no unknown one."""
        coefficients = demand.size.coefficients()
        unknown = [name for name in coefficients if name not in self.attributes]
        if len(unknown) > 1:
            return False
        if unknown:
            rest = self._substituted(demand.size, [(n, c) for n, c in coefficients.items() if n != unknown[0]])
            answer = rest.scaled(-1 / coefficients[unknown[0]], self.attribute_values[unknown[0]])
            if not all(c.denominator == 1 for _, c in answer.terms):
                if whole:
                    return False
                self.demands.append(Demand(answer, Relation.WHOLE, demand.where, demand.reason))
            self.attributes[unknown[0]] = answer
        return True

    def _without_attributes(self, demand: Demand) -> Demand:
        """The demand with attributes replaced by what they stand for; what nothing defines keeps its value."""
        if not demand.size.attributes:
            return demand
        coefficients = demand.size.coefficients()
        for name in coefficients:
            self.attributes.setdefault(name, LinearForm.of(self.attribute_values[name]))
        return replace(demand, size=self._substituted(demand.size, list(coefficients.items())))

    def _substituted(self, form: LinearForm, attributes: list[tuple[str, Fraction]]) -> LinearForm:
        """The form without its own attributes, and with what these stand for."""
        form = LinearForm(0, form.constant, form.terms)
        for name, coefficient in attributes:
            form = form.plus(self.attributes[name].scaled(coefficient, 0), 1)
        return form


def leaves_in(values: Iterable[Any]) -> Iterator[Any]:
    """All that is in nested arguments, in order."""
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from leaves_in(value)
        elif isinstance(value, dict):
            yield from leaves_in(value.values())
        elif isinstance(value, slice):
            yield from (value.start, value.stop, value.step)
        else:
            yield value


def tensors_in(values: Iterable[Any]) -> Iterator[Labelled]:
    """All tensors in nested arguments, in order."""
    return (value for value in leaves_in(values) if isinstance(value, Labelled))


def sizes_in(values: Iterable[Any]) -> Iterator[LinearForm]:
    """All sizes that can change in nested arguments, in order."""
    return (value for value in leaves_in(values) if isinstance(value, LinearForm) and not value.fixed)


def plain(value: LinearForm | int) -> int:
    """The number itself."""
    return value.value if isinstance(value, LinearForm) else int(value)


def plain_all(values: Sequence[LinearForm | int] | LinearForm | int) -> tuple[int, ...]:
    """The numbers themselves."""
    return tuple(plain(v) for v in (values if isinstance(values, (tuple, list)) else (values,)))


__all__ = [
    "Axis", "Demand", "Freeze", "LabelSpace", "Labelled", "LinearForm", "Relation", "Vec",
    "leaves_in", "plain", "plain_all", "sizes_in", "tensors_in",
]  # fmt: skip

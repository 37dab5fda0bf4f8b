"""What must be true of the sizes in a model's code, whatever is cut; and how that is made true.

A size is linear in the number of channels that stay, so a demand is about the *change* that each component (channels
that go together) would make if it went. Where the changes do not do what is demanded by themselves, components are
tied into sets that do, and what is left over is frozen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction

import numpy as np

from prunetune.engine.linear import LinearForm, Vec


class Relation(Enum):
    """What is demanded of a size."""

    SAME = "stays what it is"
    WHOLE = "changes by whole numbers"
    POSITIVE = "stays above zero"
    NOT_NEGATIVE = "does not fall below zero"


RANKS = range(4)


@dataclass(frozen=True)
class Demand:
    """What must be true of `size`, whatever is cut; true of the whole network."""

    size: LinearForm
    relation: Relation
    where: str
    """The operation that says so."""
    reason: str
    """Why something is frozen where the demand cannot be met otherwise."""
    checked: bool = False
    """Whether the code only looks at the size (`assert c == 16`): then what it computes with comes first."""

    @property
    def rank(self) -> int:
        """Equations of what is computed come first, as they say which attributes follow; then what is looked at."""
        return self.checked if self.relation is Relation.SAME else 2 if self.relation is Relation.WHOLE else 3

    def met_by(self, component: Vec) -> tuple[list[list[int]], list[int]]:
        """Sets of components that must go together so that it holds, and components that must stay."""
        change, order, parts = changes(self.size, component)
        if self.relation is Relation.SAME:
            return balanced(change, order) if change else ([], [])
        if self.relation is Relation.WHOLE:
            return whole(change, order, parts)
        return [], self._held(change, order, parts, component)

    def _held(self, change: Mapping[int, int], order: Mapping[int, int], parts: int, component: Vec) -> list[int]:
        """As few components as keep the size above its bound even if all that can go, and make it smaller, goes."""
        smallest = self._present * parts - sum(c for c in change.values() if c > 0)
        least = min(change.values(), default=0)
        one_stays = any(c > 0 and component[v].all() for v, c in self.size.terms)  # no dimension is cut to nothing
        if least > 0 and one_stays and self._bounds(smallest + least):
            return []
        held: list[int] = []
        for unit in sorted((c for c in change if change[c] > 0), key=lambda c: (-change[c], order[c])):
            if self._bounds(smallest):
                break
            held.append(unit)
            smallest += change[unit]
        return held

    def _bounds(self, size: Fraction) -> bool:
        return size > 0 or (size == 0 and self.relation is Relation.NOT_NEGATIVE)

    @property
    def _present(self) -> Fraction:
        return self.size.constant + sum((c * len(v) for v, c in self.size.terms), Fraction(0))


def changes(size: LinearForm, component: Vec) -> tuple[dict[int, int], dict[int, int], int]:
    """By how much `size` is larger for each component that stays, where it is; their order; and in parts of how much.

    Frozen components are constants. Position h * n + j of a size that is a multiple of another of n comes beside that
    one's position j, as in a width made of heads.
    """
    if not size.terms:
        return {}, {}, 1
    parts = int(np.lcm.reduce([c.denominator for _, c in size.terms]))
    period = max(1, min(len(v) for v, _ in size.terms))
    members = np.concatenate([component[v] for v, _ in size.terms])
    weights = np.concatenate([np.full(len(v), int(c * parts), dtype=np.int64) for v, c in size.terms])
    places = np.concatenate([np.arange(len(v)) % period * len(members) + np.arange(len(v)) for v, _ in size.terms])
    found, first, inverse = np.unique(members, return_index=True, return_inverse=True)
    total = np.zeros(len(found), dtype=np.int64)
    np.add.at(total, inverse, weights)
    odd = (total != 0) & (found != 0)
    change = dict(zip(found[odd].tolist(), total[odd].tolist(), strict=True))
    return change, dict(zip(found[odd].tolist(), places[first[odd]].tolist(), strict=True)), parts


def balanced(change: Mapping[int, int], order: Mapping[int, int]) -> tuple[list[list[int]], list[int]]:
    """Sets of components whose changes sum to zero, each as small as can be, and the components left over.

    >>> balanced({1: 1, 2: 1, 3: 1, 4: 1, 5: -2, 6: -2, 7: 1}, {i: i for i in range(8)})
    ([[1, 2, 5], [3, 4, 6]], [7])
    """
    sides = [
        deque(sorted((c for c in change if sign * change[c] > 0), key=lambda c: (abs(change[c]), order[c])))
        for sign in (1, -1)
    ]
    sets: list[list[int]] = []
    while all(sides):
        members = [side.popleft() for side in sides]
        total = sum(change[c] for c in members)
        while total:
            side = sides[0] if total < 0 else sides[1]
            if not side:
                return sets, [*members, *sides[0], *sides[1]]
            members.append(side.popleft())
            total += change[members[-1]]
        sets.append(sorted(members))
    return sets, [*sides[0], *sides[1]]


def whole(change: Mapping[int, int], order: Mapping[int, int], parts: int) -> tuple[list[list[int]], list[int]]:
    """Sets of components whose changes sum to multiples of `parts`, and the components left over.

    >>> whole({1: 1, 2: 2, 3: 1, 4: 1}, {i: i for i in range(5)}, 2)
    ([[1, 3]], [4])
    """
    sets: list[list[int]] = []
    members: list[int] = []
    total = 0
    for unit in sorted((c for c in change if change[c] % parts), key=order.__getitem__):
        members.append(unit)
        total += change[unit]
        if total % parts == 0:
            sets.append(sorted(members))
            members = []
    return sets, members

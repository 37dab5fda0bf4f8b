"""Sizes that are linear in the numbers of channels that stay."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Vec: TypeAlias = NDArray[np.int64]
"""The labels of one dimension of a tensor, one an index; `None` in its place means a size that cannot change."""


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

    def coefficients(self) -> dict[str, Fraction]:
        """How often each attribute is in it, where that is not zero times."""
        found: dict[str, Fraction] = {}
        for name, coefficient in self.attributes:
            found[name] = found.get(name, Fraction(0)) + coefficient
        return {name: coefficient for name, coefficient in found.items() if coefficient}

    def scaled(self, factor: Fraction, value: int) -> LinearForm:
        return LinearForm(
            value,
            self.constant * factor,
            tuple((v, c * factor) for v, c in self.terms),
            tuple((a, c * factor) for a, c in self.attributes),
        )

    def plus(self, other: LinearForm, sign: int) -> LinearForm:
        value = self.value + sign * other.value
        if other.fixed:
            return LinearForm(value, self.constant + sign * other.constant, self.terms, self.attributes)
        flipped = other if sign == 1 else other.scaled(Fraction(sign), other.value)
        return LinearForm(
            value,
            self.constant + flipped.constant,
            self.terms + flipped.terms,
            self.attributes + flipped.attributes,
        )

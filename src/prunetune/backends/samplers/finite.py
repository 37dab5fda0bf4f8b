"""Spaces with so few points that a search may come to all of them: each is tried once, and then the search ends."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from prunetune.backends.samplers.unit_cube import UnitCube
from prunetune.backends.study.attributes import FIXED, GIVEN_UP, INSTEAD_OF
from prunetune.backends.study.study import outcome
from prunetune.backends.study.trial import repeated

MOST: Final = 4096
"""In a space with more points a search hardly comes to the same one twice."""

Point: TypeAlias = tuple[float, ...]


def size(space: Mapping[str, BaseDistribution]) -> int | None:
    """How many points there are; None for more than ``MOST``.

    >>> size({"n": IntDistribution(1, 3), "c": CategoricalDistribution(["a", "b"])})
    6
    """
    count = math.prod(_count(each) for each in space.values())
    return int(count) if count <= MOST else None


class Finite:
    """The points of a finite space, and which of them a study has still to try."""

    def __init__(self, space: Mapping[str, BaseDistribution]) -> None:
        self._space = dict(space)
        self._cube = UnitCube(space)
        every = itertools.product(*(_values(each) for each in space.values()))
        self._points = {
            self._point(params): params for params in (dict(zip(space, each, strict=True)) for each in every)
        }

    def still_possible(self, trials: Sequence[FrozenTrial], asked: int) -> int:
        """How many of the ``asked`` trials there can be: those that there are, and one for each other point."""
        there = sum(not _is_over_for_nothing(trial) for trial in trials)
        return min(asked, there + len(self._untried(trials)))

    def another(self, trial: FrozenTrial, trials: Sequence[FrozenTrial]) -> dict[str, Any] | None:
        """The untried point next to that of ``trial``, if one before it has had the same; None if it is new.

        An empty one says that there is none. What somebody has enqueued is as it is, and for a trial that repeats one
        it is as for that: it may have died before this was asked.
        """
        same = [trial, *repeated(trial, {each.number: each for each in trials})]
        wanted = same[-1].system_attrs.get(FIXED) and INSTEAD_OF not in same[-1].user_attrs
        numbers = {each.number for each in same}
        before = [each for each in trials if each.number < trial.number and each.number not in numbers]
        if wanted or self._point(trial.params) not in self._tried(before):
            return None
        here = self._cube.to_unit(trial.params)
        untried = self._untried(trials)
        return min(untried, key=lambda params: float(np.abs(self._cube.to_unit(params) - here).sum()), default={})

    def _tried(self, trials: Sequence[FrozenTrial]) -> set[Point]:
        return {
            self._point(params)
            for trial in trials
            if _is_tried(trial)
            and (params := trial.params or trial.system_attrs.get(FIXED, {})).keys() >= self._space.keys()
        }

    def _untried(self, trials: Sequence[FrozenTrial]) -> list[dict[str, Any]]:
        tried = self._tried(trials)
        return [params for point, params in self._points.items() if point not in tried]

    def _point(self, params: Mapping[str, Any]) -> Point:
        try:
            return tuple(round(each.to_internal_repr(params[name]), 12) for name, each in self._space.items())
        except (ValueError, TypeError):  # it was enqueued and is in no such space
            return ()


def _is_over_for_nothing(trial: FrozenTrial) -> bool:
    """Whether a trial has ended and uses up no budget."""
    return trial.state.is_finished() and outcome(trial) in (None, "interrupted")


def _is_tried(trial: FrozenTrial) -> bool:
    """Whether a trial has had its point, has it, or will; a killed one has, for it comes again by itself."""
    return not _is_over_for_nothing(trial) or bool(trial.state == TrialState.FAIL and trial.user_attrs.get(GIVEN_UP))


def _count(distribution: BaseDistribution) -> float:
    if isinstance(distribution, CategoricalDistribution):
        return len(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    if distribution.step is None:
        return 1 if distribution.single() else math.inf
    return round((distribution.high - distribution.low) / distribution.step) + 1


def _values(distribution: BaseDistribution) -> list[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    step = distribution.step or 1
    return [distribution.low + step * place for place in range(int(_count(distribution)))]

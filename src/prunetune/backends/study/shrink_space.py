"""A smaller search space around configurations that did well."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from prunetune.backends.space import Categorical, Distribution, Float, Int, SearchSpace, is_stepped
from prunetune.backends.space import holds as in_range

FEWEST: Final = 4
"""From fewer configurations no range is told."""


def narrowed(space: SearchSpace, configurations: Sequence[Mapping[str, Any]]) -> SearchSpace:
    """The part of ``space`` that the configurations span, somewhat widened; all of it for fewer than four.

    A range reaches from the lowest to the highest value (on the scale of the dimension, linear or logarithmic), and
    further by the mean distance of two neighbours, but never out of ``space``: were the n values uniform in an unknown
    range, that is its unbiased estimate, each end being one part in n + 1 away from the outermost value on average.
    Of choices those are left that occur.

    >>> x = Float(0.0, 10.0)
    >>> narrowed(SearchSpace({"x": x}), [{"x": value} for value in (4.0, 5.0, 6.5, 7.0)])
    SearchSpace({'x': Float(low=3.0, high=8.0, log=False)})
    """
    if len(configurations) < FEWEST:
        return space
    return SearchSpace({name: _narrow(whole, [each[name] for each in configurations]) for name, whole in space.items()})


def holds(space: SearchSpace, params: Mapping[str, Any]) -> bool:
    """Whether all of ``params`` are in ``space``."""
    return all(in_range(each, params[name]) for name, each in space.items())


def _narrow(whole: Distribution, values: Sequence[Any]) -> Distribution:
    if isinstance(whole, Categorical):
        return Categorical([choice for choice in whole.choices if choice in values])
    lowest, highest = min(values), max(values)
    if lowest == highest and isinstance(whole, Float):
        return whole  # the same value over and over tells no range
    on_scale, back = (math.log, math.exp) if whole.log else (float, float)
    start, end = on_scale(lowest), on_scale(highest)
    gap = (end - start) / (len(values) - 1)
    low, high = min(lowest, back(start - gap)), max(highest, back(end + gap))
    if whole.step is not None and is_stepped(whole):
        steps = [math.floor((low - whole.low) / whole.step), math.ceil((high - whole.low) / whole.step)]
        most = round((whole.high - whole.low) / whole.step)
        first_step, last_step = max(0, min(steps[0], most - 1)), min(most, max(steps[1], 1))
        return replace(whole, low=whole.low + first_step * whole.step, high=whole.low + last_step * whole.step)
    if isinstance(whole, Float):
        return Float(max(whole.low, low), min(whole.high, high), log=whole.log)
    first, last = min(math.floor(low), lowest - 1), max(math.ceil(high), highest + 1)
    return Int(max(whole.low, first), min(whole.high, last), log=whole.log)

"""Search spaces as scikit-optimize's dimensions, and back, for those who drive scikit-optimize themselves.

Needs `pip install 'prunetune[skopt]'`; see `examples/skopt_minimize.py`.
"""

from __future__ import annotations

from collections.abc import Sequence

from skopt import space as skopt_space

from prunetune.backends.space import Categorical, Distribution, Float, Int, SearchSpace, is_stepped
from prunetune.errors import InputError


def to_skopt(space: SearchSpace) -> list[skopt_space.Dimension]:
    """A named dimension for each hyperparameter, in order; `SearchSpace.named` makes a point's values a dict again."""
    return [_dimension(name, distribution) for name, distribution in space.items()]


def _dimension(name: str, distribution: Distribution) -> skopt_space.Dimension:
    if isinstance(distribution, Categorical):
        return skopt_space.Categorical(list(distribution.choices), name=name)
    if is_stepped(distribution):
        return skopt_space.Categorical(distribution.values(), name=name)  # it has no ranges with steps
    kind = skopt_space.Integer if isinstance(distribution, Int) else skopt_space.Real
    prior = "log-uniform" if distribution.log else "uniform"
    return kind(distribution.low, distribution.high, prior=prior, name=name)


def from_skopt(dimensions: Sequence[skopt_space.Dimension]) -> SearchSpace:
    """The space of these dimensions. Raises InputError for one without a name, or of an unknown kind.

    What is not uniform beforehand gets lost: the probabilities of a `Categorical`.
    """
    return SearchSpace({_name(place, each): _distribution(each) for place, each in enumerate(dimensions)})


def _name(place: int, dimension: skopt_space.Dimension) -> str:
    name = getattr(dimension, "name", None)
    if not isinstance(name, str) or not name:
        raise InputError(f"dimension {place}, {dimension!r}, has no name; give it one: Real(…, name='learning_rate')")
    return name


def _distribution(dimension: skopt_space.Dimension) -> Distribution:
    if isinstance(dimension, skopt_space.Categorical):
        return Categorical(tuple(dimension.categories))
    log = dimension.prior == "log-uniform"
    if isinstance(dimension, skopt_space.Integer):
        return Int(int(dimension.low), int(dimension.high), log=log)
    if isinstance(dimension, skopt_space.Real):
        return Float(float(dimension.low), float(dimension.high), log=log)
    raise InputError(f"{dimension!r} is of an unknown kind; take Real, Integer or Categorical")

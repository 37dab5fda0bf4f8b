"""Search spaces as Nevergrad's parametrizations, and back, for those who drive Nevergrad themselves.

Needs `pip install 'prunetune[nevergrad]'`; see `examples/nevergrad_optimizer.py`.
"""

from __future__ import annotations

from typing import Any

from nevergrad import p

from prunetune.backends.space import Categorical, Distribution, Float, Int, SearchSpace, is_stepped
from prunetune.errors import InputError


def to_nevergrad(space: SearchSpace) -> p.Dict:
    """A `Dict` whose values are the hyperparameters: `optimizer.ask().value` is what a train function takes."""
    return p.Dict(**{name: _parameter(distribution) for name, distribution in space.items()})


def _parameter(distribution: Distribution) -> Any:
    if isinstance(distribution, Categorical):
        return p.Choice(list(distribution.choices))
    if is_stepped(distribution):
        return p.TransitionChoice(distribution.values())  # it has no ranges with steps, and these are in order
    kind = p.Log if distribution.log else p.Scalar
    parameter = kind(lower=distribution.low, upper=distribution.high)
    return parameter.set_integer_casting() if isinstance(distribution, Int) else parameter


def from_nevergrad(parametrization: p.Dict | p.Instrumentation) -> SearchSpace:
    """The space of the named parameters of a `Dict`, or of an `Instrumentation`.

    Raises InputError, naming the parameter, for one without bounds or a name, for arrays, and for what is no space:
    constants. Nevergrad's bases of logarithms, steps of mutation and the order of a `TransitionChoice` get lost.
    """
    if isinstance(parametrization, p.Instrumentation):
        unnamed, parametrization = parametrization[0], parametrization[1]
        if len(list(unnamed)):
            raise InputError("this Instrumentation has arguments without names; name them: Instrumentation(x=…)")
    if not isinstance(parametrization, p.Dict):
        raise InputError(
            f"{type(parametrization).__name__} has no names; take a nevergrad.p.Dict of scalars and choices"
        )
    return SearchSpace({name: _distribution(name, parametrization[name]) for name in parametrization})


def _distribution(name: str, parameter: Any) -> Distribution:
    if isinstance(parameter, p.Choice | p.TransitionChoice):
        return Categorical(parameter.choices.value)
    if not isinstance(parameter, p.Scalar):
        raise InputError(f"{name}: {type(parameter).__name__} is no hyperparameter; take a Scalar, a Log or a Choice")
    low, high = parameter.bounds
    if low is None or high is None:
        raise InputError(f"{name}: a Scalar without bounds is no range; give lower and upper")
    log = isinstance(parameter, p.Log)
    if parameter.integer:
        return Int(round(float(low[0])), round(float(high[0])), log=log)
    return Float(float(low[0]), float(high[0]), log=log)

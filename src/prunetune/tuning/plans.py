"""How a search's networks are cut: by one plan, or by one for each of the shapes that ``model_fn(params)`` builds."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import torch
from torch import nn

from prunetune.backends import Categorical, Distribution
from prunetune.backends.study.attributes import PLAN
from prunetune.backends.study.chunked_attributes import read_text, write_text
from prunetune.engine import PruningPlan, fresh_proxy
from prunetune.errors import InputError, PlanError
from prunetune.ladder.rung import listed
from prunetune.tuning.architecture import Architecture, middle
from prunetune.tuning.types import ModelFunction

if TYPE_CHECKING:
    import optuna

Width = TypeVar("Width")
MOST: Final = 64
"""Networks of so many shapes; a plan of each takes about a second."""


@dataclass(frozen=True)
class Plans:
    """The plan of every network that a search may train, by the hyperparameters that change their shapes.

    The first is that of the usual network: in the middle of the space.
    """

    names: tuple[str, ...]
    """The hyperparameters that change shapes; mostly there are none, and one plan."""
    by_values: Mapping[str, PruningPlan]

    @classmethod
    def one(cls, plan: PruningPlan) -> Self:
        """That of networks which all have the same shapes."""
        return cls((), {_key((), {}): plan})

    @property
    def usual(self) -> PruningPlan:
        """The plan of the network in the middle of the space."""
        return next(iter(self.by_values.values()))

    def of(self, params: Mapping[str, Any]) -> PruningPlan:
        """The plan of the network with these hyperparameters."""
        return self.by_values[_key(self.names, params)]

    def to_json(self) -> str:
        """The plan itself where there is one."""
        if not self.names:
            return self.usual.to_json()
        plans = {key: plan.to_json() for key, plan in self.by_values.items()}
        return json.dumps({"names": self.names, "plans": plans})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What ``to_json`` wrote. Raises PlanError where that is damaged."""
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            found = None
        if isinstance(found, dict) and isinstance(found.get("plan"), str):  # as `check` wrote it before
            return cls.from_json(found["plan"])
        if not (isinstance(found, dict) and "plans" in found):
            return cls.one(PruningPlan.from_json(text))
        names, plans = found.get("names"), found["plans"]
        if not (isinstance(names, list) and names and isinstance(plans, dict) and plans):
            raise PlanError("these are no pruning plans: names, and plans by the values of these, were expected")
        return cls(tuple(map(str, names)), {key: PruningPlan.from_json(each) for key, each in plans.items()})


def plans_of(
    build: ModelFunction,
    usual: Mapping[Width, PruningPlan],
    cut: Callable[[ModelFunction], Mapping[Width, PruningPlan]],
    seed: int,
) -> dict[Width, Plans]:
    """For each width the ``usual`` plan alone where it fits all that ``build`` builds, or that and what ``cut`` makes.

    Raises InputError as ``architectures`` does, before anything is cut.
    """
    if not (usual and isinstance(build, Architecture)):
        return {width: Plans.one(plan) for width, plan in usual.items()}
    names, every = architectures(build, seed)
    plans = {_key(names, middle(build.space)): usual}
    for params in every:
        if (key := _key(names, params)) not in plans:
            plans[key] = cut(partial(build.function, params))
    return {width: Plans(names, {key: each[width] for key, each in plans.items()}) for width in usual}


def architectures(build: ModelFunction, seed: int) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """The hyperparameters that change shapes, and all of them for each network that there is: the others in the middle.

    Raises InputError for a hyperparameter of endlessly many values that changes shapes, for too many networks, and for
    shapes that depend on several hyperparameters at once.
    """
    if not isinstance(build, Architecture):
        return (), []
    names = _shaping(build, seed)
    every = _combined(build, names)
    for params in every:
        _check_alone(build, params, names, seed)
    return names, every


def plans_note(build: ModelFunction, plans: Mapping[Width, Plans]) -> str:
    """What a person should know of networks of several shapes; empty where all have the same."""
    found = next(iter(plans.values()), None)
    if found is None or not found.names:
        return ""
    assert isinstance(build, Architecture)
    usual = ", ".join(f"{name} {middle(build.space)[name]!r}" for name in found.names)
    return (
        f"{listed(found.names)}: other values make other shapes, so there are {len(found.by_values)} networks, each "
        f"cut by a plan of its own. Costs are of the one with {usual}"
    )


def check_one(build: ModelFunction, seed: int) -> None:
    """Raise InputError where networks need plans of their own, and there is one."""
    names, _ = architectures(build, seed)
    if names:
        raise InputError(
            f"model_fn builds networks of other shapes for other values of {listed(names)}, and here all proxies are "
            "cut by one plan; tune, check and compare make one for each"
        )


def kept_plans(study: optuna.Study, cut: Callable[[], Plans], model_fn: ModelFunction, of: str = "") -> Plans:
    """The plans that the study's trials were made with, or now ``cut``: a measured budget may give others each time.

    ``of`` is which proxy's, where a study has those of several. Raises PlanError if ``model_fn`` builds another network
    than the plans were made for.
    """
    key = f"{PLAN}:{of}" if of else PLAN
    kept = read_text(study, key)
    if kept is None:
        plans = cut()
        write_text(study, key, plans.to_json())
        return plans
    plans = Plans.from_json(kept)
    fresh_proxy(model_fn, plans.usual)  # raises PlanError here and now if it is another network
    return plans


def _shaping(build: Architecture, seed: int) -> tuple[str, ...]:
    """The hyperparameters with which ``build`` builds networks of other shapes than in the middle of the space.

    Each is tried with each choice and at both ends of its range, the others in the middle. A whole number that a module
    keeps may be part of its shape, as a number of heads is, or not, as a threshold is: it counts if its values are few.
    """
    with torch.random.fork_rng():
        usual = _built(build, middle(build.space), seed)
        shapes, numbers = _shapes(usual), _numbers(usual)
        found = []
        for name, params in build.variants():
            model = _built(build, params, seed)
            if _shapes(model) != shapes or (_numbers(model) != numbers and _count(build.space[name]) <= MOST):
                found.append(name)
    return tuple(dict.fromkeys(found))


def _combined(build: Architecture, names: tuple[str, ...]) -> list[dict[str, Any]]:
    """All values of ``names``, the others in the middle. Raises InputError if these are endlessly or too many."""
    counts = [_count(build.space[name]) for name in names]
    for name, count in zip(names, counts, strict=True):
        if count == math.inf:
            raise InputError(
                f"{name} changes the network's shapes, and {build.space[name]!r} has endlessly many values, each of "
                "which needs a plan of its own; make it whole numbers or choices, for example Int(32, 128, step=32)"
            )
    if math.prod(counts) > MOST:
        raise InputError(
            f"{listed(names)}: {math.prod(counts):,} networks of different shapes, each cut by a plan of its own, are "
            f"too many; at most {MOST}: give fewer choices, for example Int(32, 128, step=32)"
        )
    usual, values = middle(build.space), [_values(build.space[name]) for name in names]
    return [{**usual, **dict(zip(names, each, strict=True))} for each in itertools.product(*values)]


def _check_alone(build: Architecture, params: dict[str, Any], names: Sequence[str], seed: int) -> None:
    """Raise InputError if, with these values of ``names``, others change shapes that alone do not."""
    with torch.random.fork_rng():
        usual = _shapes(_built(build, params, seed))
        for corner in build.corners():
            other = {**corner, **{name: params[name] for name in names}}
            if (shapes := _shapes(_built(build, other, seed))) != usual:
                raise InputError(
                    f"model_fn builds a network of other shapes for {other} than for {params}: "
                    f"{_difference(usual, shapes)}. None of these hyperparameters does that alone, so that it "
                    "was not seen which of them needs plans of its own; make the shapes depend on one of them"
                )


def _count(distribution: Distribution) -> float:
    if isinstance(distribution, Categorical):
        return len(distribution.choices)
    return (
        math.inf if distribution.step is None else round((distribution.high - distribution.low) / distribution.step) + 1
    )


def _values(distribution: Distribution) -> Sequence[Any]:
    return distribution.choices if isinstance(distribution, Categorical) else distribution.values()


def _built(build: Architecture, params: dict[str, Any], seed: int) -> nn.Module:
    torch.manual_seed(seed)
    model = build.function(params)
    if not isinstance(model, nn.Module):
        raise InputError(f"model_fn must return a torch.nn.Module; it returned {type(model).__name__}")
    return model


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in (*model.named_parameters(), *model.named_buffers())}


def _numbers(model: nn.Module) -> dict[str, Any]:
    """The whole numbers, and tuples of them, that the modules keep as attributes."""
    return {
        f"{path}.{name}": value
        for path, module in model.named_modules()
        for name, value in vars(module).items()
        if type(value) is int or (isinstance(value, tuple) and all(type(each) is int for each in value))
    }


def _key(names: tuple[str, ...], params: Mapping[str, Any]) -> str:
    return json.dumps([_rounded(params[name]) for name in names])


def _rounded(value: Any) -> Any:
    """So that steps come out the same however they were added up."""
    return float(f"{value:.12g}") if isinstance(value, float) else value


def _difference(usual: Mapping[str, tuple[int, ...]], other: Mapping[str, tuple[int, ...]]) -> str:
    """The first tensor that only one of them has, or that has another shape."""
    name = next(name for name in (*usual, *other) if usual.get(name) != other.get(name))
    if name not in other or name not in usual:
        return f"{name} is {'not there' if name not in other else 'new'}"
    return f"{name} is {other[name]} and not {usual[name]}"

"""Nevergrad's optimizers (Rapin & Teytaud 2018), CMA-ES among them, brought up to date by replaying all trials."""

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from prunetune._utils.extras import require, version
from prunetune._utils.quiet import quietly
from prunetune.backends.samplers.history import Observation
from prunetune.backends.samplers.stateless import STARTUP, CubeSampler
from prunetune.backends.samplers.unit_cube import Point, UnitCube
from prunetune.errors import InputError

BUDGET: Final = 1000
"""Without a budget CMA is another method, and it chooses NGOpt's method; how many trials there will be nobody knows."""
WORKERS: Final = 2
"""With one, NGOpt chooses methods that can only ask again after an answer."""
PROBES: Final = ((3, 100, 1), (5, BUDGET, WORKERS))
"""Dimensions, budget and workers of the trial run that an optimizer must come through."""


class NevergradSampler(CubeSampler):
    """An optimizer of Nevergrad's, brought to where it would be by asking and telling all earlier trials again.

    In every step Nevergrad is asked first, also where the trial came from elsewhere (a Sobol point, the user, an ask
    before the last answers were in): CMA ignores what it is told beyond what it was asked for. What is told then is the
    trial's own point, in place of the one asked for.
    """

    def __init__(self, name: str, seed: int, *, startup: int = 1) -> None:
        super().__init__(seed)
        self.name = name
        self.startup = startup
        self._live: _Replay | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r}, seed={self.seed})"

    def suggest(self, cube: UnitCube, history: Sequence[Observation], draw: int) -> Point:
        """What Nevergrad answers to one more ask."""
        check_works(self.name, cube.size, BUDGET, WORKERS)
        entries = [_entry(each, cube) for each in history]
        with self._lock, quietly():  # on losses that it clips, and settings that it finds inefficient
            if self._live is None or not self._live.leads_to(cube, entries):
                self._live = _Replay(self.name, cube, self.seed)
            return self._live.advance(entries)


@dataclass(frozen=True)
class _Entry:
    params: dict[str, Any]
    loss: float


def _entry(each: Observation, cube: UnitCube) -> _Entry | None:
    """None for what is asked for and not told: a trial that runs or failed."""
    return None if each.loss is None else _Entry({name: each.params[name] for name in cube.space}, each.loss)


class _Replay:
    """A live optimizer, and the trials that it was asked and told for."""

    def __init__(self, name: str, cube: UnitCube, seed: int) -> None:
        self._cube = cube
        self._optimizer = make_optimizer(name, cube.size, seed, BUDGET, WORKERS)
        self._entries: list[_Entry | None] = []
        self._next: Any = None

    def leads_to(self, cube: UnitCube, entries: list[_Entry | None]) -> bool:
        """Whether these trials are those so far, and maybe more."""
        return cube.space == self._cube.space and entries[: len(self._entries)] == self._entries

    def advance(self, entries: list[_Entry | None]) -> Point:
        """Ask and tell the trials that are new; where it would be next."""
        for entry in entries[len(self._entries) :]:
            candidate, self._next = self._asked(), None
            if entry is not None:
                self._optimizer.tell(self._standing_for(candidate, entry), entry.loss)
            self._entries.append(entry)
        self._next = self._asked()
        return np.clip(np.asarray(self._next.value, dtype=np.float64), 0.0, 1.0)

    def _asked(self) -> Any:
        return self._optimizer.ask() if self._next is None else self._next

    def _standing_for(self, candidate: Any, entry: _Entry) -> Any:
        """The candidate itself if it is the trial's point, else one at that point which passes for the candidate."""
        if self._cube.from_unit(np.asarray(candidate.value)) == entry.params:
            return candidate
        other = candidate.spawn_child(new_value=self._cube.to_unit(entry.params))
        other.uid = candidate.uid  # as asked for: populations keep their members by it
        other._meta.update(candidate._meta)
        other._meta.pop("boxed_data", None)  # where the candidate was
        return other


def make_optimizer(name: str, dimensions: int, seed: int, budget: int, workers: int) -> Any:
    """Nevergrad's optimizer of that name, on the unit cube, from its centre; populations begin all over it.

    Every coordinate is as Nevergrad's own scalar with bounds. An array with bounds is not: its random points are normal
    ones around the centre, with a sixth of the range for their deviation.
    """
    import nevergrad

    cube = nevergrad.p.Array(init=np.full(dimensions, 0.5)).set_mutation(sigma=1 / 6)
    cube.set_bounds(0.0, 1.0, full_range_sampling=True)
    cube.random_state.seed(seed)
    return nevergrad.optimizers.registry[name](parametrization=cube, budget=budget, num_workers=workers)


@functools.cache
def check_works(name: str, dimensions: int, budget: int, workers: int) -> None:
    """Raise InputError, with the library's own words, unless the optimizer comes through a hundred trials on a bowl.

    Names come and go with Nevergrad's versions, and those that choose a method by dimensions and budget break for some
    of these only.
    """
    try:
        with quietly():
            optimizer = make_optimizer(name, dimensions, 0, budget, workers)
            for _ in range(100):
                candidate = optimizer.ask()
                optimizer.tell(candidate, float(np.sum((candidate.value - 0.3) ** 2)))
    except Exception as error:  # the library's own, of any kind
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(
            f"the optimizer 'nevergrad:{name}' is broken in nevergrad {version('nevergrad')}: with {dimensions} "
            f"dimensions and a budget of {budget} it fails ({type(error).__name__}: {said[0]}); take 'nevergrad:cma'"
        ) from None


class NevergradFactory:
    """A factory: called with a seed it makes the sampler, or says why there is none."""

    needs = "nevergrad"

    def __init__(self, name: str, description: str, startup: int = 1) -> None:
        self.name = name
        self.startup = startup
        self.__doc__ = description

    def __call__(self, seed: int) -> NevergradSampler:
        """The sampler of a study with that seed."""
        require("nevergrad", "nevergrad>=1.0.12", f"the optimizer 'nevergrad:{self.name}'")
        for probe in PROBES:
            check_works(self.name, *probe)
        return NevergradSampler(self.name, seed, startup=self.startup)


CMA = NevergradFactory(
    "CMA", "Covariance matrix adaptation (Hansen & Ostermeier 2001), after ten Sobol points.", STARTUP
)
OldCMA = NevergradFactory(
    "OldCMA", "CMA-ES with the step sizes of Nevergrad's earlier versions, after ten Sobol points.", STARTUP
)
DiagonalCMA = NevergradFactory("DiagonalCMA", "CMA-ES with a diagonal covariance, after ten Sobol points.", STARTUP)
DE = NevergradFactory("DE", "Differential evolution (Storn & Price 1997); its first thirty points are random.")
TwoPointsDE = NevergradFactory(
    "TwoPointsDE", "Differential evolution with two-point crossover; its first thirty points are random."
)
LhsDE = NevergradFactory("LhsDE", "Differential evolution from thirty points of a Latin hypercube.")
OnePlusOne = NevergradFactory("OnePlusOne", "The (1+1) evolution strategy with the one-fifth rule (Rechenberg 1973).")
TBPSA = NevergradFactory("TBPSA", "Population control for noisy scores (Hellwig & Beyer 2016).")
PSO = NevergradFactory("PSO", "Particle swarm optimization (Zambrano-Bigiarini et al. 2013), forty particles.")
NGOpt = NevergradFactory(
    "NGOpt", "Nevergrad's own choice of a method; at version 1.0.12 CMA-ES, and broken below three dimensions."
)

"""For those who search by themselves: an objective for any optimizer, whose calls train proxies."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import torch

from prunetune._utils.caller import random_state_kept
from prunetune._utils.checks import Direction, real_number
from prunetune._utils.seeds import derive_seed
from prunetune.backends import Distribution, SearchSpace
from prunetune.backends.study.study import worst_score
from prunetune.backends.study.trial import Report, TrialDiverged
from prunetune.engine import ExampleInputs
from prunetune.errors import SearchError
from prunetune.events import silent
from prunetune.ladder.named import PROXY
from prunetune.ladder.rung import Rung, check_one
from prunetune.tuning.objective import Objective
from prunetune.tuning.plans import check_one as check_one_plan
from prunetune.tuning.problem import Problem
from prunetune.tuning.proxy_factory import ProxyFactory, proxy_of
from prunetune.tuning.resolution import check_resolution
from prunetune.tuning.settings import Pruning, at_width
from prunetune.tuning.types import GivenModelFunction, TrainFunction

if TYPE_CHECKING:
    import optuna

    from prunetune.plugins.base import Batch, Loss


STREAM: Final = "objective"
"""Of seeds, whatever the study is called: one without a name has a random one."""


class ProxyObjective:
    """Trains a fresh proxy with given hyperparameters: an Optuna objective, and with ``loss`` one for others.

    Attributes
    ----------
    proxy
        The factory, for what was cut and saved.
    space
        What is searched.
    rung
        What a trial gets of the full images, epochs and training images.
    """

    def __init__(
        self,
        proxy: ProxyFactory,
        train: TrainFunction,
        space: SearchSpace,
        *,
        epochs: int,
        rung: Rung,
        direction: Direction,
        seed: int,
        worst: float | None,
    ) -> None:
        self.proxy = proxy
        self.space = space
        self.rung = rung
        self._objective = Objective(proxy, train, proxy.groups, rung.resolution, rung.data)
        self._epochs = rung.of_epochs(epochs)
        self._sign = {"maximize": -1.0, "minimize": 1.0}[direction]
        self._seed = seed
        self._worst = None if worst is None else self._sign * worst
        self._calls = 0

    def __call__(self, trial: optuna.Trial) -> float:
        """The score of a trial of a study, which should have this objective's direction.

        A trial that diverges counts as the worst score in the study, and has the user attribute ``outcome`` to tell.
        """
        score = self._score(trial, self.space.suggest(trial))
        if score is None:
            trial.set_user_attr("outcome", "diverged")
            return worst_score(trial.study)
        return score

    def loss(self, params: Mapping[str, Any] | Sequence[Any]) -> float:
        """The score of these hyperparameters, negated if it is to be maximized; finite, whatever happens.

        They are a dict, as Nevergrad has them, or values in the order of the space, as scikit-optimize has them.
        """
        from optuna.trial import FixedTrial

        named = self.space.named(params)
        trial = FixedTrial(named, number=self._calls)
        self._calls += 1
        score = self._score(trial, named)
        if score is None:
            if self._worst is None:
                raise SearchError(
                    "the first trial diverged, and nothing is known yet that it could count as; say what with "
                    "proxy_objective(…, worst=0.0)"
                )
            return self._worst
        loss = self._sign * score
        self._worst = loss if self._worst is None else max(self._worst, loss)
        return loss

    @random_state_kept()
    def _score(self, trial: Any, params: dict[str, Any]) -> float | None:
        """None for a trial that diverged. Raises what the train function raises, TrialPruned among it."""
        from optuna import TrialPruned

        seed = derive_seed(self._seed, STREAM, trial.number)
        report: Report = Report(trial, seed=seed, epochs=self._epochs, phase="search", observer=silent)
        try:
            returned = self._objective(params, report)
        except TrialDiverged:
            return None
        if report.stopped is not None:  # and the train function went on all the same
            if report.stopped.outcome == "diverged":
                return None
            raise TrialPruned(report.stopped.message)
        score = real_number("the train function's return value, its final score,", returned)
        return score if math.isfinite(score) else None


def proxy_objective(
    model_fn: GivenModelFunction,
    train: TrainFunction,
    space: str | Mapping[str, Distribution] = "paper",
    *,
    example_inputs: ExampleInputs,
    epochs: int,
    pruning: Pruning = Pruning(),  # noqa: B008  # frozen
    rung: Rung = PROXY,
    direction: Direction | None = None,
    seed: int = 0,
    data: Iterable[Batch] | None = None,
    loss: Loss | None = None,
    worst: float | None = None,
) -> ProxyObjective:
    """An objective for an optimizer that you drive yourself: every call trains a fresh proxy, with a seed of its own.

    It does not train the best on the full network; you do that.

    Parameters
    ----------
    model_fn, train, space, example_inputs, epochs, pruning, seed, data, loss
        As for ``prunetune.tune``.
    rung
        What is trained: a share of the width, ``Rung(width=1/4)``, or with None as narrow a proxy as ``pruning`` says;
        and a share of the epochs, the resolution and the data, which the train function is to heed (``report.epochs``,
        ``report.resolution``, ``report.data``).
    direction
        "maximize" where a higher score is better, "minimize" where a lower one is; it must be given.
    worst
        The score that a diverged trial counts as in ``loss``, before there is a worse one.

    Example
    -------
    With the same ``objective``::

        study.optimize(objective, n_trials=50)  # Optuna, which may stop trials
        optimizer.minimize(objective.loss)  # Nevergrad, of to_nevergrad(objective.space)
        skopt.gp_minimize(objective.loss, to_skopt(objective.space))
    """
    problem = Problem.of(
        model_fn,
        train,
        space,
        example_inputs=example_inputs,
        epochs=epochs,
        direction=direction,
        seed=seed,
        data=data,
        loss=loss,
    )
    check_one("rung", rung)
    if rung.resolution < 1:
        with torch.random.fork_rng():
            check_resolution(problem.model_fn(), example_inputs, rung.resolution)
    proxy = problem.proxy(at_width(pruning, rung.width))
    check_one_plan(problem.model_fn, problem.seed)
    return ProxyObjective(
        proxy,
        train,
        problem.space,
        epochs=problem.epochs,
        rung=rung,
        direction=problem.direction,
        seed=problem.seed,
        worst=worst,
    )


__all__ = ["ProxyFactory", "ProxyObjective", "proxy_objective", "proxy_of"]

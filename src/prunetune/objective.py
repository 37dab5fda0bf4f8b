"""The proxy for those who search by themselves: a function that builds it, and a ready objective for any optimizer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from torch import nn

from prunetune.backends import Distribution, SearchSpace, resolve_space
from prunetune.backends.checks import Direction, known_direction, real_number, whole_number
from prunetune.caller import random_state_kept, seed_all
from prunetune.engine import ExampleInputs, PruningPlan, fresh_proxy
from prunetune.errors import SearchError
from prunetune.events import silent
from prunetune.fidelity import FULL, Fidelity, resolve_fidelity
from prunetune.mistakes import check_full_network, check_model_fn, check_train, check_unmasked
from prunetune.pruned import PruneResult
from prunetune.pruning import prune
from prunetune.resolution import measured_fidelity
from prunetune.run import ScoringData
from prunetune.settings import Pruning
from prunetune.transfer.groups import ProxyGroups, proxy_groups
from prunetune.watched import watched
from prunetune.workers import ModelFunction, TrainFunction, note_unread

if TYPE_CHECKING:
    import optuna

    from prunetune.backends.trial import Report
    from prunetune.plugins.base import Batch, Loss


STREAM: Final = "objective"
"""Of seeds, whatever the study is called: one without a name has a random one."""


@dataclass(frozen=True)
class ProxyFactory:
    """Builds a fresh proxy at each call, as ``model_fn`` builds the full network."""

    model_fn: ModelFunction
    result: PruneResult
    """What was cut, and what that saves."""
    pruning: Pruning

    @property
    def plan(self) -> PruningPlan:
        """What is cut where."""
        return self.result.plan

    def __call__(self) -> nn.Module:
        """A new proxy, with weights drawn under the present random state."""
        return fresh_proxy(self.model_fn, self.plan, weights=self.pruning.weights)

    def param_groups(
        self, proxy: nn.Module, *, lr: float, weight_decay: float = 0.0, optimizer: Literal["sgd", "adam"] = "sgd"
    ) -> list[dict[str, Any]]:
        """What an optimizer takes instead of ``proxy.parameters()``, see ``Report.param_groups``.

        On the full network the optimizer gets ``model.parameters()``, and the same hyperparameters.
        """
        return self.groups(proxy, lr=lr, weight_decay=weight_decay, optimizer=optimizer)

    @cached_property
    def groups(self) -> ProxyGroups:
        """The groups of these proxies by ``pruning.transfer``."""
        return proxy_groups(self.plan, self.pruning.transfer, self.pruning.weights)


def proxy_of(
    model_fn: ModelFunction,
    example_inputs: ExampleInputs,
    pruning: Pruning = Pruning(),  # noqa: B008  # frozen
    *,
    seed: int = 0,
    data: Iterable[Batch] | None = None,
    loss: Loss | None = None,
) -> ProxyFactory:
    """A function that builds fresh proxies of what ``model_fn`` builds; it is cut once, here.

    The state of torch's random generator is as before. ``data`` and ``loss`` are for scorers that need them, see
    ``prunetune.prune``, which also says what raises.

    Example
    -------
    In an objective of your own two lines change::

        build_proxy = prunetune.proxy_of(MyNet, torch.zeros(64, 3, 32, 32))  # before the objective
        model = build_proxy()  # in it, where it was MyNet()
    """
    check_model_fn(model_fn)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        base = model_fn()
        if isinstance(base, nn.Module):
            check_full_network(base)
            if pruning.weights != "sliced":
                check_unmasked(base)
        budget = pruning.budget()
        result = prune(
            base,
            example_inputs,
            scorer=pruning.scorer,
            **{field.name: getattr(budget, field.name) for field in fields(budget)},
            heads=pruning.heads,
            **ScoringData(data, loss).arguments(),
            seed=seed,
        )
    return ProxyFactory(model_fn, result, pruning)


class ProxyObjective:
    """Trains a fresh proxy with given hyperparameters: an Optuna objective, and with ``loss`` one for others.

    Attributes
    ----------
    proxy
        The factory, for what was cut and saved.
    space
        What is searched.
    fidelity
        What a trial gets of the full images, epochs and training images.
    """

    def __init__(
        self,
        proxy: ProxyFactory,
        train: TrainFunction,
        space: SearchSpace,
        *,
        epochs: int,
        fidelity: Fidelity,
        direction: Direction,
        seed: int,
        worst: float | None,
    ) -> None:
        self.proxy = proxy
        self.space = space
        self.fidelity = fidelity
        self._train = train
        self._epochs = fidelity.of_epochs(epochs)
        self._sign = {"maximize": -1.0, "minimize": 1.0}[direction]
        self._seed = seed
        self._worst = None if worst is None else self._sign * worst
        self._calls = 0
        self._said = False

    def __call__(self, trial: optuna.Trial) -> float:
        """The score of a trial of a study, which should have this objective's direction.

        A trial that diverges counts as the worst score in the study, and has the user attribute ``outcome`` to tell.
        """
        from prunetune.backends.study import worst_score

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

        from prunetune.backends.seeds import derive_seed
        from prunetune.backends.trial import Report, TrialDiverged

        seed = derive_seed(self._seed, STREAM, trial.number)
        report: Report = Report(trial, seed=seed, epochs=self._epochs, phase="search", observer=silent)
        report.give_groups(self.proxy.groups)
        report.ask(resolution=self.fidelity.resolution, data=self.fidelity.data)
        seed_all(seed)
        try:
            returned = watched(self._train, self.proxy(), params, report)
        except TrialDiverged:
            return None
        self._said = note_unread(report, said=self._said)
        if report.stopped is not None:  # and the train function went on all the same
            if report.stopped.outcome == "diverged":
                return None
            raise TrialPruned(report.stopped.message)
        score = real_number("the train function's return value, its final score,", returned)
        return score if math.isfinite(score) else None


def proxy_objective(
    model_fn: ModelFunction,
    train: TrainFunction,
    space: str | Mapping[str, Distribution] = "paper",
    *,
    example_inputs: ExampleInputs,
    epochs: int,
    pruning: Pruning = Pruning(),  # noqa: B008  # frozen
    fidelity: Fidelity | str = FULL,
    direction: Direction | None = None,
    seed: int = 0,
    data: Iterable[Batch] | None = None,
    loss: Loss | None = None,
    worst: float | None = None,
) -> ProxyObjective:
    """An objective for an optimizer that you drive yourself: every call trains a fresh proxy, with a seed of its own.

    The arguments are those of ``prunetune.tune``, which says more of them. Where ``fidelity`` asks for less than all,
    the train function is to heed ``report.epochs``, ``report.resolution`` and ``report.data``. Confirming the best on
    the full network is then yours to do.

    Parameters
    ----------
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
    towards = known_direction(direction)
    check_train(train)
    found = resolve_space(space)
    full = whole_number("epochs", epochs, minimum=1)
    asked = resolve_fidelity(fidelity)
    proxy = proxy_of(model_fn, example_inputs, pruning, seed=seed, data=data, loss=loss)
    if asked != FULL:
        with torch.random.fork_rng():
            asked = measured_fidelity(asked, model_fn(), proxy(), example_inputs, epochs=full)
    return ProxyObjective(proxy, train, found, epochs=full, fidelity=asked, direction=towards, seed=seed, worst=worst)

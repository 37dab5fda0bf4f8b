"""One training of one kind of network with one set of hyperparameters: seeded, watched, timed."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from torch import nn

from prunetune._utils.caller import seed_all
from prunetune._utils.malloc import give_back_at_times
from prunetune.backends.study.attributes import UNREAD
from prunetune.engine import fresh_proxy
from prunetune.events import Notice, Observer, silent
from prunetune.transfer.groups import ProxyGroups, plain_groups, proxy_groups
from prunetune.transfer.kinds import Corrected
from prunetune.transfer.optimizers import correct
from prunetune.tuning.architecture import built_for
from prunetune.tuning.params import ReadDict
from prunetune.tuning.ranks import Ranks
from prunetune.tuning.train_checks import counted_steps, few_steps_note, watched
from prunetune.tuning.transfer_notes import never_asked
from prunetune.tuning.types import ModelFunction, TrainFunction

if TYPE_CHECKING:
    import optuna
    from torch import Tensor

    from prunetune.backends.study.trial import GroupsFunction, Report
    from prunetune.tuning.plans import Plans
    from prunetune.tuning.settings import Weights


@dataclass
class Objective:
    """Trains what ``build`` builds, with hyperparameters and a report: the objective of every study there is.

    With ``plans`` it trains proxies that are cut by them and begin with such ``weights``, and the parameter groups that
    the train function can ask for follow the rule ``transfer``; without, ``groups``. ``resolution`` and ``data`` are
    what its report asks of it. ``keep(model, report)`` gets the trained model.
    """

    build: ModelFunction
    train: TrainFunction
    groups: GroupsFunction = plain_groups
    resolution: float = 1.0
    data: float = 1.0
    keep: Callable[[nn.Module, Report], None] | None = None
    plans: Plans | None = None
    weights: Weights = "redraw"
    transfer: str = "identity"
    recovered: Mapping[str, Tensor] | None = None
    """Of proxies of a pretrained network, see ``tuning.recovered``."""
    corrected: Corrected = "asked"
    """Whether optimizers are corrected that nobody asked ``groups`` for."""
    observer: Observer = silent
    few_steps: int = 0
    """Fewer optimizer steps in the first training are told of; 0 where nobody looks."""
    unasked: str = ""
    """What ``observer`` hears once of a train function that asks for no parameter groups."""
    _said: bool = field(default=False, init=False)

    @classmethod
    def on_proxy(
        cls,
        model_fn: ModelFunction,
        train: TrainFunction,
        plans: Plans,
        weights: Weights,
        transfer: str,
        corrected: Corrected = "asked",
        *,
        recovered: Mapping[str, Tensor] | None = None,
        resolution: float = 1.0,
        data: float = 1.0,
        observer: Observer = silent,
    ) -> Self:
        """That of a search: proxies with fresh weights. The observer hears once if ``transfer`` came to nothing."""
        return cls(
            model_fn,
            train,
            resolution=resolution,
            data=data,
            plans=plans,
            weights=weights,
            transfer=transfer,
            recovered=recovered,
            corrected=corrected,
            observer=observer,
            unasked=never_asked(transfer),
        )

    def __call__(self, params: dict[str, Any], report: Report) -> float:
        """The score. What of its report the train function did not look at is noted in the trial, and told once."""
        model, score = self.trained(params, report)
        if self.keep is not None:
            self.keep(model, report)
        if report.unread:
            report.note(UNREAD, list(report.unread))
            if not self._said:
                report.warn(unread_note(report.unread))
            self._said = True
        if self.unasked and not report.asked_groups:
            self.observer(Notice(self.unasked))
        self.unasked = ""  # the first training that ends tells
        return score

    def trained(self, params: dict[str, Any], report: Report) -> tuple[nn.Module, float]:
        """The trained model and its score; how long the train function took is noted in the trial."""
        if isinstance(self.train, Ranks):
            return self.train.trained(self, params, report)
        seed_all(report.seed)
        groups = self._groups(params)
        report.give_groups(groups)
        report.ask(resolution=self.resolution, data=self.data)
        given = ReadDict(copy.deepcopy(params))  # whoever takes something out of it has his own
        model = self.untrained(given)
        if self.corrected != "asked":
            assert isinstance(groups, ProxyGroups)
            correct(model, groups, self.corrected, report.mark_corrected)
        started = time.perf_counter()
        try:
            with counted_steps() as steps:
                score = watched(self.train, model, given, report)
            if report.number == 0 and 0 < steps.count < self.few_steps:
                report.warn(few_steps_note(steps.count, report.epochs))
            return model, score
        finally:
            report.note("train_seconds", time.perf_counter() - started)
            give_back_at_times()

    def untrained(self, params: dict[str, Any]) -> nn.Module:
        """The model that the training with these hyperparameters begins with."""
        build = built_for(self.build, params)
        if self.plans is None:
            return build()
        return fresh_proxy(build, self.plans.of(params), weights=self.weights, recovered=self.recovered)

    def _groups(self, params: dict[str, Any]) -> GroupsFunction:
        return self.groups if self.plans is None else proxy_groups(self.plans.of(params), self.transfer, self.weights)


def unread_note(names: Sequence[str]) -> str:
    """What a person should know of a train function that never looked at these properties of its report."""
    attributes = " and ".join(f"report.{name}" for name in names)
    return (
        f"warning: nothing read {attributes}, so trials on the proxy train with all of it and cost more than was "
        f"predicted; use {attributes} in the train function, or ask for a {names[0]} of 1"
    )


def unread_notes(study: optuna.Study) -> tuple[str, ...]:
    """One sentence if any trial's train function did not look at what it was asked for."""
    unread = {name for trial in study.get_trials(deepcopy=False) for name in trial.user_attrs.get(UNREAD, ())}
    return (unread_note(sorted(unread, reverse=True)),) if unread else ()

"""What a train function is handed where no search of ours runs it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import optuna
from torch import nn

from prunetune.training import ImageClassification
from prunetune.transfer.groups import Groups, ProxyGroups, plain_groups
from prunetune.transfer.kinds import OptimizerKind


class EnoughSeen(Exception):
    """The trial has trained for as long as it was meant to."""


@dataclass
class PlainReport:
    """What the built-in train function asks of `prunetune.Report`, and the usual lines between it and Optuna's trial.

    Attributes
    ----------
    stop_after
        The epoch after which the training ends with its score so far, in the midst of its schedule.
    proxy
        The parameter groups of a proxy; None on the full network.
    scores
        Of every epoch so far.
    """

    seed: int
    epochs: int
    trial: optuna.Trial | None = None
    stop_after: int | None = None
    proxy: ProxyGroups | None = None
    resolution: float = 1.0
    data: float = 1.0
    scores: list[float] = field(default_factory=list)

    @property
    def epoch(self) -> int:
        """How many epochs were trained."""
        return len(self.scores)

    def __call__(self, score: float, epoch: int) -> None:
        self.scores.append(score)
        if self.trial is not None:
            if math.isnan(score):
                raise optuna.TrialPruned
            self.trial.report(score, epoch)
            if epoch < self.epochs and self.trial.should_prune():
                raise optuna.TrialPruned
        if epoch == self.stop_after:
            raise EnoughSeen

    def param_groups(
        self, model: nn.Module, *, lr: float, weight_decay: float = 0.0, optimizer: OptimizerKind = "sgd"
    ) -> Groups:
        """Parameter groups for an optimizer."""
        groups = plain_groups if self.proxy is None else self.proxy
        return groups(model, lr=lr, weight_decay=weight_decay, optimizer=optimizer)


def train(job: ImageClassification, model: nn.Module, params: dict[str, object], report: PlainReport) -> float:
    """The score of a model, trained until its report ends it or the epochs are over."""
    try:
        return job(model, params, report)  # type: ignore[arg-type]
    except EnoughSeen:
        return report.scores[-1]

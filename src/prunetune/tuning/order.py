"""What a run's owner leaves in its studies for workers: which rung is at work, and how to train on it."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

from prunetune._utils.hashes import digest
from prunetune.backends.study.attributes import AT_WORK, JOB, ORDER, OWNER, PLAN, RUNG_ORDER
from prunetune.backends.study.chunked_attributes import read_text, write_text
from prunetune.errors import InputError, SearchError
from prunetune.events import Observer, silent
from prunetune.record.folder import read_json, trial_weights, write_weights
from prunetune.transfer.kinds import Corrected
from prunetune.tuning.objective import Objective
from prunetune.tuning.plans import Plans
from prunetune.tuning.recovered import read_recovered
from prunetune.tuning.settings import Weights
from prunetune.tuning.types import ModelFunction, TrainFunction

if TYPE_CHECKING:
    import optuna
    from torch import nn

    from prunetune.backends.study.trial import Report

SENT: Final = ("n_trials", "weights", "transfer", "optimizers", "resolution", "data", "keeps")


@dataclass(frozen=True)
class Order:
    """How to train on a rung, and how many, besides the settings of its study."""

    n_trials: int
    weights: Weights
    """What every trial begins with, see ``prunetune.engine.fresh_proxy``."""
    plan: str | None
    """The pruning plan, or those of several networks, as JSON (``Plans.to_json``); None for the full network."""
    transfer: str
    """The rule by which proxies take hyperparameters, see ``prunetune.transfer``."""
    optimizers: Corrected = "asked"
    """Which of a proxy's optimizers follow it."""
    job: dict[str, Any] | None = None
    """The configuration that model and training come from; None where they are functions of somebody's own."""
    resolution: float = 1.0
    data: float = 1.0
    """What the train function is told, see ``Report``."""
    keeps: bool = False
    """Whether the trained weights are kept in the run folder: it is the full network's whole training."""

    def objective(
        self, model_fn: ModelFunction, train: TrainFunction, observer: Observer = silent, *, folder: Path | None = None
    ) -> Objective:
        """What trains on the rung; ``folder`` is the run's, where there is one to keep weights in."""

        def keep(model: nn.Module, report: Report) -> None:
            assert folder is not None
            write_weights(model, trial_weights(folder, report.number))

        if self.plan is None:
            keeping = keep if self.keeps and folder is not None else None
            return Objective(model_fn, train, resolution=self.resolution, data=self.data, keep=keeping)
        plans = Plans.from_json(self.plan)
        return Objective.on_proxy(
            model_fn,
            train,
            plans,
            self.weights,
            self.transfer,
            self.optimizers,
            recovered=read_recovered(folder, plans.usual) if self.weights == "recovered" else None,
            resolution=self.resolution,
            data=self.data,
            observer=observer,
        )


def owner_of(run: str, folder: str) -> dict[str, str]:
    """Who a study belongs to, as ``open_study`` takes it; ``run`` is the identity of the run in ``folder``."""
    return {"id": run, "folder": folder, "host": socket.gethostname()}


def folder_of(study: optuna.Study) -> Path | None:
    """The folder of the run that the study belongs to, where this process reaches it."""
    owner = study.user_attrs.get(OWNER, {})
    path = Path(owner.get("folder", ""))
    try:
        record = read_json(path / "result.json")
    except (InputError, OSError):
        return None
    known = owner.get("id") is not None and isinstance(record, dict) and record.get("id") == owner["id"]
    return path if known else None


def publish(study: optuna.Study, order: Order, *, first: bool) -> None:
    """Let workers join ``study``, or tell those that have that there are more trials to run; see ``set_at_work``."""
    for key, text in ((PLAN, order.plan), (JOB, json.dumps(order.job))):
        if text is not None and read_text(study, key) != text:
            write_text(study, key, text)
    sent = {name: getattr(order, name) for name in SENT}
    sent["plan"] = None if order.plan is None else digest(order.plan)
    study.set_user_attr(ORDER if first else RUNG_ORDER, sent)


def publish_trials(study: optuna.Study, n_trials: int) -> None:
    """Tell workers how many trials there are to be now."""
    known = study.user_attrs
    marker = ORDER if ORDER in known else RUNG_ORDER
    study.set_user_attr(marker, {**known[marker], "n_trials": n_trials})


def published_trials(study: optuna.Study) -> int:
    """How many trials there are to be by what the owner has said last."""
    known = study.user_attrs
    return int((known[ORDER] if ORDER in known else known[RUNG_ORDER])["n_trials"])


def read_order(study: optuna.Study) -> Order:
    """What ``publish`` left. Raises SearchError if that is not all there."""
    known, plan, job = study.user_attrs, read_text(study, PLAN), read_text(study, JOB)
    order = known[ORDER] if ORDER in known else known[RUNG_ORDER]
    try:
        wanted = order["plan"]
        if job is None or (wanted is not None and (plan is None or digest(plan) != wanted)):
            raise ValueError("its pruning plan is not all there")
        old = {"transfer": "identity"}  # earlier versions had no other
        whole = {**old, **order, "plan": None if wanted is None else plan, "job": json.loads(job)}
        return TypeAdapter(Order).validate_python(whole)
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise SearchError(
            f"what the study {study.study_name!r} says to workers is damaged ({reason}); start another study"
        ) from None


@dataclass(frozen=True)
class AtWork:
    """Which study of a run has work now; None where there is none for workers, and will be none."""

    study: str | None
    over: bool = True
    """Nothing comes after it, as far as is known: the owner has stopped, or this is the end."""


def set_at_work(study: optuna.Study, first: str, at: AtWork) -> None:
    """Say in the study called ``first``, which workers join, what is at work; ``study`` is in the same storage."""
    storage = study._storage
    storage.set_study_user_attr(storage.get_study_id_from_name(first), AT_WORK, vars(at))


def at_work(study: optuna.Study) -> AtWork:
    """What the run of this first study is at; version 0.1 had no other study for workers."""
    said = study.user_attrs.get(AT_WORK)
    return AtWork(study.study_name) if said is None else AtWork(**said)

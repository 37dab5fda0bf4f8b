"""Joining a search: what a run's owner leaves in its study for others, and ``work``, which is one of them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

from prunetune._utils.caller import given_back, seed_all
from prunetune._utils.interrupts import interruptible
from prunetune._utils.malloc import freed_memory_kept
from prunetune.backends.study.attributes import JOB, ORDER, PLAN
from prunetune.backends.study.chunked_attributes import read_text, write_text
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import join_study
from prunetune.engine import PruningPlan, fresh_proxy
from prunetune.errors import SearchError
from prunetune.events import Observer
from prunetune.pruning.checks import check_model_fn, check_train
from prunetune.tuning.fingerprint import Fingerprint, Resume, check_given, check_resume
from prunetune.tuning.objective import Objective
from prunetune.tuning.settings import Weights
from prunetune.tuning.types import ModelFunction, TrainFunction
from prunetune.tuning.watching import Watching

if TYPE_CHECKING:
    import optuna

    from prunetune.backends.study.study import StudySettings

WAIT_SECONDS: Final = 600.0


@dataclass(frozen=True)
class Order:
    """What a worker has to know besides the settings of the study."""

    n_trials: int
    weights: Weights
    """What every trial begins with, see ``prunetune.engine.fresh_proxy``."""
    plan: str
    """The pruning plan as JSON."""
    transfer: str
    """The rule by which proxies take hyperparameters, see ``prunetune.transfer``."""
    job: dict[str, Any] | None
    """The configuration that model and training come from; None where they are functions of somebody's own."""
    resolution: float = 1.0
    data: float = 1.0
    """What the train function is told, see ``Report``."""


def owner_of(run: str, folder: str) -> dict[str, str]:
    """Who a study belongs to, as ``open_study`` takes it; ``run`` is the identity of the run in ``folder``."""
    return {"id": run, "folder": folder, "host": socket.gethostname()}


def publish(study: optuna.Study, order: Order) -> None:
    """Let workers join ``study``, or tell those that have that there are more trials to run."""
    for key, text in ((PLAN, order.plan), (JOB, json.dumps(order.job))):
        if read_text(study, key) != text:
            write_text(study, key, text)
    plain = {name: getattr(order, name) for name in ("n_trials", "weights", "transfer", "resolution", "data")}
    study.set_user_attr(ORDER, {**plain, "plan": digest(order.plan)})


def publish_trials(study: optuna.Study, n_trials: int) -> None:
    """Tell workers how many trials there are to be now."""
    study.set_user_attr(ORDER, {**study.user_attrs[ORDER], "n_trials": n_trials})


def read_order(study: optuna.Study) -> Order:
    """What ``publish`` left. Raises SearchError if that is not all there."""
    order, plan, job = study.user_attrs[ORDER], read_text(study, PLAN), read_text(study, JOB)
    try:
        if plan is None or job is None or digest(plan) != order["plan"]:
            raise ValueError("its pruning plan is not all there")
        old = {"transfer": "identity"}  # earlier versions had no other
        return TypeAdapter(Order).validate_python({**old, **order, "plan": plan, "job": json.loads(job)})
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0]
        raise SearchError(
            f"what the study {study.study_name!r} says to workers is damaged ({reason}); start another study"
        ) from None


@contextlib.contextmanager
def joined(
    storage: str, study: str | None, observer: Observer, wait: float = WAIT_SECONDS
) -> Iterator[tuple[optuna.Study, StudySettings, Order]]:
    """A search that a run has published, its settings and what else a worker has to know."""
    with join_study(storage, study, marker=ORDER, observer=observer, wait=wait) as (found, settings):
        yield found, settings, read_order(found)


@interruptible(signal.SIGINT)
@given_back()
def work(
    model_fn: ModelFunction,
    train: TrainFunction,
    storage: str,
    *,
    study: str | None = None,
    wait: float = WAIT_SECONDS,
    resume: Resume = "same",
    observer: Observer | None = None,
) -> int:
    """Run trials of a search that ``prunetune.tune`` has started in ``storage``; returns how many.

    Returns when the search has all its trials. What is searched, on which proxy, by which optimizer and how often comes
    from the study, so that a worker needs no folder in common with the run: it may be on another machine. Start as many
    as you like, whenever you like; the run itself confirms and trains the best.

    Parameters
    ----------
    model_fn, train
        Those of ``tune``; another network than the run's is refused.
    storage
        The URL that ``tune`` was given as ``Search(storage=…)``.
    study
        The name of the search, if there are several in the storage.
    wait
        Seconds to wait for the search to be started.
    resume
        "anyway" joins though the network or the train function is another than the run's.
    observer
        As for ``tune``.

    Raises
    ------
    PlanError
        The network is another than the one that the proxy was cut from.
    SearchError
        There is no such search, every trial fails, or (StorageError) the storage cannot be used.
    InputError
        The URL is of no known kind, the package that it needs is not installed, there are several searches, or the
        train function is another than the run's.

    Example
    -------
    On as many machines as there are, with the URL of a database that all of them reach::

        prunetune.work(MyNet, train, "postgresql://me@db.example.org/searches")
    """
    check_model_fn(model_fn)
    check_train(train)
    check_resume(resume)
    goes_on = "this worker was stopped; the search goes on without it, and the same call joins it again"
    with (
        freed_memory_kept(),
        Watching(observer, goes_on) as watching,
        joined(storage, study, watching, wait) as (found, settings, order),
    ):
        plan = PruningPlan.from_json(order.plan)
        fresh_proxy(model_fn, plan)  # raises PlanError here and now if it is another network
        seed_all(settings.seed)
        now = Fingerprint.of({"network": model_fn()}, {"model_fn": model_fn, "train": train})
        check_given(found, now, resume=resume, observer=watching)

        def n_trials() -> int:
            return int(found.user_attrs[ORDER]["n_trials"])

        objective = Objective.on_proxy(
            model_fn,
            train,
            plan,
            order.weights,
            order.transfer,
            resolution=order.resolution,
            data=order.data,
            observer=watching,
        )
        return run_trials(found, objective, settings, n_trials=n_trials, observer=watching, distinct=True)


def kept_plan(study: optuna.Study, cut: Callable[[], PruningPlan], model_fn: ModelFunction) -> PruningPlan:
    """The plan that the study's trials were made with, or now ``cut``: a measured budget may give another each time.

    Raises PlanError if ``model_fn`` builds another network than the plan was made for.
    """
    kept = read_text(study, PLAN)
    if kept is None:
        plan = cut()
        write_text(study, PLAN, plan.to_json())
        return plan
    plan = PruningPlan.from_json(kept)
    fresh_proxy(model_fn, plan)  # raises PlanError here and now if it is another network
    return plan


def digest(text: str) -> str:
    """The SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()

"""Joining a search: ``work``, which trains on each rung as the run comes to it."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from prunetune._utils.caller import given_back, seed_all
from prunetune._utils.interrupts import check_interrupted, interruptible
from prunetune._utils.malloc import freed_memory_kept
from prunetune.backends.study.attributes import ORDER, RUNG_ORDER
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import join_study
from prunetune.engine import fresh_proxy
from prunetune.events import Notice, Observer
from prunetune.pruning.checks import check_model_fn, check_train
from prunetune.tuning.architecture import network_of
from prunetune.tuning.climbers import expected
from prunetune.tuning.fingerprint import Fingerprint, Resume, check_given, check_resume
from prunetune.tuning.order import Order, at_work, folder_of, published_trials, read_order
from prunetune.tuning.plans import Plans
from prunetune.tuning.types import GivenModelFunction, ModelFunction, TrainFunction
from prunetune.tuning.watching import Watching

if TYPE_CHECKING:
    import optuna

    from prunetune.backends.study.study import StudySettings
    from prunetune.events import Phase

WAIT_SECONDS: Final = 600.0
NEXT_SECONDS: Final = 60.0
"""So long a worker waits for the next rung; a run that takes longer between two is gone."""
PAUSE_SECONDS: Final = 0.5


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
    model_fn: GivenModelFunction,
    train: TrainFunction,
    storage: str,
    *,
    study: str | None = None,
    wait: float = WAIT_SECONDS,
    resume: Resume = "same",
    observer: Observer | None = None,
) -> int:
    """Train configurations of a run that ``prunetune.tune`` has started in ``storage``; returns how many.

    Returns when the run has nothing more to train. What is trained on which rung and how often comes from the storage,
    so a worker needs no folder in common with the run: it may be on another machine. Start as many as you like,
    whenever you like. On the last rung, where several are trained in full, only those help who reach the run's folder:
    the winner's weights are kept there.

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
        joined(storage, study, watching, wait) as (first, settings, order),
    ):
        build = network_of(model_fn, settings.space)
        if order.plan is not None:
            fresh_proxy(build, Plans.from_json(order.plan).usual)  # raises PlanError for another network
        seed_all(settings.seed)
        now = Fingerprint.of({"network": build()}, {"model_fn": model_fn, "train": train})
        check_given(first, now, resume=resume, observer=watching)
        ran, done, waits_until = 0, None, 0.0
        while (at := at_work(first)).study is not None:
            if at != done:
                ran += _train_on(at.study, first, settings, storage, build, train, watching)
                done, waits_until = at, time.monotonic() + NEXT_SECONDS
            elif at.over or time.monotonic() > waits_until:
                break
            else:
                check_interrupted()
                time.sleep(PAUSE_SECONDS)
        return ran


def _train_on(
    name: str,
    first: optuna.Study,
    settings: StudySettings,
    storage: str,
    model_fn: ModelFunction,
    train: TrainFunction,
    observer: Observer,
) -> int:
    """Train on the rung whose study is called ``name`` until it has all its trials; how many were trained here."""
    if name == first.study_name:
        objective = read_order(first).objective(model_fn, train, observer, folder=folder_of(first))
        total = _total(first)
        return run_trials(first, objective, settings, n_trials=total, observer=observer, distinct=True)
    with join_study(storage, name, marker=RUNG_ORDER, observer=observer) as (study, settings):
        order, folder = read_order(study), folder_of(first)
        if order.keeps and folder is None:
            observer(Notice("the last rung is trained by those who reach the run's folder, where weights are kept"))
            return 0
        objective, phase = order.objective(model_fn, train, observer, folder=folder), _phase(order)
        return run_trials(study, objective, settings, n_trials=_total(study), phase=phase, observer=observer)


def _total(study: optuna.Study) -> Callable[[], int]:
    """How many trials there are to be: above the first rung nobody proposes, so no more than came up."""
    if ORDER in study.user_attrs:
        return lambda: published_trials(study)
    return lambda: min(published_trials(study), expected(study))


def _phase(order: Order) -> Phase:
    return "confirm" if order.keeps else "climb"

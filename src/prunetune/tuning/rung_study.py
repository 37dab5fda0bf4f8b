"""The study of a rung while the run trains on it: where workers reach it, and what they are told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Final

from prunetune.backends.study.attributes import ORDER, RUNG_ORDER
from prunetune.backends.study.study import copy_study, open_study
from prunetune.errors import StorageError
from prunetune.tuning.climbers import CAME_UP
from prunetune.tuning.order import AtWork, Order, owner_of, publish, publish_trials, set_at_work

if TYPE_CHECKING:
    import optuna

    from prunetune.backends.study.study import StudySettings
    from prunetune.tuning.run import TuningRun

SEARCH_STUDY: Final = "search"  # in the run folder
CONFIRM_STUDY: Final = "confirm"


def first_study(run: TuningRun) -> str:
    """The name of the first rung's study, which workers join."""
    return run.settings.search.study_name(run.folder.path)


@contextlib.contextmanager
def rung_study(run: TuningRun, name: str, settings: StudySettings) -> Iterator[optuna.Study]:
    """The study ``name`` of a rung, in the storage that was asked for or in the run folder.

    When the block ends the folder has it too: what goes up from there, and the report, come from the folder. Where the
    block is left by an error, workers hear that nothing comes after this rung.
    """
    shared, first = run.settings.search.storage, first_study(run)
    above = name != SEARCH_STUDY
    there = name if above and shared is None else f"{first}/{name}" if above else first
    owner = owner_of(run.record["id"], str(run.folder.path.absolute()))
    needs = CAME_UP if above else {}
    with open_study(
        shared or run.folder.storage, there, settings, owner=owner, observer=run.observer, needs=needs
    ) as study:
        if above and shared is not None and not study.get_trials(deepcopy=False):
            with open_study(run.folder.storage, name, settings, observer=run.observer, needs=needs) as own:
                study.add_trials(own.get_trials(deepcopy=False))  # version 0.1 had them in the folder only
        try:
            yield study
        except BaseException:
            with contextlib.suppress(StorageError):
                joined = not {ORDER, RUNG_ORDER}.isdisjoint(study.user_attrs)
                set_at_work(study, first, AtWork(there if joined else None))
            raise
        if shared is not None:
            copy_study(study, run.folder.storage, name, settings, observer=run.observer)


def published(run: TuningRun, study: optuna.Study, order: Order, wanted: Callable[[], int]) -> Callable[[], int]:
    """``wanted``, how many trials there are to be; workers train there from now on, and hear of it when it changes."""
    first, known = first_study(run), order.n_trials
    publish(study, order, first=study.study_name == first)
    set_at_work(study, first, AtWork(study.study_name, over=False))

    def total() -> int:
        nonlocal known
        now = wanted()
        if now != known:
            publish_trials(study, now)
            known = now
        return now

    return total


def nothing_at_work(run: TuningRun, study: optuna.Study) -> None:
    """Let workers go: what is left is for the run itself."""
    set_at_work(study, first_study(run), AtWork(None))

"""A block in which readers of a study's trials share one reading, until this process writes something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from prunetune.backends.space import Float, SearchSpace
from prunetune.backends.study.study import StudySettings, open_study, read_once

SETTINGS = StudySettings(SearchSpace({"x": Float(0.0, 1.0)}), 1, "maximize", "random", "none")


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry for every reading of trials from the database."""
    found: list[int] = []
    real: Callable[..., object] = RDBStorage._get_trials

    def counted(self: RDBStorage, study_id: int, *rest: object, **more: object) -> object:
        found.append(study_id)
        return real(self, study_id, *rest, **more)

    monkeypatch.setattr(RDBStorage, "_get_trials", counted)
    return found


def test_readers_in_a_row_share_what_was_read(tmp_path: Path, readings: list[int]) -> None:
    with open_study(f"sqlite:///{tmp_path}/study.db", "a", SETTINGS) as study:
        study.enqueue_trial({"x": 0.5})
        study.tell(study.ask(), 1.0)
        study.enqueue_trial({"x": 0.25})
        readings.clear()
        with read_once(study):
            seen = [study.get_trials(deepcopy=False) for _ in range(5)]
            waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        assert len(readings) == 1
        assert [trial.state for trial in seen[4]] == [TrialState.COMPLETE, TrialState.WAITING]
        assert [trial.number for trial in waiting] == [1]
        study.get_trials(deepcopy=False)
        study.get_trials(deepcopy=False)
        assert len(readings) == 3  # outside of the block as ever


def test_what_this_process_writes_is_seen_at_once(tmp_path: Path) -> None:
    with open_study(f"sqlite:///{tmp_path}/study.db", "a", SETTINGS) as study, read_once(study):
        assert study.get_trials(deepcopy=False) == []
        trial = study.ask()
        assert [each.state for each in study.get_trials(deepcopy=False)] == [TrialState.RUNNING]
        trial.set_user_attr("note", "written")
        assert study.get_trials(deepcopy=False)[0].user_attrs == {"note": "written"}
        study.tell(trial, 0.5)
        assert study.get_trials(deepcopy=False)[0].value == 0.5


def test_what_others_write_is_seen_after_the_block(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    with open_study(url, "a", SETTINGS) as study, open_study(url, "a", SETTINGS) as other:
        with read_once(study):
            assert study.get_trials(deepcopy=False) == []
            other.tell(other.ask(), 1.0)
        assert len(study.get_trials(deepcopy=False)) == 1


def test_a_study_of_optunas_own_storage_is_read_as_ever() -> None:
    study = optuna.create_study()
    with read_once(study):
        study.tell(study.ask(), 1.0)
        assert len(study.trials) == 1

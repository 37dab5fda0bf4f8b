"""Optuna's journal as a storage: what it gives, what it survives, and an ending that is written in one piece."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from prunetune.backends.study import storage
from prunetune.backends.study.attributes import GIVEN_UP
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.study import note_ending, open_study
from prunetune.errors import StorageError
from tiny_study import SETTINGS, score, search

pytestmark = pytest.mark.filterwarnings("error")

WHOLE = {"outcome": "complete", "seconds": 1.0, "epochs": 1, "seed": 7}


def test_a_journal_gives_the_trials_that_sqlite_gives(tmp_path: Path) -> None:
    journal = f"journal://{tmp_path}/j.log"
    assert search(journal, 2) == search(f"sqlite:///{tmp_path}/a.db", 2)
    assert search(journal, 6) == search(f"sqlite:///{tmp_path}/a.db", 6)


def test_a_relative_journal_is_written_where_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    search("journal:a/j.log", 1)
    assert (tmp_path / "a" / "j.log").stat().st_size > 0
    with pytest.raises(StorageError, match="there is no folder"):
        search("journal:///nowhere/j.log", 1)


def test_a_journal_whose_last_line_was_cut_goes_on(tmp_path: Path) -> None:
    """As a power cut or a full disk leaves it; Optuna's own appends to the rest, and can't read the file any more."""
    url, path = f"journal://{tmp_path}/j.log", tmp_path / "j.log"
    search(url, 3)
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][:20])
    assert len(search(url, 5)) == 5
    assert path.read_bytes().startswith(whole)
    assert len(search(url, 6)) == 6


@pytest.mark.parametrize("contents", ["{}}\n{}\n", "{}\n", '{"op_code": 4}\n', '{"op_code": "?"}\n{}\n', "[]\n", "1\n"])
def test_a_damaged_journal_is_one_sentence(tmp_path: Path, contents: str) -> None:
    (tmp_path / "j.log").write_text(contents)
    with pytest.raises(StorageError, match="cannot open the storage journal:.*: line 1 of the journal is damaged"):
        search(f"journal://{tmp_path}/j.log", 1)


def test_how_a_trial_ended_is_written_in_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    append = storage._File.append_logs

    def counted(file: Any, logs: list[dict[str, Any]]) -> None:
        written.append(len(logs) + len(file.later))
        append(file, logs)

    monkeypatch.setattr(storage._File, "append_logs", counted)
    search(f"journal://{tmp_path}/j.log", 5)
    last = written[-4:]  # it begins, with its owner; one hyperparameter, one report; the state with four attributes
    assert sum(last) == 8
    assert last[-1] == 5
    assert len((tmp_path / "j.log").read_text().splitlines()) == sum(written)


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_the_end_of_a_trial_that_others_have_given_up_changes_nothing(kind: str, tmp_path: Path) -> None:
    url = f"{kind}:///{tmp_path}/study"
    with open_study(url, "search", SETTINGS) as study, open_study(url, "search", SETTINGS) as other:
        trial = study.ask(SETTINGS.space.to_optuna())
        other._storage.set_trial_user_attr(trial._trial_id, GIVEN_UP, True)
        other._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)

        def end() -> None:
            note_ending(study, trial, WHOLE)
            study._storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [1.0])

        with pytest.raises(UpdateFinishedTrialError):
            end()
        run_trials(study, score, SETTINGS, n_trials=2)  # the storage is as good as before
        for each in (study, other):
            assert [t.state.name for t in each.trials] == ["FAIL", "COMPLETE", "COMPLETE"]
            assert each.trials[0].user_attrs == {GIVEN_UP: True} and each.trials[2].user_attrs["outcome"] == "complete"


def test_an_ending_that_could_not_be_written_is_written_whole_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"journal://{tmp_path}/j.log"
    with open_study(url, "search", SETTINGS) as study:
        trial, fsync = study.ask(SETTINGS.space.to_optuna()), os.fsync
        full = [OSError(28, "No space left on device")]

        def sometimes(descriptor: int) -> None:
            if full:
                raise full.pop()
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", sometimes)
        note_ending(study, trial, WHOLE)
        study.tell(trial, 1.0)
        assert not full
    with open_study(url, "search", SETTINGS) as study:
        assert [t.user_attrs for t in study.trials] == [WHOLE]

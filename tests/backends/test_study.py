"""Opening a study: the same search or a clear refusal, stale trials failed, Optuna's logging left as it was."""

from __future__ import annotations

import gc
import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from prunetune.backends import Float, Int, SearchSpace
from prunetune.backends.study.study import (
    StudySettings,
    open_study,
    outcome,
    top_trials,
    worst_score,
)
from prunetune.errors import InputError, SearchError

pytestmark = pytest.mark.filterwarnings("error")

SETTINGS = StudySettings(SearchSpace({"x": Float(0, 1), "n": Int(1, 4)}), epochs=5, optimizer="optuna:tpe")


def _url(folder: Path) -> str:
    return f"sqlite:///{folder}/study.db"


def test_equal_settings_open_it_again(tmp_path: Path) -> None:
    with open_study(_url(tmp_path), "search", SETTINGS) as study:
        study.add_trial(optuna.create_trial(value=1.0))
    with open_study(_url(tmp_path), "search", replace(SETTINGS, optimizer="tpe")) as study:
        assert len(study.trials) == 1


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"direction": "minimize"}, "direction = 'maximize', now it is 'minimize'"),
        ({"optimizer": "random"}, "optimizer = 'optuna:tpe', now it is 'optuna:random'"),
        ({"trial_pruner": "none"}, "trial_pruner = 'asha', now it is 'none'"),
        ({"epochs": 6}, "epochs = 5, now it is 6"),
        ({"seed": 1}, "seed = 0, now it is 1"),
        (
            {"space": SearchSpace({"x": Float(0, 2), "n": Int(1, 4)})},
            "space.x = {'type': 'float', 'low': 0.0, 'high': 1",
        ),
        (
            {"space": SearchSpace({"x": Float(0, 1)})},
            "space.n = {'type': 'int', 'low': 1, 'high': 4, 'log': False}, now",
        ),
        ({"space": SearchSpace({**SETTINGS.space, "z": Int(1, 4)})}, "space.z = None, now it is {'type': 'int'"),
    ],
)
def test_other_settings_are_refused_and_named(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    with open_study(_url(tmp_path), "search", SETTINGS):
        pass
    with pytest.raises(SearchError) as caught, open_study(_url(tmp_path), "search", replace(SETTINGS, **change)):
        pass
    assert sentence in str(caught.value)
    assert "'search' was started with" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"epochs": 0}, "epochs is 0, but it must be a whole number of at least 1"),
        ({"epochs": 2.5}, "epochs is 2.5, but"),
        ({"seed": -1}, "seed is -1, but it must be a whole number of at least 0"),
        ({"direction": "up"}, "direction is 'up', but it must be 'maximize' or 'minimize'"),
        ({"optimizer": "radnom"}, "unknown optimizer 'radnom' (did you mean 'random'?)"),
        ({"trial_pruner": "hyper"}, "unknown trial pruner 'hyper'"),
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        replace(SETTINGS, **change)
    assert sentence in str(caught.value)


def test_a_strangers_study_is_refused(tmp_path: Path) -> None:
    study = optuna.create_study(storage=_url(tmp_path), study_name="search", direction="maximize")
    study.add_trial(optuna.create_trial(value=1.0))
    study._storage._backend.engine.dispose()  # type: ignore[attr-defined]
    with pytest.raises(SearchError, match="was not made by prunetune"), open_study(_url(tmp_path), "search", SETTINGS):
        pass


def test_a_study_that_its_maker_signs_and_begins_at_this_moment_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of four workers one took another's first trial for a stranger's, once in some hundred starts."""
    study = optuna.create_study(storage=_url(tmp_path), study_name="search", direction="maximize")
    get_trials = optuna.Study.get_trials

    def meanwhile(self: optuna.Study, *args: Any, **kwargs: Any) -> Any:
        monkeypatch.setattr(optuna.Study, "get_trials", get_trials)
        with open_study(_url(tmp_path / "other"), "search", SETTINGS) as other:
            study.set_user_attr("prunetune", other.user_attrs["prunetune"])
        study.add_trial(optuna.create_trial(value=1.0))
        return get_trials(self, *args, **kwargs)

    (tmp_path / "other").mkdir()
    monkeypatch.setattr(optuna.Study, "get_trials", meanwhile)
    with open_study(_url(tmp_path), "search", SETTINGS) as opened:
        assert len(opened.trials) == 1
    study._storage._backend.engine.dispose()  # type: ignore[attr-defined]


@pytest.mark.parametrize("content", [b"this is no database at all" * 100, None])
def test_a_storage_that_cannot_be_opened_is_one_sentence(content: bytes | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "study.db").write_bytes(content)
    url = _url(tmp_path) if content is not None else _url(tmp_path / "missing")
    with (
        pytest.raises(SearchError, match="cannot open the storage sqlite:///") as caught,
        open_study(url, "s", SETTINGS),
    ):
        pass
    assert "\n" not in str(caught.value)


def test_a_password_is_not_shown() -> None:
    url = "postgresql+nodriver://user:secret@host/db"
    with pytest.raises(SearchError) as caught, open_study(url, "search", SETTINGS):
        pass
    assert "host" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_optunas_verbosity_is_as_before(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    with open_study(_url(tmp_path), "search", SETTINGS):
        assert optuna.logging.get_verbosity() == optuna.logging.WARNING
    with pytest.raises(ZeroDivisionError), open_study(_url(tmp_path), "search", SETTINGS):
        raise ZeroDivisionError
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


def test_the_database_is_closed_in_the_end(tmp_path: Path) -> None:
    with open_study(_url(tmp_path), "search", SETTINGS):
        pass
    gc.collect()  # a connection that was left open would be a ResourceWarning, and so an error
    with sqlite3.connect(tmp_path / "study.db", timeout=0) as database:
        database.execute("BEGIN EXCLUSIVE")
    database.close()


def _trial(value: float | None, x: float, **attributes: Any) -> optuna.trial.FrozenTrial:
    return optuna.create_trial(
        state=TrialState.COMPLETE if value is not None else TrialState.FAIL,
        value=value,
        params={"x": x},
        distributions={"x": SETTINGS.space["x"].to_optuna()},
        user_attrs=attributes,
    )


@pytest.mark.parametrize(("direction", "numbers"), [("maximize", [3, 1, 0]), ("minimize", [5, 0, 1])])
def test_top_trials_are_distinct_complete_and_in_order(direction: Any, numbers: list[int], tmp_path: Path) -> None:
    settings = replace(SETTINGS, direction=direction)
    with open_study(_url(tmp_path), "search", settings) as study:
        study.add_trials(
            [
                _trial(0.1, 0.1),
                _trial(0.2, 0.2),
                _trial(None, 0.3),
                _trial(0.3, 0.4),
                _trial(0.3, 0.4),  # the same hyperparameters again, as good
                _trial(0.1, 0.1, outcome="complete") if direction == "maximize" else _trial(0.05, 0.6),
                _trial(0.9 if direction == "maximize" else 0.0, 0.7, outcome="diverged"),
            ]
        )
        assert [trial.number for trial in top_trials(study, 3)] == numbers
        assert [trial.number for trial in top_trials(study, 1)] == numbers[:1]
        assert len(top_trials(study, 100)) == (3 if direction == "maximize" else 4)
        assert outcome(study.trials[6]) == "diverged"


@pytest.mark.parametrize(
    ("direction", "nothing", "worst"), [("maximize", -float("inf"), -2.0), ("minimize", float("inf"), 7.0)]
)
def test_worst_score_counts_single_epochs_and_no_infinity(
    direction: Any, nothing: float, worst: float, tmp_path: Path
) -> None:
    with open_study(_url(tmp_path), "search", replace(SETTINGS, direction=direction)) as study:
        assert worst_score(study) == nothing
        study.add_trial(_trial(nothing, 0.1, outcome="diverged"))
        assert worst_score(study) == nothing
        study.add_trial(_trial(1.0, 0.2))
        assert worst_score(study) == 1.0
        running = study.ask()
        running.report(-2.0, 1)
        running.report(7.0, 2)
        assert worst_score(study) == worst

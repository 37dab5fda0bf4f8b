"""Searches in a real PostgreSQL server, started for these tests: many workers, kills, outages, no passwords."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from sqlalchemy.engine import make_url
from torch import nn

import prunetune
from benchmarks.common.postgres import PASSWORD, NoPostgresError, Postgres, postgres
from benchmarks.fault_drill.runs import Drill, run
from prunetune.backends import Float, SearchSpace
from prunetune.backends.study.loop import run_trials
from prunetune.backends.study.storage import database_url
from prunetune.backends.study.study import StudySettings, finished_trials, open_study
from prunetune.backends.study.trial import Report
from prunetune.errors import StorageError
from prunetune.events import Event, Notice
from tests.backends.test_storage import start_together
from tiny_tune import touch

pytestmark = pytest.mark.filterwarnings("error")

SETTINGS = StudySettings(SearchSpace({"x": Float(0, 1)}), epochs=3, optimizer="random", trial_pruner="none")


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    try:
        with postgres() as running:
            yield running
    except NoPostgresError as reason:
        pytest.skip(str(reason))


def score(params: dict[str, Any], report: Report) -> float:
    report(params["x"], 1)
    return float(params["x"])


def test_four_workers_of_which_twenty_are_killed_lose_nothing(server: Postgres) -> None:
    found = run(Drill(server.database("drill"), n_trials=80, workers=4, trial_seconds=0.2))
    assert found.failures == []
    assert found.kills == 20
    assert len(found.interrupted) > 0


def test_many_may_be_the_first_on_an_empty_database(server: Postgres) -> None:
    url = server.database("first")
    assert start_together(url, 8) == [0] * 8
    with open_study(url, "search", SETTINGS) as study:
        assert len(finished_trials(study)) == 8


def test_a_server_that_is_gone_and_back_is_waited_for(server: Postgres) -> None:
    notices: list[str] = []

    def observe(event: Event) -> None:
        if isinstance(event, Notice):
            notices.append(event.message)

    def outage(params: dict[str, Any], report: Report) -> float:
        if report.number == 1:
            server.stop()
            threading.Timer(3, server.start).start()
        return score(params, report)

    url = server.database("outage")
    with open_study(url, "search", SETTINGS, observer=observe) as study:
        run_trials(study, outage, SETTINGS, n_trials=4)
        assert [trial.user_attrs["outcome"] for trial in study.trials] == ["complete"] * 4
    assert "cannot be used (" in notices[0]
    assert "is back after" in notices[-1]
    assert not any(PASSWORD in notice for notice in notices)


def test_a_server_that_stays_away_is_an_error_and_the_next_start_goes_on(server: Postgres) -> None:
    url = server.database("away")

    def stop(params: dict[str, Any], report: Report) -> float:
        if report.number == 1:
            server.stop()
        return score(params, report)

    try:
        with (
            pytest.raises(StorageError, match="cannot be used .* what is finished is kept, so start again") as caught,
            open_study(url, "search", SETTINGS, patience=1.0) as study,
        ):
            run_trials(study, stop, SETTINGS, n_trials=3)
        assert PASSWORD not in str(caught.value)
        with pytest.raises(StorageError, match="cannot open the storage"), open_study(url, "search", SETTINGS):
            pass
    finally:
        server.start()
    with open_study(url, "search", SETTINGS) as study:
        assert len(finished_trials(study)) == 1


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))


def train(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    touch(model)
    return float(params["x"]) + model.get_parameter("0.weight").shape[0]


def test_a_run_writes_its_password_nowhere(server: Postgres, tmp_path: Path) -> None:
    url = server.database("secret")
    search = prunetune.Search(direction="maximize", n_trials=3, confirm=1, storage=url, study="mine")
    options: dict[str, Any] = {"example_inputs": torch.zeros(2, 6), "epochs": 2, "search": search}
    result = prunetune.tune(net, train, SETTINGS.space, run_dir=tmp_path / "run", **options)
    assert result.record["storage"] == url.replace(PASSWORD, "***")
    assert result.record["search"]["trials"]["complete"] == 3
    assert (tmp_path / "run" / "report.html").exists()
    for path in (tmp_path / "run").iterdir():
        assert PASSWORD.encode() not in path.read_bytes(), path
    assert PASSWORD not in repr(search)
    assert prunetune.work(net, train, url) == 0


def test_the_short_name_takes_the_driver_that_the_extra_brings() -> None:
    for short in ("postgresql", "postgres"):
        assert database_url(f"{short}://me@host/db").drivername == "postgresql+psycopg"
    assert database_url("mysql://me@host/db").drivername == "mysql+pymysql"
    assert database_url("postgresql+psycopg2://host/db") == make_url("postgresql+psycopg2://host/db")

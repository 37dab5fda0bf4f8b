"""Workers of a run: what they are told, what they refuse, and that the run takes over what they found."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from optuna.trial import TrialState
from torch import nn
from typer.testing import CliRunner

import prunetune
import prunetune.cli.actions
import prunetune.engine
import prunetune.report
from prunetune import Float, Int, Pruning, Search, SearchSpace, tune, work
from prunetune.backends.study.attributes import PLAN
from prunetune.backends.study.study import open_study
from prunetune.backends.study.trial import Report
from prunetune.cli.app import app
from prunetune.cli.config import parse_config
from prunetune.cli.job import prepare
from prunetune.cli.launch import _config_of
from prunetune.errors import InputError, PlanError, SearchError
from prunetune.events import Event, Notice
from prunetune.training import ImageClassification
from tests.cli.test_app import CONFIG
from tests.cli.test_config import changed
from tiny_tune import touch

pytestmark = pytest.mark.filterwarnings("error")

INPUTS = torch.zeros(2, 6)
SPACE = SearchSpace({"lr": Float(1e-3, 1.0, log=True), "steps": Int(1, 3)})


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))


def train(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    """The learning rate plus the width, which is 16 or, of the proxy, 8."""
    score = params["lr"] + next(model.parameters()).shape[0]
    touch(model)
    report(score, 1)
    return float(score)


def never(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    raise AssertionError("nothing was to be trained")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prunetune.engine, "step_time", lambda models, inputs, **_: dict.fromkeys(models, 0.5))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"journal://{tmp_path}/shared.log"


def options(url: str, **search: Any) -> dict[str, Any]:
    given = {
        "n_trials": 6,
        "confirm": 2,
        "optimizer": "random",
        "trial_pruner": "none",
        "storage": url,
        **search,
    }
    pruning = Pruning(scorer="magnitude", ratio=0.5)
    return {
        "resume": "anyway",
        "example_inputs": INPUTS,
        "epochs": 2,
        "pruning": pruning,
        "search": Search(direction="maximize", **given),
    }


def begin(folder: Path, url: str, trials: int = 2, **search: Any) -> None:
    """A run that is stopped after ``trials`` trials, as its owner's machine may be."""
    left = iter(range(trials))

    def stopped(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return train(model, params, report)

    with pytest.raises(KeyboardInterrupt):
        tune(net, stopped, SPACE, run_dir=folder, **options(url, **search))


def test_a_worker_needs_nothing_but_the_url_and_the_run_confirms(tmp_path: Path, url: str) -> None:
    begin(tmp_path / "run", url)
    widths: list[int] = []

    def watched(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        widths.append(next(model.parameters()).shape[0])
        assert report.epochs == 2
        return train(model, params, report)

    assert work(net, watched, url, resume="anyway") == 4
    assert widths == [8] * 4
    assert work(net, never, url, resume="anyway") == 0
    result = tune(net, train, SPACE, run_dir=tmp_path / "run", **options(url))
    record = result.record
    assert record["search"]["trials"] == {"complete": 6, "pruned": 0, "diverged": 0, "failed": 0, "interrupted": 1}
    assert [entry["outcome"] for entry in record["confirmation"]] == ["complete"] * 2
    assert result.score == result.params["lr"] + 16
    with open_study(f"journal://{tmp_path}/run/study.log", "search", _settings()) as study:
        assert len(study.trials) == 7  # the folder has all that the report shows
    assert "trial by trial" not in (tmp_path / "run" / "report.html").read_text()


def _settings() -> Any:
    from prunetune.tuning.settings import Settings

    asked = options("journal:///x")
    return Settings(SPACE, 2, asked["pruning"], asked["search"], 0).study()


def test_the_trials_are_those_of_a_run_alone_whoever_runs_them(tmp_path: Path, url: str) -> None:
    begin(tmp_path / "alone", f"journal://{tmp_path}/alone.log", study="same")
    begin(tmp_path / "run", url, study="same")
    alone = tune(
        net, train, SPACE, run_dir=tmp_path / "alone", **options(f"journal://{tmp_path}/alone.log", study="same")
    )
    work(net, train, url, resume="anyway")
    helped = tune(net, train, SPACE, run_dir=tmp_path / "run", **options(url, study="same"))
    assert helped.params == alone.params
    assert helped.record["search"]["best"] == alone.record["search"]["best"]


def test_a_run_that_is_made_longer_is_joined_again(tmp_path: Path, url: str) -> None:
    begin(tmp_path / "run", url, trials=1)
    work(net, train, url, resume="anyway")
    tune(net, train, SPACE, run_dir=tmp_path / "run", **options(url))
    begin(tmp_path / "run", url, trials=1, n_trials=9)
    assert work(net, train, url, resume="anyway") == 2
    assert tune(net, train, SPACE, run_dir=tmp_path / "run", **options(url, n_trials=9)).record["n_trials"] == 9


def test_another_network_is_refused(tmp_path: Path, url: str) -> None:
    begin(tmp_path / "run", url)
    with pytest.raises(PlanError):
        work(lambda: nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), never, url)


def test_a_damaged_plan_is_refused(tmp_path: Path, url: str) -> None:
    begin(tmp_path / "run", url)
    with open_study(url, "run", _settings()) as study:
        study._storage.set_study_system_attr(study._study_id, f"{PLAN}:0", "x")
    with pytest.raises(SearchError, match="what the study 'run' says to workers is damaged"):
        work(net, never, url, resume="anyway")


def test_a_worker_waits_for_a_search_and_says_so(tmp_path: Path, url: str) -> None:
    events: list[Event] = []
    with pytest.raises(SearchError, match="the storage holds no search named 'x' that could be joined; start it with"):
        work(net, never, url, resume="anyway", study="x", wait=0.1, observer=events.append)
    assert events == [Notice("the storage holds no search named 'x' yet; waiting for one, 0 s at most")]
    begin(tmp_path / "run", url)
    with pytest.raises(SearchError, match="could be joined; there are 'run'; start it"):
        work(net, never, url, resume="anyway", study="x", wait=0.1)


def test_of_several_searches_one_must_be_named(tmp_path: Path, url: str) -> None:
    for name in ("a", "b"):
        begin(tmp_path / name, url)
    with pytest.raises(InputError, match=r"the storage holds 2 searches \('a', 'b'\); say which by its name"):
        work(net, never, url, resume="anyway")
    assert work(net, train, url, study="b", resume="anyway") == 4


def test_another_run_cannot_take_a_study_over(tmp_path: Path, url: str) -> None:
    begin(tmp_path / "run", url)
    with pytest.raises(SearchError, match=r"the study 'run' belongs to the run in .*/run on .*; join it with"):
        tune(net, never, SPACE, run_dir=tmp_path / "second", **options(url, study="run"))
    with pytest.raises(SearchError, match="the study 'run' was started with epochs = 2, now it is 3"):
        tune(net, never, SPACE, run_dir=tmp_path / "third", **{**options(url, study="run"), "epochs": 3})


def test_another_storage_than_the_runs_is_noticed(tmp_path: Path, url: str) -> None:
    begin(tmp_path / "run", url)
    with pytest.raises(SearchError, match="has had 3 trials, but the study 'run' in its storage has none; give the"):
        tune(net, never, SPACE, run_dir=tmp_path / "run", **options(f"journal://{tmp_path}/other.log"))


def test_a_name_for_a_study_in_the_run_folder_is_refused() -> None:
    with pytest.raises(
        InputError, match="study is 'x', but the study in a run folder has no other name; give a storage"
    ):
        Search(direction="maximize", study="x")


def test_a_storage_of_no_kind_is_refused_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the storage redis://host is of an unknown kind"):
        tune(net, never, SPACE, run_dir=tmp_path / "run", **options("redis://host"))
    assert not (tmp_path / "run").exists()


def test_workers_train_on_the_same_images_as_the_run() -> None:
    """A tenth of the data is drawn by the seed of the search."""
    config = parse_config(changed("search = {seed = 7}"))
    job = config.model_dump(mode="json", exclude={"run"})
    of_run, of_worker = prepare(config).train, prepare(_config_of(job, "cpu", None)).train
    assert isinstance(of_run, ImageClassification)
    assert isinstance(of_worker, ImageClassification)
    one, other = of_run.data_at(1.0, 0.1).train_images, of_worker.data_at(1.0, 0.1).train_images
    assert torch.equal(one, other)
    assert of_worker.seed == 7


# The command


def test_a_search_of_somebodys_own_functions_is_joined_from_python(tmp_path: Path, url: str) -> None:
    begin(tmp_path / "run", url)
    refused = CliRunner().invoke(app, ["worker", "--study", url])
    assert refused.exit_code == 2
    assert "the search 'run' was started from Python with its own network and train function; join it" in refused.stderr


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ([], "which search? give a configuration, a run folder, or the URL of the storage with --study"),
        (["no.toml"], "no configuration file at 'no.toml'"),
        (["."], "is not the folder of a run that was started from a configuration"),
        (["--study", "redis://host"], "the storage redis://host is of an unknown kind"),
    ],
)
def test_what_cannot_be_joined_is_one_sentence(
    args: list[str], complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(app, ["worker", *args])
    assert refused.exit_code == 2
    assert complaint in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_worker_that_is_stopped_records_its_trial_and_says_so(
    sent: signal.Signals, status: int, tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path / "run", url)

    def stopped(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        report(0.5, 1)
        os.kill(os.getpid(), sent)
        raise AssertionError("a signal is handled at once")

    monkeypatch.setattr(
        prunetune.cli.actions, "join", lambda storage, study, **_: work(net, stopped, storage, resume="anyway")
    )
    ended = CliRunner().invoke(app, ["worker", "--study", url])
    assert ended.exit_code == status, ended.output
    said = "Stopped; what is finished is kept. Go on with: prunetune worker, with the same arguments"
    assert ended.stderr.splitlines()[-1] == said
    with open_study(url, "run", _settings()) as study:
        last = study.trials[-1]
    assert (last.state, last.user_attrs["outcome"], last.user_attrs["epochs"]) == (TrialState.FAIL, "interrupted", 1)


def test_a_run_with_two_processes_in_a_shared_storage(tmp_path: Path, url: str) -> None:
    config = CONFIG.replace("n_trials = 3", f'n_trials = 8\nstorage = "{url}"').replace("epochs = 2", "epochs = 4")
    path = tmp_path / "config.toml"
    path.write_text(config.replace("FOLDER", str(tmp_path / "run")))
    command = [sys.executable, "-m", "prunetune", "run", str(path), "--workers", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "run" / "worker-1.log").read_text()
    assert "There is nothing left to train; " in log, log
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    counts = record["search"]["trials"]
    assert counts["complete"] + counts["pruned"] + counts["diverged"] == 8
    for source in (path, tmp_path / "run"):  # on another machine, or later: nothing is left to do
        joined = CliRunner().invoke(app, ["worker", str(source), "--device", "cpu"])
        assert joined.exit_code == 0, joined.output
        assert joined.stdout.endswith("There is nothing left to train; 0 were trained here.\n")


def test_a_run_that_has_not_begun_is_one_sentence_and_leaves_its_folder_alone(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG.replace("FOLDER", str(tmp_path / "run")))
    (tmp_path / "run").mkdir()
    refused = CliRunner().invoke(app, ["worker", str(path)])
    assert refused.exit_code == 2
    assert f"there is no search in {tmp_path / 'run'} yet; start it with `prunetune run`" in refused.stderr
    assert list((tmp_path / "run").iterdir()) == []


def test_a_worker_is_not_asked_for_a_password_that_is_not_written_down(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"search": {"storage": "postgresql://me:***@h/db", "study": None}})
    )
    refused = CliRunner().invoke(app, ["worker", str(tmp_path)])
    assert refused.exit_code == 2
    assert "keeps its search in postgresql://me:***@h/db; give the URL with its password as --study" in refused.stderr


def test_settings_differ_in_nothing_but_the_password(tmp_path: Path) -> None:
    search = Search(direction="maximize", storage="postgresql://me:secret@h/db")
    assert search.to_record()["storage"] == "postgresql://me:***@h/db"
    assert "secret" not in repr(replace(search, study="x"))

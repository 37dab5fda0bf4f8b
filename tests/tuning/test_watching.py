"""A job that was started from Python shows what it does, as the command line does, and Ctrl-C says how to go on."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import prunetune
from prunetune.backends.study.retrying_storage import PatientStorage
from prunetune.events import Event, Observer, PhaseStarted
from prunetune.tuning.watching import Watching
from tiny_tune import HALF, INPUTS, SMALL, SPACE, interrupt, make_quick, net, tiny_tune, train


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def test_tune_shows_progress_and_tables_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_tune(tmp_path)
    shown = capsys.readouterr()
    assert shown.out == ""  # which is for what a script prints
    lines = shown.err.splitlines()
    assert "Searching: 4 trials; higher is better" in lines
    assert any(line.startswith("  trial 0 (1 of 4): complete ") and " left" in line for line in lines)
    assert "Trained on the full network" in shown.err
    assert f"Report: {tmp_path / 'report.html'}" in shown.err.replace("\n", "")
    tiny_tune(tmp_path)
    assert f"the run in {tmp_path} is finished already" in capsys.readouterr().err


def test_check_and_compare_do_as_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"example_inputs": INPUTS, "epochs": 2}
    prunetune.check(
        net, train, SPACE, run_dir=tmp_path / "run", configurations=4, search=SMALL, pruning=HALF, **options
    )
    said = capsys.readouterr().err
    assert "Checking: the proxy: 4 trials; higher is better" in said
    assert "Rank correlation (Spearman)" in said
    asked = prunetune.Comparison(scorers=("magnitude",), sizes=(0.5,), configurations=4, seeds=1, truth_seeds=1)
    prunetune.compare(
        net, train, SPACE, run_dir=tmp_path / "compare", comparison=asked, direction="maximize", **options
    )
    said = capsys.readouterr().err
    assert "Comparing: 4 trials; higher is better" in said
    assert "a random pick" in said


def test_in_a_notebook_it_is_plain_lines_where_output_belongs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ipykernel", sys)
    tiny_tune(tmp_path)
    shown = capsys.readouterr()
    assert "Searching: 4 trials; higher is better" in shown.out.splitlines()
    assert shown.err == ""


def test_who_has_an_observer_of_his_own_sees_nothing_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events: list[Event] = []
    tiny_tune(tmp_path / "watched", observer=events.append)
    tiny_tune(tmp_path / "silent", observer=prunetune.silent)
    assert any(isinstance(event, PhaseStarted) for event in events)
    assert capsys.readouterr() == ("", "")


def test_whoever_watches_hears_of_every_wait_for_the_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[Observer] = []
    make = PatientStorage.__init__

    def noting(self: PatientStorage, storage: Any, name: str, *, observer: Observer, **options: Any) -> None:
        heard.append(observer)
        make(self, storage, name, observer=observer, **options)

    monkeypatch.setattr(PatientStorage, "__init__", noting)
    tiny_tune(tmp_path / "run")
    shared = replace(SMALL, storage=f"sqlite:///{tmp_path}/shared.db")
    tiny_tune(tmp_path / "shared", search=shared)
    assert len(heard) > 4
    assert prunetune.silent not in heard


def test_an_interruption_is_told_in_a_sentence_with_a_traceback_of_the_users_code_only(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt) as caught:
        tiny_tune(tmp_path, train=interrupt)
    assert str(caught.value) == f"the run in {tmp_path} was stopped; the same call continues it"
    files = [Path(frame.filename).name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert [name for name in files if name != "contextlib.py"] == [
        "test_watching.py", "tiny_tune.py", "arguments.py", "tuner.py", "watching.py"
    ]  # fmt: skip
    assert tiny_tune(tmp_path).record["status"] == "finished"


def test_an_interruption_stays_what_it_is() -> None:
    class Terminated(KeyboardInterrupt):
        pass

    ours = Terminated()
    with pytest.raises(Terminated) as caught, Watching(prunetune.silent, "go on"):
        raise ours
    assert caught.value is ours


def test_ctrl_c_ends_a_script_with_that_sentence(tmp_path: Path) -> None:
    script = """
        import os, signal, torch, prunetune
        from torch import nn

        def net():
            return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2))

        def train(model, params, report):
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("after Ctrl-C")

        search, space = prunetune.Search(direction="maximize", n_trials=2), {"lr": prunetune.Float(0.1, 1)}
        prunetune.tune(net, train, space, example_inputs=torch.zeros(2, 6), epochs=1, run_dir="run", search=search)
        """
    (tmp_path / "script.py").write_text(textwrap.dedent(script))
    command = [sys.executable, "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == -signal.SIGINT  # a shell knows by this that it was Ctrl-C, and says 130
    last = done.stderr.rstrip().splitlines()[-1]
    assert last.endswith("the run in run was stopped; the same call continues it")
    assert "Searching: 2 trials" in done.stderr
    frames = done.stderr.partition("Traceback")[2].splitlines()
    assert len(frames) <= 14
    assert "During handling" not in done.stderr

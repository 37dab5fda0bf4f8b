"""Trainings in two processes with gloo: what all ranks get, and that none is waited for for ever."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import prunetune
from prunetune import Ladder, Ranks, Rung
from prunetune.backends.study.storage import connected
from prunetune.errors import InputError, SearchError
from prunetune.events import Event, Warned
from prunetune.record.folder import study_url
from tiny_ladder import make_quick
from tiny_tune import INPUTS, SPACE, Search, net

SEARCH = Search(direction="maximize", optimizer="random", trial_pruner="none")
LADDER = Ladder(Rung(1 / 4, 1 / 2, trials=3, keep=2), Rung(1 / 2, keep=1), Rung())

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def unheard(event: Event) -> None:
    """Also what would be a Python warning."""


def search(folder: Path, train: Any, **options: Any) -> prunetune.TuneResult:
    given: dict[str, Any] = {
        "ladder": LADDER,
        "search": SEARCH,
        "epochs": 2,
        "energy": False,
        "observer": lambda event: None,
    }
    return prunetune.tune(net, train, SPACE, example_inputs=INPUTS, run_dir=folder, **{**given, **options})


def parallel(folder: Path) -> Callable[..., float]:
    """A training with DistributedDataParallel of other data on each rank, which writes down what it was given."""

    def train(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        torch.distributed.init_process_group("gloo")
        rank = torch.distributed.get_rank()
        begun = float(sum(p.detach().double().sum() for p in model.parameters()))
        groups = report.param_groups(model, lr=params["lr"])
        replica = nn.parallel.DistributedDataParallel(model)
        optimizer = torch.optim.SGD(groups)
        score = torch.tensor(0.0)
        for epoch in range(1, report.epochs + 1):
            for _ in range(params["steps"]):
                optimizer.zero_grad()
                images = torch.full((4, 6), 1.0 + rank)
                nn.functional.cross_entropy(replica(images), torch.arange(4) % 2).backward()
                optimizer.step()
            score = torch.tensor(params["lr"] + rank)
            torch.distributed.all_reduce(score)  # twice the rate, and one
            report(score, epoch)
        said = {"number": report.number, "width": len(model[0].weight), "params": dict(params), "begun": begun}
        ended = float(sum(p.detach().double().sum() for p in model.parameters()))
        line = json.dumps({**said, "phase": report.phase, "seed": report.seed, "ended": ended})
        with (folder / f"rank-{rank}").open("a") as file:
            file.write(f"{line}\n")
        return float(score)

    return train


def test_all_ranks_train_the_same_network_with_the_same_hyperparameters(tmp_path: Path) -> None:
    """A ladder to its end; the score is twice the learning rate and one."""
    events: list[Event] = []
    result = search(tmp_path / "run", Ranks(parallel(tmp_path), 2), observer=events.append)
    first, second = (
        [json.loads(line) for line in (tmp_path / f"rank-{rank}").read_text().splitlines()] for rank in (0, 1)
    )
    assert first == second
    assert [each["width"] for each in first] == [4] * 3 + [8] * 2 + [16]
    assert all(each["begun"] != each["ended"] for each in first)
    assert result.record["search"]["trials"]["complete"] == 3
    assert result.params == max((each["params"] for each in first[:3]), key=lambda params: params["lr"])
    assert result.score == pytest.approx(2 * result.params["lr"] + 1)
    warnings = [each.message for each in events if isinstance(each, Warned)]
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: a training on this rung has 1 optimizer step,")  # rank 0's, once
    kept = load_file(result.weights)
    assert sum(float(tensor.double().sum()) for tensor in kept.values()) == pytest.approx(first[-1]["ended"])


def trials(folder: Path) -> list[Any]:
    with connected(study_url(folder)) as storage:
        return list(storage.get_all_trials(storage.get_study_id_from_name("search")))


ONE = Ladder(Rung(1 / 4, trials=3, keep=1), Rung())


def test_one_ranks_failure_fails_the_trial_on_all_and_the_search_goes_on(tmp_path: Path) -> None:
    inner = parallel(tmp_path)

    def train(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        if report.number < 2 and report.phase == "search":
            torch.distributed.init_process_group("gloo")
            if os.environ["RANK"] == "1":
                if report.number == 1:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise ValueError("boom")
            torch.distributed.barrier()  # for which the other never comes
        return inner(model, params, report)

    search(tmp_path / "run", Ranks(train, 2), ladder=ONE)
    first, second, third = (trial.user_attrs for trial in trials(tmp_path / "run"))
    assert [each["outcome"] for each in (first, second, third)] == ["failed", "failed", "complete"]
    assert first["message"] == "RankError: rank 1: ValueError: boom"
    assert ", in train" in first["traceback"].partition("The above exception")[0]  # that of the rank
    assert second["message"] == "RankError: the process of rank 1 was killed by signal 9"


def test_a_stopped_trial_stops_on_all_ranks(tmp_path: Path) -> None:
    """Rank 0's NaN ends the trial, whatever the others report, and one that reports nothing does not hold it up."""

    def train(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        rank = int(os.environ["RANK"])
        model[0].weight.data.add_(1.0 + 0 * params["lr"] * params["steps"])
        bad = report.phase == "search" and report.number in (1, 2)
        try:
            if rank and bad and report.number == 2:
                time.sleep(600)
            report(float("nan") if bad and not rank else 1.0, 1)
        except BaseException as error:
            (tmp_path / f"{report.number}-{rank}").write_text(type(error).__name__)
            raise
        report(1.0, 2)
        return 1.0

    search(tmp_path / "run", Ranks(train, 2), ladder=ONE)
    ends = [(trial.user_attrs["outcome"], trial.user_attrs["epochs"]) for trial in trials(tmp_path / "run")]
    assert ends == [("complete", 2), ("diverged", 1), ("diverged", 1)]
    said = {path.name: path.read_text() for path in tmp_path.glob("?-?")}
    assert said == {"1-0": "TrialDiverged", "1-1": "TrialDiverged", "2-0": "TrialDiverged"}


def test_what_no_rank_may_report_is_the_users_mistake_as_always(tmp_path: Path) -> None:
    def train(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        report("good", 1)
        return 0.0

    with pytest.raises(InputError, match="report: the score must be one number, not 'good'"):
        search(tmp_path / "run", Ranks(train, 2), ladder=ONE)


def test_no_rank_is_left_when_the_run_has_failed(tmp_path: Path) -> None:
    def train(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        (tmp_path / f"pid-{os.getpid()}").touch()
        raise ValueError("always")

    with pytest.raises(SearchError, match="rank [01]: ValueError: always"):
        search(tmp_path / "run", Ranks(train, 2), ladder=Ladder(Rung(1 / 4, trials=1, keep=1), Rung()))
    pids = [int(path.name.removeprefix("pid-")) for path in tmp_path.glob("pid-*")]
    assert len(pids) >= 2
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_a_number_of_processes_is_needed() -> None:
    with pytest.raises(InputError, match="processes is 0, but it must be a whole number of at least 1"):
        Ranks(lambda model, params, report: 0.0, 0)


def test_a_comparison_of_what_it_cannot_time_is_refused(tmp_path: Path) -> None:
    ranks = Ranks(lambda model, params, report: 0.0, 2)
    with pytest.raises(InputError, match="compare weighs trainings by the time of this process"):
        prunetune.compare(
            net, ranks, SPACE, example_inputs=INPUTS, epochs=2, direction="maximize", run_dir=tmp_path / "x"
        )


def test_ranks_that_may_have_left_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prunetune.tuning.ranks.IDLE_SECONDS", 0.0)

    def train(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        (tmp_path / f"pid-{os.getpid()}").touch()
        model[0].weight.data.add_(1.0 + 0 * params["lr"] * params["steps"])
        return 1.0

    search(tmp_path / "run", Ranks(train, 1), ladder=Ladder(Rung(1 / 4, trials=1, keep=1), Rung()))
    assert len(list(tmp_path.glob("pid-*"))) == 2

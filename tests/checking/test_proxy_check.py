"""The check of a proxy, with train functions whose scores are known: verdicts, what is measured, what is not redone."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import prunetune.engine
import prunetune.report
import prunetune.tuning.objective
from prunetune.backends import Categorical, Float, Int, SearchSpace
from prunetune.backends.study.trial import Report
from prunetune.checking.proxy_check import NETWORKS, CheckResult, check
from prunetune.errors import InputError, SearchError
from prunetune.events import Event, PhaseStarted
from prunetune.ladder.rung import Rung
from prunetune.tuning.configurations import draw_configurations
from prunetune.tuning.settings import Pruning, Search
from prunetune.tuning.tuner import TuneResult, tune
from tiny_tune import touch

INPUTS = torch.zeros(2, 6)
SPACE = SearchSpace({"lr": Float(1e-3, 1.0, log=True), "steps": Int(1, 3)})
HALF = Pruning(scorer="magnitude", ratio=0.5)
QUARTER = Pruning(scorer="magnitude", ratio=0.25)
SEARCH = Search(direction="maximize", n_trials=4, confirm=2, optimizer="random", trial_pruner="none")


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))


class Train:
    """Scores are functions of the hyperparameters and the seed; training takes 4 s an epoch in full, 1 s for a proxy.

    ``calls`` has the width (16 for the full network) and the learning rate of each training.
    """

    def __init__(
        self,
        clock: SimpleNamespace,
        proxy: Callable[[float, int], float] = lambda lr, seed: lr,
        base: Callable[[float, int], float] = lambda lr, seed: lr,
        stop_at: int | None = None,
    ) -> None:
        self.clock, self.proxy, self.base, self.stop_at = clock, proxy, base, stop_at
        self.calls: list[tuple[int, float]] = []

    def __call__(self, model: nn.Module, params: dict[str, Any], report: Report) -> float:
        width = int(next(model.parameters()).shape[0])
        self.calls.append((width, params["lr"]))
        if len(self.calls) == self.stop_at:
            raise KeyboardInterrupt
        score = (self.base if width == 16 else self.proxy)(params["lr"], report.seed)
        touch(model)
        for epoch in range(1, report.epochs + 1):
            self.clock.now += 4.0 if width == 16 else 1.0
            report(score, epoch)
        return score


@pytest.fixture(scope="module")
def clock() -> Iterator[SimpleNamespace]:
    """The clock by which trainings are timed."""
    found = SimpleNamespace(now=0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prunetune.tuning.objective, "time", SimpleNamespace(perf_counter=lambda: found.now))
        patch.setattr(prunetune.engine, "step_time", lambda models, inputs, **_: dict.fromkeys(models, 0.5))
        patch.setattr(prunetune.report, "write_report", lambda run_dir: run_dir)
        yield found


@dataclass(frozen=True)
class Checked:
    """A folder with the check of a perfect proxy, and what it was like."""

    folder: Path
    result: CheckResult
    train: Train
    events: list[Event]

    def copy(self, to: Path) -> Path:
        """A copy of the folder for a test to go on with: the full network is trained, and the proxy at half width."""
        return Path(shutil.copytree(self.folder, to))


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory, clock: SimpleNamespace) -> Checked:
    folder, train, events = tmp_path_factory.mktemp("check") / "run", Train(clock), list[Event]()
    return Checked(folder, _check(folder, train, observer=events.append), train, events)


def _check(run_dir: Path, train: Callable[..., float], **options: Any) -> CheckResult:
    defaults: dict[str, Any] = {"epochs": 16, "pruning": HALF, "search": SEARCH, "example_inputs": INPUTS}
    return check(net, train, SPACE, run_dir=run_dir, **{**defaults, **options})


def _tune(run_dir: Path, train: Callable[..., float], **options: Any) -> TuneResult:
    defaults: dict[str, Any] = {"epochs": 16, "pruning": HALF, "search": SEARCH, "example_inputs": INPUTS}
    return tune(net, train, SPACE, run_dir=run_dir, **{**defaults, **options})


def test_a_perfect_proxy_is_to_be_used(checked: Checked) -> None:
    result = checked.result
    assert result.verdict.word == "use"
    assert result.correlation == result.ceiling
    assert result.correlation is not None
    assert (result.correlation.value, result.correlation.high, result.correlation.n) == (1, 1, 8)
    assert result.cost_ratio == 4
    phases = [event.phase for event in checked.events if isinstance(event, PhaseStarted)]
    assert phases == ["check-proxy", "check-base", "check-again"]


def test_the_record_says_what_was_trained(checked: Checked) -> None:
    record = json.loads((checked.folder / "check.json").read_text())
    assert record == checked.result.record
    assert (record["check_epochs"], record["epochs"]) == (2, 16)  # an eighth
    rates = [lr for _, lr in checked.train.calls]
    assert rates[:8] == rates[8:16] == rates[16:]
    assert [entry["base"]["score"] for entry in record["configurations"]] == rates[:8]
    assert record["configurations"][0]["proxy"]["train_seconds"] == 2
    seeds = [entry[network]["seed"] for entry in record["configurations"] for network in NETWORKS]
    assert len(set(seeds)) == 24


def test_a_run_in_the_same_folder_has_the_proxy_that_was_checked(
    checked: Checked, tmp_path: Path, clock: SimpleNamespace
) -> None:
    record = _tune(checked.copy(tmp_path / "run"), Train(clock)).record
    assert record["pruning"]["plan_sha256"] == checked.result.record["plan_sha256"]
    assert json.loads((tmp_path / "run" / "check.json").read_text()) == checked.result.record


def test_a_proxy_that_says_the_opposite_is_not_to_be_used(
    checked: Checked, tmp_path: Path, clock: SimpleNamespace
) -> None:
    train = Train(clock, proxy=lambda lr, seed: -lr)
    result = _check(checked.copy(tmp_path / "run"), train, pruning=QUARTER, resume="anyway")
    assert [width for width, _ in train.calls] == [4] * 8  # the full network was trained before
    assert result.verdict.word == "don't"
    assert result.correlation is not None
    assert (result.correlation.value, result.correlation.low) == (-1, -1)


def test_a_proxy_that_is_not_cheaper_is_not_worth_it(checked: Checked, tmp_path: Path, clock: SimpleNamespace) -> None:
    train = Train(clock)

    def dear(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        score = train(model, params, report)
        clock.now += 6.0  # beside 1 s for each of two epochs: 4 s an epoch, as the full network
        return score

    result = _check(checked.copy(tmp_path / "run"), dear, pruning=QUARTER, configurations=4, resume="anyway")
    assert (result.cost_ratio, result.verdict.word) == (1.0, "don't")


def test_a_full_network_that_contradicts_itself_says_nothing(tmp_path: Path, clock: SimpleNamespace) -> None:
    signs = iter([1] * 4 + [-1] * 4)
    result = _check(tmp_path, Train(clock, base=lambda lr, seed: next(signs) * lr), configurations=4)
    assert result.ceiling is not None
    assert (result.ceiling.value, result.verdict.word) == (-1, "unclear")
    assert "the full network with another seed orders the configurations differently" in result.verdict.sentence


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_what_diverges_counts_as_the_worst(tmp_path: Path, clock: SimpleNamespace, direction: str) -> None:
    """Above 0.1 all diverges, on both: ties at the end at which the worst are."""
    sign = 1 if direction == "maximize" else -1

    def score(lr: float, seed: int) -> float:
        return math.nan if lr > 0.1 else sign * lr

    search = Search(direction=direction)  # type: ignore[arg-type]
    result = _check(tmp_path, Train(clock, score, score), search=search, configurations=4)
    assert {entry["base"]["outcome"] for entry in result.record["configurations"]} == {"complete", "diverged"}
    assert result.correlation is not None
    assert (result.correlation.value, result.correlation.n) == (1, 4)
    assert result.cost_ratio == 4


def test_what_failed_has_no_part_and_is_tried_again_at_the_next_start(tmp_path: Path, clock: SimpleNamespace) -> None:
    def breaks(lr: float, seed: int) -> float:
        if lr == points[3]["lr"]:
            raise MemoryError("too large")
        return lr

    points = draw_configurations(SPACE, 4, 0)
    result = _check(tmp_path, Train(clock, base=breaks), configurations=4)
    assert result.correlation is not None
    assert result.correlation.n == 3
    assert result.record["configurations"][3]["base"] is None
    again = Train(clock)
    result = _check(tmp_path, again, configurations=4, resume="anyway")
    assert again.calls == [(16, points[3]["lr"])] * 2
    assert result.correlation is not None
    assert result.correlation.n == 4


def test_all_failing_is_one_sentence(tmp_path: Path, clock: SimpleNamespace) -> None:
    def fail(lr: float, seed: int) -> float:
        raise ValueError("no data")

    with pytest.raises(SearchError, match=r"the first 4 trials all failed \(check-proxy\); .*ValueError: no data"):
        _check(tmp_path, Train(clock, fail, fail), configurations=4)
    assert not (tmp_path / "check.json").exists()


def test_a_check_that_was_stopped_goes_on(tmp_path: Path, clock: SimpleNamespace) -> None:
    """It is stopped once in each of the three parts, of four trainings each."""
    done = 0
    for stop_at in (2, 5, 5):  # the second, the sixth and the tenth of all
        stopped = Train(clock, stop_at=stop_at)
        with pytest.raises(KeyboardInterrupt):
            _check(tmp_path, stopped, configurations=4, resume="anyway")
        done += stop_at - 1
    rest = Train(clock)
    record = _check(tmp_path, rest, configurations=4, resume="anyway").record
    assert done + len(rest.calls) == 12
    assert all(entry[network] for entry in record["configurations"] for network in NETWORKS)
    assert record["correlation"]["n"] == 4


def test_a_rung_is_checked_with_its_share_of_the_epochs(
    checked: Checked, tmp_path: Path, clock: SimpleNamespace
) -> None:
    """Half of the 2 epochs of a check. The full network was trained before."""
    folder, train, half = checked.copy(tmp_path / "run"), Train(clock), Rung(None, epochs=0.5)
    result = _check(folder, train, configurations=4, rung=half)
    assert [width for width, _ in train.calls] == [8] * 4
    assert result.record["rung"] == {"width": None, "epochs": 0.5, "resolution": 1, "data": 1}
    assert (result.record["proxy_epochs"], result.record["check_epochs"]) == (1, 2)
    assert result.cost_ratio == 8  # 2 epochs of 4 s over 1 of 1 s
    again = Train(clock)
    assert _check(folder, again, configurations=4, rung=half).record["plan_sha256"] == result.record["plan_sha256"]
    assert again.calls == []


def test_a_rung_may_have_a_width_of_its_own(checked: Checked, tmp_path: Path, clock: SimpleNamespace) -> None:
    """A quarter, where the pruning leaves a half; which is then another proxy with the same full network."""
    folder, train = checked.copy(tmp_path / "run"), Train(clock)
    record = _check(folder, train, configurations=4, rung=Rung(1 / 4)).record
    assert [width for width, _ in train.calls] == [4] * 4
    assert record["rung"]["width"] == record["pruning"]["ratio"] == 0.25
    assert record["plan_sha256"] != checked.result.record["plan_sha256"]


def test_what_the_default_ladder_trains_on_is_checked(checked: Checked, tmp_path: Path, clock: SimpleNamespace) -> None:
    """A quarter of the width, where neither the size of a proxy nor confirmations ask for the ladder "paper"."""
    folder, train = checked.copy(tmp_path / "run"), Train(clock)
    asked = {"pruning": Pruning(scorer="magnitude"), "search": replace(SEARCH, confirm=None)}
    record = _check(folder, train, configurations=4, **asked).record
    assert record["rung"] == {"width": 0.25, "epochs": 1, "resolution": 1, "data": 1}
    assert [width for width, _ in train.calls] == [4] * 4
    paper = _check(folder, train, configurations=4, **{**asked, "search": SEARCH}).record
    assert paper["rung"]["width"] is None


def test_only_what_is_new_is_trained(checked: Checked, tmp_path: Path, clock: SimpleNamespace) -> None:
    folder, more = checked.copy(tmp_path / "run"), Train(clock)
    record = _check(folder, more, configurations=10).record
    assert [width for width, _ in more.calls] == [8, 8, 16, 16, 16, 16]
    assert [entry["params"]["lr"] for entry in record["configurations"]] == [
        lr for _, lr in checked.train.calls[:8] + more.calls[:2]
    ]
    fewer = Train(clock)
    assert _check(folder, fewer, configurations=4).record["correlation"]["n"] == 4
    assert fewer.calls == []


def test_configurations_fill_the_space_and_more_begin_with_the_same() -> None:
    points = draw_configurations(SPACE, 16, seed=3)
    logs = sorted(math.log10(point["lr"]) for point in points)
    assert [int((log + 3) / 3 * 16) for log in logs] == list(range(16))  # one in each sixteenth: a net
    assert draw_configurations(SPACE, 5, seed=3) == points[:5]
    assert draw_configurations(SPACE, 5, seed=4) != points[:5]
    few = draw_configurations(SearchSpace({"a": Categorical(["x", "y"]), "b": Int(1, 3)}), 8, seed=0)
    assert sorted((point["a"], point["b"]) for point in few) == [(a, b) for a in "xy" for b in (1, 2, 3)]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"configurations": 3}, "configurations is 3, but it must be a whole number of at least 4"),
        ({"check_epochs": 0}, "check_epochs is 0, but it must be a whole number of at least 1"),
        ({"check_epochs": 17}, "check_epochs is 17, but a trial has 16 epochs; check for fewer"),
        ({"rung": {"epochs": 0.5}}, "rung is {'epochs': 0.5}, but it must be a prunetune.Rung, such as Rung(width=1/4"),
        ({"rung": Rung(1 / 4, trials=9)}, "rung has trials, keep or controls, which are of a ladder; leave them out"),
        ({"rung": Rung(None, resolution=0.5)}, "resolution is 0.5, but the example inputs are not images"),
        ({"seed": -1}, "seed is -1, but it must be"),
        (
            {"search": Search()},
            "nothing says which scores are better: give search=prunetune.Search(direction=",
        ),
        ({"search": Search(direction="maximize", optimizer="tpee")}, "unknown optimizer 'tpee'"),
    ],
)
def test_impossible_arguments_are_one_sentence(
    tmp_path: Path, clock: SimpleNamespace, options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError) as caught:
        _check(tmp_path / "run", Train(clock), **options)
    assert sentence in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_space_of_three_is_not_worth_a_check(tmp_path: Path, clock: SimpleNamespace) -> None:
    train, space = Train(clock), {"lr": Categorical([0.1, 0.2, 0.3])}
    with pytest.raises(InputError, match="the search space has 3 configurations in all, and a check takes 4"):
        check(net, train, space, example_inputs=INPUTS, epochs=2, run_dir=tmp_path, search=SEARCH)

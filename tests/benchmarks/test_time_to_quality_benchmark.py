"""``python -m benchmarks.time_to_quality``: its arithmetic by hand, its searches against Optuna's own, a small form."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.samplers import RandomSampler, TPESampler
from torch import nn

from benchmarks.common.bootstrap import interval
from benchmarks.common.images import part
from benchmarks.common.reports import EnoughSeen, PlainReport
from benchmarks.time_to_quality import rivals, runs
from benchmarks.time_to_quality.__main__ import main
from benchmarks.time_to_quality.cases import PRESETS
from benchmarks.time_to_quality.report import comparison, difference, ratio, report, result
from benchmarks.time_to_quality.rivals import (
    ARMS,
    LADDER,
    PAPER,
    Clock,
    Found,
    PlainSearch,
    Task,
    default,
    first_epoch,
    hyperband,
    one_epoch,
    subset,
)
from prunetune.engine import step_time

SMOKE = PRESETS["smoke"]


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The benchmark sets the process to one thread, and Optuna to silence; step times need not be exact here."""
    threads, verbosity = torch.get_num_threads(), optuna.logging.get_verbosity()
    monkeypatch.setattr("prunetune.engine.step_time", functools.partial(step_time, seconds=0.05))
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    torch.set_num_threads(threads)
    optuna.logging.set_verbosity(verbosity)


def row(seed: int, arm: str, search: float, accuracy: float, final: float = 1.0) -> dict[str, Any]:
    preset = json.loads(json.dumps(SMOKE.record()))
    seconds = {"search_cpu_seconds": search, "final_cpu_seconds": final}
    made = {"test_accuracy": accuracy, "trials": 4, "base_epochs": 9, "machine": {"cpu": "x"}, "versions": {}}
    return {"scale": "smoke", "seed": seed, "arm": arm, "preset": preset, **seconds, **made}


def task(budget: float = math.inf, clock: Clock | None = None, seed: int = 0) -> Task:
    return Task(SMOKE, SMOKE.load(seed, "cpu"), seed, clock or Clock("cpu"), budget)


def test_all_arms_run_and_what_is_on_file_is_not_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows, file = tmp_path / "rows.jsonl", tmp_path / "result.json"
    common = ["--scale", "smoke", "--seeds", "1", "--seed-from", "3", "--rows", str(rows)]
    assert main([*common, "--arms", "paper", "ladder"]) == 0
    paper, ladder = map(json.loads, rows.read_text().splitlines())
    assert paper["proxy_epochs"] > 0
    assert paper["base_epochs"] == 3 * 3  # the best three in full
    assert ladder["base_epochs"] == 3  # the winner's training
    predicted = sum(rung["entrants"] * rung["price"] for rung in ladder["rungs"])
    assert ladder["predicted_trainings"] == pytest.approx(predicted)
    assert ladder["trials"] == ladder["rungs"][0]["entrants"]
    paper["search_cpu_seconds"], ladder["search_cpu_seconds"] = 0.2, 0.4  # so that the rivals have little to spend
    ladder["final_cpu_seconds"] = 0.1
    rows.write_text(json.dumps(paper) + "\n" + json.dumps(ladder) + "\n")

    assert main([*common, "--json", str(file), "--markdown"]) == 0
    made = [json.loads(line) for line in rows.read_text().splitlines()]
    assert made[:2] == [paper, ladder]
    assert sorted(each["arm"] for each in made) == sorted(ARMS)
    by_arm = {each["arm"]: each for each in made}
    assert {arm for arm, each in by_arm.items() if each["budget_seconds"] == 0.2} == {
        "fewer-epochs", "data-subset", "one-epoch-top-3", "successive-halving", "random"
    }  # fmt: skip
    trained_on_top = {"fewer-epochs@ladder", "data-subset@ladder", "one-epoch@ladder"}
    assert {arm for arm, each in by_arm.items() if each["budget_seconds"] == pytest.approx(0.4 - 0.1)} == trained_on_top
    winner_is_there = {"fewer-trials@ladder", "successive-halving@ladder", "random@ladder"}
    assert {arm for arm, each in by_arm.items() if each["budget_seconds"] == 0.4} == winner_is_there
    assert by_arm["default"]["trials"] == 4
    assert by_arm["quarter-of-the-trials"]["trials"] == 1
    assert by_arm["random"]["base_epochs"] <= 3 * by_arm["random"]["trials"]
    assert by_arm["fewer-epochs"]["base_epochs"] <= by_arm["fewer-epochs"]["trials"]

    found = json.loads(file.read_text())
    assert found["seeds"] == [3]
    assert set(found["versions"][0]) >= {"torch", "optuna"}
    cost = {arm: each["search_cpu_seconds"] + each["final_cpu_seconds"] for arm, each in by_arm.items()}
    assert found["two_rungs"]["speedup_total"] == pytest.approx(cost["default"] / cost["paper"])
    assert found["total_trainings"] == pytest.approx(0.4 / 0.1)
    assert found["speedup_total"] == pytest.approx(cost["default"] / by_arm["default"]["final_cpu_seconds"] / 4)
    assert set(found["rivals_at_our_cost"]) == trained_on_top | winner_is_there
    for mine, versus, random in (
        (ladder, found["rivals_at_our_cost"], "random@ladder"),
        (paper, found["two_rungs"]["rivals"], "random"),
    ):
        points = versus[random]["accuracy_difference_points"]
        assert points == pytest.approx(100 * (mine["test_accuracy"] - by_arm[random]["test_accuracy"]))
    assert "| paper-identity " in capsys.readouterr().out


def test_the_ladder_leaves_a_winner_that_is_judged_and_not_trained_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two finals one is the winner that is there, with weights of zero: the first class, a tenth of the pictures."""
    nothing = SMOKE.build(SMOKE.load(0, "cpu"))
    with torch.no_grad():
        for parameter in nothing.parameters():
            parameter.zero_()
    params = {"learning_rate": 0.1, "weight_decay": 1e-4, "batch_size": 16, "momentum": 0.9}
    arm = replace(ARMS[LADDER], search=lambda task: Found(params, 1, 3, trained=nothing))
    monkeypatch.setattr(runs, "ARMS", {LADDER: arm})
    made = runs.run_arm(replace(SMOKE, finals=2), 0, LADDER)
    labels = SMOKE.load(0, "cpu").test_labels
    assert made["test_accuracies"][0] == pytest.approx(float((labels == 0).float().mean()))
    assert len(made["test_accuracies"]) == 2
    assert made["test_accuracies"][1] > made["test_accuracies"][0]
    assert made["final_cpu_seconds"] > 0


def test_the_default_is_what_optuna_alone_does() -> None:
    """The same search by ``study.optimize`` and ``suggest``, and a loop of its own around the job."""
    mine = task(seed=1)
    found = default(mine)
    epochs = []

    def objective(trial: optuna.Trial) -> float:
        params = {
            "learning_rate": trial.suggest_float("learning_rate", 1e-3, 1.0, log=True),
            "weight_decay": trial.suggest_float("weight_decay", 1e-5, 1e-1, log=True),
            "batch_size": trial.suggest_categorical("batch_size", (16, 32)),
            "momentum": trial.suggest_float("momentum", 0.0, 0.99),
        }
        torch.manual_seed(100_000 + trial.number)

        def tell(score: float, epoch: int) -> None:
            epochs.append((trial.number, epoch))
            trial.report(score, epoch)
            if epoch < 3 and trial.should_prune():
                raise optuna.TrialPruned

        return SMOKE.job(mine.data)(mine.base(), params, _Telling(100_000 + trial.number, tell))  # type: ignore[arg-type]

    study = optuna.create_study(
        study_name="1", direction="maximize", sampler=TPESampler(seed=1), pruner=hyperband(SMOKE.epochs)
    )
    study.optimize(objective, n_trials=4)
    assert found.params == study.best_params
    assert found.trials == 4
    assert found.base_epochs == len(epochs)


class _Telling:
    """What the train function asks of a report, by hand."""

    epochs = 3
    resolution = data = 1.0

    def __init__(self, seed: int, tell: Callable[[float, int], None]) -> None:
        self.seed, self.tell = seed, tell

    def __call__(self, score: float, epoch: int) -> None:
        self.tell(score, epoch)

    def param_groups(self, model: nn.Module, *, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        return [{"params": model.parameters(), "lr": lr, "weight_decay": weight_decay}]


class TenSeconds(Clock):
    """Each trial takes ten seconds."""

    def __init__(self) -> None:
        super().__init__("cpu")
        self.trials = 0

    def now(self) -> float:
        return 10.0 * self.trials


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, Any], int]]:
    """Training takes ten seconds of the clock, reports one epoch or all, and scores the learning rate."""
    seen: list[tuple[dict[str, Any], int]] = []

    def train(task: Task, model: Any, params: dict[str, Any], report: PlainReport, data: Any) -> float:
        assert isinstance(task.clock, TenSeconds)
        task.clock.trials += 1
        report.scores += [0.0] * (report.stop_after or report.epochs)
        seen.append((params, report.epoch))
        return float(params["learning_rate"])

    monkeypatch.setattr(rivals, "train", train)
    return seen


@pytest.mark.parametrize(("budget", "trials"), [(0, 1), (14, 1), (15, 2), (24, 2), (35, 4), (44, 4)])
def test_trials_begin_as_long_as_they_end_nearer_to_the_budget(
    budget: float, trials: int, trained: list[tuple[dict[str, Any], int]]
) -> None:
    """Of ten seconds each: 15 s are as near to one trial as to two."""
    search = PlainSearch(task(budget, TenSeconds()), RandomSampler(seed=0)).run()
    assert search.found().trials == trials == len(trained)
    assert search.found().base_epochs == 3 * trials
    assert search.found().params["learning_rate"] == max(params["learning_rate"] for params, _ in trained)


def test_one_epoch_keeps_what_three_full_trainings_cost(trained: list[tuple[dict[str, Any], int]]) -> None:
    """Ten seconds an epoch: 9 full epochs are 90 s, so that of 145 s 55 are left, which are 6 trials."""
    found = one_epoch(task(145, TenSeconds()))
    assert [epochs for _, epochs in trained] == [1] * 6 + [3] * 3
    best = sorted((params["learning_rate"] for params, _ in trained[:6]), reverse=True)[:3]
    assert [params["learning_rate"] for params, _ in trained[6:]] == best
    assert found.params["learning_rate"] == best[0]
    assert (found.trials, found.base_epochs) == (6, 6 + 9)


def test_one_epoch_alone_spends_all_on_first_epochs(trained: list[tuple[dict[str, Any], int]]) -> None:
    found = first_epoch(task(35, TenSeconds()))
    assert [epochs for _, epochs in trained] == [1] * 4
    assert found.params["learning_rate"] == max(params["learning_rate"] for params, _ in trained)
    assert found.base_epochs == 4


def test_epochs_on_a_fifth_of_the_images_are_fifths(trained: list[tuple[dict[str, Any], int]]) -> None:
    assert subset(task(24, TenSeconds())).base_epochs == pytest.approx(2 * 3 / 5)


def test_data_is_drawn_by_the_seed_with_classes_in_proportion() -> None:
    first, again, other = SMOKE.load(0, "cpu"), SMOKE.load(0, "cpu"), SMOKE.load(1, "cpu")
    assert (len(first.train_labels), len(first.val_labels)) == (200, 100)
    assert torch.equal(first.train_images, again.train_images)
    assert not torch.equal(first.train_labels, other.train_labels)
    fifth = part(first, "train", 40, 0)
    counts = fifth.train_labels.bincount(minlength=10)
    assert counts.sum() == 40
    assert (counts - first.train_labels.bincount(minlength=10) / 5).abs().max() < 1
    assert torch.equal(fifth.val_images, first.val_images)


def test_the_report_stops_where_it_is_told_and_at_scores_that_are_none() -> None:
    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(lower=0.5), direction="maximize")
    report = PlainReport(seed=0, epochs=2, trial=study.ask(), stop_after=2)
    with pytest.raises(optuna.TrialPruned):
        report(0.1, 1)
    with pytest.raises(EnoughSeen):  # the trial pruner is not asked after the last epoch
        report(0.2, 2)
    with pytest.raises(optuna.TrialPruned):
        PlainReport(seed=0, epochs=2, trial=study.ask())(math.nan, 1)
    final = PlainReport(seed=0, epochs=2)
    final(0.1, 1)
    final(math.nan, 2)
    assert final.epoch == 2


def test_comparison_by_hand() -> None:
    """Ours 9 + 1 s and 11 + 1 s, theirs 43 + 1 s each: 88 / 22; points 80 - 81 and 84 - 82; seed 2 has no pair."""
    rows = [row(0, "paper", 9, 0.80), row(1, "paper", 11, 0.84), row(0, "random", 43, 0.81), row(1, "random", 43, 0.82)]
    found = comparison([*rows, row(2, "random", 1, 0.1)], "random", "cpu", mine=PAPER)
    assert found["speedup_total"] == pytest.approx(4.0)
    assert found["accuracy_difference_points"] == pytest.approx(0.5)
    assert found["paired_seeds"] == 2
    assert found["speedup_total_interval"] is None
    assert comparison(rows, "default", "cpu", mine=PAPER) == {}


def test_the_ladder_counts_in_full_trainings_and_its_last_is_the_winners() -> None:
    """A machine that is twice as slow for the default: (40 + 2) / 2 = 21, (28 + 1) / 1 = 29; ours 3 / 1 and 9 / 2."""
    rows = [
        row(0, "ladder", 3, 0.80, final=1), row(1, "ladder", 9, 0.84, final=2), row(2, "ladder", 6, 0.8, final=4),
        row(0, "default", 40, 0.81, final=2), row(1, "default", 28, 0.82, final=1),
        row(0, "random@ladder", 4, 0.79, final=1), row(0, "fewer-epochs@ladder", 1, 0.80, final=0.5),
    ]  # fmt: skip
    found = result(rows)
    assert found["total_trainings"] == pytest.approx((3 + 4.5 + 1.5) / 3)
    assert found["ladder_seeds"] == 3
    assert found["speedup_total"] == pytest.approx((21 + 29) / (3 + 4.5))
    assert found["accuracy_difference_points"] == pytest.approx((-1 + 2) / 2)
    rivals = found["rivals_at_our_cost"]
    assert rivals["random@ladder"]["speedup_total"] == pytest.approx(4 / 3)  # its winner is trained already
    assert rivals["fewer-epochs@ladder"]["speedup_total"] == pytest.approx((1 + 0.5) / 0.5 / 3)
    assert rivals["random@ladder"]["accuracy_difference_points"] == pytest.approx(1.0)
    text = report(found, markdown=True)
    assert "met: 3.00 full trainings (3.6 allowed)" in text
    assert "met: +1.00 points against 'random@ladder' (+0.5 wanted)" in text
    assert "NOT MET: +0.00 points against 'fewer-epochs@ladder' (+0.5 wanted)" in text


def test_intervals_are_those_of_scipys_paired_bootstrap() -> None:
    from scipy.stats import bootstrap

    pairs = np.array([[30.0, 40.0, 35.0, 50.0, 45.0, 38.0], [10.0, 11.0, 9.0, 12.0, 14.0, 10.0]])
    for statistic in (ratio, difference):
        low, high = interval(statistic, pairs) or (math.nan, math.nan)
        theirs = bootstrap(
            tuple(pairs),
            lambda x, y, statistic=statistic: statistic(np.stack([x, y])),
            paired=True,
            vectorized=False,
            method="percentile",
            n_resamples=4_000,
            rng=np.random.default_rng(1),
        ).confidence_interval
        assert (low, high) == pytest.approx((theirs.low, theirs.high), rel=0.02)
    assert interval(difference, pairs[:, :4]) is None


def test_the_table_says_where_we_lose() -> None:
    rows = [row(0, "default", 99, 0.80), row(0, "paper", 19, 0.79), row(0, "random", 19, 0.81)]
    text = report(result(rows), markdown=True)
    assert "met: 5.00 times as fast as the default in total (3 wanted)" in text
    assert "NOT MET: -1.00 points against the default (-0.3 allowed)" in text
    assert "NOT MET: -2.00 points against 'random'" in text


def test_files_are_merged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    for seed, file in enumerate(files):
        file.write_text("".join(json.dumps(row(seed, arm, 9, 0.5)) + "\n" for arm in ("paper", "default")))
    out = tmp_path / "result.json"
    assert main(["--merge", *map(str, files), "--json", str(out)]) == 0
    assert json.loads(out.read_text())["seeds"] == [0, 1]
    with pytest.raises(SystemExit) as stopped:
        main(["--merge", str(files[0]), str(files[0])])
    assert stopped.value.code == 2
    assert "seed 0, 'paper', is there twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        (None, ["--arms", "random"], "'random' spends what 'paper' took, which is not known of seed 0"),
        (json.dumps(row(0, "paper", 1, 0.5)).replace("digits", "cifar10"), [], "is of another preset"),
        ('{"arm": "mine"}', [], "holds something else than rows of this benchmark"),
        ("{", [], "cannot be read"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(
    content: str | None, options: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    if content is not None:
        file.write_text(content + "\n")
    with pytest.raises(SystemExit) as stopped:
        main(["--scale", "smoke", "--rows", str(file), *options])
    assert stopped.value.code == 2
    assert sentence in capsys.readouterr().err


def test_several_at_a_time_wait_for_the_cost_of_their_own_seed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Threads stand in for processes; a search of seed s costs s + 1 seconds, and a final training 1 s."""
    budgets = {}

    def made(key: tuple[int, str], scale: str, budget: float, device: str) -> dict[str, Any]:
        budgets[key] = budget
        return row(key[0], key[1], key[0] + 1.0, 0.5)

    monkeypatch.setattr(runs, "_row", made)
    monkeypatch.setattr(runs, "processes", lambda jobs, prepare: ThreadPoolExecutor(jobs))
    rows = tmp_path / "rows.jsonl"
    assert main(["--scale", "smoke", "--seeds", "2", "--jobs", "3", "--rows", str(rows)]) == 0
    assert len(rows.read_text().splitlines()) == len(budgets) == 2 * len(ARMS)
    on_top = {"fewer-epochs@ladder", "data-subset@ladder", "one-epoch@ladder"}
    for (seed, arm), budget in budgets.items():
        spent = seed + 1.0 - (arm in on_top)  # the ladder's winner is trained then
        assert budget == (spent if ARMS[arm].at_cost else math.inf)


def test_one_at_a_time_goes_seed_by_seed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is interrupted can then be compared; and what is on file already is not run again."""
    order = []

    def made(key: tuple[int, str], scale: str, budget: float, device: str) -> dict[str, Any]:
        order.append(key)
        return row(key[0], key[1], 1.0, 0.5)

    monkeypatch.setattr(runs, "_row", made)
    monkeypatch.setattr(runs, "_prepare", lambda: None)
    rows = tmp_path / "rows.jsonl"
    common = ["--scale", "smoke", "--seeds", "2", "--rows", str(rows)]
    assert main([*common, "--arms", "default", "paper"]) == 0
    assert main([*common, "--arms", "random", "paper", "default"]) == 0
    assert order == [(0, "default"), (0, "paper"), (1, "default"), (1, "paper"), (0, "random"), (1, "random")]


def test_what_is_changed_in_the_ladder_is_no_rival() -> None:
    costs = {rivals.BRIEF: 0.0092, rivals.SHORT: 0.057, rivals.NARROW: 0.17}  # of the plans on the scale `cpu`

    assert not any(ARMS[name].rival for name in rivals.ABLATIONS)
    for name, (_, climbed) in rivals.LADDERS.items():
        rungs = [replace(rung, trials=0, keep=None) for rung in climbed.rungs]
        price = sum(n * costs.get(rung, rung.epochs) for n, rung in zip(climbed.entrants, rungs, strict=True))
        assert price == pytest.approx(3.2, abs=0.1), name

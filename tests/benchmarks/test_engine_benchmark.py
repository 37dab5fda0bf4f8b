"""The benchmark of engines, on small models and our engine only."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.common.lines import results
from benchmarks.common.processes import Report, Task, measured, run_all
from benchmarks.engine.__main__ import main
from benchmarks.engine.cases import FAMILIES, TIMM, Case, Family
from benchmarks.engine.report import exponent, report
from benchmarks.engine.runs import WrongCutError, kept_indices, layer_shapes


class Broken(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise ValueError("nothing fits\nat all")


class Hanging(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(60)
        return x


class Dying(nn.Sequential):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return x


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    """The benchmark sets the process to one thread."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


CLASSES: dict[str, type[nn.Sequential]] = {
    "good": nn.Sequential,
    "broken": Broken,
    "hanging": Hanging,
    "dying": Dying,
    "hanging deeper": Hanging,
}


def build(name: str) -> Case:
    return Case(CLASSES[name](nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 6), nn.Linear(6, 2)), torch.ones(3, 4))


def run(path: Path, *arguments: str, **families: Family) -> list[dict[str, Any]]:
    options = ["--engine", "prunetune", "--json", str(path), *arguments]
    assert main(options, families or FAMILIES) == 0
    return results(path)


def test_the_table_says_what_the_lines_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run(tmp_path / "rows", "--family", "hazards", "--model", "CatWithItself") + run(
        tmp_path / "deep", "--family", "depth", "--model", "resnet20"
    )
    hazard, deep = rows
    assert hazard["ok"] and deep["ok"]
    assert (hazard["layers"], hazard["layers_shrunk"]) == (2, 2)  # stem and head
    assert (deep["layers"], deep["layers_shrunk"], deep["depth"]) == (22, 22, 20)  # 20 and two shortcuts
    assert 0.3 * deep["parameters_before"] > deep["parameters_after"] > 0.2 * deep["parameters_before"]
    assert deep["cpu_seconds"] > 0 and deep["wall_seconds"] > 0 and deep["analysis_seconds"] > 0
    coverage = capsys.readouterr().out.split("\n\n")
    line = next(line for part in coverage for line in part.splitlines() if line.startswith("depth"))
    assert line.split() == [
        "depth",
        "prunetune",
        "1",
        "1",
        *["100"] * 2,
        *[f"{deep['cpu_seconds']:.2f}"] * 2,
        line.split()[-1],
    ]


def test_what_goes_wrong_is_a_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    family = Family(lambda: ["good", "broken", "hanging", "dying"], build)
    rows = run(tmp_path / "rows", "--timeout", "2", tiny=family)
    assert {row["model"]: (row["ok"], row["stage"]) for row in rows} == {
        "good": (True, "analysing again"),
        "broken": (False, "pruning"),
        "hanging": (False, "pruning"),
        "dying": (False, "pruning"),
    }
    reasons = {row["model"]: row["reason"] for row in rows}
    assert (
        "ValueError at test_engine_benchmark.py:27: nothing fits" in reasons["broken"] and "\n" not in reasons["broken"]
    )
    assert reasons["hanging"] == "over 2 s"
    assert reasons["dying"] == "killed, which is what Linux does when memory runs out"
    printed = capsys.readouterr().out
    assert all(reason[:60] in printed for reason in reasons.values() if reason)
    assert "tiny    prunetune   1      4" in printed


def test_resuming_adds_only_what_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "rows"
    first = run(file, tiny=Family(lambda: ["good"], build))
    both = run(file, "--resume", "--timeout", "9", tiny=Family(lambda: ["good", "broken"], build))
    assert both[0] == first[0] and [row["model"] for row in both] == ["good", "broken"]
    with pytest.raises(SystemExit):
        run(file, tiny=Family(lambda: ["good"], build))


def test_what_is_deeper_than_the_limit_is_not_run(tmp_path: Path) -> None:
    depths = {"hanging": ("series", 1), "hanging deeper": ("series", 2)}
    rows = run(tmp_path / "rows", "--limit", "1", tiny=Family(lambda: list(depths), build, depths=depths))
    assert [row["reason"] for row in rows] == ["over 1 s", "not run: hanging was over 1 s"]


def test_a_second_run_at_a_percentile(tmp_path: Path) -> None:
    rows = run(tmp_path / "rows", "--percentile", "50", tiny=Family(lambda: ["good"], build))
    assert [row["engine"] for row in rows] == ["prunetune", "prunetune p50"]
    # Two groups, of 8 and 6 units: half of each stays; or 7 of the 14, however they are spread.
    parameters = {a: 4 * a + a + a * b + b + 2 * b + 2 for a in range(1, 7) for b in [7 - a]}
    assert rows[0]["parameters_after"] == parameters[4]
    assert rows[1]["parameters_after"] in parameters.values()


def test_memory_is_measured_over_what_was_there() -> None:
    with measured() as usage:
        torch.ones(200 * 2**20 // 4)
    assert 190 < usage.peak_mib < 230


def test_children_report_what_they_know_before_they_end() -> None:
    def counts(report: Report) -> None:
        report.stage("counting")
        report.add(one=1)
        report.add(two=2)
        raise SystemExit(3)

    ((task, outcome),) = run_all([Task("a", counts, 9.0)])
    assert (task.key, outcome.values, outcome.stage) == ("a", {"one": 1, "two": 2}, "counting")
    assert outcome.failure == "SystemExit: 3"


def test_children_run_side_by_side() -> None:
    everyone = multiprocessing.get_context("fork").Barrier(4)  # one after another, the first would wait in vain
    done = list(run_all([Task(i, lambda _: everyone.wait(60), 90.0) for i in range(4)], jobs=4))
    assert sorted(task.key for task, _ in done) == [0, 1, 2, 3]
    assert [outcome.failure for _, outcome in done] == [None] * 4


@pytest.mark.filterwarnings("ignore:Complex modules")
@pytest.mark.parametrize("dtype", [torch.float32, torch.complex64])
def test_kept_indices_are_read_off_the_values(dtype: torch.dtype) -> None:
    original = nn.Sequential(nn.Linear(5, 4), nn.Linear(4, 3)).to(dtype)
    pruned = nn.Sequential(nn.Linear(5, 2), nn.Linear(2, 3)).to(dtype)
    with torch.no_grad():
        pruned[0].weight.copy_(original[0].weight[[1, 3]])
        pruned[0].bias.copy_(original[0].bias[[1, 3]])
        pruned[1].weight.copy_(original[1].weight[:, [1, 3]])
        pruned[1].bias.copy_(original[1].bias)
    plan = kept_indices(original, pruned)
    assert {n: dict(cut.keep) for n, cut in plan.tensors.items()} == {
        "0.weight": {0: (1, 3)},
        "0.bias": {0: (1, 3)},
        "1.weight": {1: (1, 3)},
    }
    with torch.no_grad():
        pruned[0].weight += 1e-3
    with pytest.raises(WrongCutError, match="0.weight"):
        kept_indices(original, pruned)


def test_layers_are_weights_with_rows_and_columns() -> None:
    model = nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 4, 1),
            "norm": nn.BatchNorm2d(4),
            "lstm": nn.LSTM(4, 2),
            "attention": nn.MultiheadAttention(4, 2),
            "normed": nn.utils.parametrizations.weight_norm(nn.Linear(4, 2)),
        }
    )
    model.register_parameter("position_bias", nn.Parameter(torch.ones(2, 4)))
    assert list(layer_shapes(model)) == [
        "conv.weight",
        "lstm.weight_ih_l0",
        "lstm.weight_hh_l0",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "normed.parametrizations.weight.original1",
    ]


def _row(model: str, engine: str, seconds: float, **other: Any) -> dict[str, Any]:
    row = {"family": "f", "model": model, "engine": engine, "ok": True, "reason": None, "stage": "", "frozen": []}
    return row | {"cpu_seconds": seconds, "peak_mib": 1.0, "layers": 4, "layers_shrunk": 4, **other}


def test_ratios_are_over_what_both_did() -> None:
    rows = [
        *(_row(name, "prunetune", s) for name, s in {"a": 1.0, "b": 2.0, "c": 0.5, "d": 1.0}.items()),
        *(_row(name, "rival", s) for name, s in {"a": 4.0, "b": 2.0, "c": 5.0}.items()),
        _row("d", "rival", 99.0, ok=False, reason="Error: no", stage="pruning"),
    ]
    text = report(rows, {"prunetune": "1"}, markdown=True)
    # rival / ours: a 4, b 1, c 10; d does not count
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    assert ["rival", "f", "3", "1.00", "b", "4.00"] in lines
    assert ["rival", "all but hazards", "3", "1.00", "b", "4.00"] in lines
    assert ["rival", "f", "c", "5.00", "0.50", "10.00"] in lines
    assert ["rival", "f", "d", "pruning", "Error: no"] in lines


def test_the_exponent_of_quadratic_growth_is_two() -> None:
    assert exponent([(10, 1.0), (20, 4.0), (40, 16.0), (80, 64.0)]) == pytest.approx(2.0)
    assert exponent([(10, 1.0), (20, 4.0)]) is None


def test_a_hundred_and_three_models_of_timm() -> None:
    assert len(set(TIMM)) == len(TIMM) == 103

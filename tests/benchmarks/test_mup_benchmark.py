"""``python -m benchmarks.mup``: its statistics by hand, what it measures by an independent loop, that it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from benchmarks.common.lines import results
from benchmarks.mup import __main__ as mup
from benchmarks.mup.cases import SCALES, Perceptron, Task
from benchmarks.mup.report import best_rates, coordinate_slopes, optimum, slope, steepest
from benchmarks.mup.runs import coordinates, data_of, jobs, key

TASK = Task("task", lambda classes, channels: nn.Identity(), 1, (0.25, 0.5, 1.0, 2.0), 0.1)


def test_slopes_and_parabolas_by_hand() -> None:
    assert slope([1, 0.5, 0.25], [3, 3 * 2**0.5, 6]) == pytest.approx(-0.5)
    assert slope([1, 0.5], [0.0, 1.0]) is None
    rates = [1.0, 2.0, 4.0, 8.0]
    assert optimum(rates, [4.0, 1.0, 0.0, 1.0]) == pytest.approx(4.0)  # (log2 - 2) ** 2
    assert optimum(rates, [1.0, 0.5, 1.0, 9.0]) == pytest.approx(2.0)  # as far above on both sides
    assert optimum(rates, [0.1, 0.2, 0.3, 0.4]) == 1.0  # the first: no neighbour on one side
    assert optimum(rates, [3.0, 2.0, 1.0, float("inf")]) == 4.0  # its neighbour diverged


def test_slopes_of_layers_are_those_of_the_means_over_seeds() -> None:
    def row(scale: float, width: float) -> dict[str, Any]:
        return {
            "size": {"a": [scale] * 5, "b": [scale * width] * 5},
            "moved": {"a": [0.0] + [scale * width**0.5] * 4, "b": [0.0] + [scale / width] * 4},
        }

    found = coordinate_slopes({width: [row(1.0, width), row(3.0, width)] for width in (1.0, 0.5, 0.25)})
    assert found["a"]["moved_slope"] == pytest.approx([0.5] * 4)
    assert found["b"]["size_slope"] == pytest.approx([1.0] * 5)
    assert found["a"]["moved"]["0.25"] == pytest.approx([1.0] * 4)  # (1 + 3) / 2 * sqrt(0.25)
    assert steepest(found, "moved", 4) == ("b", pytest.approx(-1.0))


def test_best_rates_shift_and_regret_by_hand() -> None:
    def rows(losses: list[float | None], accuracies: list[float | None]) -> list[dict[str, Any]]:
        return [
            {"rate": rate, "loss": loss, "accuracy": accuracy}
            for rate, loss, accuracy in zip(TASK.rates, losses, accuracies, strict=True)
        ]

    full = rows([1.0, 0.5, 1.0, None], [0.7, 0.9, 0.8, None])  # least at 0.5
    narrow = rows([4.0, 2.0, 1.0, 2.0], [0.5, 0.6, 0.8, 0.7])  # at 1, and so is its best accuracy
    found = best_rates({1.0: full, 0.5: narrow}, TASK)
    assert found["widths"]["1.0"]["optimum"] == pytest.approx(0.5)
    assert found["widths"]["0.5"]["times_the_full_networks"] == pytest.approx(2.0)
    assert found["widths"]["0.5"]["regret_points"] == pytest.approx(10)  # the full network at 1: 0.8 and not 0.9
    assert found["widths"]["1.0"]["regret_points"] == 0
    assert found["widths"]["1.0"]["loss"][-1] is None
    assert found["slope"] == pytest.approx(-1.0)  # twice at half the width


def test_a_coordinate_check_sees_what_a_plain_loop_sees() -> None:
    """On the full network, where both rules are plain SGD: the same network trained here, without hooks."""
    scale = SCALES["smoke"]
    task = scale.tasks[0]
    data = data_of(scale.dataset, scale.pixels, scale.images, scale.val)
    torch.manual_seed(1002)
    net = Perceptron(8, 32, data.num_classes, data.channels)
    sgd = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    images, labels = data.normalize(data.train_images[:64]), data.train_labels[:64]
    logits = []
    for _ in range(5):
        out = net(images)
        logits.append(out.detach())
        sgd.zero_grad()
        nn.functional.cross_entropy(out, labels).backward()
        sgd.step()
    found = coordinates(scale, task, {"width": 1.0, "seed": 2, "rate": 0.1, "rule": "mup"})
    assert found["size"]["last"] == pytest.approx([out.abs().mean().item() for out in logits], rel=1e-4)
    moved = [(out - logits[0]).abs().mean().item() for out in logits]
    assert found["moved"]["last"] == pytest.approx(moved, rel=1e-3)
    assert set(found["size"]) == {"first", "second", "third", "last"}


def test_a_small_run_writes_its_tables_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, summary, figures = tmp_path / "rows.jsonl", tmp_path / "mup.json", tmp_path / "figures"
    smoke = ["--scale", "smoke", "--rows", str(rows), "--json", str(summary)]
    assert mup.main([*smoke, "--figures", str(figures)]) == 0
    table = capsys.readouterr().out
    assert "perceptron, sgd" in table and "full network" in table
    assert {path.name for path in figures.glob("*.html")} == {"mup-coordinates.html", "mup-rates.html"}
    found, wanted = json.loads(summary.read_text()), list(jobs(SCALES["smoke"]))
    assert [key(job) for job in wanted] == [key(row) for row in results(rows)]
    assert set(found["rates"]["perceptron, sgd"]["mup"]["widths"]) == {"1.0", "0.25"}
    assert found["cpu_seconds"] > 0

    lines = rows.read_text().splitlines(keepends=True)
    rows.write_text("".join(lines[:-1]) + lines[-1][:20])  # as a killed run leaves it
    again = []
    monkeypatch.setattr(mup, "measured", lambda scale, job: again.append(job) or json.loads(lines[-1]))
    assert mup.main([*smoke, "--markdown"]) == 0
    assert [key(job) for job in again] == [key(wanted[-1])]
    assert json.loads(summary.read_text())["rates"] == found["rates"]
    assert "| perceptron, sgd | " in capsys.readouterr().out

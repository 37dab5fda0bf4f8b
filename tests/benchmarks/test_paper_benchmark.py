"""The paper's tables again: the whole as small as it can be, and what the tables say of canned searches."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import prunetune.engine
import prunetune.report
from benchmarks.paper import __main__ as paper
from benchmarks.paper.cases import PRESETS
from benchmarks.paper.report import TABLES, evidence, figure3, table1, table3, table5
from benchmarks.paper.runs import TYPICAL, AfterTraining, Bench, train_plainly
from prunetune import prune
from prunetune.data import datasets
from prunetune.plugins import make_scorer

Record = dict[str, Any]


def test_everything_once_and_never_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = {"1.0": 1.0, "None": 0.25}  # by the share of the width; None is the proxy
    monkeypatch.setattr(prunetune.engine, "step_time", lambda models, inputs, **_: times)
    monkeypatch.setattr(prunetune.report, "write_report", lambda folder: folder)  # half a second for each of nine runs
    path = tmp_path / "paper.json"
    command = [*TABLES, "--scale", "smoke", "--folder", str(tmp_path / "runs"), "--json", str(path), "--markdown"]
    assert paper.main(command) == 0
    found = json.loads(path.read_text())
    results = {name: each["rows"] for name, each in found["results"].items()}
    assert results.keys() == TABLES.keys() and all(results.values())
    assert {row["method"] for row in results["table1"]} == {"Neuron Merging [19]", "Ours"}
    for row in results["table1"]:
        assert row["difference"] == pytest.approx(row["pruned"] - row["typical"])
    assert [row["paper_saved"] for row in results["table3"]] == [23, 12]
    assert [row["step_saved"] for row in results["table3"]] == [75, 75]
    assert {row["hyperparameter"] for row in results["figure3"]} == {
        "learning_rate", "weight_decay", "batch_size", "lr_decay", "momentum",
    }  # fmt: skip
    assert {"machine", "versions", "seeds", "settings"} <= found.keys()
    assert "CIFAR10: digits" in capsys.readouterr().out

    def trains(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(torch.optim.SGD, "step", trains)  # not the train functions, whose code a run remembers
    assert paper.main(command) == 0
    again = json.loads(path.read_text())["results"]
    assert again == found["results"]


def test_a_folder_of_another_scale_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Bench(PRESETS["cpu"], tmp_path)
    assert paper.main(["figure2", "--scale", "smoke", "--folder", str(tmp_path)]) == 2
    assert "holds results of another setting" in capsys.readouterr().err


class Canned(Bench):
    """Two seeds of searches whose records are known."""

    def __init__(self, preset: str = "full") -> None:
        object.__setattr__(self, "preset", replace(PRESETS[preset], seeds=2, optimizers=("tpe",)))

    def search(self, network: str, dataset: str, route: str, seed: int, **options: Any) -> Record:
        typical = route == TYPICAL
        return {
            "test": {"accuracy": (0.9 if typical else 0.92) + 0.01 * seed},
            "search": {"seconds": 100.0 if typical else 30.0, "epochs": 50 if typical else 60},
            "cost": {"base": {"step_seconds": 0.4}, "proxy": {"step_seconds": 0.4 if typical else 0.1 + 0.1 * seed}},
            "winner": {
                "params": {
                    "learning_rate": 0.1 if typical else 0.01 * 100**seed, "weight_decay": 1e-3, "batch_size": 64,
                    "lr_decay": 0.5, "momentum": 0.5 + 0.2 * seed,
                }
            },
        }  # fmt: skip

    def trained(self, network: str, dataset: str, source: str, params: Record, seed: int) -> float:
        return 0.8 + 0.02 * seed


def test_table_1_has_the_papers_six_rows() -> None:
    rows = table1(Canned()).rows
    assert len(rows) == 6
    first = rows[0]
    assert (first["paper_typical"], first["paper_pruned"]) == (93.43, 93.57)
    assert (first["typical"], first["pruned"]) == pytest.approx((90.5, 92.5))
    assert (first["difference"], first["paper_difference"]) == pytest.approx((2.0, 0.14))


def test_table_3_is_shares_of_seconds() -> None:
    rows = table3(Canned()).rows
    assert len(rows) == 9
    cell = next(row for row in rows if (row["dataset"], row["model"]) == ("CIFAR100", "MobileNetV2"))
    assert cell["paper_saved"] == 37
    assert cell["search_saved"] == pytest.approx(70.0)  # 60 s instead of 200
    assert cell["epoch_saved"] == pytest.approx(75.0)  # 0.5 s instead of 2
    assert cell["step_saved"] == pytest.approx(62.5)  # the mean of 75 and 50
    assert cell["energy_saved"] is None


def test_table_5_places_the_papers_numbers() -> None:
    rows = {(row["dataset"], row["target"], row["source"]): row for row in table5(Canned()).rows}
    assert len(rows) == 27
    mobile = rows["CIFAR10", "MobileNetV2", "ResNet56"]  # the text: this gap is larger than that of VGG16-BN
    assert (mobile["paper_accuracy"], rows["CIFAR10", "MobileNetV2", "VGG16-BN"]["paper_accuracy"]) == (91.95, 94.3)
    assert rows["CIFAR100", "ResNet56", "MobileNetV2"]["paper_difference"] == -1.49  # as printed
    assert rows["CIFAR10", "VGG16-BN", "VGG16-BN"]["paper_accuracy"] is None
    assert (mobile["accuracy"], mobile["difference"]) == pytest.approx((81.0, 81.0 - 92.5))


def test_figure_3_averages_on_the_scale_of_the_search() -> None:
    rows = {row["hyperparameter"]: row for row in figure3(Canned()).rows}
    rate, momentum = rows["learning_rate"], rows["momentum"]
    assert (rate["typical_mean"], rate["pruned_mean"]) == pytest.approx((0.1, 0.1))  # 0.01 and 1
    assert (rate["typical_deviation"], rate["pruned_deviation"]) == pytest.approx((0.0, 2**0.5))  # -2 and 0
    assert momentum["pruned_mean"] == pytest.approx(0.6)


def test_the_evidence_says_what_is_missing() -> None:
    found = evidence()
    assert found["paper"]["arxiv"] == "2205.08695"
    assert "STRIPPED" in found["table3_time_reduction_pct"]["accuracies"]
    assert found["table2_search_space"]["inferred"]


def test_methods_that_need_training_see_a_trained_copy() -> None:
    data = datasets["digits"].load(8, None, 0)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(288, 10))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    seen = []

    def train(model: nn.Module) -> None:
        losses = train_plainly(model, data, 1, 0, penalty=True)
        seen.append(model[1].weight.detach().clone())
        assert losses[0] > 0

    result = prune(
        net, data.normalize(data.train_images[:2]), scorer=AfterTraining(make_scorer("slimming"), train), ratio=0.5
    )
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    largest = seen[0].abs().topk(4).indices.sort().values  # network slimming keeps the largest scales
    assert list(result.plan.tensors["0.weight"].keep[0]) == largest.tolist()

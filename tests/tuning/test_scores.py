"""What train functions and ``evaluate`` may report and return, and what is said of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from prunetune._utils.checks import real_number
from prunetune.backends.study.trial import Report
from prunetune.errors import InputError
from prunetune.events import Event, Warned
from prunetune.tuning.train_checks import other_score_warning
from tiny_tune import make_quick, read_record, tiny_tune, touch


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


@pytest.mark.parametrize(
    "value",
    [
        0.5, np.float32(0.5), np.float64(0.5), np.array(0.5), np.array([0.5]), np.array([[0.5]]),
        torch.tensor(0.5), torch.tensor([0.5]), torch.tensor([[0.5]], requires_grad=True),
        torch.tensor([0.5], dtype=torch.bfloat16),
    ],
)  # fmt: skip
def test_one_number_however_it_is_wrapped(value: object) -> None:
    assert real_number("x", value) == 0.5


@pytest.mark.parametrize(
    "value",
    [
        True, np.bool_(True), np.array(True), np.array([True]), torch.tensor(True), torch.tensor([True]), "0.5", b"1",
        np.array(["0.5"]), np.array([0.5, 0.5]), torch.zeros(2), np.array([]), None, [0.5], 1j,
    ],
)  # fmt: skip
def test_what_is_no_number(value: object) -> None:
    with pytest.raises(InputError, match="x must be one number, not "):
        real_number("x", value)


def test_epochs_may_be_whole_floats(tmp_path: Path) -> None:
    def train(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        touch(model)
        for epoch in (1.0, np.float64(2.0)):
            report(params["lr"], epoch)  # type: ignore[arg-type]
        return float(params["lr"] + 0 * params["steps"])

    assert tiny_tune(tmp_path, train=train).record["confirmation"][0]["epochs"] == 2


@pytest.mark.parametrize("epoch", [0.5, 1.5, float("nan"), 0, True, "1"])
def test_other_epochs_are_refused_by_name(epoch: object, tmp_path: Path) -> None:
    def train(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        report(0.5, epoch)  # type: ignore[arg-type]
        return 0.5

    with pytest.raises(InputError, match="report: epoch is .*, but it must be a whole number of at least 1"):
        tiny_tune(tmp_path, train=train)


@pytest.mark.parametrize(
    ("reported", "returned", "suspicious"),
    [
        ([0.2, 0.6, 0.9], 0.9, False),
        ([0.2, 0.9, 0.8], 0.9, False),  # the best
        ([0.2, 0.9], 0.95, False),  # of averaged weights
        ([0.9], 0.92, False),
        ([0.9], 0.31, True),  # an accuracy, and a loss
        ([0.5, 0.9], 1.7, True),
        ([0.93, 0.95], 0.2, True),
        ([1.2, 0.4], 0.95, False),  # a loss and an accuracy that might as well be a loss: nobody knows
        ([], 0.3, False),
        ([0.9], float("nan"), False),
        ([0.9], "text", False),
    ],
)
def test_a_score_that_was_never_reported(reported: list[float], returned: object, suspicious: bool) -> None:
    assert bool(other_score_warning(reported, returned)) == suspicious


def test_an_accuracy_that_is_reported_and_a_loss_that_is_returned(tmp_path: Path) -> None:
    def train(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        touch(model)
        for epoch in range(1, report.epochs + 1):
            report(0.9 + epoch / 100, epoch)
        return 0.2 + 0 * params["lr"] * params["steps"]

    events: list[Event] = []
    tiny_tune(tmp_path, train=train, observer=events.append)
    (said,) = [event.message for event in events if isinstance(event, Warned)]
    assert "reported 0.92 last and returned 0.2: " in said
    assert "both must be the same score" in said


def test_evaluate_may_return_a_number(tmp_path: Path) -> None:
    assert tiny_tune(tmp_path, evaluate=lambda model: np.float32(0.25)).record["test"] == {"score": 0.25}


@pytest.mark.parametrize("returned", [None, "good", [0.5, 0.6], {"accuracy": "high"}, (0.5,)])
def test_evaluate_that_returns_none_is_told_in_a_sentence_and_nothing_is_lost(returned: Any, tmp_path: Path) -> None:
    message = r"evaluate must return numbers by name, .*; it returned .*; all else is done and in .* goes on"
    with pytest.raises(InputError, match=message):
        tiny_tune(tmp_path, evaluate=lambda model: returned)
    before = read_record(tmp_path)
    assert before["winner"] is not None
    after = tiny_tune(tmp_path, evaluate=lambda model: {"accuracy": 0.5}, resume="anyway").record
    assert (after["status"], after["test"], after["winner"]) == ("finished", {"accuracy": 0.5}, before["winner"])
    assert after["search"]["trials"] == before["search"]["trials"]

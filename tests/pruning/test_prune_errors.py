"""Bad input to `prune`: one clear sentence each, and the model is not touched."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from prunetune import prune
from prunetune.errors import InputError, TraceError

NET = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
X = torch.ones(1, 4)


class Untraceable(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("this needs the moon's phase")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scorer": "synflw"}, r"unknown scorer 'synflw' \(did you mean 'synflow'\?\)"),
        ({"percentile": 100}, "percentile is 100, but it must be a number above 0 and below 100"),
        ({"floor": 0.0}, "floor is 0.0, but it must be a number above 0 and at most 1"),
        ({"ratio": 1.5}, "ratio is 1.5, but it must be a number above 0 and at most 1"),
        ({"ratio": 0.5, "percentile": 85}, "give one budget, not 2; got percentile=85.0 and ratio=0.5"),
    ],
)
def test_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prune(NET, X, **options)


def test_not_a_model() -> None:
    with pytest.raises(InputError, match=r"model must be a torch.nn.Module; got str"):
        prune("resnet", X)  # type: ignore[arg-type]


def test_example_inputs_of_the_wrong_kind() -> None:
    with pytest.raises(InputError, match="example_inputs must be a tensor, a tuple of arguments or a dict"):
        prune(NET, 3)  # type: ignore[arg-type]


def test_example_inputs_of_the_wrong_shape() -> None:
    with pytest.raises(
        TraceError, match=r"Sequential could not be run on the example inputs .*\(1, 5\).* in module '0'"
    ):
        prune(NET, torch.ones(1, 5))


def test_a_model_that_cannot_be_traced() -> None:
    with pytest.raises(TraceError, match="Untraceable could not be run .*RuntimeError.*moon's phase; check that"):
        prune(Untraceable(), X)


def test_nothing_to_remove() -> None:
    with pytest.raises(
        InputError, match="Linear has no channels that can be removed: output: it is the model's output"
    ):
        prune(nn.Linear(4, 2), X)

"""Fidelities: what may be asked for, how a cost is split, and which images a network runs on. Numbers by hand."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
import torch
from torch import nn

import prunetune.engine
from prunetune.errors import InputError
from prunetune.tuning.fidelity import FULL, Fidelity, TrialCost, cost_of, describe, fidelities, resolve_fidelity, split
from prunetune.tuning.resolution import at_resolution, check_resolution, smallest_pixels, step_ratio

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(
    ("shares", "complaint"),
    [
        ({"resolution": 0}, "fidelity.resolution is 0, but it must be above 0 and at most 1"),
        ({"epochs": 1.5}, "fidelity.epochs is 1.5, but it must be above 0 and at most 1"),
        ({"data": -0.1}, "fidelity.data is -0.1, but it must be above 0 and at most 1"),
        ({"cost": math.nan}, "fidelity.cost is nan, but it must be above 0 and at most 1"),
        ({"data": "half"}, "fidelity.data must be one number, not 'half'"),
        ({"data": None}, "fidelity.data must be one number, not None"),
    ],
)
def test_what_is_no_share_is_refused(shares: dict[str, Any], complaint: str) -> None:
    with pytest.raises(InputError, match=re.escape(complaint)):
        Fidelity(**shares)


def test_names() -> None:
    assert resolve_fidelity("full") == resolve_fidelity(FULL) == Fidelity(1, 1, 1)
    assert [fidelities[name].resolution for name in ("fast", "faster", "fastest")] == [0.5] * 3
    for name in fidelities:
        assert describe(fidelities[name]).startswith("resolution ")
    with pytest.raises(InputError, match=re.escape("unknown fidelity 'fst' (did you mean 'fast'?)")):
        resolve_fidelity("fst")
    with pytest.raises(InputError, match="fidelity is 0.5, but it must be a Fidelity: write fidelity=Fidelity"):
        resolve_fidelity(0.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("share", "epochs", "left"), [(0.5, 9, 5), (0.2, 10, 2), (1 / 3, 9, 3), (0.01, 9, 1), (1, 7, 7)]
)
def test_epochs_are_whole_and_at_least_one(share: float, epochs: int, left: int) -> None:
    assert Fidelity(epochs=share).of_epochs(epochs) == left


def test_costs_multiply() -> None:
    assert TrialCost(0.25, 0.5, 0.2).total == 0.025
    predicted = cost_of(Fidelity(0.5, 0.5, 0.2), step=0.25, epochs=10)
    assert (predicted.step, predicted.epochs, predicted.data) == (0.25, 0.5, 0.2)
    assert cost_of(Fidelity(epochs=0.5), 1.0, 9).epochs == 5 / 9  # of whole epochs


def quadratic(resolution: float) -> float:
    """A proxy that takes a tenth of the time, and time in proportion to pixels."""
    return 0.1 * resolution**2


def budget(cost: float, step: Any = quadratic, *, of: int = 10, least_pixels: int = 1, **least: float) -> Any:
    """Of images of 32 pixels and ``of`` epochs."""
    return split(Fidelity.for_budget(cost, **least), step, epochs=of, pixels=32, least_pixels=least_pixels)


@pytest.mark.parametrize(
    ("cost", "found"),
    [
        (0.5, (1, 1, 1)),  # the proxy alone is cheaper
        (0.1, (1, 1, 1)),
        (0.05, (22 / 32, 1, 1)),  # sqrt(1/2) of 32 pixels is 22.6; 0.1 * (22/32)^2 = 0.047
        (0.025, (0.5, 1, 1)),  # 0.1 / 4
        (0.0125, (0.5, 0.5, 1)),
        (0.005, (0.5, 0.2, 1)),
        (0.0025, (0.5, 0.2, 0.5)),
        (0.001, (0.5, 0.2, 0.2)),
    ],
)
def test_a_cost_is_split_in_order(cost: float, found: tuple[float, float, float]) -> None:
    chosen, predicted = budget(cost)
    assert (chosen.resolution, chosen.epochs, chosen.data) == pytest.approx(found)
    assert chosen.cost is None
    assert predicted.total <= cost * 1.0001
    assert predicted.total == pytest.approx(quadratic(chosen.resolution) * chosen.epochs * chosen.data)


def test_the_part_of_an_epoch_is_saved_in_data() -> None:
    """0.0125 asks for half of the work; of 5 epochs that is 2 and a half, so 2: nothing is left for data to save."""
    chosen, predicted = budget(0.0125, of=5)
    assert (chosen.epochs, chosen.data, predicted.epochs) == (0.4, 1, 0.4)
    chosen, _ = budget(0.0125, of=1)
    assert (chosen.epochs, chosen.data) == (1, pytest.approx(0.5))


def test_small_images_are_left_out_where_they_save_no_time() -> None:
    """A network whose time is in its calls: 0.09 of 0.1 at half the resolution."""
    chosen, _ = budget(0.05, lambda resolution: 0.08 + 0.02 * resolution)
    assert (chosen.resolution, chosen.epochs) == (1, 0.5)


def test_images_stay_as_large_as_the_network_needs_and_as_was_asked() -> None:
    assert budget(0.0125, least_pixels=24)[0].resolution == 0.75
    assert budget(0.0125, least_pixels=32)[0].resolution == 1
    assert budget(0.0125, resolution=0.75)[0].resolution == 0.75
    assert budget(0.05, resolution=1)[0] == Fidelity(1, 0.5, 1)


def test_a_cost_out_of_reach_says_what_can_be_had() -> None:
    with pytest.raises(InputError, match=re.escape("fidelity.cost is 0.0005, but a trial costs at least 0.001 of a ")):
        budget(0.0005)
    with pytest.raises(InputError, match=re.escape("0.025 by the proxy's step at resolution 0.5, x 1 by epochs x 1 ")):
        budget(0.01, epochs=1, data=1)


IMAGES = torch.randn(1, 3, 32, 32)


def test_a_network_runs_on_images_from_some_size_on() -> None:
    """One that halves its images three times: 8 pixels are the fewest."""
    pools = [layer for _ in range(3) for layer in (nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.MaxPool2d(2))]
    model = nn.Sequential(*pools)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    check_resolution(model, IMAGES, 1.0)
    check_resolution(model, torch.randn(1, 3, 16, 16), 0.5)
    with pytest.raises(InputError) as caught:
        check_resolution(model, torch.randn(1, 3, 16, 16), 0.25)
    assert str(caught.value).startswith(
        "fidelity.resolution is 0.25, but the network does not run on images of 4 pixels ("
    )
    assert str(caught.value).endswith("; the smallest possible is 0.5 (8 pixels)")
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_network_of_one_size_and_inputs_that_are_no_images() -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 2))
    with pytest.raises(InputError, match="it runs on none below their own size: leave it at 1"):
        check_resolution(flat, IMAGES, 0.5)
    assert smallest_pixels(flat, IMAGES, 30) == 32
    for inputs in (torch.zeros(2, 6), {"x": IMAGES}, (IMAGES, IMAGES), IMAGES.long()):
        with pytest.raises(InputError, match=re.escape("fidelity.resolution is 0.5, but the example inputs are not")):
            check_resolution(flat, inputs, 0.5)


def test_images_are_scaled_to_whole_pixels() -> None:
    assert at_resolution(torch.zeros(2, 3, 32, 48), 0.5).shape == (2, 3, 16, 24)
    assert at_resolution(torch.zeros(2, 3, 9, 9), 0.5).shape == (2, 3, 5, 5)
    assert at_resolution(IMAGES, 1.0) is IMAGES


def test_the_step_is_measured_on_the_small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, tuple[int, ...]] = {}

    class Net(nn.Module):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name, self.conv = name, nn.Conv2d(3, 2, 1)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen[self.name] = tuple(images.shape)
            result: torch.Tensor = self.conv(images)
            return result

    def timed(models: dict[str, nn.Module], inputs: torch.Tensor) -> dict[str, float]:
        for model in models.values():
            model(inputs)
        return {"base": 8.0, "proxy": 1.0}

    monkeypatch.setattr(prunetune.engine, "step_time", timed)
    assert step_ratio(Net("base"), Net("proxy"), IMAGES, 0.5) == 1 / 8
    assert seen == {"base": (1, 3, 32, 32), "proxy": (1, 3, 16, 16)}

"""A cut pretrained network computes what the full one did."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from prunetune import prune
from prunetune.engine import PruningPlan, apply, bypass, recover, residual_blocks
from prunetune.engine.recovery import _rows
from prunetune.errors import InputError
from prunetune.zoo import models


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def recovered(model: nn.Module, plan: PruningPlan, inputs: torch.Tensor) -> nn.Module:
    proxy = apply(plan, model)
    proxy.load_state_dict(dict(recover(model, plan, inputs).tensors), strict=False)
    return proxy.eval()


def test_units_that_others_repeat_are_made_up_for() -> None:
    """By hand: units 4 to 7 are copies of 0 to 3, so that without them the same function is left to be had."""
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).double().eval()
    with torch.no_grad():
        model[0].weight[4:] = model[0].weight[:4]
        model[0].bias[4:] = model[0].bias[:4]
    inputs = torch.randn(512, 6, dtype=torch.float64)
    plan = prune(model, inputs, scorer="uniform", ratio=0.5).plan
    assert plan.tensors["0.weight"].keep[0] == (0, 1, 2, 3)
    unseen = torch.randn(64, 6, dtype=torch.float64)
    sliced, made_up = (apply(plan, model).eval()(unseen), recovered(model, plan, inputs)(unseen))
    asked = model(unseen)
    assert (sliced - asked).norm() > 0.3 * asked.norm()
    assert (made_up - asked).norm() < 0.02 * asked.norm()  # ridge keeps a little of what was


def test_what_is_not_cut_stays_as_it_is() -> None:
    model = models["resnet8"](10, 3).eval()
    images = torch.randn(16, 3, 8, 8)
    whole = recovered(model, PruningPlan({}, {}), images)
    torch.testing.assert_close(whole(images), model(images), rtol=1e-3, atol=1e-4)
    assert recover(model, PruningPlan({}, {}), images).sliced == pytest.approx(1.0)


@pytest.mark.parametrize("depth", [False, True])
def test_a_trained_network_is_nearer_to_itself_than_its_slices_are(depth: bool) -> None:
    model, digits = trained()
    images, unseen = digits[:256], digits[256:320]
    plan = (
        bypass([block for block in residual_blocks(model, images[:4]) if block.inside is None][:1])
        if depth
        else prune(model, images[:16], scorer="magnitude", ratio=0.5).plan
    )
    before = deepcopy(model.state_dict())
    found = recover(model, plan, images)
    assert found.recovered > found.sliced
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    with torch.no_grad():
        asked = model.eval()(unseen)
        far = (apply(plan, model).eval()(unseen) - asked).norm()
        near = (recovered(model, plan, images)(unseen) - asked).norm()
    assert near < 0.8 * far


def trained() -> tuple[nn.Module, torch.Tensor]:
    """A ResNet that has learnt digits, and these."""
    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(data.target)
    model = models["resnet8"](10, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for step in range(40):
        chosen = torch.arange(32 * step, 32 * step + 32) % len(images)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimizer.step()
    return model.eval(), images


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Linear(3, 4), (2, 5, 3)),
        (nn.Conv1d(3, 4, 5, padding="same", dilation=2), (2, 3, 12)),
        (nn.Conv2d(6, 8, 3, stride=2, padding=1, dilation=2, groups=2, padding_mode="reflect"), (2, 6, 11, 9)),
        (nn.Conv3d(2, 4, 3, padding=1), (2, 2, 5, 6, 7)),
    ],
)
def test_patches_times_weights_are_the_layers_outputs(layer: nn.Module, shape: tuple[int, ...]) -> None:
    """Against torch's own convolutions."""
    inputs = torch.randn(shape)
    rows, groups = _rows(layer, inputs), getattr(layer, "groups", 1)  # type: ignore[arg-type]
    parts = zip(rows.chunk(groups, 1), layer.weight.flatten(1).chunk(groups), strict=True)
    asked = layer(inputs) if isinstance(layer, nn.Linear) else layer(inputs).movedim(1, -1)
    made = torch.cat([part @ weight.T for part, weight in parts], 1) + layer.bias
    torch.testing.assert_close(made, asked.flatten(0, -2), rtol=1e-4, atol=1e-5)


class Tied(nn.Module):
    """A readout that is the embedding, behind a layer whose weight is computed from others."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(12, 8)
        self.middle = nn.utils.parametrizations.weight_norm(nn.Linear(8, 8))
        self.last = nn.Linear(8, 8)
        self.readout = nn.Linear(8, 12, bias=False)
        self.readout.weight = self.embed.weight

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.readout(self.last(self.middle(self.embed(tokens)).relu()))
        return out


def test_weights_that_have_another_use_stay() -> None:
    model, tokens = Tied(), torch.randint(12, (64, 5))
    plan = prune(model, tokens, scorer="magnitude", ratio=0.5).plan
    assert set(recover(model, plan, tokens).tensors) == {"last.weight", "last.bias"}


class Turned(nn.Module):
    """A linear layer whose weight is (inputs, outputs), as GPT-2's are."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.randn(outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, x, self.weight)


class Scaled(Turned):
    """Looks like one, and is none."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, x, self.weight.tanh())


def test_weights_may_be_turned() -> None:
    """By hand, as above: half of the units repeat the others."""
    model = nn.Sequential(Turned(6, 8), nn.ReLU(), Turned(8, 8), nn.ReLU(), Scaled(8, 3)).eval()
    with torch.no_grad():
        for number in (0, 2):
            model[number].weight[:, 4:] = model[number].weight[:, :4]
            model[number].bias[4:] = model[number].bias[:4]
    inputs, unseen = torch.randn(512, 6), torch.randn(64, 6)
    plan = prune(model, inputs, scorer="uniform", ratio=0.5).plan
    found = recover(model, plan, inputs)
    assert set(found.tensors) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert found.recovered > 0.99 > found.sliced
    proxy, asked = recovered(model, plan, inputs), model[:4](unseen)[:, :4]
    assert (proxy[:4](unseen) - asked).norm() < 0.1 * asked.norm()  # type: ignore[index]
    assert (apply(plan, model)[:4](unseen) - asked).norm() > 0.3 * asked.norm()  # type: ignore[index]


def test_a_readout_that_begins_with_zeros_hides_nothing() -> None:
    model, digits = trained()
    nn.init.zeros_(model.classifier.weight)  # type: ignore[union-attr, arg-type]
    nn.init.zeros_(model.classifier.bias)  # type: ignore[union-attr, arg-type]
    plan = prune(model, digits[:16], scorer="magnitude", ratio=0.5).plan
    found = recover(model, plan, digits[:256])
    assert found.sliced < 0.5 < found.recovered < 1.0


def test_inputs_that_say_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="the example inputs are all the same number"):
        recover(models["resnet8"](10, 3), PruningPlan({}, {}), torch.zeros(8, 3, 8, 8))

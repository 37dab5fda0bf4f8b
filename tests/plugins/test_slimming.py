"""Network slimming: the penalty's gradient, what training with it does, and one threshold over all scales, by hand."""

from __future__ import annotations

import copy

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from prunetune import prune
from prunetune.engine import DependencyGraph
from prunetune.errors import InputError
from prunetune.plugins import make_scorer
from prunetune.plugins.scoring import score
from prunetune.plugins.slimming import SlimmingPenalty


def test_the_penalty_is_the_gradient_of_the_sum_of_magnitudes() -> None:
    model = nn.Sequential(
        nn.Linear(2, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2), nn.BatchNorm1d(2, affine=False)
    )
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([2.0, -0.5, 0.0, -3.0]))
    twin = copy.deepcopy(model)
    x, y = torch.randn(8, 2), torch.arange(8) % 2
    F.cross_entropy(model(x), y).backward()
    SlimmingPenalty(model, strength=0.25)()
    (F.cross_entropy(twin(x), y) + 0.25 * twin[1].weight.abs().sum()).backward()
    for (name, own), expected in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.allclose(own.grad, expected.grad, atol=1e-7), name


def test_the_penalty_by_hand_and_as_a_hook() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([2.0, -0.5, 0.0]))
    SlimmingPenalty(model)("engine", "anything")
    # 1e-4 * sign: without a gradient before, it is the gradient.
    assert model[1].weight.grad.tolist() == pytest.approx([1e-4, -1e-4, 0.0])
    assert model[1].bias.grad is None and model[0].weight.grad is None
    model[1].weight.requires_grad_(False)
    model[1].weight.grad = None
    SlimmingPenalty(model)()
    assert model[1].weight.grad is None, "a frozen scale is left alone"


def test_the_penalty_needs_batch_norms() -> None:
    with pytest.raises(InputError, match="SlimmingPenalty needs batch norms; Sequential has none with a scale"):
        SlimmingPenalty(nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False)))


def trained(strength: float) -> nn.Module:
    """A net far wider than its task needs (is the first pixel brighter than the second?), after 300 steps."""
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, 2),
    )
    x = torch.randn(64, 1, 4, 4)
    y = (x[:, 0, 0, 0] > x[:, 0, 0, 1]).long()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    penalty = SlimmingPenalty(model, strength)
    for _ in range(300):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        penalty()
        optimizer.step()
    assert (model(x).argmax(1) == y).float().mean() > 0.95
    return model


def test_training_with_it_makes_most_scales_small_and_what_they_scale_unneeded() -> None:
    def scales(model: nn.Module) -> Tensor:
        return torch.cat([model[1].weight, model[4].weight]).detach().abs()

    with_it, without = trained(0.05), trained(0.0)
    assert (scales(with_it) < 0.05).float().mean() > 0.4
    assert (scales(without) < 0.05).float().mean() == 0.0
    x = torch.randn(5000, 1, 4, 4)

    def agreement(model: nn.Module) -> float:
        """How often the network without 40 % of its channels says what it said with them."""
        proxy = prune(model, x[:2], scorer="slimming", percentile=40, floor=1e-9).model
        return (model.eval()(x).argmax(1) == proxy.eval()(x).argmax(1)).float().mean().item()

    # How training ends differs in the last digits from machine to machine: the margins are wide.
    assert agreement(with_it) > 0.9
    assert agreement(with_it) > agreement(without) + 0.1


def two_scales() -> nn.Module:
    """Batch norms of different scales around a convolution that has none: |scales| .9, .1, .8, .2 and 9, 1, 8, 2."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 1),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 4, 1),
        nn.BatchNorm2d(4),
        nn.Conv2d(4, 5, 1),
        nn.ReLU(),
        nn.Conv2d(5, 2, 1),
    )
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.9, -0.1, -0.8, 0.2]))
        model[3].weight.copy_(torch.tensor([-9.0, 1.0, 8.0, 2.0]))
    return model


def test_one_threshold_for_all_scales_by_hand() -> None:
    # Of all eight half go: .1, .2, .8, .9, that is, the whole first layer but for what the floor keeps, its best.
    result = prune(two_scales(), torch.ones(1, 1, 4, 4), scorer="slimming", percentile=50, floor=1e-9)
    keep = {name: cut.keep.get(0) for name, cut in result.plan.tensors.items() if name.endswith("weight")}
    assert keep["0.weight"] == keep["1.weight"] == (0,)
    assert "3.weight" not in keep or keep["3.weight"] is None
    # 1 goes, too, with 60 %: position int(8 * .6) = 4 of the pool is 1, which stays; with 63 % position 5 is 2.
    result = prune(two_scales(), torch.ones(1, 1, 4, 4), scorer="slimming", percentile=63, floor=0.5)
    assert result.plan.tensors["1.weight"].keep[0] == (0, 2), "the floor keeps the best half"
    assert result.plan.tensors["3.weight"].keep[0] == (0, 2, 3)


def test_channels_without_a_batch_norm_are_not_judged_and_stay() -> None:
    model, x = two_scales(), torch.ones(1, 1, 4, 4)
    graph = DependencyGraph.of(model, x)
    scores = score(model, x, graph, make_scorer("slimming"), seed=0)
    expected = [0.9, 0.1, 0.8, 0.2, 9, 1, 8, 2, *[float("inf")] * 5]
    assert scores[1:] == pytest.approx(expected)
    result = prune(model, x, scorer="slimming", percentile=85, floor=1e-9)
    assert result.model[4].out_channels == 5 and result.model[3].num_features == 2


def test_the_scales_of_a_coupled_channel_are_averaged() -> None:
    class Dense(nn.Module):
        """What one convolution makes goes through two batch norms."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.one, self.two = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.BatchNorm2d(2)
            self.out = nn.Conv2d(4, 1, 1)
            with torch.no_grad():
                self.one.weight.copy_(torch.tensor([1.0, -2.0]))
                self.two.weight.copy_(torch.tensor([-5.0, 0.0]))

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            return self.out(torch.cat([self.one(y), self.two(y)], 1))

    x = torch.ones(2, 1, 3, 3)
    assert prune(Dense(), x, scorer="slimming").scores[1:].tolist() == [3.0, 1.0]


def test_networks_that_it_cannot_judge_are_refused_in_one_sentence() -> None:
    vit = torchvision.models.VisionTransformer(16, 8, 1, 2, 16, 32, num_classes=4)
    with pytest.raises(InputError, match=r"^slimming reads the scales of batch norms, and VisionTransformer has none"):
        prune(vit, torch.ones(1, 3, 16, 16), scorer="slimming")
    fresh = nn.Sequential(nn.Conv2d(1, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    with pytest.raises(InputError, match=r"^slimming needs a trained network; all 4 scales of its batch norms are 1"):
        prune(fresh, torch.ones(1, 1, 4, 4), scorer="slimming")

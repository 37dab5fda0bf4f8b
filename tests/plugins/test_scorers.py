"""Each scorer against an independent derivation; `test_contract.py` has what holds for all."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from prunetune import prune
from prunetune.engine import DependencyGraph
from prunetune.errors import InputError
from prunetune.plugins import scorers
from prunetune.plugins.base import ChannelScores, Context, Scorer
from prunetune.plugins.synflow import element_scores
from prunetune.zoo import models as zoo
from prunetune.zoo.vgg import STAGES, VGG


def context(model: nn.Module, x: torch.Tensor) -> Context:
    graph = DependencyGraph.of(model, x)
    return Context(copy.deepcopy(model).eval(), x, graph, torch.Generator().manual_seed(0))


def two_layers() -> nn.Module:
    """W1 = [[1, -2], [3, 4], [0, 1]], W2 = [[2, -1, 1], [1, 1, -3]]."""
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 4.0], [0.0, 1.0]]))
        model[1].weight.copy_(torch.tensor([[2.0, -1.0, 1.0], [1.0, 1.0, -3.0]]))
    return model


def test_synflow_by_hand() -> None:
    # R = sum over outputs of W2 W1 x with x = (1, 1). dR/dW1[i, j] = (column sum i of W2) * x_j; column sums: 3, 0, -2.
    # S1 = W1 * that: [[3, -6], [0, 0], [0, -2]]; means over the fan-in: -1.5, 0, -1.
    result = prune(two_layers(), torch.ones(1, 2), scorer="synflow", ratio=0.34)
    assert result.scores[1:].tolist() == [-1.5, 0.0, -1.0]
    assert result.plan.tensors["0.weight"].keep == {0: (1,)}


def test_absolute_synflow_by_hand() -> None:
    # |S1| = [[3, 6], [0, 0], [0, 2]]; means 4.5, 0, 1.
    result = prune(two_layers(), torch.ones(1, 2), scorer="synflow-absolute", ratio=0.34)
    assert result.scores[1:].tolist() == [4.5, 0.0, 1.0]


def test_synflow_conserves_flow_from_layer_to_layer() -> None:
    """Without bias and batch norm every layer's scores sum to R (Tanaka et al. 2020, theorem 2)."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.ReLU(),
        nn.Conv2d(8, 5, 3, bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(80, 7, bias=False),
    ).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    total = model(x).sum().item()
    ctx = context(model, x)
    sums = [s.sum().item() for s in element_scores(ctx).values()]
    assert len(sums) == 2  # the classifier's outputs can't be removed, so it is not scored
    assert sums == pytest.approx([total, total], rel=1e-10)


def test_synflow_follows_the_sign_of_the_output_sum() -> None:
    """What the paper does not say: turning the last layer's signs around turns the ranking around."""
    model = two_layers()
    turned = two_layers()
    with torch.no_grad():
        turned[1].weight.neg_()
    a = prune(model, torch.ones(1, 2), scorer="synflow").scores
    b = prune(turned, torch.ones(1, 2), scorer="synflow").scores
    assert a.tolist() == (-b).tolist()


def test_synflow_does_not_rank_rounding_noise() -> None:
    """In training mode a filter under batch norm scores zero, whatever its weights; in evaluation mode it does not."""
    torch.manual_seed(0)
    model = zoo["resnet8"](10, 3).train()
    x = torch.randn(4, 3, 16, 16)
    ctx = context(model, x)
    filters = {axis: (s.sum((1, 2, 3)), s.abs().sum((1, 2, 3))) for axis, s in element_scores(ctx).items()}
    in_evaluation = torch.cat([total.abs() / size for total, size in filters.values()])
    assert in_evaluation.nanmedian() > 1e-3
    ctx.model.train()
    filters = {axis: (s.sum((1, 2, 3)), s.abs().sum((1, 2, 3))) for axis, s in element_scores(ctx).items()}
    in_training = torch.cat([total.abs() / size for total, size in filters.values()])
    assert in_training.nanmedian() < 1e-3 * in_evaluation.nanmedian()


def test_magnitude_by_hand() -> None:
    # Mean |w| of the rows of W1: 1.5, 3.5, 0.5.
    result = prune(two_layers(), torch.ones(1, 2), scorer="magnitude", ratio=0.34)
    assert result.scores[1:].tolist() == [1.5, 3.5, 0.5]
    assert result.plan.tensors["0.weight"].keep == {0: (1,)}


def test_a_coupled_unit_is_worth_the_mean_of_its_members() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Linear(2, 3, bias=False), nn.Linear(3, 3, bias=False), nn.Linear(3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.a(x)
            return self.out(y + self.b(y))

    model = Residual()
    with torch.no_grad():
        model.a.weight.copy_(torch.tensor([[1.0, 1.0], [2.0, 2.0], [6.0, 6.0]]))
        model.b.weight.copy_(torch.tensor([[9.0, 9.0, 9.0], [4.0, 4.0, 4.0], [0.0, 0.0, 0.0]]))
    # Means of (1, 9), (2, 4) and (6, 0).
    assert prune(model, torch.ones(1, 2), scorer="magnitude").scores[1:].tolist() == [5.0, 3.0, 3.0]


@pytest.mark.parametrize("name", sorted(set(scorers.names()) - {"uniform"}))
def test_most_channels_score_differently(name: str) -> None:
    model = zoo["resnet8"](10, 3)
    with torch.no_grad():  # scales that are all alike, as at initialisation, tell slimming nothing
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
    data = [(torch.randn(8, 3, 16, 16), torch.arange(8))]
    result = prune(model, torch.randn(2, 3, 16, 16), scorer=name, data=data)
    assert len(set(result.scores[1:])) > 0.9 * result.graph.unit_count


def test_random_follows_its_seed() -> None:
    x = torch.ones(1, 3, 16, 16)
    a, b = (prune(zoo["resnet8"](10, 3), x, scorer="random", seed=s).plan for s in (1, 2))
    assert a.tensors != b.tensors


def early_against_late(scorer: str) -> float:
    """The share of channels that is left of the first four layers of VGG-16 (half as wide), over the last four's."""
    model = VGG(tuple(tuple(w // 2 for w in stage) for stage in STAGES["D"]), 10, 3)
    data = [(torch.randn(10, 3, 16, 16), torch.arange(10))]
    groups = prune(model, torch.randn(1, 3, 16, 16), scorer=scorer, data=data).groups
    kept = [g.after / g.before for g in groups]
    return sum(kept[:4]) / sum(kept[-4:])


def test_single_shot_scores_keep_more_of_the_early_layers() -> None:
    """Section 5.2 of the paper: relatively more channels of low-level than of high-level layers are left.

    True of the absolute form (the signed one keeps them or removes them with the sign of R), and of SNIP. It is the
    other way around for GraSP, and for 3SP, as early layers have the largest images, and with them most of the compute
    that 3SP divides by.
    """
    assert early_against_late("synflow-absolute") > 2
    assert early_against_late("snip") > 2
    assert early_against_late("3sp") < 0.8
    assert early_against_late("grasp") < 0.8


def test_the_paper_keeps_a_floor_of_every_layer() -> None:
    for group in prune(zoo["vgg16-bn"](10, 3), torch.ones(1, 3, 32, 32), scorer="synflow").groups:
        assert group.after >= 0.15 * group.before


def test_a_scorer_of_ones_own() -> None:
    class First(Scorer):
        def channel_scores(self, context: Context) -> ChannelScores:
            return {axis: -torch.arange(w.shape[axis[1]]) for axis, w in context.weights().items()}

    plan = prune(nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2)), torch.ones(1, 2), scorer=First(), ratio=0.5).plan
    assert plan.tensors["0.weight"].keep == {0: (0, 1)}


def test_scores_that_are_not_finite_are_refused() -> None:
    model = nn.Sequential(nn.Linear(2, 4), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight[1, 1] = float("nan")
    with pytest.raises(InputError, match="magnitude gave scores that are not finite"):
        prune(model, torch.ones(1, 2), scorer="magnitude")


def test_zeros_for_a_shape_say_as_much_to_synflow_as_ones() -> None:
    def build() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, bias=False),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2, bias=False),
        )  # fmt: skip

    plans = [
        prune(build(), image, scorer="synflow", percentile=50).plan
        for image in (torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8))
    ]
    assert plans[0] == plans[1]
    assert plans[0].tensors


def eq_1_of_all(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """w * dR/dw with R over the whole batch, by `torch.func` on a copy that runs all of it."""
    model = copy.deepcopy(model).eval().double()
    weights = dict(model.named_parameters())
    of = torch.func.grad(lambda own: torch.func.functional_call(model, own, (x.double(),)).sum())
    return {name: weights[name].detach() * slope for name, slope in of(weights).items()}


def counted(model: nn.Module) -> list[int]:
    """How many examples each run of `model` has."""
    lengths: list[int] = []
    model.register_forward_pre_hook(lambda module, args: lengths.append(len(args[0])))
    return lengths


@pytest.mark.parametrize("name", ["resnet8", "vgg11-bn", "mobilenetv2"])
def test_synflow_runs_one_of_equal_examples_and_scores_all(name: str) -> None:
    torch.manual_seed(0)
    model = zoo[name](10, 3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after a training
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    x = torch.ones(6, 3, 32, 32) * torch.rand(1, 3, 1, 1)
    ctx = context(model, x)
    expected, lengths = eq_1_of_all(model, x), counted(ctx.model)
    for (parameter, _), scores in element_scores(ctx).items():
        torch.testing.assert_close(scores, expected[parameter], rtol=1e-9, atol=0)
    assert max(lengths) == 2


class Centred(nn.Module):
    """Mixes its examples: each without the mean of all."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        result: torch.Tensor = self.second(y + len(y) * y.mean(0))
        return result


class Pairs(Centred):
    """Wants an even number of examples."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(self.first(x.reshape(-1, 2, 3)).sum(1))
        return result


class Steps(Centred):
    """Reads its first dimension as time."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(self.first(x).cumsum(0))
        return result


class Pooled(Centred):
    """Has one answer for all examples."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.second(self.first(x).mean(0, keepdim=True))
        return result


@pytest.mark.parametrize("build", [Centred, Pairs, Steps, Pooled])
@pytest.mark.parametrize("equal", [True, False])
def test_synflow_runs_all_where_one_does_not_stand_for_the_others(build: type[nn.Module], equal: bool) -> None:
    torch.manual_seed(0)
    model = build()
    x = torch.ones(6, 3) if equal else torch.randn(6, 3)
    expected = eq_1_of_all(model, x)
    for (parameter, _), scores in element_scores(context(model, x)).items():
        torch.testing.assert_close(scores, expected[parameter], rtol=1e-9, atol=1e-15)


def test_synflow_runs_all_examples_that_differ() -> None:
    ctx = context(two_layers(), torch.tensor([[1.0, 1.0], [1.0, 2.0]]))
    lengths = counted(ctx.model)
    element_scores(ctx)
    assert lengths == [2]


def test_a_scorer_that_cannot_tell_channels_apart_is_no_reason_to_keep_them_all() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    nn.init.ones_(net[0].weight)
    with pytest.raises(InputError, match="magnitude gives all 8 channels the same score, 1, so a percentile cuts none"):
        prune(net, torch.zeros(1, 4), scorer="magnitude", percentile=50)

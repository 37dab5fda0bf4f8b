"""torch-pruning's importances as scorers, held against torch-pruning itself, and our scorers in its pruners."""

from __future__ import annotations

import builtins
import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch_pruning as tp
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from prunetune import prune
from prunetune.engine import DependencyGraph
from prunetune.engine.selection.ranking import Scores
from prunetune.errors import InputError
from prunetune.interop.torch_pruning import FromTorchPruning, ToTorchPruning
from prunetune.plugins.magnitude import Magnitude as OurMagnitude
from prunetune.plugins.scoring import score

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
Magnitude = tp.importance.GroupMagnitudeImportance


def seeded(build: Callable[..., nn.Module], **options: Any) -> nn.Module:
    """A network with weights that differ everywhere, in normalisations too, and gradients."""
    torch.manual_seed(0)
    model = build(**options).eval()
    for parameter in model.parameters():
        if parameter.ndim == 1:
            nn.init.uniform_(parameter, 0.5, 1.5)
        elif not parameter.any():  # the head of a vision transformer, which lets no gradient through
            nn.init.normal_(parameter)
    model(X).square().sum().backward()
    return model


def vit() -> nn.Module:
    return torchvision.models.VisionTransformer(32, 8, 2, 4, 64, 96, num_classes=10)


def grouped() -> nn.Module:
    return torchvision.models.ResNet(torchvision.models.resnet.Bottleneck, [1, 1, 1, 1], groups=8, width_per_group=8)


def transposed() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ConvTranspose2d(8, 12, 2), nn.PReLU(12), nn.Conv2d(12, 5, 1)
    )


def flattened() -> nn.Module:
    """A grouped convolution, of each of whose channels the linear layer reads four numbers."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, groups=2), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 5)
    )


RESNET = seeded(torchvision.models.resnet18)
MODELS = {
    "resnet18": RESNET,
    "mobilenet_v2": seeded(torchvision.models.mobilenet_v2),
    "grouped": seeded(grouped),
    "vit": seeded(vit),
    "transposed": seeded(transposed),
    "flattened": seeded(flattened),
}
WEIGHTS = {
    "l2": Magnitude(p=2),
    "l1, bias": Magnitude(p=1, bias=True, normalizer=None),
    "largest": Magnitude(group_reduction="max", normalizer="max"),
    "product": Magnitude(group_reduction="prod", normalizer=None),
    "first": Magnitude(p=1, group_reduction="first", normalizer="gaussian"),
    "lamp": tp.importance.LAMPImportance(),
}
GRADIENTS = {
    "taylor": tp.importance.GroupTaylorImportance(),
    "taylor, bias": tp.importance.GroupTaylorImportance(bias=True, multivariable=True),
    "hessian": tp.importance.GroupHessianImportance(),
}
CASES = [
    *[("resnet18", i) for i in (*WEIGHTS.values(), *GRADIENTS.values())],
    ("resnet18", tp.importance.BNScaleImportance()),
    ("resnet18", tp.importance.FPGMImportance()),
    *[(name, WEIGHTS["l2"]) for name in MODELS if name != "resnet18"],
    *[("grouped", WEIGHTS[way]) for way in ("largest", "product", "first")],
    ("flattened", WEIGHTS["lamp"]),
    *[(name, GRADIENTS["taylor"]) for name in MODELS if name != "resnet18"],
]


def by_torch_pruning(model: nn.Module, importance: Any, graph: DependencyGraph) -> Scores:
    """One score a unit: what torch-pruning says of its own group, as its pruners average it over coupled channels."""
    theirs = tp.DependencyGraph().build_dependency(model, X)
    scores = np.zeros(graph.unit_count + 1)
    for group in graph.groups:
        axis = group.producers[0]
        layer = model.get_submodule(axis[0].removesuffix(".weight"))
        prune_outputs = theirs.get_pruner_of_module(layer).prune_out_channels
        units = graph.unit_of(axis)
        channels = importance(theirs.get_pruning_group(layer, prune_outputs, list(range(len(units)))))
        for unit in group.units:
            scores[unit] = channels.double().numpy()[units == unit].mean()
    return scores


# -- its importances as our scorers ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Unwrapped parameters detected")  # torch-pruning tells what it does with them
@pytest.mark.parametrize(("name", "importance"), CASES, ids=lambda v: v if isinstance(v, str) else type(v).__name__)
def test_scores_are_those_of_torch_pruning(name: str, importance: Any) -> None:
    model = MODELS[name]
    graph = DependencyGraph.of(model, X)
    expected = by_torch_pruning(model, importance, graph)
    scores = score(model, X, graph, FromTorchPruning(importance), seed=0)
    assert len(np.unique(expected)) > 0.7 * graph.unit_count, "the importance tells the units apart"
    # LAMP divides by a total less its partial sums, in float32, where little is left for the largest.
    rel = 1e-4 if isinstance(importance, tp.importance.LAMPImportance) else 1e-5
    assert scores == pytest.approx(expected, rel=rel, abs=1e-6 * np.abs(expected).max())


def test_the_same_channels_stay_as_in_torch_prunings_own_pruner() -> None:
    model = copy.deepcopy(RESNET)
    mine = prune(model, X, scorer=FromTorchPruning(Magnitude(p=2)), ratio=0.5).model
    tp.pruner.BasePruner(model, X, Magnitude(p=2), pruning_ratio=0.5, ignored_layers=[model.fc]).step()
    assert sum(p.numel() for p in mine.parameters()) < 0.3 * sum(p.numel() for p in RESNET.parameters())
    for (name, a), (_, b) in zip(mine.state_dict().items(), model.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


class Bare(nn.Module):
    """Weights that belong to no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor([[1.0, -2.0], [3.0, 4.0], [0.0, 1.0]]))
        self.b = nn.Parameter(torch.tensor([[2.0, -1.0, 1.0], [1.0, 1.0, -3.0]]))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.a), self.b)


def test_weights_that_belong_to_no_layer_count_as_linear_layers() -> None:
    importance = Magnitude(p=1, group_reduction="sum", normalizer=None)
    # Sums of |w|, of the rows of a and the columns of b: 3 + 3, 7 + 2, 1 + 4.
    assert prune(Bare(), torch.ones(1, 2), scorer=FromTorchPruning(importance)).scores[1:].tolist() == [6, 9, 5]


def test_what_coupled_channels_are_worth() -> None:
    """A grouped convolution by hand: channels 0 and 2 go together, and 1 and 3."""
    model = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False), nn.Conv2d(4, 4, 1, groups=2, bias=False), nn.Conv2d(4, 1, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1, 1))
        model[1].weight.copy_(torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 5.0], [0.0, 6.0]]).view(4, 2, 1, 1))
    importance = Magnitude(p=1, group_reduction="sum", normalizer=None, target_types=[nn.Conv2d])
    result = prune(model, torch.ones(1, 1, 2, 2), scorer=FromTorchPruning(importance))
    # torch-pruning adds |w| over both groups' inputs at either of them: inputs 0 and 2 have 2 each, 1 and 3 have 11.
    units = result.graph.unit_of(("0.weight", 0))
    assert units[0] == units[2] != units[1] == units[3]
    assert result.scores[units].tolist() == [4.0, 14.0, 4.0, 14.0]  # (1 + 2 + 3 + 2) / 2, (2 + 11 + 4 + 11) / 2


def test_accumulated_gradients_stay_with_the_importance() -> None:
    """GroupHessianImportance writes what it accumulated to `.grad` and forgets it; we let it do neither."""
    model, importance = copy.deepcopy(RESNET), tp.importance.GroupHessianImportance()
    for image in X:
        model.zero_grad()
        model(image[None]).square().sum().backward()
        importance.accumulate_grad(model)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    first = prune(model, X, scorer=FromTorchPruning(importance), ratio=0.5)
    again = prune(model, X, scorer=FromTorchPruning(importance), ratio=0.5)
    assert first.scores.tolist() == again.scores.tolist()
    assert all(torch.equal(p.grad, gradients[name]) for name, p in model.named_parameters())
    plain = score(model, X, first.graph, FromTorchPruning(GRADIENTS["hessian"]), seed=0)
    assert first.scores.tolist() != plain.tolist()
    assert first.scores == pytest.approx(by_torch_pruning(model, importance, first.graph), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(
    ("importance", "message"),
    [
        (
            GRADIENTS["taylor"],
            "GroupTaylorImportance could not score .* of 0 .* call backward.. on a loss",
        ),
        (GRADIENTS["hessian"], "GroupHessianImportance has no score for .* of 0, .* call backward.. on a loss before"),
        (
            tp.importance.BNScaleImportance(),
            "BNScaleImportance has no score for .* of 0, which lie on Linear",
        ),
        (lambda group: torch.ones(3), "gave scores of shape \\(3,\\) for the 8 channels of 0"),
        (Magnitude, "importance must be an object such as .*GroupMagnitudeImportance\\(\\); got <class"),
        ("l2", "importance must be an object such as .*; got 'l2'"),
    ],
)
def test_an_importance_that_has_no_scores(importance: Any, message: str) -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.raises(InputError, match=message):
        prune(model, torch.ones(1, 4), scorer=FromTorchPruning(importance))


def test_without_torch_pruning(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "torch_pruning":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"torch-pruning is not installed.*pip install 'prunetune\[torch-pruning\]'"):
        FromTorchPruning(Magnitude())


# -- our scorers as its importances ------------------------------------------------------------------------------------


def pruned_by_torch_pruning(model: nn.Module, scorer: str) -> tuple[nn.Module, dict[str, list[int]]]:
    """The cut copy, and which outputs of which layer torch-pruning says it has removed."""
    model = copy.deepcopy(model)
    head = list(model.modules())[-1]
    importance = ToTorchPruning(scorer, model, X)
    pruner = tp.pruner.BasePruner(model, X, importance, pruning_ratio=0.5, ignored_layers=[head])
    pruner.step()
    history = pruner.pruning_history()
    assert all(of_outputs for _, of_outputs, _ in history)
    return model, {layer: indices for layer, _, indices in history}


@pytest.mark.parametrize("scorer", ["magnitude", "synflow", "random"])
@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "grouped"])
def test_torch_pruning_keeps_the_channels_that_we_score_highest(name: str, scorer: str) -> None:
    model = MODELS[name]
    mine = prune(model, X, scorer=scorer, ratio=0.5)
    theirs, removed = pruned_by_torch_pruning(model, scorer)
    assert len(removed) == len(mine.graph.groups)
    for layer, indices in removed.items():
        scores = mine.scores[mine.graph.unit_of((f"{layer}.weight", 0))]
        assert len(indices) == len(scores) / 2
        assert np.delete(scores, indices).min() >= scores[indices].max(), layer
    assert theirs(X).shape == (2, 1000)
    if scorer != "synflow":  # which gives many channels that no input reaches the same score, zero
        for (key, a), (_, b) in zip(mine.model.state_dict().items(), theirs.state_dict().items(), strict=True):
            assert torch.equal(a, b), key


def test_a_score_for_each_channel_of_the_root() -> None:
    theirs = tp.DependencyGraph().build_dependency(RESNET, X)
    importance = ToTorchPruning("magnitude", RESNET, X)
    conv = RESNET.layer1[0].conv1
    outputs = theirs.get_pruning_group(conv, tp.prune_conv_out_channels, [5, 3, 60])
    # The mean of |w| of these filters, which nothing else makes.
    assert importance(outputs) == pytest.approx(conv.weight.detach().abs().mean((1, 2, 3))[[5, 3, 60]], rel=1e-6)
    inputs = theirs.get_pruning_group(RESNET.layer1[0].conv2, tp.prune_conv_in_channels, [5, 3, 60])
    assert importance(inputs).tolist() == importance(outputs).tolist()


def test_a_score_for_each_input_of_a_root() -> None:
    model = MODELS["grouped"]
    importance, graph = ToTorchPruning("magnitude", model, X), DependencyGraph.of(model, X)
    scores = score(model, X, graph, OurMagnitude(), seed=0)
    group = tp.DependencyGraph().build_dependency(model, X)
    block = model.layer2[0]
    assert block.conv2.weight.shape == (128, 16, 3, 3)
    channels = [0, 5, 17, 18, 120]  # of 128, in 8 groups of 16
    given = importance(group.get_pruning_group(block.conv2, tp.prune_conv_in_channels, channels))
    assert given.tolist() == scores[graph.unit_of(("layer2.0.conv1.weight", 0))[channels]].tolist()
    assert len(set(given.tolist())) == 5


@pytest.mark.parametrize("layer", [0, 2])
def test_both_sides_of_convolutions_the_other_way_round(layer: int) -> None:
    model = MODELS["transposed"]
    importance = ToTorchPruning("magnitude", model, X)
    theirs = tp.DependencyGraph().build_dependency(model, X)
    outputs = theirs.get_pruning_group(model[layer], tp.prune_conv_out_channels, [3, 1])
    inputs = theirs.get_pruning_group(model[layer + 2], tp.prune_conv_in_channels, [3, 1])
    weight = model[layer].weight.detach()
    expected = weight.abs().mean((1, 2, 3) if layer == 0 else (0, 2, 3))[[3, 1]]
    assert importance(outputs) == pytest.approx(expected, rel=1e-6)
    assert importance(inputs).tolist() == importance(outputs).tolist()


def test_what_we_would_not_cut_stays() -> None:
    model = copy.deepcopy(RESNET)
    tp.pruner.BasePruner(model, X, ToTorchPruning("magnitude", model, X), pruning_ratio=0.5).step()
    assert model.fc.weight.shape == (1000, 256), "the outputs are whole, though nobody said that they are to be ignored"


class Shows(nn.Module):
    """Gives away the first three of its channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.first(x)
        return self.last(x), x[:, :3]


def test_channels_that_we_would_not_cut_are_worth_most() -> None:
    model, x = Shows(), torch.ones(2, 4)
    theirs = tp.DependencyGraph().build_dependency(model, x)
    group = theirs.get_pruning_group(model.first, tp.prune_linear_out_channels, list(range(8)))
    expected = model.first.weight.detach().abs().mean(1)
    assert ToTorchPruning("magnitude", model, x)(group).tolist()[:3] == [np.inf] * 3
    assert ToTorchPruning("magnitude", model, x)(group)[3:] == pytest.approx(expected[3:], rel=1e-6)


def test_scores_follow_the_weights() -> None:
    model = copy.deepcopy(RESNET)
    conv = model.layer1[0].conv1
    calls = []

    class Counting(type(FromTorchPruning(Magnitude()))):  # type: ignore[misc]
        def unit_scores(self, context: Any) -> Any:
            calls.append(context)
            return super().unit_scores(context)

    importance = ToTorchPruning(Counting(Magnitude(normalizer=None)), model, X)
    pruner = tp.pruner.BasePruner(model, X, importance, pruning_ratio=0.5, iterative_steps=2, ignored_layers=[model.fc])
    pruner.step()
    assert len(calls) == 1, "once for all groups"
    pruner.step()
    assert len(calls) == 2, "and again for the smaller network"
    assert conv.weight.shape == (32, 32, 3, 3)
    with torch.no_grad():
        conv.weight[7] *= 100
    group = pruner.DG.get_pruning_group(conv, tp.prune_conv_out_channels, list(range(32)))
    assert int(importance(group).argmax()) == 7


def test_groups_that_we_know_nothing_of() -> None:
    theirs = tp.DependencyGraph().build_dependency(RESNET, X)
    group = theirs.get_pruning_group(RESNET.conv1, tp.prune_conv_out_channels, [0])
    with pytest.raises(InputError, match="conv1 .* is no layer of the model that ToTorchPruning was made for"):
        ToTorchPruning("magnitude", MODELS["mobilenet_v2"], X)(group)
    model = nn.Sequential(nn.LSTM(4, 8, batch_first=True))
    model.append(type("Last", (nn.Linear,), {"forward": lambda self, x: F.linear(x[0], self.weight)})(8, 2))
    x = torch.ones(1, 3, 4)
    lstm = (
        tp.DependencyGraph()
        .build_dependency(model, x)
        .get_pruning_group(model[0], tp.pruner.function.prune_lstm_out_channels, list(range(8)))
    )
    with pytest.raises(InputError, match="no channels for 0 .*LSTM.* as the root .* into ignored_layers"):
        ToTorchPruning("magnitude", model, x)(lstm)
    with pytest.raises(InputError, match="unknown scorer 'magnitud'"):
        ToTorchPruning("magnitud", model, x)

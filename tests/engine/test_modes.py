"""Training and evaluation mode: one recording where both do the same, two where they differ."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunetune import prune
from prunetune.engine import DependencyGraph
from prunetune.engine.analysis import analysed
from prunetune.engine.dependency import _graph
from prunetune.engine.tracing.recorder import Recorder
from prunetune.engine.tracing.trace import traces
from prunetune.testing.hazards import NETWORKS
from prunetune.testing.oracle import randomise

X = torch.zeros(2, 6)


class Apart(Recorder):
    """Records both modes, whatever they do."""

    compares = False


def graph_of_two_recordings(model: nn.Module, inputs: object) -> DependencyGraph:
    traced = traces(model, inputs, Apart)  # type: ignore[arg-type]
    assert traced[0].graph is not traced[1].graph
    return _graph(analysed(traced, "auto"), traced[0].parameters, {})


@pytest.mark.parametrize("name", NETWORKS)
def test_one_recording_says_what_two_say(name: str) -> None:
    make, inputs = NETWORKS[name]
    model, x = randomise(make(), 0), inputs()
    one, two = DependencyGraph.of(model, x), graph_of_two_recordings(model, x)
    assert one.axes.keys() == two.axes.keys()
    assert [(g.name, g.units, set(g.axes)) for g in one.groups] == [(g.name, g.units, set(g.axes)) for g in two.groups]
    assert all(np.array_equal(one.axes[axis], two.axes[axis]) for axis in one.axes)
    assert set(one.frozen) == set(two.frozen)


class Net(nn.Module):
    """Two layers, with something in between that may depend on the mode."""

    def __init__(self, between: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 8)
        self.norm, self.drop = nn.BatchNorm1d(8), nn.Dropout(0.3)
        self.between = between

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.between(self, self.a(x)))


def swallowed(net: nn.Module, h: Tensor) -> Tensor:
    """Code that goes on, whatever happens, and does something else in evaluation mode."""
    try:
        return h + h if net.training else h.flip(1)
    except Exception:
        return h


THE_SAME: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "nothing": lambda net, h: h.relu(),
    "batch norm, which counts": lambda net, h: net.norm(h),
    "dropout": lambda net, h: net.drop(h),
    "a flag": lambda net, h: F.dropout(h, 0.2, net.training),
    "a fraction": lambda net, h: F.dropout(h, 0.2 if net.training else 0.0),
    "sizes in the code": lambda net, h: h.reshape(h.shape[0], 2, h.shape[1] // 2).flatten(1),
}
DIFFERENT: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "another operation": lambda net, h: h.flip(1) if net.training else h,
    "one more at the end": lambda net, h: h if net.training else h.relu(),
    "one less": lambda net, h: h.relu() if net.training else h,
    "another argument": lambda net, h: h.roll(1 if net.training else 2, 1),
    "another tensor": lambda net, h: h + (h.relu() if net.training else h.relu() * 0 + h),
    "the other order": lambda net, h: torch.cat([h, h.relu()][:: 1 if net.training else -1], 1)[:, :8],
    "another shape": lambda net, h: h[:1].expand(2, 8) if net.training else h[:2].expand(2, 8),
    "asked by identity": lambda net, h: h.flip(1) if net.training is True else h.relu(),
    "an error that is caught": swallowed,
}


@pytest.mark.parametrize("name", THE_SAME)
def test_modes_that_do_the_same_are_one(name: str) -> None:
    graph = DependencyGraph.of(Net(THE_SAME[name]), X)
    assert graph.one_mode and graph.groups


@pytest.mark.parametrize("name", DIFFERENT)
def test_modes_that_differ_are_two(name: str) -> None:
    model = Net(DIFFERENT[name])
    graph = DependencyGraph.of(model, X)
    assert not graph.one_mode
    evaluation, training = traces(model, X)
    assert evaluation.graph is not training.graph
    assert [n.target for n in evaluation.graph.nodes] == [n.target for n in traces(model, X, Apart)[0].graph.nodes]


def test_what_one_mode_ties_holds_for_both() -> None:
    """Channels 0 and 7, 1 and 6, … are tied by the flip, in training only."""
    graph = DependencyGraph.of(Net(lambda net, h: h + h.flip(1) if net.training else h), X)
    units = graph.unit_of(("a.weight", 0))
    assert (units == units[::-1]).all() and len(set(units.tolist())) == 4


class Keeps(Net):
    """Makes a table at its first run, and keeps it, as ConViT does."""

    table: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x)
        if self.table is None:
            self.table = torch.arange(len(x), dtype=x.dtype).mul(2).unsqueeze(1)
        return self.b(h + self.table.expand_as(h) if self.training else h)


def test_a_model_that_keeps_what_it_made_at_its_first_run() -> None:
    model = Keeps(lambda net, h: h)
    result = prune(model, X, scorer="random", ratio=0.5)
    assert not result.graph.one_mode and model.table is None
    assert result.model.train()(X).shape == result.model.eval()(X).shape == (2, 8)
    assert result.model.a.out_features == 4


def test_a_recording_is_a_proper_graph() -> None:
    training = traces(Net(THE_SAME["sizes in the code"]), X)[1].graph
    training.lint()
    names = [node.name for node in training.nodes]
    assert len(names) == len(set(names)) == len(training.nodes)
    assert training.find_nodes(op="get_attr", target="a.weight")[0].users
    assert "linear" in str(training)


def test_two_modes_of_a_known_network() -> None:
    """GoogLeNet has heads that run in training only; a ResNet does the same in both."""
    import torchvision

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torchvision, about initialisation
        googlenet = torchvision.models.googlenet(weights=None, num_classes=4)
    x = torch.zeros(2, 3, 64, 64)
    assert not DependencyGraph.of(googlenet, x).one_mode
    result = prune(torchvision.models.resnet18(num_classes=4), x, scorer="random", ratio=0.5)
    assert result.graph.one_mode
    assert result.model.eval()(x).shape == result.model.train()(x).shape == (2, 4)

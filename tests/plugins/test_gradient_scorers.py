"""SNIP, GraSP, Taylor and 3SP against derivatives by finite differences, an explicit Hessian, and by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from prunetune.engine import DependencyGraph
from prunetune.engine.selection.ranking import Scores
from prunetune.errors import InputError
from prunetune.plugins import make_scorer
from prunetune.plugins.base import Scorer
from prunetune.plugins.scoring import score
from prunetune.plugins.three_sp import ThreeSP

WITH_DATA = ("snip", "grasp", "taylor", "3sp")


def scores_of(model: nn.Module, x: Any, scorer: str | Scorer, **options: Any) -> tuple[DependencyGraph, Scores]:
    method = make_scorer(scorer) if isinstance(scorer, str) else scorer
    graph = DependencyGraph.of(model, x)
    return graph, score(model, x, graph, method, seed=0, **options)


def derivative(function: Callable[[float], float], at: float) -> float:
    """By central differences, with an error of about 1e-9 in float64."""
    step = 1e-5
    return (function(at + step) - function(at - step)) / (2 * step)


def small_net() -> tuple[nn.Module, Tensor, Tensor]:
    """Two convolutions under a batch norm and smooth activations, float64; with a batch of 6."""
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3),
        nn.BatchNorm2d(3),
        nn.Tanh(),
        nn.Conv2d(3, 2, 3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(2, 3),
    ).double()
    return model, torch.randn(6, 2, 5, 5, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2])


def test_snip_is_the_sensitivity_to_a_factor_on_each_weight() -> None:
    model, x, y = small_net()
    graph, scores = scores_of(model, x, "snip", data=[(x, y)])
    own = copy.deepcopy(model).train()  # batch norm by the batch

    def sensitivity(weight: Tensor, place: int) -> float:
        value = weight.view(-1)[place].item()

        def loss(c: float) -> float:
            weight.view(-1)[place] = c * value
            return F.cross_entropy(own(x), y).item()

        slope = derivative(loss, 1.0)
        weight.view(-1)[place] = value
        return abs(slope)

    with torch.no_grad():
        expected = [
            sum(sensitivity(weight, channel * weight[0].numel() + k) for k in range(weight[0].numel()))
            for weight in (own[0].weight, own[3].weight)
            for channel in range(len(weight))
        ]
    assert scores[1:].sum() == pytest.approx(1.0)
    assert [len(g) for g in graph.groups] == [3, 2]
    assert scores[1:] == pytest.approx(np.array(expected) / sum(expected), rel=1e-5)


def test_grasp_by_the_explicit_hessian() -> None:
    """-w * Hg is the authors' score, of which they remove the largest; H and g over all weights of all layers."""
    model, x, y = small_net()
    _, scores = scores_of(model, x, "grasp", data=[(x, y)])
    own = copy.deepcopy(model).train()
    weights = {name: p.detach() for name, p in own.named_parameters() if p.ndim > 1}
    sizes = [w.numel() for w in weights.values()]

    def loss(theta: Tensor) -> Tensor:
        parts = [p.view_as(w) for p, w in zip(theta.split(sizes), weights.values(), strict=True)]
        return F.cross_entropy(functional_call(own, dict(zip(weights, parts, strict=True)), (x,)) / 200, y)

    theta = torch.cat([w.flatten() for w in weights.values()])
    gradient = torch.autograd.functional.jacobian(loss, theta)
    hessian = torch.autograd.functional.hessian(loss, theta)
    authors = (-theta * (hessian @ gradient)).split(sizes)
    expected = [-s.view(n, -1).sum(1) for s, n in zip(authors[:2], (3, 2), strict=True)]
    assert scores[1:] == pytest.approx(torch.cat(expected).numpy(), rel=1e-9)


def test_grasp_removes_first_what_holds_the_gradient_back() -> None:
    """A score is half of how fast the squared gradient norm falls when a filter shrinks: what raises it goes first."""
    model, x, y = small_net()
    _, scores = scores_of(model, x, "grasp", data=[(x, y)])
    own = copy.deepcopy(model).train()

    def gradient_norm(weight: Tensor, channel: int, factor: float) -> float:
        full = weight.data.clone()
        weight.data[channel] *= factor
        matrices = [p for p in own.parameters() if p.ndim > 1]
        gradients = torch.autograd.grad(F.cross_entropy(own(x) / 200, y), matrices)
        weight.data.copy_(full)
        return sum(g.square().sum().item() for g in gradients)

    shrinking = [
        derivative(lambda t, w=weight, c=channel: gradient_norm(w, c, 1 - t), 0.0)  # type: ignore[misc]
        for weight in (own[0].weight, own[3].weight)
        for channel in range(len(weight))
    ]
    assert scores[1:] == pytest.approx(-0.5 * np.array(shrinking), rel=1e-5)


class Residual(nn.Module):
    """a(x) + b(a(x)), with biases, and a batch norm whose statistics are anything: the stream has two producers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
        self.norm, self.out = nn.BatchNorm2d(3), nn.Linear(3, 2)
        with torch.no_grad():
            for tensor in (*self.norm.parameters(), self.norm.running_mean, self.norm.running_var):
                tensor.uniform_(0.5, 1.5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.a(x))
        return self.out(torch.tanh(self.norm(y + self.b(y))).mean((2, 3)))


def gate_derivative(model: nn.Module, layers: list[nn.Module], channel: int, loss: Callable[[], Tensor]) -> float:
    """|dL/dz| of a factor z = 1 on one channel of what these layers give."""
    z = 1.0

    def multiply(_: nn.Module, __: Any, output: Tensor) -> Tensor:
        factor = torch.ones(output.shape[1], dtype=output.dtype)
        factor[channel] = z
        return output * factor.view(-1, *[1] * (output.ndim - 2))

    def value(at: float) -> float:
        nonlocal z
        z = at
        with torch.no_grad():
            return loss().item()

    hooks = [layer.register_forward_hook(multiply) for layer in layers]
    slope = derivative(value, 1.0)
    for hook in hooks:
        hook.remove()
    return abs(slope)


@pytest.mark.parametrize("scorer", ["taylor", ThreeSP(compute_aware=False)])
def test_gates_on_all_members_of_a_coupled_channel(scorer: str | Scorer) -> None:
    model = Residual().double()
    x, y = torch.randn(4, 2, 5, 5, dtype=torch.float64), torch.tensor([0, 1, 1, 0])
    _, scores = scores_of(model, x, scorer, data=[(x, y)])
    own = copy.deepcopy(model).eval()
    expected = [gate_derivative(own, [own.a, own.b], k, lambda: F.cross_entropy(own(x), y)) for k in range(3)]
    assert scores[1:] == pytest.approx(np.array(expected), rel=1e-5)


def test_3sp_divides_by_the_compute_of_a_channels_layer_and_its_readers() -> None:
    model = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.Tanh(), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 2))
    model = model.double()
    x, y = torch.randn(1, 2, 4, 4, dtype=torch.float64), torch.tensor([1])
    _, scores = scores_of(model, x, "3sp", data=[(x, y)])
    gates = [gate_derivative(model, [model[0]], k, lambda: F.cross_entropy(model(x), y)) for k in range(3)]
    gates += [gate_derivative(model, [model[2]], k, lambda: F.cross_entropy(model(x), y)) for k in range(4)]
    # First layer: 2 * (2 inputs * 9 * 16 pixels) = 576, read by 4 filters at 4 pixels: 2 * (4 * 9 * 4) = 288.
    # Second layer: 2 * (3 inputs * 9 * 4 pixels) = 216, read at 4 places by 2 outputs: 2 * (4 * 2) = 16.
    flops = np.array([576 + 288] * 3 + [216 + 16] * 4)
    assert scores[1:] == pytest.approx(np.array(gates) / (flops / 864), rel=1e-5)


def linear_net() -> nn.Module:
    """W1 = [[1, -2], [3, 4], [0, 1]], W2 = [[2, -1, 1], [1, 1, -3]]; of x = (1, 1): h = (-1, 7, 1), out = (-8, 3)."""
    model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.Linear(3, 2, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -2.0], [3.0, 4.0], [0.0, 1.0]]))
        model[1].weight.copy_(torch.tensor([[2.0, -1.0, 1.0], [1.0, 1.0, -3.0]]))
    return model


def squares(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).square().sum() / 2


ONES = torch.ones(1, 2)
# Targets that leave e = out - target = (1, 2), (3, 0), and their mean, (2, 1).
FIRST, SECOND, MEAN = torch.tensor([[-9.0, 1.0]]), torch.tensor([[-11.0, 3.0]]), torch.tensor([[-10.0, 2.0]])


@pytest.mark.parametrize(
    ("scorer", "expected"),
    [
        # dL/dh = W2^T e = (4, 1, -5) and w * dL/dw = (4, -8), (3, 4), (0, -5): sums of magnitudes 12, 7, 5.
        ("snip", [12 / 24, 7 / 24, 5 / 24]),
        # |h * dL/dh|; every channel costs the same.
        ("taylor", [4.0, 7.0, 5.0]),
        ("3sp", [4.0, 7.0, 5.0]),
    ],
)
def test_with_a_loss_of_ones_own_by_hand(scorer: str, expected: list[float]) -> None:
    _, scores = scores_of(linear_net(), ONES, scorer, data=[(ONES, FIRST)], loss=squares)
    assert scores[1:] == pytest.approx(expected)


def warm_squares(outputs: Tensor, targets: Tensor) -> Tensor:
    """Undoes the temperature."""
    return squares(200 * outputs, targets)


def test_grasp_by_hand() -> None:
    # |g|^2 = |d|^2 |x|^2 + |e|^2 |h|^2 with d = W2^T e = (4, 1, -5), |x|^2 = 2, |e|^2 = 5, |h|^2 = 51. When filter i
    # grows by a factor 1 + t: dh_i = h_i, de = W2[:, i] h_i, d(d) = W2^T de, and half the derivative of |g|^2 is
    # 2 (W2 d) W2[:, i] h_i + d_i h_i 51 + 5 h_i^2, where W2 d = (2, 20), so (W2 d) W2[:, i] = 24, 18, -58:
    # -48 - 204 + 5, 252 + 357 + 245, -116 - 255 + 5.
    _, scores = scores_of(linear_net(), ONES, "grasp", data=[(ONES, FIRST)], loss=warm_squares)
    assert scores[1:] == pytest.approx([-247, 854, -366], rel=1e-5)


@pytest.mark.parametrize(("name", "loss"), [("snip", squares), ("3sp", squares), ("grasp", warm_squares)])
def test_several_batches_are_one_mean_loss(name: str, loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """Of a quadratic loss the gradient and the Hessian are linear in e: two batches are the batch with their mean."""
    scorer = make_scorer(name)
    both = [(ONES, FIRST), (ONES, SECOND)]
    _, once = scores_of(linear_net(), ONES, scorer, data=both, loss=loss)
    _, only_first = scores_of(linear_net(), ONES, scorer, data=both[:1], loss=loss)
    assert np.array_equal(once, only_first), "by default one batch is looked at"
    scorer.batches = 2
    _, scores = scores_of(linear_net(), ONES, scorer, data=both, loss=loss)
    _, expected = scores_of(linear_net(), ONES, scorer, data=[(ONES, MEAN)], loss=loss)
    assert scores[1:] == pytest.approx(expected[1:], rel=1e-5)


def test_taylor_averages_the_importances_of_batches_not_their_gradients() -> None:
    # Molchanov et al., section 3.2: per batch the square of h * dL/dh; e = (3, 0) gives dL/dh = (6, -3, 3).
    # Root of the mean of (16, 49, 25) and (36, 441, 9); the mean gradient would give 5, 7, 1, another order.
    data = [(ONES, FIRST), (ONES, SECOND)]
    _, scores = scores_of(linear_net(), ONES, "taylor", data=data, loss=squares)
    assert scores[1:] == pytest.approx(np.sqrt([26.0, 245.0, 17.0]))


@pytest.mark.parametrize("part", ["mean", "sum", "max"])
@pytest.mark.parametrize("name", ["taylor", "3sp"])
def test_without_a_gate_members_are_worth_their_magnitudes(name: str, part: str) -> None:
    """The sign of a derivative means nothing: -5 is worth more than 4, whatever joins members."""
    _, scores = scores_of(linear_net(), ONES, f"{name}+{part}", data=[(ONES, FIRST)], loss=squares)
    assert scores[1:] == pytest.approx([4, 7, 5])


def test_what_is_normalised_is_the_score_with_its_compute() -> None:
    model, x, y = small_net()
    graph, plain = scores_of(model, x, "3sp", data=[(x, y)])
    _, normalised = scores_of(model, x, "3sp+group-mean", data=[(x, y)])
    for group in graph.groups:
        own = plain[list(group.units)]
        assert normalised[list(group.units)] == pytest.approx(own / own.mean())


@pytest.mark.parametrize("name", WITH_DATA)
def test_what_the_caller_forgot_is_said_in_one_sentence(name: str) -> None:
    model, x, y = small_net()
    with pytest.raises(InputError, match=f"^{name} needs labelled data"):
        scores_of(model, x, name)
    with pytest.raises(InputError, match="pair of inputs and targets; got Tensor: is it one batch"):
        scores_of(model, x, name, data=(x, y))
    with pytest.raises(InputError, match="data must be batches of inputs and targets"):
        scores_of(model, x, name, data=x)
    with pytest.raises(InputError, match="data has no batches"):
        scores_of(model, x, name, data=[])
    with pytest.raises(InputError, match="the loss cross_entropy cannot be computed"):
        scores_of(model, x, name, data=[(x, ["cat"] * 6)])
    with pytest.raises(InputError, match="the loss must be a tensor without dimensions.*of shape"):
        scores_of(model, x, name, data=[(x, y)], loss=lambda a, b: F.cross_entropy(a, b, reduction="none"))


@pytest.mark.parametrize("name", WITH_DATA)
def test_a_data_loader_works_and_nothing_of_the_users_is_touched(name: str) -> None:
    model, x, y = small_net()
    model[4].eval()
    model[0].weight.requires_grad_(False)
    model[6].weight.grad = torch.ones_like(model[6].weight)
    before = copy.deepcopy(model.state_dict())
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=3, shuffle=True)
    state = torch.get_rng_state()
    _, first = scores_of(model, x, name, data=loader)
    _, second = scores_of(model, x, name, data=loader)
    assert np.array_equal(first, second), "the order of the loader follows the seed"
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert [m.training for m in model] == [True] * 4 + [False] + [True] * 2
    assert [p.requires_grad for p in model.parameters()] == [False] + [True] * 7
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(gradients) == 1 and torch.equal(gradients[0], torch.ones(3, 2, dtype=torch.float64))

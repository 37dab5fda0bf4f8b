"""What a proxy begins with, against what torch's own layers draw for the narrow network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prunetune.engine import DependencyGraph, PruningPlan, apply, by_hand, fresh_proxy
from prunetune.errors import InputError, PlanError


def wide() -> nn.Sequential:
    return nn.Sequential(nn.Linear(256, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 300))


def plan(keep: int = 128) -> PruningPlan:
    graph = DependencyGraph.of(wide(), torch.zeros(2, 256))
    return PruningPlan.of(graph, by_hand(graph, keep={"0": list(range(0, 512, 512 // keep))}))


def test_redrawn_weights_are_those_that_the_narrow_layer_would_draw() -> None:
    """nn.Linear draws from U(-b, b) with b = 1 / sqrt(fan-in): 128 inputs instead of 512 double the bound."""
    proxy = fresh_proxy(wide, plan())
    weights = proxy[3].weight.detach()  # type: ignore[index]
    assert weights.shape == (300, 128)
    bound = 128**-0.5
    assert 0.99 * bound < weights.abs().max() <= bound * 1.000001
    assert weights.std() == pytest.approx(bound / 3**0.5, rel=0.02)
    first = proxy[0].weight.detach()  # type: ignore[index]
    assert first.abs().max() <= 256**-0.5 * 1.000001  # its inputs are all there


def test_embeddings_have_no_fan_in_so_redrawing_leaves_them_as_they_were_drawn() -> None:
    """nn.Embedding draws from N(0, 1) at every width; the layer behind it, at 64 inputs and not 256, twice as far."""

    def build() -> nn.Sequential:
        return nn.Sequential(nn.Embedding(400, 256), nn.Linear(256, 8), nn.Linear(8, 3))

    graph = DependencyGraph.of(build(), torch.zeros(2, 5, dtype=torch.long))
    cut = PruningPlan.of(graph, by_hand(graph, keep={"0": list(range(0, 256, 4))}))
    torch.manual_seed(0)
    proxy = fresh_proxy(build, cut)
    table, weight = proxy.get_parameter("0.weight"), proxy.get_parameter("1.weight")
    assert table.shape == (400, 64)
    assert table.std().item() == pytest.approx(1.0, rel=0.02)
    assert weight.abs().max().item() == pytest.approx(64**-0.5, rel=0.02)


def test_a_custom_initialisation_survives_redrawing_but_not_a_reset() -> None:
    def own() -> nn.Sequential:
        model = wide()
        nn.init.constant_(model[0].weight, 0.25)
        nn.init.constant_(model[3].weight, 0.125)
        return model

    redrawn, reset = fresh_proxy(own, plan()), fresh_proxy(own, plan(), weights="reset")
    assert (redrawn[0].weight == 0.25).all()  # type: ignore[index]
    assert (redrawn[3].weight == 0.25).all()  # 0.125 * sqrt(512 / 128)  # type: ignore[index]
    assert reset[0].weight.unique().numel() > 1000  # type: ignore[index]


def test_sliced_weights_are_what_model_fn_drew() -> None:
    cut = plan()
    torch.manual_seed(3)
    full = wide()
    torch.manual_seed(3)
    proxy = fresh_proxy(wide, cut, weights="sliced")
    assert torch.equal(proxy[0].weight, full[0].weight[::4])  # type: ignore[index]
    assert torch.equal(proxy[3].weight, full[3].weight[:, ::4])  # type: ignore[index]


def test_a_reset_is_what_the_narrow_network_would_be() -> None:
    cut = plan()
    torch.manual_seed(3)
    proxy = fresh_proxy(wide, cut, weights="reset")
    torch.manual_seed(3)
    wide()
    narrow = nn.Sequential(nn.Linear(256, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 300))
    for name, expected in narrow.state_dict().items():
        assert torch.equal(proxy.state_dict()[name], expected), name


def test_a_reset_reaches_attention_and_what_has_no_reset_is_sliced() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place = nn.Parameter(torch.full((1, 4, 16), 7.0))
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
            self.up, self.down = nn.Linear(16, 32), nn.Linear(32, 16)
            nn.init.zeros_(self.attention.in_proj_weight)
            nn.init.zeros_(self.up.weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = x + self.place
            x = x + self.attention(x, x, x)[0]
            return x + self.down(self.up(x).relu())

    graph = DependencyGraph.of(Block(), torch.zeros(2, 4, 16))
    cut = PruningPlan.of(graph, by_hand(graph, remove={"up": range(16)}))
    proxy = fresh_proxy(Block, cut, weights="reset")
    assert proxy.up.weight.shape == (16, 16) and proxy.up.weight.std() > 0
    assert proxy.attention.in_proj_weight.std() > 0
    assert (proxy.place == 7).all()


def test_another_way_is_refused() -> None:
    with pytest.raises(InputError, match="unknown way to fresh weights 'rest' .*did you mean 'reset'"):
        fresh_proxy(wide, plan(), weights="rest")  # type: ignore[arg-type]
    with pytest.raises(PlanError):
        fresh_proxy(lambda: nn.Linear(3, 3), plan(), weights="reset")


def test_the_model_is_not_shared() -> None:
    model = wide()
    proxy = fresh_proxy(lambda: model, plan(), weights="reset")
    assert model[0].weight.shape == (512, 256)
    assert apply(plan(), model)[3].weight.shape == proxy[3].weight.shape  # type: ignore[index]

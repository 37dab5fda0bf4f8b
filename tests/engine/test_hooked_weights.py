"""Weights that a hook computes before each call: torch.nn.utils.prune's masks, older weight and spectral norms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm
from torch.nn.utils import prune as masks

from prunetune import prune
from prunetune.testing.oracle import largest_error, randomise

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def masked(layer: nn.Module) -> nn.Module:
    return masks.random_unstructured(layer, "weight", amount=0.3)


def unmasked(layer: nn.Module) -> nn.Module:
    return masks.remove(layer, "weight")


NEWER = "parametrizations.weight.0"
Wrap = Callable[[nn.Module], nn.Module]


def network(wrap: Wrap) -> nn.Sequential:
    torch.manual_seed(0)
    convolutions = (nn.Conv2d(3, 16, 3), nn.ReLU(), wrap(nn.Conv2d(16, 12, 3)), nn.ReLU(), wrap(nn.Conv2d(12, 8, 3)))
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), wrap(nn.Linear(8, 3)))


@pytest.mark.filterwarnings("ignore")  # torch has newer ones
@pytest.mark.parametrize(
    ("wrap", "unwrap"), [(masked, unmasked), (weight_norm, remove_weight_norm), (spectral_norm, remove_spectral_norm)]
)
def test_the_cut_layer_says_what_it_is(wrap: Wrap, unwrap: Wrap) -> None:
    smaller = prune(network(wrap), X.float(), scorer="magnitude", ratio=0.5).model
    for place, sizes in ((2, (8, 6)), (4, (6, 4)), (7, (4, 3))):
        for layer in (smaller[place], unwrap(smaller[place])):
            assert layer.weight.shape[:2] == sizes[::-1]
            names = ("in_features", "out_features") if place == 7 else ("in_channels", "out_channels")
            assert tuple(getattr(layer, name) for name in names) == sizes
    assert smaller(X.float()).shape == (2, 3)


def test_masks_are_cut_with_their_weights() -> None:
    model = network(masked)
    kept = {name: mask.double() for name, mask in model.named_buffers()}
    model = randomise(model, 0)
    with torch.no_grad():
        for name, mask in model.named_buffers():
            mask.copy_(kept[name])
        model(X)  # leaves weights without a history, which can be copied
    result = prune(model, X, scorer="random", ratio=0.5)
    assert {f"{i}.{part}" for i in (2, 4, 7) for part in ("weight_orig", "weight_mask")} <= set(result.plan.tensors)
    assert largest_error(model, result.model, result.plan, X) < 1e-12


@pytest.mark.filterwarnings("ignore")  # torch has newer ones
@pytest.mark.parametrize(
    ("wrap", "names", "named"),
    [
        (spectral_norm, ("weight_orig", "weight_u", "weight_v"), ["dot"]),  # a hook is in no module
        (
            parametrizations.spectral_norm,
            ("parametrizations.weight.original", f"{NEWER}._u", f"{NEWER}._v"),
            [f"vdot in 2.{NEWER}", f"vdot in 4.{NEWER}"],
        ),
    ],
)
def test_a_spectral_norm_of_either_kind_is_that_of_what_is_kept(
    wrap: Wrap, names: tuple[str, ...], named: list[str]
) -> None:
    """W / (u W v), of the rows and columns that stay; the summary says so."""
    model = randomise(network(wrap), 0)
    before = model[2].state_dict()
    result = prune(model, X, scorer="random", ratio=0.5)
    kept = result.plan.tensors[f"2.{names[0]}"].keep
    out, into = (torch.tensor(kept[dim]) for dim in (0, 1))
    assert (len(out), len(into)) == (6, 8)
    weight = before[names[0]][out][:, into]
    u, v = before[names[1]][out], before[names[2]].reshape(16, 3, 3)[into]
    expected = weight / torch.einsum("o,oihw,ihw->", u, weight, v)
    torch.testing.assert_close(result.model[2].weight, expected, rtol=1e-12, atol=0)
    assert [f.node for f in result.frozen] == ["output"]
    assert {r.node for r in result.reductions} == set(named)  # not of the last, which loses no rows

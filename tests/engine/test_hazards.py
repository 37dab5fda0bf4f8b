"""Every hazard network, cut at random several times, against the oracle."""

from __future__ import annotations

import pytest
import torch
from hazards import NETWORKS, REFUSED
from oracle import largest_error, masked_norms, randomise

from prunetune import prune
from prunetune.errors import InputError


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in REFUSED])
@pytest.mark.parametrize(
    ("seed", "options"), [(0, {"ratio": 0.5}), (1, {"percentile": 50.0, "floor": 0.1}), (2, {"ratio": 0.3})]
)
def test_exact(name: str, seed: int, options: dict[str, float]) -> None:
    make, inputs = NETWORKS[name]
    torch.manual_seed(seed)
    model = randomise(make(), seed)
    x = inputs()
    result = prune(model, x, scorer="random", seed=seed, **options)  # type: ignore[arg-type]
    assert result.plan.tensors, f"nothing was cut: {result.frozen}"
    assert largest_error(masked_norms(model, result.plan), result.model, result.plan, x) < 1e-9
    result.model.train()(x)


@pytest.mark.parametrize(("name", "operation"), REFUSED.items())
def test_refused_by_name(name: str, operation: str) -> None:
    make, inputs = NETWORKS[name]
    with pytest.raises(InputError, match=f"no channels that can be removed: .*{operation}"):
        prune(randomise(make(), 0), inputs(), ratio=0.5)

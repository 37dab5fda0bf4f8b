"""Every hazard network, cut at random several times, against the oracle."""

from __future__ import annotations

import pytest
import torch

from prunetune import prune
from prunetune.errors import InputError
from prunetune.testing.hazards import NETWORKS, REFUSED
from prunetune.testing.oracle import largest_error, masked_norms, randomise


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


@pytest.mark.parametrize(
    ("layer", "reason"),
    [(torch.nn.PReLU(4), "no operation that has a rule reads its weights"), (torch.nn.ReLU(), "it has no weights")],
)
def test_a_network_without_channels_of_its_own(layer: torch.nn.Module, reason: str) -> None:
    with pytest.raises(InputError, match=f"no channels that can be removed: {reason}"):
        prune(torch.nn.Sequential(layer), torch.ones(2, 4), ratio=0.5)


@pytest.mark.filterwarnings("ignore")  # torch says that scripting is deprecated, which is not the point here
def test_a_scripted_function_freezes_what_it_reads() -> None:
    swish = torch.jit.script(_swish)

    class Scripted(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = torch.nn.Linear(4, 8), torch.nn.Linear(8, 6), torch.nn.Linear(6, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(self.b(swish(self.a(x))).relu())

    model = randomise(Scripted(), 0)
    x = torch.ones(2, 4, dtype=torch.float64)
    result = prune(model, x, scorer="random", ratio=0.5)
    assert set(result.plan.tensors) == {"b.weight", "b.bias", "c.weight"}
    assert any(f.reason == "no rule for this operation" and f.channels == 8 for f in result.frozen)
    assert largest_error(model, result.model, result.plan, x) < 1e-12


def _swish(x: torch.Tensor) -> torch.Tensor:
    return x * torch.sigmoid(x)

"""Networks that can be cut to half width everywhere are, exactly; the smaller network says what is possible."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.shares.cases import KINDS
from benchmarks.shares.runs import error_of_architecture, measured, randomise
from prunetune import prune
from prunetune.engine import apply

NOT_YET = ("dynamic convolutions",)  # filters and inputs are merged into one dimension, which would need both's labels
AS_FAR_AS_POSSIBLE = [name for name in KINDS if name not in NOT_YET]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", AS_FAR_AS_POSSIBLE)
def test_as_much_is_cut_as_can_be(name: str) -> None:
    found = measured(name, KINDS[name])
    assert found["judged"] == ("exact" if KINDS[name].judged else "runs")
    assert found["left"] < found["possible"] + 0.005, found["frozen"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("options", [{"ratio": 0.5}, {"percentile": 60.0}, {"ratio": 0.33}])
@pytest.mark.parametrize("name", ["Mixtral", "GptOss", "Qwen3Moe", "DeepseekV3"])
def test_experts_in_one_product_are_cut_exactly(name: str, options: dict[str, Any]) -> None:
    """By torch's kernel for all experts, whose widths keep to its multiples; judged by a loop over the experts."""
    torch.manual_seed(0)
    case = KINDS[f"{name}, grouped_mm"].build(1)
    result = prune(case.model, case.inputs, scorer="magnitude", **options)
    assert all(n % 8 == 0 for n in result.plan.tensors["model.embed_tokens.weight"].shape_after)
    loop = randomise(KINDS[f"{name}, one by one"].build(1).model, 0)
    assert error_of_architecture(loop, apply(result.plan, loop), result.plan, case.inputs) < 1e-9

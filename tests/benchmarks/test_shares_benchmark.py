"""Networks that can be cut to half width everywhere are, exactly; the smaller network says what is possible."""

from __future__ import annotations

import pytest
import torch

from benchmarks.shares import measured
from benchmarks.shares_networks import KINDS
from prunetune import prune

NOT_YET = ("dynamic convolutions",)  # filters and inputs are merged into one dimension, which would need both's labels
AS_FAR_AS_POSSIBLE = [name for name in KINDS if name not in NOT_YET]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", AS_FAR_AS_POSSIBLE)
def test_as_much_is_cut_as_can_be(name: str) -> None:
    found = measured(name, KINDS[name])
    assert found["judged"] == ("exact" if KINDS[name].judged else "runs")
    assert found["left"] < found["possible"] + 0.005, found["frozen"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["Mixtral", "GptOss", "Qwen3Moe", "DeepseekV3"])
def test_experts_are_cut_alike_however_they_are_computed(name: str) -> None:
    """A loop over the experts, and torch's kernel for all of them: the same weights, the same plan."""
    plans = []
    for way in ("one by one", "grouped_mm"):
        torch.manual_seed(0)
        case = KINDS[f"{name}, {way}"].build(1)
        plans.append(prune(case.model.to(torch.bfloat16), case.inputs, scorer="magnitude", ratio=0.5).plan)
    assert plans[0] == plans[1]

"""Shallower proxies: what share of the blocks is left, and what Adam's rates make of it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import prunetune
from prunetune.engine import PruningPlan, fresh_proxy, residual_blocks
from prunetune.transfer.groups import proxy_groups
from prunetune.zoo import models

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def plan() -> PruningPlan:
    torch.manual_seed(0)
    return prunetune.prune(models["resnet20"](10, 3), IMAGES, scorer="magnitude", flops=0.1, depth=True).plan


def test_a_plan_knows_what_share_of_the_blocks_is_left(plan: PruningPlan) -> None:
    blocks = [block for block in residual_blocks(models["resnet20"](10, 3), IMAGES) if block.inside is None]
    assert 0 < len(plan.bypasses) < len(blocks)
    assert plan.depth == pytest.approx(1 - len(plan.bypasses) / len(blocks))
    assert PruningPlan.from_json(plan.to_json()) == plan
    assert "depth" not in PruningPlan({}, {}).to_json()
    assert replace(plan, depth=0.5).then(PruningPlan({}, {}, depth=0.5)).depth == 0.25


def test_with_every_block_bypassed_the_rate_is_that_of_one() -> None:
    torch.manual_seed(0)
    model = models["resnet20"](10, 3)
    blocks = [block for block in residual_blocks(model, IMAGES) if block.inside is None]
    plan = prunetune.prune(model, IMAGES, scorer="magnitude", flops=0.008, depth=True).plan
    assert len(plan.bypasses) == len(blocks)
    assert plan.depth == pytest.approx(1 / len(blocks))


@pytest.mark.parametrize("rule", ["mup", "norm-aware"])
def test_a_shallow_network_takes_larger_steps(plan: PruningPlan, rule: str) -> None:
    shallow = PruningPlan({}, {}, plan.bypasses, depth=0.25)
    proxy = fresh_proxy(lambda: models["resnet20"](10, 3), shallow)
    ask = proxy_groups(shallow, rule, "redraw")
    (group,) = ask(proxy, lr=0.1, weight_decay=0.01, optimizer="adam")
    assert group["lr"] == pytest.approx(0.1 * 1.5157, rel=1e-4)  # 4 ** 0.3
    assert group["lr"] * group["weight_decay"] == pytest.approx(0.001)
    (group,) = ask(proxy, lr=0.1, weight_decay=0.01, optimizer="sgd")
    assert group["lr"] == pytest.approx(0.1 * 1.7411, rel=1e-4)  # 4 ** 0.4
    assert group["lr"] * group["weight_decay"] == pytest.approx(0.001)

"""A checkpoint that the train function loads itself, into the full network and into proxies of it."""

from __future__ import annotations

import copy
import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import prunetune
from prunetune.engine import PruningPlan, apply, fresh_proxy, load_cut
from prunetune.engine.surgery import plan_of
from prunetune.errors import PlanError
from prunetune.zoo import models

IMAGES = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def build() -> nn.Module:
    return models["resnet8"](10, 3)


@pytest.fixture(scope="module")
def plan() -> PruningPlan:
    torch.manual_seed(0)
    return prunetune.prune(build(), IMAGES, scorer="magnitude", ratio=0.5).plan


def test_the_proxy_has_what_the_plan_keeps_of_the_checkpoint(plan: PruningPlan) -> None:
    checkpoint = build().state_dict()
    proxy = fresh_proxy(build, plan)
    found = load_cut(proxy, checkpoint)
    assert found.missing_keys == found.unexpected_keys == []
    for name, tensor in proxy.state_dict().items():
        expected = checkpoint[name]
        for dim, kept in plan.tensors[name].keep.items() if name in plan.tensors else ():
            expected = expected.index_select(dim, torch.tensor(kept))
        assert torch.equal(tensor, expected), name


def test_the_full_network_has_all_of_it() -> None:
    checkpoint, model = build().state_dict(), build()
    load_cut(model, checkpoint)
    assert all(torch.equal(tensor, checkpoint[name]) for name, tensor in model.state_dict().items())


def test_a_network_that_was_cut_twice_has_what_is_left(plan: PruningPlan) -> None:
    model = build()
    once = apply(plan, model)
    again = prunetune.prune(once, IMAGES, scorer="magnitude", ratio=0.5).plan
    twice = apply(again, once)
    by_hand = apply(again, apply(plan, model))
    with torch.no_grad():
        for parameter in twice.parameters():
            parameter.zero_()
    load_cut(twice, model.state_dict())
    for name, tensor in twice.state_dict().items():
        assert torch.equal(tensor, by_hand.state_dict()[name]), name


def test_a_new_head_is_left_out(plan: PruningPlan) -> None:
    checkpoint = {name: each for name, each in build().state_dict().items() if not name.startswith("classifier")}
    proxy = fresh_proxy(build, plan)
    head = copy.deepcopy(proxy.get_parameter("classifier.weight"))
    with pytest.raises(PlanError, match="classifier.weight, which is not there"):
        load_cut(proxy, checkpoint)
    found = load_cut(proxy, checkpoint, strict=False)
    assert found.missing_keys == ["classifier.weight", "classifier.bias"]
    assert torch.equal(proxy.get_parameter("classifier.weight"), head)


def test_another_networks_checkpoint_is_refused(plan: PruningPlan) -> None:
    with pytest.raises(PlanError, match="was made for"):
        load_cut(fresh_proxy(build, plan), models["resnet8"](10, 1).state_dict())


def test_a_network_that_is_gone_is_forgotten(plan: PruningPlan) -> None:
    from prunetune.engine import surgery

    proxy = fresh_proxy(build, plan)
    assert plan_of(proxy) == plan
    known = len(surgery._cut_by)
    del proxy
    gc.collect()
    assert len(surgery._cut_by) < known


def test_a_train_function_that_loads_it_runs_on_every_rung(tmp_path: Path) -> None:
    checkpoint = build().state_dict()
    widths: list[int] = []

    def train(model: nn.Module, params: dict[str, Any], report: prunetune.Report) -> float:
        prunetune.load_cut(model, checkpoint)
        widths.append(model.get_parameter("classifier.weight").shape[1])
        sgd = torch.optim.SGD(report.param_groups(model, lr=params["lr"]))
        model.train()
        model(IMAGES).square().mean().backward()
        sgd.step()
        report(params["lr"], 1)
        return float(params["lr"])

    prunetune.tune(
        build, train, {"lr": prunetune.Float(0.01, 0.1)}, example_inputs=IMAGES, epochs=1, run_dir=tmp_path,
        ladder=prunetune.Ladder(prunetune.Rung(width=1 / 4, trials=2, keep=1), prunetune.Rung()),
        search=prunetune.Search(direction="maximize"), observer=prunetune.silent,
    )  # fmt: skip
    assert widths == [16, 16, 64]

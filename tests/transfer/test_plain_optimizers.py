"""Optimizers that are built as for any network, by the rates that they really step with."""

from __future__ import annotations

import copy
import gc
import warnings
import weakref
from typing import Any

import pytest
import torch
from torch import nn

import prunetune
from prunetune.backends.study.trial import Report
from prunetune.errors import InputError
from prunetune.events import Event, Notice
from tiny_transfer import INPUTS, RATES, Mlp


def factory(kind: Any, **options: Any) -> prunetune.ProxyFactory:
    return prunetune.proxy_of(Mlp, INPUTS, prunetune.Pruning(scorer="uniform", ratio=0.25, optimizers=kind, **options))


def moves(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    """How far a step moves each weight on average, with gradients of one."""
    before = copy.deepcopy(dict(model.named_parameters()))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return {name.partition(".")[0]: float((before[name] - p).detach().mean()) for name, p in model.named_parameters()}


def test_plain_sgd_steps_by_the_rule() -> None:
    proxy = factory("sgd")()
    optimizer = torch.optim.SGD(proxy.parameters(), lr=0.1)
    assert moves(proxy, optimizer) == pytest.approx({name: 0.1 * by for name, by in RATES["sgd"].items()}, rel=1e-4)
    assert {group["lr"] for group in optimizer.param_groups} == {0.1}  # as it was given


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.NAdam])
def test_plain_adam_steps_by_the_rule(kind: type[torch.optim.Adam]) -> None:
    """A first step of Adam is the learning rate, whatever the gradient; NAdam's a little less."""
    proxy = factory("adam")()
    found = moves(proxy, kind(proxy.parameters(), lr=1e-3, weight_decay=0.0))
    plain = Mlp()
    one = moves(plain, kind(plain.parameters(), lr=1e-3, weight_decay=0.0))["first"]
    assert found == pytest.approx({name: one * by for name, by in RATES["adam"].items()}, rel=1e-3)


def test_weight_decay_keeps_its_product_with_the_rate() -> None:
    proxy = factory("adam")()
    before = copy.deepcopy(dict(proxy.named_parameters()))
    optimizer = torch.optim.AdamW(proxy.parameters(), lr=0.1, weight_decay=0.5)
    for parameter in proxy.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in proxy.named_parameters():
        torch.testing.assert_close(parameter, 0.95 * before[name])


SCHEDULES: dict[str, Any] = {
    "one cycle": lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=10),
    "cosine": lambda optimizer: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10),
    "lambda": lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step)),
    "plateau": lambda optimizer: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_say_what_they_would_on_the_full_network_and_steps_follow_the_rule(schedule: str) -> None:
    proxy, full = factory("sgd")(), Mlp()
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (proxy, full)]
    schedules = [SCHEDULES[schedule](optimizer) for optimizer in optimizers]
    for _ in range(5):
        found, plain = (moves(*both) for both in zip((proxy, full), optimizers, strict=True))
        assert found == pytest.approx({name: plain[name] * by for name, by in RATES["sgd"].items()}, rel=1e-3)
        rates = [{group["lr"] for group in optimizer.param_groups} for optimizer in optimizers]
        assert rates[0] == rates[1]
        for each in schedules:
            each.step(*([1.0] if schedule == "plateau" else []))


def two_groups(proxy: nn.Module) -> torch.optim.Optimizer:
    inner = [proxy.get_parameter("second.weight"), proxy.get_parameter("last.weight")]
    first = {"params": [proxy.get_parameter("first.weight")], "lr": 0.5}
    return torch.optim.SGD([first, {"params": inner, "momentum": 0.9}], lr=0.1)


def test_groups_of_a_user_stay_as_they_are() -> None:
    proxy = factory("sgd")()
    optimizer = two_groups(proxy)
    before = optimizer.param_groups
    shown = [(len(group["params"]), group["lr"], group["momentum"]) for group in before]
    assert moves(proxy, optimizer) == pytest.approx({"first": 0.125, "second": 0.1, "last": 0.4}, rel=1e-4)
    assert optimizer.param_groups is before
    assert [(len(g["params"]), g["lr"], g["momentum"]) for g in before] == shown == [(1, 0.5, 0), (2, 0.1, 0.9)]
    assert set(before[0]) == set(torch.optim.SGD(Mlp().parameters(), lr=0.1).param_groups[0])


def test_rates_that_are_set_by_place_and_by_lists() -> None:
    proxy = factory("sgd")()
    optimizer = two_groups(proxy)
    optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = 1.0, 0.2
    assert moves(proxy, optimizer) == pytest.approx({"first": 0.25, "second": 0.2, "last": 0.8}, rel=1e-4)
    proxy = factory("sgd")()
    optimizer = torch.optim.SGD(two_groups(proxy).param_groups, lr=0.1)
    torch.optim.lr_scheduler.LambdaLR(optimizer, [lambda _: 0.5, lambda _: 1.0])
    assert moves(proxy, optimizer)["first"] == pytest.approx(0.0625, rel=1e-4)


class TwoSteps(torch.optim.Optimizer):
    """As sharpness-aware minimization is written everywhere: an optimizer of its own groups, and one beneath."""

    def __init__(self, parameters: Any, **options: Any) -> None:
        super().__init__(parameters, options)
        self.base = torch.optim.SGD(self.param_groups, **options)

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.base.step()


class Warm(torch.optim.SGD):
    """Sets its rate in the step itself."""

    def step(self, closure: Any = None) -> Any:
        for group in self.param_groups:
            group["lr"] = 0.1
        return super().step(closure)


@pytest.mark.parametrize("kind", [TwoSteps, Warm])
def test_optimizers_that_call_others(kind: Any) -> None:
    proxy = factory("sgd")()
    optimizer = kind(proxy.parameters(), lr=0.1 if kind is TwoSteps else 7.0)
    for _ in range(3):
        found = moves(proxy, optimizer)
        assert found == pytest.approx({"first": 0.025, "second": 0.1, "last": 0.4}, rel=1e-3)
        assert len(optimizer.param_groups) == 1


def test_what_an_optimizer_notes_in_its_groups_is_kept() -> None:
    class Counting(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            for group in self.param_groups:
                group["steps"] = group.get("steps", 0) + 1
            return super().step(closure)

    proxy = factory("sgd")()
    optimizer = Counting(proxy.parameters(), lr=0.1)
    for _ in range(3):
        moves(proxy, optimizer)
    assert optimizer.param_groups[0]["steps"] == 3


def test_a_rate_that_is_set_after_a_step_that_raised_counts() -> None:
    proxy = factory("sgd")()
    optimizer = torch.optim.SGD(proxy.parameters(), lr=1.0)

    def closure() -> float:
        raise ValueError("lost")

    with pytest.raises(ValueError, match="lost"):
        optimizer.step(closure)
    for group in optimizer.param_groups:
        group["lr"] = 0.1
    assert moves(proxy, optimizer) == pytest.approx({"first": 0.025, "second": 0.1, "last": 0.4}, rel=1e-4)


def test_an_optimizer_without_a_rate_steps_as_it_is() -> None:
    proxy = factory("adam")()
    optimizer = torch.optim.Adagrad(proxy.parameters(), lr=0.1)
    optimizer.param_groups[0]["lr"] = None
    moves_nothing = pytest.raises(TypeError)  # torch's own complaint, and none of ours
    with moves_nothing as caught:
        moves(proxy, optimizer)
    assert "transfer" not in str(caught.traceback[-1].path)


def test_unrelated_optimizers_keep_their_very_groups() -> None:
    factory("sgd")()
    group = {"params": [nn.Parameter(torch.ones(3))], "lr": 0.1}
    optimizer = torch.optim.SGD([group])
    assert optimizer.param_groups[0] is group
    group["params"][0].grad = torch.ones(3)
    group["lr"] = 0.2
    optimizer.step()
    torch.testing.assert_close(group["params"][0].detach(), torch.full((3,), 0.8))


def test_nothing_is_kept_alive() -> None:
    proxy = factory("sgd")()
    optimizer = torch.optim.SGD(proxy.parameters(), lr=0.1)
    moves(proxy, optimizer)
    gone = [weakref.ref(proxy), weakref.ref(optimizer), weakref.ref(proxy.first.weight)]
    del proxy, optimizer
    gc.collect()
    assert [each() for each in gone] == [None] * 3


def test_named_parameters_and_groups_that_come_later() -> None:
    proxy = factory("sgd")()
    optimizer = torch.optim.SGD(list(proxy.named_parameters())[:2], lr=0.1)
    optimizer.add_param_group({"params": list(proxy.named_parameters())[2:]})
    assert moves(proxy, optimizer) == pytest.approx({"first": 0.025, "second": 0.1, "last": 0.4}, rel=1e-4)


def test_who_asks_for_groups_is_not_corrected_twice() -> None:
    made = factory("sgd")
    proxy = made()
    optimizer = torch.optim.SGD(made.param_groups(proxy, lr=0.1))
    assert moves(proxy, optimizer) == pytest.approx({"first": 0.025, "second": 0.1, "last": 0.4}, rel=1e-4)


def test_the_readout_begins_larger() -> None:
    torch.manual_seed(0)
    plain = factory("asked", transfer="mup")()
    torch.manual_seed(0)
    corrected = factory("sgd", transfer="mup")()
    torch.testing.assert_close(corrected.last.weight, 2 * plain.last.weight)  # 1 / sqrt(1/4)
    torch.testing.assert_close(corrected.second.weight, plain.second.weight)


@pytest.mark.filterwarnings("ignore:nothing corrects")
def test_full_networks_and_proxies_that_nobody_wants_corrected_are_left_alone() -> None:
    factory("sgd")()
    for model in (Mlp(), factory("asked")()):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        assert len(optimizer.param_groups) == 1
        assert moves(model, optimizer) == pytest.approx(dict.fromkeys(RATES["sgd"], 0.1), rel=1e-4)


def test_states_are_saved_and_loaded() -> None:
    proxy = factory("sgd")()
    optimizer = torch.optim.SGD(proxy.parameters(), lr=0.1, momentum=0.9)
    moves(proxy, optimizer)
    again = torch.optim.SGD(proxy.parameters(), lr=0.7, momentum=0.9)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    found = moves(proxy, again)  # of a second step with momentum: 1.9 times the first
    assert found == pytest.approx({"first": 0.025 * 1.9, "second": 0.19, "last": 0.76}, rel=1e-3)


def test_lbfgs_is_refused_in_a_sentence() -> None:
    proxy = factory("sgd")()
    with pytest.raises(InputError, match="LBFGS takes one learning rate for all parameters; set optimizers='asked'"):
        moves(proxy, torch.optim.LBFGS(proxy.parameters()))


def train(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    """As if nobody had heard of rules. The score is how much farther the readout moves than the first layer."""
    found = moves(model, torch.optim.SGD(model.parameters(), lr=params["lr"]))
    return round(found["last"] / found["first"])


@pytest.mark.parametrize(("kind", "ratio"), [("asked", 1), ("sgd", 16)])
def test_a_search_corrects_train_functions_that_never_ask(kind: Any, ratio: int, tmp_path: Any) -> None:
    events: list[Event] = []
    result = prunetune.tune(
        Mlp,
        train,
        {"lr": prunetune.Float(0.1, 0.5)},
        example_inputs=INPUTS,
        epochs=1,
        pruning=prunetune.Pruning(scorer="uniform", ratio=0.25, optimizers=kind),
        search=prunetune.Search(direction="maximize", n_trials=2, confirm=1, optimizer="random"),
        run_dir=tmp_path / "run",
        observer=events.append,
        energy=False,
    )
    assert [trial["score"] for trial in result.trials] == [ratio, ratio]
    assert result.score == 1  # the full network is trained as it is
    told = [each.message for each in events if isinstance(each, Notice) and "never called" in each.message]
    assert bool(told) == (kind == "asked")
    assert result.record["search"]["param_groups"] == (2 if kind == "sgd" else 0)
    assert result.record["pruning"].get("optimizers", "asked") == kind


def test_without_the_argument_a_sentence_says_once_that_nothing_is_corrected() -> None:
    proxy = factory("asked")()
    optimizer = torch.optim.SGD(proxy.parameters(), lr=0.1)
    with pytest.warns(UserWarning, match="nothing corrects the learning rate of this proxy's optimizer"):
        moves(proxy, optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        moves(proxy, optimizer)


@pytest.mark.filterwarnings("error")
def test_who_asks_for_groups_or_for_no_rule_hears_nothing() -> None:
    made = factory("asked")
    proxy = made()
    moves(proxy, torch.optim.SGD(made.param_groups(proxy, lr=0.1)))
    for other in (factory("asked", transfer="identity")(), factory("sgd")()):
        moves(other, torch.optim.SGD(other.parameters(), lr=0.1))

"""Rules of users: for a module of their own, for an operator of their own, in the place of one that is there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunetune import prune
from prunetune.engine import DependencyGraph, RuleContext, rule
from prunetune.engine.rules import rules
from prunetune.errors import InputError
from prunetune.testing.oracle import largest_error, randomise


@pytest.fixture(autouse=True)
def _rules_as_before() -> Iterator[None]:
    before = dict(rules)
    yield
    rules.clear()
    rules.update(before)


class Own(nn.Module):
    """x (..., I) times the weight (I, O), by way of an operation that has no rule, in `parts` equal parts."""

    def __init__(self, width_in: int, width_out: int, parts: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width_in, width_out)), nn.Parameter(torch.ones(width_out))
        self.parts, self.part = parts, width_out // parts

    def forward(self, x: Tensor) -> Tensor:
        assert self.weight.shape[1] == self.parts * self.part
        return x @ torch.renorm(self.weight, 2, 0, 1e9) + self.bias


class Net(nn.Module):
    matrices = ("own.weight",)

    def __init__(self) -> None:
        super().__init__()
        self.a, self.own, self.b = nn.Linear(5, 12), Own(12, 8, 4), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.own(self.a(x).relu()).relu())


def own(ctx: RuleContext, x: Any) -> Any:
    weight = ctx.parameter("weight")
    ctx.bind(weight, 0, ctx.vec(x, -1))
    out = ctx.across(ctx.produce(weight, 1), 4)
    ctx.require(ctx.attribute("part"), out)
    out = out[None].repeat(4, 0).ravel()
    ctx.bind(ctx.parameter("bias"), 0, out)
    return ctx.result([*ctx.vecs(x)[:-1], out])


def inputs() -> Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_without_a_rule_it_stays_and_is_named() -> None:
    graph = DependencyGraph.of(randomise(Net(), 0), inputs())
    assert ("renorm in own", "no rule for this operation") in {(f.node, f.reason) for f in graph.frozen}
    assert ("own.weight", 1) not in graph.axes


def test_a_module_with_a_rule_is_cut_exactly_and_its_attribute_follows() -> None:
    rule(Own)(own)
    model = randomise(Net(), 0)
    result = prune(model, inputs(), scorer="random", ratio=0.5)
    assert {layer.name: layer.after for layer in result.layers} == {
        "a.weight": (6, 5), "own.weight": (6, 4), "b.weight": (3, 4)}  # fmt: skip
    assert (result.model.own.parts, result.model.own.part) == (4, 1)
    assert largest_error(model, result.model, result.plan, inputs()) < 1e-12
    result.model.train()(inputs()).sum().backward()


def test_a_subclass_has_the_rule_of_its_class() -> None:
    class Derived(Own):
        pass

    rule(Own)(own)
    model = randomise(Net(), 0)
    model.own.__class__ = Derived
    assert prune(model, inputs(), scorer="random", ratio=0.5).plan.tensors["own.weight"].shape_after == (6, 4)


def test_a_rule_that_is_wrong_gives_no_network() -> None:
    @rule(Own)
    def forgets_the_weight(ctx: RuleContext, x: Any) -> Any:
        return ctx.result([None, ctx.produce(ctx.parameter("weight"), 1)])

    with pytest.raises(Exception, match="would not do what the full one does|another size"):
        prune(randomise(Net(), 0), inputs(), scorer="random", ratio=0.5)


def test_a_custom_operator() -> None:
    library = torch.library.Library("prunetune_test", "DEF")
    library.define("negated(Tensor x) -> Tensor")
    library.impl("negated", lambda x: -x, "CompositeExplicitAutograd")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(5, 12), nn.Linear(12, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(torch.ops.prunetune_test.negated(self.a(x)))

    model = randomise(Net(), 0)
    with pytest.raises(InputError, match="negated.*no rule for this operation"):
        prune(model, inputs(), ratio=0.5, scorer="magnitude")

    @rule("prunetune_test::negated")
    def negated(ctx: RuleContext, x: Any) -> Any:
        return ctx.result(ctx.vecs(x))

    result = prune(model, inputs(), ratio=0.5, scorer="magnitude")
    assert result.plan.tensors["a.weight"].shape_after == (6, 5)
    assert largest_error(model, result.model, result.plan, inputs()) < 1e-12


def test_a_second_rule_is_an_error_unless_it_is_to_replace_the_first() -> None:
    with pytest.raises(InputError, match="has a rule already; replace=True"):
        rule(torch.relu)(own)
    rule(torch.relu, replace=True)(own)
    assert rules[torch.relu] is own


@pytest.mark.parametrize(("call", "message"), [
    (lambda ctx: ctx.parameter("parts"), "parts is no parameter or buffer"),
    (lambda ctx: ctx.attribute("weight"), "only a plain integer can follow"),
])  # fmt: skip
def test_asking_for_what_is_not_there(call: Any, message: str) -> None:
    @rule(Own)
    def asks(ctx: RuleContext, x: Any) -> Any:
        return call(ctx)

    with pytest.raises(InputError, match=message):
        DependencyGraph.of(randomise(Net(), 0), inputs())

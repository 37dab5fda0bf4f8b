"""A plan is a portable value, and surgery follows it to the letter or refuses before anything is changed."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn

from prunetune import prune
from prunetune.engine import AttributeChange, PruningPlan, TensorCut, apply, check_runs
from prunetune.errors import PlanError, TraceError
from prunetune.testing.oracle import largest_error, outputs, randomise
from prunetune.zoo import models as zoo

X = torch.randn(2, 3, 32, 32, dtype=torch.float64)


class Net(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, width, 3)
        self.norm = nn.BatchNorm2d(width)
        self.depthwise = nn.Conv2d(width, width, 3, groups=width)
        self.last = nn.Linear(width, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.depthwise(self.norm(self.first(x)).relu()).mean((2, 3)))


def hand_made(indices: tuple[int, ...], width: int = 8) -> PruningPlan:
    """Written down by hand: these channels stay."""
    vectors = ("first.bias", "norm.weight", "norm.bias", "norm.running_mean", "norm.running_var", "depthwise.bias")
    return PruningPlan(
        {
            "first.weight": TensorCut((width, 3, 3, 3), {0: indices}),
            "depthwise.weight": TensorCut((width, 1, 3, 3), {0: indices}),
            "last.weight": TensorCut((4, width), {1: indices}),
            **{name: TensorCut((width,), {0: indices}) for name in vectors},
        },
        {"depthwise.groups": AttributeChange(width, len(indices))},
    )


def test_the_engine_finds_the_plan_that_a_person_would_write() -> None:
    result = prune(Net(), X.float(), scorer="random", ratio=0.5)
    assert result.plan == hand_made(result.plan.tensors["first.weight"].keep[0])


def test_applying_a_hand_made_plan() -> None:
    model = randomise(Net(), 0)
    pruned = apply(hand_made((1, 4, 6)), model)
    assert torch.equal(pruned.first.weight, model.first.weight[[1, 4, 6]])
    assert torch.equal(pruned.norm.running_var, model.norm.running_var[[1, 4, 6]])
    assert torch.equal(pruned.last.weight, model.last.weight[:, [1, 4, 6]])
    assert (pruned.first.out_channels, pruned.norm.num_features, pruned.depthwise.groups) == (3, 3, 3)
    assert (pruned.depthwise.in_channels, pruned.depthwise.out_channels, pruned.last.in_features) == (3, 3, 3)
    assert largest_error(model, pruned, hand_made((1, 4, 6)), X) < 1e-12


def test_the_oracle_sees_a_cut_in_the_wrong_place() -> None:
    model = randomise(Net(), 0)
    right = hand_made((1, 4, 6))
    wrong = PruningPlan({**right.tensors, "last.weight": TensorCut((4, 8), {1: (1, 4, 7)})}, right.attributes)
    assert largest_error(model, apply(wrong, model), wrong, X) > 1e-3


def test_json_round_trip() -> None:
    plan = prune(zoo["mobilenetv2"](10, 3), X.float(), scorer="random").plan
    assert PruningPlan.from_json(plan.to_json()) == plan


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 99}', '{"format": 1, "tensors": {"a": 1}, "attributes": {}}']
)
def test_text_that_is_no_plan(text: str) -> None:
    with pytest.raises(PlanError):
        PruningPlan.from_json(text)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (hand_made((0, 1), width=9), r"first.weight has shape \(8, 3, 3, 3\), the plan was made for \(9, 3, 3, 3\)"),
        (PruningPlan({"other": TensorCut((4,), {0: (1,)})}, {}), "it cuts other, which Net does not have"),
        (PruningPlan({"norm.bias": TensorCut((8,), {0: (8,)})}, {}), "no such indices"),
        (PruningPlan({"norm.bias": TensorCut((8,), {1: (0,)})}, {}), "no such indices"),
        (PruningPlan({}, {"depthwise.groups": AttributeChange(4, 2)}), "depthwise.groups is 8"),
        (PruningPlan({}, {"nowhere.groups": AttributeChange(4, 2)}), "nowhere.groups is None"),
    ],
)
def test_a_plan_for_another_network_is_refused(plan: PruningPlan, message: str) -> None:
    model = Net()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(PlanError, match=message):
        apply(plan, model)
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_a_plan_fits_a_fresh_model_and_its_checkpoint() -> None:
    torch.manual_seed(0)
    trained = zoo["resnet8"](10, 3).double().eval()
    plan = prune(trained, X, scorer="random", ratio=0.5).plan
    fresh = zoo["resnet8"](10, 3).double().eval()
    cut = apply(plan, fresh)
    cut.load_state_dict(apply(plan, trained).state_dict())
    assert torch.equal(outputs(cut, X)[0], outputs(apply(plan, trained), X)[0])


def test_what_surgery_keeps() -> None:
    model = Net().double().train()
    model.first.weight.requires_grad_(False)
    calls: list[str] = []
    model.norm.register_forward_hook(lambda *_: calls.append("hook"))
    pruned = apply(hand_made((0, 5)), model)
    assert type(pruned) is Net
    assert pruned.training
    assert pruned.first.weight.dtype is torch.float64
    assert not pruned.first.weight.requires_grad
    assert pruned.last.weight.requires_grad
    pruned(X)
    assert calls == ["hook"]
    assert isinstance(pruned.last.weight, nn.Parameter)
    assert pruned.first.weight.is_contiguous()


def test_the_result_pickles_and_deep_copies() -> None:
    pruned = apply(hand_made((0, 5)), Net().double().eval())
    for twin in (pickle.loads(pickle.dumps(pruned)), copy.deepcopy(pruned)):
        assert torch.equal(twin(X), pruned(X))


@pytest.mark.parametrize("name", ["norm.weight", "last.weight", "depthwise.weight", "first.bias"])
def test_a_plan_that_forgets_something_does_not_run(name: str) -> None:
    """The last line of defence sees it, also where shapes are answered by a shortcut."""
    plan = hand_made((0, 5))
    lacking = PruningPlan({n: cut for n, cut in plan.tensors.items() if n != name}, plan.attributes)
    check_runs(apply(plan, Net()), X.float())
    with pytest.raises(TraceError, match="Net could not be run"):
        check_runs(apply(lacking, Net()), X.float())


def test_tied_weights_stay_tied() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(self.b(self.a(x).relu()).relu())

    model = randomise(Tied(), 0)
    x = torch.randn(3, 6, dtype=torch.float64)
    # a's output feeds b through the same matrix, and a's input is the data: nothing of it can go.
    with pytest.raises(ValueError, match="has no channels that can be removed"):
        prune(model, x, ratio=0.5)
    model.a = nn.Linear(4, 6).double()
    model.b = nn.Linear(6, 6).double()
    model.c.weight = nn.Parameter(model.b.weight[:2].clone())
    x = torch.randn(3, 4, dtype=torch.float64)
    result = prune(model, x, ratio=0.5, scorer="random")
    assert largest_error(model, result.model, result.plan, x) < 1e-12

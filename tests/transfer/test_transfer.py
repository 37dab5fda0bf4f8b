"""Transfer rules: factors by hand, which parameter is what, what a step does to networks of several widths."""

from __future__ import annotations

import copy
import html
import math
from typing import Any

import pytest
import torch
from torch import nn

import prunetune
from prunetune.backends.study.loop import Report
from prunetune.engine import PruningPlan, fresh_proxy
from prunetune.errors import InputError
from prunetune.events import Event, Notice
from prunetune.transfer import transfers
from prunetune.transfer.base import Width, widths
from prunetune.transfer.groups import plain_groups, proxy_groups
from tiny_tune import touch


class Mlp(nn.Module):
    """Three layers; without biases nothing but the matrices moves."""

    def __init__(self, width: int = 64, *, bias: bool = True) -> None:
        super().__init__()
        self.first = nn.Linear(6, width, bias=bias)
        self.second = nn.Linear(width, width, bias=bias)
        self.last = nn.Linear(width, 3, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.second(self.first(x).relu()).relu())
        return out


class Mixed(nn.Module):
    """Layers whose weights are no plain matrices."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 16)
        self.scale = nn.Parameter(torch.ones(1, 1, 16))
        self.norm = nn.LayerNorm(16)
        self.point = nn.Conv1d(16, 32, 1)
        self.depthwise = nn.Conv1d(32, 32, 3, groups=32, padding=1)
        self.up = nn.ConvTranspose1d(32, 8, 2)
        self.last = nn.Linear(8, 3)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.embedding(tokens) * self.scale).transpose(1, 2)
        out: torch.Tensor = self.last(self.up(self.depthwise(self.point(x))).mean(2))
        return out


def cut(model: nn.Module, inputs: torch.Tensor, ratio: Any) -> tuple[nn.Module, PruningPlan]:
    result = prunetune.prune(model, inputs, scorer="uniform", ratio=ratio)
    return result.model, result.plan


def by_parameter(model: nn.Module, groups: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    names = {id(p): name for name, p in model.named_parameters()}
    found = [(names[id(p)], (g["lr"], g["weight_decay"])) for g in groups for p in g["params"]]
    assert len(found) == len(dict(found)) == len(names)  # every parameter, once
    return dict(found)


# By hand, from table 3 of Tensor Programs V, for a quarter of the width; lr 1, weight decay 1.
QUARTER = {
    "sgd": {
        "first": (0.25, 4.0),
        "bias": (0.25, 4.0),
        "second": (1.0, 1.0),
        "last": (4.0, 0.25),
        "last.bias": (1.0, 1.0),
    },
    "adam": {
        "first": (1.0, 1.0),
        "bias": (1.0, 1.0),
        "second": (4.0, 0.25),
        "last": (4.0, 0.25),
        "last.bias": (1.0, 1.0),
    },
}


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_factors_of_a_quarter_of_the_width_are_those_of_the_papers_table(optimizer: Any) -> None:
    proxy, plan = cut(Mlp(), torch.zeros(2, 6), 0.25)
    groups = proxy_groups(plan, "mup", "redraw")(proxy, lr=1.0, weight_decay=1.0, optimizer=optimizer)
    table = QUARTER[optimizer]
    assert by_parameter(proxy, groups) == {
        "first.weight": table["first"],
        "first.bias": table["bias"],
        "second.weight": table["second"],
        "second.bias": table["bias"],
        "last.weight": table["last"],
        "last.bias": table["last.bias"],
    }
    assert len(groups) == len(set(table.values()))


def test_where_a_layer_narrows_more_than_the_next_its_learning_rate_is_out_over_in() -> None:
    proxy, plan = cut(Mlp(), torch.zeros(2, 6), {"first": 0.25, "second": 0.5})
    groups = proxy_groups(plan, "mup", "redraw")(proxy, lr=0.1, weight_decay=0.01, optimizer="sgd")
    found = by_parameter(proxy, groups)
    assert found["first.weight"] == pytest.approx((0.025, 0.04))
    assert found["second.weight"] == pytest.approx((0.2, 0.005))  # half as many outputs, a quarter of the inputs
    assert found["last.weight"] == pytest.approx((0.2, 0.005))


def test_what_shrinks_a_weight_in_a_step_is_the_same_at_every_width() -> None:
    for width in (Width(1.0, 0.3), Width(0.2, 0.7), Width(0.4, 1.0), Width()):
        for optimizer in ("sgd", "adam"):
            scale = transfers["mup"].scale(width, optimizer)  # type: ignore[arg-type]
            assert scale.lr * scale.weight_decay == pytest.approx(1.0)


def test_widths_of_embeddings_depthwise_and_transposed_convolutions_and_bare_parameters() -> None:
    proxy, plan = cut(Mixed(), torch.zeros(2, 5, dtype=torch.long), 0.5)
    found = widths(proxy, plan)
    inner = Width(0.5, 0.5)
    expected = dict.fromkeys(("scale", "norm.weight", "norm.bias"), Width(1.0, 0.5, "vector"))
    expected |= dict.fromkeys(("point.bias", "depthwise.bias", "up.bias"), Width(1.0, 0.5, "bias"))
    expected |= {"embedding.weight": Width(1.0, 0.5, "embedding"), "depthwise.weight": Width(1.0, 0.5, "depthwise")}
    expected |= {
        "point.weight": inner,
        "up.weight": inner,
        "last.weight": Width(0.5, 1.0),
        "last.bias": Width(kind="bias"),
    }
    assert dict(found) == expected


class Transposed(nn.Module):
    """Transposed convolutions in groups: of one channel each, and of four."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 1)
        self.depthwise = nn.ConvTranspose2d(16, 16, 2, groups=16)
        self.grouped = nn.ConvTranspose2d(16, 32, 2, groups=4)
        self.last = nn.Conv2d(32, 5, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.last(self.grouped(self.depthwise(self.first(images))))
        return out


def test_widths_of_grouped_transposed_convolutions() -> None:
    """By hand: depthwise, each output sees one input before and after; in four groups, two inputs instead of four."""
    proxy, plan = cut(Transposed(), torch.zeros(2, 3, 4, 4), 0.5)
    assert tuple(proxy.get_parameter("depthwise.weight").shape) == (8, 1, 2, 2)
    assert tuple(proxy.get_parameter("grouped.weight").shape) == (8, 4, 2, 2)
    found = widths(proxy, plan)
    assert found["depthwise.weight"] == Width(1.0, 0.5, "depthwise")
    assert found["grouped.weight"] == Width(0.5, 0.5)
    assert [name for name, width in found.items() if width.is_readout] == ["last.weight"]


class Multiplied(nn.Module):
    """A network whose output is divided by its width, which is microsoft/mup's ``MuReadout``."""

    def __init__(self, model: nn.Module, width: float) -> None:
        super().__init__()
        self.model, self.width = model, width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, second, last = (self.model.get_submodule(name) for name in ("first", "second", "last"))
        hidden = second(first(x).relu()).relu()
        weight, bias = last.get_parameter("weight"), last.get_parameter("bias")
        return nn.functional.linear(hidden / self.width, weight, bias)


def microsofts_groups(model: nn.Module, width: float, optimizer: str, lr: float, decay: float) -> list[dict[str, Any]]:
    """What ``MuSGD`` and ``MuAdam`` of microsoft/mup make of a uniform width, from their rules by infinite dimensions.

    Two (matrix-like): SGD lr * fan_out / fan_in, here 1; Adam lr / width. One (vector-like, the readout's weight too):
    SGD lr * width; Adam lr. None (the readout's bias): lr. Weight decay goes the other way.
    """
    groups = []
    for name, parameter in model.named_parameters():
        infinite = {"model.second.weight": 2, "model.last.bias": 0}.get(name, 1)
        by = {2: 1.0, 1: width, 0: 1.0} if optimizer == "sgd" else {2: 1 / width, 1: 1.0, 0: 1.0}
        groups.append({"params": [parameter], "lr": lr * by[infinite], "weight_decay": decay / by[infinite]})
    return groups


@pytest.mark.parametrize("width", [0.5, 0.125])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_the_network_is_trained_as_microsofts_mup_would(optimizer: Any, width: float) -> None:
    """Step by step the same outputs: their readout is multiplied, and its initial weights by sqrt(width), ours not."""
    torch.manual_seed(1)
    proxy, plan = cut(Mlp(), torch.zeros(2, 6), width)
    theirs = Multiplied(copy.deepcopy(proxy), width).double()
    ours = proxy.double()
    with torch.no_grad():
        theirs.get_parameter("model.last.weight").mul_(math.sqrt(width))
    lr, decay = (0.3, 0.05) if optimizer == "sgd" else (0.01, 0.3)
    groups = proxy_groups(plan, "mup", "redraw")(ours, lr=lr, weight_decay=decay, optimizer=optimizer)
    their_groups = microsofts_groups(theirs, width, optimizer, lr, decay)
    inputs, targets = torch.randn(32, 6, dtype=torch.float64), torch.randint(3, (32,))
    curves = []
    for model, members in ((ours, groups), (theirs, their_groups)):
        stepper: torch.optim.Optimizer = (
            torch.optim.SGD(members, momentum=0.9) if optimizer == "sgd" else torch.optim.AdamW(members, eps=1e-30)
        )
        curve = []
        for _ in range(6):
            out = model(inputs)
            curve.append(out.detach())
            stepper.zero_grad()
            nn.functional.cross_entropy(out, targets).backward()
            stepper.step()
        curves.append(torch.stack(curve))
    assert (curves[0][-1] - curves[0][0]).abs().mean() > 0.1  # it learns, so that there is something to compare
    torch.testing.assert_close(curves[0], curves[1], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("weights", ["redraw", "reset", "sliced"])
def test_the_readout_begins_larger_once_and_only_if_somebody_asks(weights: Any) -> None:
    _, plan = cut(Mlp(), torch.zeros(2, 6), 0.25)
    torch.manual_seed(3)
    before = fresh_proxy(Mlp, plan, weights=weights).last.weight.detach().clone()  # type: ignore[union-attr]
    torch.manual_seed(3)
    proxy = fresh_proxy(Mlp, plan, weights=weights)
    ask = proxy_groups(plan, "mup", weights)
    assert torch.equal(proxy.get_parameter("last.weight"), before)
    for _ in range(2):
        ask(proxy, lr=0.1, weight_decay=0.0, optimizer="sgd")
    factor = 1.0 if weights == "sliced" else 2.0  # 1 / sqrt(1/4)
    torch.testing.assert_close(proxy.get_parameter("last.weight").detach(), before * factor)


def step_of(model: nn.Module, groups: list[dict[str, Any]], optimizer: str) -> float:
    """How far the output moves in the second step, by mean absolute value: in the first the readout hides the rest."""
    generator = torch.Generator().manual_seed(5)
    inputs = torch.randn(32, 6, generator=generator, dtype=torch.float64)
    targets = torch.randint(3, (32,), generator=generator)
    stepper = {"sgd": torch.optim.SGD, "adam": torch.optim.AdamW}[optimizer](groups)
    outputs = []
    for _ in range(3):
        out = model(inputs)
        outputs.append(out.detach())
        stepper.zero_grad()
        nn.functional.cross_entropy(out, targets).backward()
        stepper.step()
    return (outputs[2] - outputs[1]).abs().mean().item()


@pytest.mark.parametrize(("optimizer", "lr"), [("sgd", 0.3), ("adam", 3e-3)])
def test_a_step_moves_the_output_as_far_at_every_width_with_mup_and_not_without(optimizer: Any, lr: float) -> None:
    """The coordinate check of Tensor Programs V, appendix D.1: slopes over the width, in logarithms."""
    shares = (1.0, 0.5, 0.25, 0.125)
    slopes = {}
    for rule in ("mup", "identity"):
        moves = []
        for share in shares:
            _, plan = cut(Mlp(512, bias=False), torch.zeros(2, 6), share)
            total = 0.0
            for seed in range(6):
                torch.manual_seed(seed)
                proxy = fresh_proxy(lambda: Mlp(512, bias=False), plan).double()
                groups = proxy_groups(plan, rule, "redraw")(proxy, lr=lr, weight_decay=0.0, optimizer=optimizer)
                total += step_of(proxy, groups, optimizer)
            moves.append(total)
        logs = torch.tensor([[math.log(s), 1.0] for s in shares], dtype=torch.float64)
        slopes[rule] = torch.linalg.lstsq(logs, torch.tensor(moves, dtype=torch.float64).log()).solution[0].item()
    assert abs(slopes["mup"]) < 0.15
    assert abs(slopes["identity"]) > 0.4


def test_a_plan_that_cuts_nothing_and_the_full_network_get_what_was_said() -> None:
    model = Mlp()
    nothing = proxy_groups(PruningPlan({}, {}), "mup", "redraw")(model, lr=0.1, weight_decay=0.01, optimizer="sgd")
    plain = plain_groups(model, lr=0.1, weight_decay=0.01, optimizer="sgd")
    assert by_parameter(model, nothing) == by_parameter(model, plain)
    assert len(nothing) == len(plain) == 1


def test_frozen_parameters_are_left_out_and_wrapped_models_are_known() -> None:
    proxy, plan = cut(Mlp(), torch.zeros(2, 6), 0.25)
    proxy.get_parameter("first.weight").requires_grad_(False)
    groups = proxy_groups(plan, "mup", "redraw")(
        torch.compile(nn.DataParallel(proxy)), lr=1.0, weight_decay=0.0, optimizer="sgd"
    )
    trained = {id(p) for g in groups for p in g["params"]}
    assert trained == {id(p) for n, p in proxy.named_parameters() if n != "first.weight"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": -0.1}, "param_groups: lr is -0.1, but it must not be negative"),
        ({"weight_decay": -1}, "param_groups: weight_decay is -1, but it must not be negative"),
        ({"lr": "much"}, "param_groups: lr must be one number, not 'much'"),
        ({"optimizer": "adm"}, "unknown kind of optimizer 'adm' (did you mean 'adam'?)"),
        ({"model": Mlp()}, "param_groups needs the proxy that the train function was given; this Mlp has first"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(change: dict[str, Any], message: str) -> None:
    proxy, plan = cut(Mlp(), torch.zeros(2, 6), 0.25)
    asked = {"model": proxy, "lr": 0.1, "weight_decay": 0.0, "optimizer": "sgd", **change}
    with pytest.raises(InputError) as caught:
        proxy_groups(plan, "mup", "redraw")(asked.pop("model"), **asked)
    assert message in str(caught.value)


def tune_with(train: Any, transfer: str, folder: Any, **options: Any) -> Any:
    return prunetune.tune(
        Mlp,
        train,
        {"lr": prunetune.Float(0.05, 0.1)},
        example_inputs=torch.zeros(2, 6),
        epochs=1,
        run_dir=folder,
        pruning=prunetune.Pruning(scorer="uniform", ratio=0.25, transfer=transfer),
        search=prunetune.Search(direction="maximize", n_trials=options.pop("n_trials", 1), confirm=1),
        **options,
    )


def page_of(result: Any) -> str:
    return html.unescape((result.run_dir / "report.html").read_text())


def test_a_search_corrects_the_proxy_and_leaves_the_full_network(tmp_path: Any) -> None:
    seen = []

    def train(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        groups = report.param_groups(model, lr=params["lr"])
        rates = {name: rate / params["lr"] for name, (rate, _) in by_parameter(model, groups).items()}
        seen.append((model.get_parameter("first.weight").shape[0], rates["first.weight"], rates["last.weight"]))
        touch(model)
        return 0.5

    result = tune_with(train, "mup", tmp_path / "run")
    assert seen == [(16, pytest.approx(0.25), pytest.approx(4.0)), (64, 1.0, 1.0)]
    assert result.record["search"]["notes"][-1].startswith("transfer 'mup': learning rates on the proxy were corrected")
    assert result.record["search"]["param_groups"] == 1
    assert "<p>Transfer 'mup': learning rates on the proxy were corrected for its width.</p>" in page_of(result)


def never_asks(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    touch(model)
    return 0.5


def test_a_train_function_that_never_asks_is_told_so_once(tmp_path: Any) -> None:
    events: list[Event] = []
    result = tune_with(never_asks, "mup", tmp_path / "run", n_trials=3, observer=events.append)
    (notice,) = [each.message for each in events if isinstance(each, Notice) and "transfer" in each.message]
    assert notice.startswith("warning: transfer='mup' asked for, but the train function never called report.param_g")
    notes = [note for note in result.record["search"]["notes"] if note.startswith("transfer")]
    assert "transfer 'mup' had no effect: the train function never called" in notes[-1]
    assert "<p>Transfer 'mup' had no effect: the train function never called" in page_of(result)
    events.clear()
    result = tune_with(never_asks, "identity", tmp_path / "other", observer=events.append)
    assert not any(isinstance(event, Notice) and "transfer" in event.message for event in events)
    notes = [note for note in result.record["search"]["notes"] if note.startswith("transfer")]
    assert notes[-1].startswith("transfer 'identity': proxy and full network got the same")


def test_trials_that_did_not_ask_are_counted(tmp_path: Any) -> None:
    calls = iter(range(9))

    def train(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        if next(calls) != 1:
            report.param_groups(model, lr=params["lr"])
        return 0.5

    result = tune_with(train, "mup", tmp_path / "run", n_trials=3)
    assert result.record["search"]["param_groups"] == 2
    assert result.record["search"]["notes"][-1].endswith(
        "for its width in 2 of 3 trials; the others never asked for it"
    )

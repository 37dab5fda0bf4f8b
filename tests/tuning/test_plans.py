"""Networks of several shapes in one search: a plan each, made before anything is trained, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import prunetune
from prunetune import Categorical, Float, Int, Ladder, Rung, SearchSpace
from prunetune.backends.study.loop import Report
from prunetune.engine import PruningPlan, apply
from prunetune.errors import InputError, PlanError
from prunetune.tuning.architecture import Architecture, network_of
from prunetune.tuning.plans import Plans, plans_of
from prunetune.tuning.problem import Problem
from tiny_tune import touch

INPUTS = torch.randn(8, 6)
SPACE = SearchSpace({"lr": Float(0.01, 1, log=True), "width": Int(8, 24, step=8), "norm": Categorical([True, False])})
LADDER = Ladder(Rung(width=1 / 2, trials=12, keep=3), Rung(width=3 / 4, keep=1), Rung())


def build(params: dict[str, Any]) -> nn.Module:
    layers = [nn.Linear(6, params["width"])]
    if params["norm"]:
        layers.append(nn.BatchNorm1d(params["width"]))
    return nn.Sequential(*layers, nn.ReLU(), nn.Linear(params["width"], 2))


class Train:
    """Notes the hyperparameters, and what width the model had that came with them."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, bool, int]] = []

    def __call__(self, model: nn.Module, params: dict[str, Any], report: Report) -> float:
        touch(model)
        assert isinstance(model, nn.Sequential)
        model(INPUTS)
        groups = report.param_groups(model, lr=params["lr"])
        assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
        assert isinstance(model[1], nn.BatchNorm1d) == params["norm"]
        self.seen.append((params["width"], params["norm"], model[0].out_features))
        report(params["lr"], 1)
        return float(params["lr"])


def tune(run_dir: Path, train: Any, model_fn: Any = build, **options: Any) -> prunetune.TuneResult:
    given = {"ladder": LADDER, "search": prunetune.Search(direction="maximize"), "observer": prunetune.silent}
    options = {"example_inputs": INPUTS, "epochs": 1, **given, **options}
    return prunetune.tune(model_fn, train, options.pop("space", SPACE), run_dir=run_dir, **options)


def test_every_network_is_cut_by_its_own_plan_on_every_rung(tmp_path: Path) -> None:
    train = Train()
    result = tune(tmp_path / "run", train)
    assert [after / before for before, _, after in train.seen] == [1 / 2] * 12 + [3 / 4] * 3 + [1]
    assert {norm for _, norm, _ in train.seen} == {True, False}
    assert len({width for width, _, _ in train.seen}) > 1
    winner = build(result.params)
    result.load_weights(winner)
    assert train.seen[-1] == (result.params["width"], result.params["norm"], result.params["width"])
    again = prunetune.retrain(tmp_path / "run", build, train)
    assert again.score == result.score


def test_the_plans_are_made_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ladder, train = Ladder(Rung(width=1 / 2, trials=5, keep=1), Rung()), Train()

    def stopped(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        if len(train.seen) == 3:
            raise KeyboardInterrupt
        return train(model, params, report)

    with pytest.raises(KeyboardInterrupt):
        tune(tmp_path / "run", stopped, ladder=ladder)
    kept = Plans.from_json((tmp_path / "run" / "plan-0.5.json").read_text(encoding="utf-8"))
    assert kept.names == ("width", "norm")
    for key, plan in kept.by_values.items():
        width, norm = json.loads(key)
        cut = apply(plan, build({"width": width, "norm": norm}))
        assert isinstance(cut, nn.Sequential)
        assert cut[0].out_features == width / 2
    assert len(kept.by_values) == 6
    monkeypatch.setattr("prunetune.tuning.survey.prune", None)  # nothing is cut anew
    tune(tmp_path / "run", train, ladder=ladder, resume="anyway")
    assert [after / width for width, _, after in train.seen] == [1 / 2] * 5 + [1]


def test_a_worker_cuts_by_the_same_plans(tmp_path: Path) -> None:
    url, train = f"journal:///{tmp_path}/search.log", Train()
    tune(tmp_path / "run", train, search=prunetune.Search(direction="maximize", storage=url, study="mine"))
    assert prunetune.work(build, train, url) == 0


def test_it_says_how_many_plans_there_are(tmp_path: Path) -> None:
    said: list[str] = []
    tune(tmp_path / "run", Train(), observer=lambda event: said.append(str(getattr(event, "message", ""))))
    wanted = (
        "width and norm: other values make other shapes, so there are 6 networks, each cut by a plan of its own. Costs "
        "are of the one with width 16, norm True"
    )
    assert wanted in said


def test_a_check_and_a_comparison_have_them_too(tmp_path: Path) -> None:
    train = Train()
    search = prunetune.Search(direction="maximize")
    prunetune.check(
        build, train, SPACE, example_inputs=INPUTS, epochs=1, run_dir=tmp_path / "check", search=search,
        rung=Rung(width=1 / 2), configurations=4, observer=prunetune.silent,
    )  # fmt: skip
    assert {after / width for width, _, after in train.seen} == {1 / 2, 1.0}
    train.seen.clear()
    ways = prunetune.Comparison(sizes=(0.5,), rivals=(), configurations=4, seeds=1)
    prunetune.compare(
        build, train, SPACE, example_inputs=INPUTS, epochs=1, comparison=ways, run_dir=tmp_path / "compare",
        direction="maximize", observer=prunetune.silent,
    )  # fmt: skip
    assert any(after < width for width, _, after in train.seen)


class Heads(nn.Module):
    """Attention with so many heads: the weights have the same shapes whatever their number."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.before, self.attention, self.out = nn.Linear(6, 16), nn.MultiheadAttention(16, heads), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.before(x).unsqueeze(0)
        out: torch.Tensor = self.out(self.attention(x, x, x, need_weights=False)[0].squeeze(0))
        return out


def test_a_number_of_heads_is_a_shape() -> None:
    def halved(model_fn: Any) -> dict[str, PruningPlan]:
        return {"w": prunetune.prune(model_fn(), INPUTS, ratio=0.5, scorer="uniform").plan}

    usual = halved(lambda: Heads(2))
    assert usual["w"].attributes  # the width of a head
    build_heads = network_of(lambda params: Heads(params["heads"]), SearchSpace({"heads": Categorical([2, 4])}))
    found = plans_of(build_heads, usual, halved, 0)["w"]
    assert found.names == ("heads",)
    for heads in (2, 4):
        cut = apply(found.of({"heads": heads}), Heads(heads))
        assert isinstance(cut, Heads)
        assert cut.attention.num_heads * cut.attention.head_dim == cut.attention.embed_dim < 16
        cut(INPUTS)


class Delayed(nn.Module):
    """Counts the calls; what it counts to is a hyperparameter that has nothing to do with its shape."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls, self.layers = calls, build({"width": 8, "norm": False})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


def test_a_number_of_many_values_that_resizes_nothing_is_none(tmp_path: Path) -> None:
    space = {"lr": Float(0.1, 1), "calls": Int(1, 10**12)}
    seen = []

    def train(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        touch(model)
        seen.append(model.calls == params["calls"])
        report(params["lr"], 1)
        return float(params["lr"])

    tune(tmp_path / "run", train, lambda params: Delayed(params["calls"]), space=space)
    assert all(seen)


def by_both(params: dict[str, Any]) -> nn.Module:
    deep = params["a"] == "y" and params["b"] == "y"
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), *([nn.Linear(8, 8)] if deep else []), nn.Linear(8, 2))


@pytest.mark.parametrize(
    ("space", "model_fn", "said"),
    [
        ({"width": Int(8, 128)}, None, r"width: 121 networks of different shapes.*at most 64.*Int\(32, 128, step=32\)"),
        (
            {"width": Float(8, 16)},
            lambda params: nn.Sequential(nn.Linear(6, int(params["width"])), nn.Linear(int(params["width"]), 2)),
            r"width changes the network's shapes, and Float.* has endlessly many values.*Int\(32, 128",
        ),
        (
            {"a": Categorical(["x", "y"]), "b": Categorical(["x", "y"])},
            by_both,
            r"other shapes for .*'y', 'b': 'y'\} than for .*'x', 'b': 'x'\}: 2.weight is \(8, 8\) and not \(2, 8\)",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_at_the_start(tmp_path: Path, space: Any, model_fn: Any, said: str) -> None:
    train = Train()
    with pytest.raises(InputError, match=said):
        tune(
            tmp_path / "run",
            train,
            model_fn or (lambda params: build({**params, "norm": False})),
            space={"lr": Float(0.1, 1), **space},
        )
    assert train.seen == []


def test_pretrained_networks_of_several_shapes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is for one pretrained network, and other values of width, norm make"):
        tune(tmp_path / "run", Train(), pruning=prunetune.Pruning(weights="recovered"))


def test_an_own_search_has_one_plan() -> None:
    with pytest.raises(InputError, match="other values of width and norm, and here all proxies are cut by one plan"):
        prunetune.proxy_objective(
            build, Train(), SPACE, example_inputs=INPUTS, epochs=1, rung=Rung(width=1 / 2), direction="maximize"
        )


def test_a_search_on_the_full_network_alone_needs_no_plans(tmp_path: Path) -> None:
    train = Train()
    space = {"lr": Float(0.1, 1), "width": Int(8, 128), "norm": Categorical([True, False])}
    tune(tmp_path / "run", train, space=space, ladder=Ladder(Rung(trials=3)))
    assert [before for before, _, _ in train.seen] == [after for _, _, after in train.seen]


def test_plans_as_text() -> None:
    plan = prunetune.prune(build({"width": 8, "norm": True}), INPUTS, ratio=0.5).plan
    assert Plans.from_json(Plans.one(plan).to_json()) == Plans.one(plan)
    assert PruningPlan.from_json(Plans.one(plan).to_json()) == plan  # as it always was
    both = Plans(("width",), {"[8]": plan, "[16]": PruningPlan({}, {})})
    assert Plans.from_json(both.to_json()) == both
    assert both.usual == plan
    assert both.of({"width": 16, "lr": 0.1}) == PruningPlan({}, {})
    assert Plans.from_json(json.dumps({"plan": plan.to_json()})) == Plans.one(plan)  # of `check`, before


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"plans": {}}', '{"plans": 3, "names": ["a"]}', '{"plan": 1}', "[" * 9999]
)
def test_damaged_plans_are_one_sentence(text: str) -> None:
    with pytest.raises(PlanError):
        Plans.from_json(text)


def test_steps_are_the_same_however_they_were_added_up() -> None:
    plan = PruningPlan({}, {})
    assert Plans(("x",), {"[0.3]": plan}).of({"x": 0.1 + 0.2}) == plan


def test_a_network_in_the_middle_is_the_usual_one() -> None:
    problem = Problem.of(
        build, Train(), SPACE, example_inputs=INPUTS, epochs=1, direction="maximize", seed=0
    )  # fmt: skip
    assert isinstance(problem.model_fn, Architecture)
    plans = problem.plans(prunetune.Pruning(ratio=0.5))
    assert plans.usual == plans.of({"width": 16, "norm": True})


def test_a_winner_is_not_looked_for_where_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no run in .*nowhere: there is no such folder"):
        prunetune.retrain(tmp_path / "nowhere", build, Train())
    assert not (tmp_path / "nowhere").exists()


def test_a_comparison_refuses_it_before_anything_is_trained(tmp_path: Path) -> None:
    train = Train()
    space = {"lr": Float(0.1, 1), "width": Int(8, 128), "norm": Categorical([True])}
    with pytest.raises(InputError, match="width: 121 networks of different shapes"):
        prunetune.compare(
            build, train, space, example_inputs=INPUTS, epochs=1, run_dir=tmp_path / "compare", direction="maximize",
            comparison=prunetune.Comparison(sizes=(0.5,), rivals=(), configurations=4, seeds=1),
            observer=prunetune.silent,
        )  # fmt: skip
    assert train.seen == []

"""A search on a pretrained network trains proxies whose weights make up for what was cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import prunetune
from prunetune import Float, Ladder, Report, Rung, Search
from prunetune.engine import PruningPlan, apply, fresh_proxy, recover
from prunetune.errors import InputError
from prunetune.events import Event, Notice, Warned
from prunetune.tuning.order import Order

torch.manual_seed(1)
INPUTS = torch.randn(64, 6)
BODY = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
SPACE = {"lr": Float(1e-3, 1e-1, log=True)}
LADDER = Ladder(Rung(width=1 / 2, trials=2, keep=1), Rung())
SEARCH = Search(direction="maximize", optimizer="random", trial_pruner="none")


def pretrained() -> nn.Module:
    """The same body at each call, as from a checkpoint, and a new head."""
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
    model.load_state_dict(BODY.state_dict())
    return model.append(nn.Linear(16, 2))


class Train:
    """Notes what it was given."""

    def __init__(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []

    def __call__(self, model: nn.Module, params: dict[str, Any], report: Report) -> float:
        self.seen.append({name: each.detach().clone() for name, each in model.named_parameters()})
        report(params["lr"], 1)
        return float(params["lr"])


def tuned(folder: Path, train: Train, **options: Any) -> list[Event]:
    events: list[Event] = []
    asked = {"pruning": prunetune.Pruning(), "ladder": LADDER, **options}
    prunetune.tune(
        pretrained, train, SPACE, example_inputs=INPUTS, epochs=1, run_dir=folder, search=SEARCH,
        observer=events.append, **asked,
    )  # fmt: skip
    return events


def test_proxies_begin_with_recovered_weights_and_a_new_head(tmp_path: Path) -> None:
    train = Train()
    events = tuned(tmp_path, train)
    first, second, full = train.seen
    plan = PruningPlan.from_json(next(tmp_path.glob("plan-*.json")).read_text())
    torch.manual_seed(0)
    asked = recover(pretrained(), plan, INPUTS).tensors
    for name in ("0.weight", "0.bias", "2.weight", "2.bias"):
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], asked[name], rtol=1e-4, atol=1e-5)
    assert not torch.equal(first["2.weight"], dict(apply(plan, pretrained()).named_parameters())["2.weight"])
    assert not torch.equal(first["4.weight"], second["4.weight"])  # the head is drawn for each training
    assert torch.equal(full["2.weight"], BODY[2].weight)
    told = [event.message for event in events if isinstance(event, Notice)]
    assert sum("adapted to what is cut (weights='recovered')" in each for each in told) == 1
    assert sum("of what the full network computes" in each for each in told) == 1
    assert not any(isinstance(event, Warned) and "pretrained" in event.message for event in events)


def test_it_is_done_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stopped(Train):
        def __call__(self, model: nn.Module, params: dict[str, Any], report: Report) -> float:
            if len(self.seen) == 1:
                raise KeyboardInterrupt
            return super().__call__(model, params, report)

    first, again = Stopped(), Train()
    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path, first)
    monkeypatch.setattr("prunetune.tuning.recovered.recover", None)  # not called again
    tuned(tmp_path, again, resume="anyway")
    assert torch.equal(again.seen[0]["2.weight"], first.seen[0]["2.weight"])


def test_a_run_that_was_begun_with_redrawn_weights_goes_on_with_them(tmp_path: Path) -> None:
    class Stopped(Train):
        def __call__(self, model: nn.Module, params: dict[str, Any], report: Report) -> float:
            if len(self.seen) == 1:
                raise KeyboardInterrupt
            return super().__call__(model, params, report)

    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path, Stopped(), pruning=prunetune.Pruning(weights="redraw"))
    events = tuned(tmp_path, Train(), resume="anyway")
    told = [event.message for event in events if isinstance(event, Notice)]
    assert "the run goes on with weights 'redraw', the default when it was started" in told
    assert not list(tmp_path.glob("recovered-*"))


def test_a_worker_reads_them_in_the_runs_folder_or_says_why_not(tmp_path: Path) -> None:
    train = Train()
    tuned(tmp_path, train)
    plan = next(tmp_path.glob("plan-*.json")).read_text()
    order = Order(2, "recovered", plan, "norm-aware")
    objective = order.objective(pretrained, train, folder=tmp_path)
    assert objective.recovered is not None
    assert torch.equal(objective.recovered["2.weight"], train.seen[0]["2.weight"])
    with pytest.raises(InputError, match="this process does not reach that"):
        order.objective(pretrained, train)


def test_what_was_asked_for_is_done_with_a_warning(tmp_path: Path) -> None:
    train = Train()
    events = tuned(tmp_path, train, pruning=prunetune.Pruning(weights="redraw"))
    (said,) = [event.message for event in events if isinstance(event, Warned) and "pretrained" in event.message]
    assert "leave weights out" in said
    assert not list(tmp_path.glob("recovered-*"))


def test_inputs_that_say_nothing_are_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="give real inputs, some hundred of them, as example_inputs"):
        prunetune.tune(
            pretrained, Train(), SPACE, example_inputs=torch.zeros(8, 6), epochs=1, run_dir=tmp_path, search=SEARCH,
            ladder=LADDER, observer=lambda event: None,
        )  # fmt: skip


def test_a_network_that_is_drawn_at_each_call_has_nothing_to_recover(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="model_fn returns other weights at each call; leave weights out"):
        prunetune.tune(
            lambda: nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 2)), Train(), SPACE, ladder=LADDER,
            example_inputs=INPUTS, epochs=1, run_dir=tmp_path, search=SEARCH, observer=lambda event: None,
            pruning=prunetune.Pruning(weights="recovered"),
        )  # fmt: skip


def test_proxies_for_a_search_of_ones_own() -> None:
    build = prunetune.proxy_of(pretrained, INPUTS, prunetune.Pruning(scorer="magnitude", ratio=0.5))
    first, second = dict(build().named_parameters()), dict(build().named_parameters())
    assert torch.equal(first["2.weight"], second["2.weight"])
    assert not torch.equal(first["4.weight"], second["4.weight"])
    asked = recover(pretrained(), build.plan, INPUTS).tensors["2.weight"]
    torch.testing.assert_close(first["2.weight"].detach(), asked, rtol=1e-4, atol=1e-5)


def test_without_them_there_are_none() -> None:
    with pytest.raises(InputError, match=r"needs the parameters that prunetune\.engine\.recover finds"):
        fresh_proxy(pretrained, PruningPlan({}, {}), weights="recovered")

"""The whole job on a network so small that a trial takes milliseconds: what is written, and what is refused."""

from __future__ import annotations

import gc
import json
import math
import random
import types
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import prunetune
import prunetune.engine
import prunetune.report
import prunetune.tuning.objective
from prunetune.backends.study.trial import Report
from prunetune.errors import InputError, SearchError, TraceError
from prunetune.events import Event, PhaseEnded, PhaseStarted, TrialEnded, silent
from prunetune.tuning.tuner import Pruning, Search, tune
from tiny_tune import (
    HALF,
    INPUTS,
    SMALL,
    SPACE,
    make_quick,
    net,
    never,
    read_record,
    tiny_tune,
    train,
    width,
    write_no_report,
)

pytestmark = pytest.mark.filterwarnings("error:the train function left the model")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """What other tests are about is left out."""
    if request.function not in (test_a_users_own_network_with_defaults, test_trials_on_a_proxy_are_stopped_by_asha):
        make_quick(monkeypatch)


def test_the_best_on_the_proxy_are_confirmed_and_the_best_of_those_wins(tmp_path: Path) -> None:
    result = tiny_tune(tmp_path, evaluate=lambda model: {"lr": next(model.parameters())[0, 0].item(), "bad": math.nan})
    record = read_record(tmp_path)
    assert record == result.record
    assert record["status"] == "finished"
    assert not result.already_finished

    search, confirmation = record["search"], record["confirmation"]
    assert search["trials"] == {"complete": 4, "pruned": 0, "diverged": 0, "failed": 0, "interrupted": 0}
    assert search["epochs"] == 8
    assert search["best"]["score"] == search["best"]["params"]["lr"] + 8  # the proxy is 8 wide
    assert [entry["outcome"] for entry in confirmation] == ["complete", "complete"]
    first, second = (entry["params"]["lr"] for entry in confirmation)
    assert first == search["best"]["params"]["lr"] > second
    assert [entry["proxy_score"] for entry in confirmation] == [first + 8, second + 8]
    assert [entry["base_score"] for entry in confirmation] == [first + 16, second + 16]
    assert confirmation[0]["seed"] != confirmation[1]["seed"]

    won = {"trial": search["best"]["trial"], "params": result.params, "score": first + 16}
    assert record["winner"] == {**won, "seed": confirmation[0]["seed"]}
    assert (result.params["lr"], result.score) == (first, first + 16)
    assert json.loads((tmp_path / "best.json").read_text()) == {"format": 1, "network": "base", **record["winner"]}
    assert record["test"] == {"lr": pytest.approx(first), "bad": None}


def test_the_winners_weights_are_those_after_training(tmp_path: Path) -> None:
    result = tiny_tune(tmp_path)
    assert {float(tensor.min()) for tensor in load_file(result.weights).values()} == {np.float32(result.params["lr"])}
    model = net()
    result.load_weights(model)
    assert all((parameter == result.params["lr"]).all() for parameter in model.parameters())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.json",
        "fingerprint.json",
        "plan-proxy.json",
        "plan.json",
        "report.html",
        "result.json",
        "run.json",
        "run.lock",
        "study.log",
        "weights.safetensors",
    ]


def test_the_record_says_what_was_asked_cut_and_spent(tmp_path: Path) -> None:
    record = tiny_tune(tmp_path, seed=5).record
    asked = {name: record[name] for name in ("format", "seed", "epochs", "n_trials", "confirm", "optimizer")}
    assert asked == {"format": 1, "seed": 5, "epochs": 2, "n_trials": 4, "confirm": 2, "optimizer": "random"}
    assert (record["trial_pruner"], record["direction"], record["space"]) == ("none", "maximize", SPACE.to_dict())
    pruning = record["pruning"]
    assert [pruning[name] for name in ("scorer", "percentile", "floor", "ratio")] == ["magnitude", None, None, 0.5]
    assert pruning["layers"] == [
        {"name": "0.weight", "before": [16, 6], "after": [8, 6]},
        {"name": "2.weight", "before": [16, 16], "after": [8, 8]},
        {"name": "4.weight", "before": [2, 16], "after": [2, 8]},
    ]
    assert [(group["before"], group["after"]) for group in pruning["groups"]] == [(16, 8), (16, 8)]
    # base: 6*16+16 + 16*16+16 + 16*2+2 parameters, 2*2*(6*16 + 16*16 + 16*2) FLOPs for a batch of two
    assert record["cost"]["base"] == {"parameters": 418, "flops": 1536, "step_seconds": 0.5}
    assert record["cost"]["proxy"] == {"parameters": 146, "flops": 512, "step_seconds": 0.5}
    assert set(record["versions"]) == {"prunetune", "torch", "optuna", "python"}
    assert record["machine"]["device"] == "cpu"
    assert record["machine"]["cores"] >= 1
    time = record["time"]
    phases = [time[name] for name in ("prune", "measure", "search", "confirm")]
    assert all(seconds >= 0 for seconds in phases)
    assert sum(phases) <= time["total"] < sum(phases) + 1
    assert 0 < record["search"]["seconds"] < time["search"]


def test_the_paper_percentile_is_recorded_where_nothing_else_was_asked(tmp_path: Path) -> None:
    record = tiny_tune(tmp_path, pruning=Pruning(scorer="magnitude", floor=0.5)).record
    assert (record["pruning"]["percentile"], record["pruning"]["floor"]) == (85.0, 0.5)


def test_the_estimate_is_the_customary_search_at_the_pace_of_the_full_trainings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that only training moves: 0.5 s on the proxy; on the full network 2.5 s, and 9 s where it diverges.

    Hyperband has one rung in a training of two epochs, after the first. The n-th trial to come to it goes on if it is
    among the best third of n, or the best of all.
    """
    now = [0.0]
    monkeypatch.setattr(prunetune.tuning.objective, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))

    def timed(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        diverges = width(model) == 16 and report.number == 0
        now[0] += 9.0 if diverges else 2.5 if width(model) == 16 else 0.5
        return math.inf if diverges else train(model, params, report)

    record = tiny_tune(tmp_path, train=timed).record
    go_on = sum(max(1, n // 3) / n for n in range(1, 51))
    trainings = (50 + go_on) / 2 + 1  # each half is an epoch, and the winner is trained again
    assert record["ladder"]["customary"] == pytest.approx(trainings)
    assert record["time"]["search_on_base_estimate"] == pytest.approx(2.5 * trainings)
    assert record["time"]["estimate_basis"].startswith("an estimate: about 34.3 full trainings of 2.5 s, which 50 ")


def test_minimizing_takes_the_smallest(tmp_path: Path) -> None:
    search = Search(n_trials=4, confirm=2, optimizer="random", trial_pruner="none", direction="minimize")
    record = tiny_tune(tmp_path, search=search).record
    scores = [entry["base_score"] for entry in record["confirmation"]]
    assert record["winner"]["score"] == min(scores) == scores[0]


def test_without_confirmation_the_proxys_best_is_trained_once(tmp_path: Path) -> None:
    events: list[Event] = []
    search = Search(direction="maximize", n_trials=3, confirm=0, optimizer="random", trial_pruner="none")
    record = tiny_tune(tmp_path, search=search, observer=events.append).record
    assert [entry["trial"] for entry in record["confirmation"]] == [record["search"]["best"]["trial"]]
    assert record["winner"]["score"] == record["search"]["best"]["score"] + 8
    started = [event.phase for event in events if isinstance(event, PhaseStarted)]
    assert started == ["prune", "search", "train", "report"]


def test_every_trial_starts_from_fresh_seeded_weights(tmp_path: Path) -> None:
    def runs(folder: Path) -> list[tuple[float, ...]]:
        seen: list[tuple[float, ...]] = []

        def look(model: nn.Module, params: dict[str, Any], report: Report) -> float:
            draws = (torch.rand(()).item(), float(np.random.rand()), random.random())
            seen.append((model.get_parameter("0.weight")[0, 0].item(), *draws))
            return train(model, params, report)

        tiny_tune(folder, train=look)
        return seen

    first = runs(tmp_path / "a")
    assert len(first) == 6
    for column in zip(*first, strict=True):
        assert len(set(column)) == 6
    assert runs(tmp_path / "b") == first


def test_a_trials_network_is_freed_before_the_next(tmp_path: Path) -> None:
    alive: list[weakref.ref[nn.Module]] = []

    def watch(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        assert [ref() for ref in alive] == [None] * len(alive)
        alive.append(weakref.ref(model))
        optimizer = torch.optim.SGD(model.parameters(), lr=params["lr"], momentum=0.9)
        model(torch.ones(2, 6)).sum().backward()
        optimizer.step()
        if report.number == 1:
            raise ValueError("with a traceback that holds this frame")
        if report.number == 2:
            report(math.nan, 1)
        return train(model, params, report)

    torch.optim.SGD(net().parameters(), lr=0.1)  # the first one imports a lot, which keeps its caller's frames
    gc.disable()
    try:
        tiny_tune(tmp_path, train=watch)
    finally:
        gc.enable()
    assert len(alive) == 6


# What goes wrong


def test_a_search_without_any_score_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SearchError, match="no training on the first rung came to a score; 4 diverged"):
        tiny_tune(tmp_path, train=lambda model, params, report: math.nan)
    record = read_record(tmp_path)
    assert record["status"] == "failed"
    assert record["error"] == "SearchError: no training on the first rung came to a score; 4 diverged"
    assert record["search"]["best"] is None


def test_failures_on_the_full_network_are_tried_again_at_the_next_start_only(tmp_path: Path) -> None:
    def broken_on_base(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        if width(model) == 16:
            raise MemoryError("too large")
        return train(model, params, report)

    with pytest.raises(SearchError, match=r"the first 2 trials all failed \(confirm\); .*MemoryError: too large"):
        tiny_tune(tmp_path, train=broken_on_base)
    assert read_record(tmp_path)["status"] == "failed"
    record = tiny_tune(tmp_path, resume="anyway").record
    assert [entry["outcome"] for entry in record["confirmation"]] == ["failed", "failed", "complete", "complete"]
    assert len({entry["seed"] for entry in record["confirmation"]}) == 4
    assert "error" not in record


def test_one_failed_confirmation_leaves_the_other_to_win(tmp_path: Path) -> None:
    def first_diverges(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        return math.inf if width(model) == 16 and report.number == 0 else train(model, params, report)

    result = tiny_tune(tmp_path, train=first_diverges)
    first, second = result.record["confirmation"]
    assert (first["outcome"], first["base_score"]) == ("diverged", None)
    assert result.params == second["params"]
    assert float(load_file(result.weights)["0.bias"][0]) == np.float32(second["params"]["lr"])


def test_confirmations_that_all_diverge_are_one_sentence(tmp_path: Path) -> None:
    def diverges_on_base(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        return math.nan if width(model) == 16 else train(model, params, report)

    with pytest.raises(
        SearchError, match=r"no training of the full network came to a score \(trial \d diverged: the fin"
    ):
        tiny_tune(tmp_path, train=diverges_on_base)


def test_a_failing_evaluation_loses_nothing(tmp_path: Path) -> None:
    def evaluate(model: nn.Module) -> dict[str, float]:
        raise OSError("no test data")

    with pytest.raises(OSError, match="no test data"):
        tiny_tune(tmp_path, evaluate=evaluate)
    assert read_record(tmp_path)["winner"]["score"] > 16
    result = tiny_tune(
        tmp_path, train=never, resume="anyway", evaluate=lambda model: {"training": float(model.training)}
    )
    assert result.record["test"] == {"training": 0.0}


def test_a_report_that_cannot_be_written_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(run_dir: Path) -> Path:
        raise RuntimeError("no ink")

    monkeypatch.setattr(prunetune.report, "write_report", fail)
    events: list[Event] = []
    assert tiny_tune(tmp_path, observer=events.append).record["status"] == "finished"
    assert isinstance(events[-1], PhaseEnded)
    assert "the report could not be written (RuntimeError: no ink)" in events[-1].message
    monkeypatch.setattr(prunetune.report, "write_report", write_no_report)
    assert tiny_tune(tmp_path).already_finished
    assert (tmp_path / "report.html").exists()


def test_events_of_a_whole_run(tmp_path: Path) -> None:
    events: list[Event] = []
    tiny_tune(tmp_path, observer=events.append)
    phases = [(type(event).__name__, event.phase) for event in events if isinstance(event, PhaseStarted | PhaseEnded)]
    assert phases == [(name, phase) for phase in ("prune", "search", "confirm", "report") for name in _BOTH]
    assert sum(isinstance(event, TrialEnded) for event in events) == 6
    (message,) = [event.message for event in events if isinstance(event, PhaseEnded) and event.phase == "prune"]
    assert message == "4 × the proxy → 2 × the full network: 6 full trainings"  # a step takes as long on both


_BOTH = ("PhaseStarted", "PhaseEnded")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"space": "papr"}, "unknown search space 'papr' (did you mean 'paper'?)"),
        ({"space": {"lr": 0.1}}, "lr: 0.1 is no distribution"),
        ({"epochs": 0}, "epochs is 0, but it must be a whole number of at least 1"),
        ({"seed": -3}, "seed is -3, but"),
        (
            {"seed": 2**63},
            "seed is 9223372036854775808, but it must be a whole number of at least 0 and below 9,223,372,036",
        ),
        ({"model_fn": net()}, "model_fn must be a function that builds the network; got Sequential: write lambda: Seq"),
        ({"model_fn": lambda: 3}, "model_fn must return a torch.nn.Module; it returned int"),
        ({"train": None}, "train must be a function; got NoneType"),
        ({"evaluate": 3}, "evaluate must be a function; got int"),
        ({"search": Search(direction="maximize", optimizer="tpee")}, "unknown optimizer 'tpee' (did you mean 'tpe'?)"),
        (
            {"search": Search(direction="maximize", trial_pruner="hyperbnd")},
            "unknown trial pruner 'hyperbnd' (did you mean 'hyperband'?)",
        ),
        ({"search": Search()}, "give search=prunetune.Search(direction='maximize') for an accuracy, 'minimize' for"),
    ],
)
def test_impossible_arguments_are_refused_before_anything_runs(
    change: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {
        "model_fn": net,
        "train": never,
        "space": SPACE,
        "epochs": 2,
        "search": SMALL,
        **change,
    }
    with pytest.raises(InputError) as caught:
        tune(example_inputs=INPUTS, run_dir=tmp_path / "run", observer=silent, **arguments)
    assert sentence in str(caught.value)
    assert not (tmp_path / "run" / "result.json").exists()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (
            lambda: Search(direction="maximize", n_trials=0),
            "n_trials is 0, but it must be a whole number of at least 1",
        ),
        (
            lambda: Search(direction="maximize", confirm=-1),
            "confirm is -1, but it must be a whole number of at least 0",
        ),
        (lambda: Search(direction="up"), "direction is 'up', but it must be 'maximize' or 'minimize'"),  # type: ignore[arg-type]
        (lambda: Pruning(heads="all"), "heads is 'all', but it must be 'auto', 'dims' or 'whole'"),  # type: ignore[arg-type]
        (lambda: Pruning(depth=1), "depth is 1, but it must be true or false"),  # type: ignore[arg-type]
        (lambda: Pruning(percentile=float("nan")), "percentile is nan, but it must be a number above 0 and below 100"),
        (lambda: Pruning(speedup=float("inf")), "speedup is inf, but it must be a number of at least 1"),
        (lambda: Pruning(ratio=0.5, floor=0.3), "floor is 0.3, but it has no part in ratio=0.5; drop one of them"),
        (lambda: Pruning(percentile=50, ratio=0.5), "give one budget, not 2; got percentile=50.0 and ratio=0.5"),
        (lambda: Pruning(protect="abc"), "protect is 'abc', but it must be a list, each entry text"),  # type: ignore[arg-type]
        (lambda: Pruning(percentile="85"), "percentile is '85', but it must be a number above 0 and below 100"),  # type: ignore[arg-type]
    ],
)
def test_impossible_settings_are_refused(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value) == sentence


def test_a_model_function_that_returns_one_network_is_refused(tmp_path: Path) -> None:
    model = net()
    with pytest.raises(InputError, match="model_fn returns the same network each time; build a new one"):
        tune(lambda: model, train, SPACE, example_inputs=INPUTS, epochs=2, run_dir=tmp_path, search=SMALL)


def test_inputs_that_do_not_fit_leave_a_folder_that_can_be_used(tmp_path: Path) -> None:
    with pytest.raises(TraceError):
        tune(
            net, train, SPACE, example_inputs=torch.zeros(2, 7), epochs=2, run_dir=tmp_path, pruning=HALF, search=SMALL
        )
    assert tiny_tune(tmp_path).record["status"] == "finished"


# The five lines of the issue, with nothing replaced


EXAMPLES = torch.randn(64, 6, generator=torch.Generator().manual_seed(0))
LABELS = (EXAMPLES.sum(1) > 0).long()


def accuracy_of(model: nn.Module) -> float:
    return (model(EXAMPLES).argmax(1) == LABELS).float().mean().item()


def learn(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    optimizer = torch.optim.SGD(model.parameters(), lr=params["learning_rate"], weight_decay=params["weight_decay"])
    accuracy = 0.0
    for epoch in range(1, report.epochs + 1):
        for rows in torch.arange(64).split(params["batch_size"]):  # type: ignore[no-untyped-call]
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(EXAMPLES[rows]), LABELS[rows])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        accuracy = accuracy_of(model)
        report(accuracy, epoch)
    return accuracy


def test_a_users_own_network_with_defaults(tmp_path: Path) -> None:
    """Which widths are worth a rung is up to the machine; that there are shorter trainings than full ones is not."""
    result = prunetune.tune(
        net,
        learn,
        example_inputs=EXAMPLES[:1],
        epochs=3,
        run_dir=tmp_path,
        search=Search(direction="maximize", n_trials=12),
    )
    record = result.record
    assert record["status"] == "finished"
    assert record["ladder"]["asked"]["ladder"] == "default"
    first, *_, last = record["ladder"]["rungs"]
    assert (first["entrants"], last["network"]) == (12, "the full network")
    assert record["search"]["trials"]["complete"] == record["search"]["epochs"] == 12  # of one epoch each
    assert record["confirmation"][0]["epochs"] == 3
    assert record["cost"]["base"]["step_seconds"] > 0
    assert 0.4 < result.score <= 1
    model = net()
    result.load_weights(model)
    assert accuracy_of(model) == pytest.approx(result.score)
    assert (tmp_path / "report.html").stat().st_size > 1000


def test_trials_on_a_proxy_are_stopped_by_asha(tmp_path: Path) -> None:
    search = Search(direction="maximize", n_trials=12)
    record = prunetune.tune(
        net, learn, example_inputs=EXAMPLES[:1], epochs=3, run_dir=tmp_path, search=search, ladder="paper"
    ).record
    assert record["search"]["trials"]["pruned"] > 0
    note, *_, transfer = record["search"]["notes"]
    assert "never called report.param_groups" in transfer
    assert note.startswith("asha: after epoch 1 the best third continues; about ")
    assert note in (tmp_path / "report.html").read_text()

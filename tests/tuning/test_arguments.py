"""Arguments in another form than they have: a sentence that says what to write. And what a result has to offer."""

from __future__ import annotations

import inspect
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

import prunetune
from prunetune import Categorical, Comparison, Float, Int, Search, SearchSpace
from prunetune.errors import InputError, SearchError
from tiny_tune import INPUTS, SPACE, net, tiny_tune, train

CALLS = {"tune": prunetune.tune, "check": prunetune.check, "compare": prunetune.compare}


def call(name: str, run_dir: Path, **given: Any) -> object:
    function: Any = CALLS[name]
    return function(net, train, given.pop("space", SPACE), example_inputs=INPUTS, epochs=2, run_dir=run_dir, **given)


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("tune", {"n_trials": 3}, "was given n_trials=3, which belongs into search: write search=Search(n_trials=3)"),
        ("check", {"direction": "minimize"}, "write search=Search(direction='minimize')"),
        ("tune", {"flops": 0.1}, "which belongs into pruning: write pruning=Pruning(flops=0.1)"),
        ("compare", {"rivals": ()}, "which belongs into comparison: write comparison=Comparison(rivals=())"),
        ("tune", {"serch": None}, "tune: unknown argument 'serch' (did you mean 'search'?)"),
        (
            "tune",
            {"search": {"n_trials": 3}},
            "search is {'n_trials': 3}, but it must be a Search: write search=Search(n_trials=3)",
        ),
        ("check", {"pruning": {"flops": 0.1}}, "it must be a Pruning: write pruning=Pruning(flops=0.1)"),
        ("tune", {"pruning": "synflow"}, "pruning is 'synflow', but it must be a Pruning: write pruning=Pruning(…)"),
        ("tune", {"search": {"trials": 3}}, "it must be a Search: write search=Search(…)"),
        ("compare", {"comparison": {"seeds": 2}}, "it must be a Comparison: write comparison=Comparison(seeds=2)"),
    ],
)  # fmt: skip
def test_an_argument_in_another_form_is_a_sentence(
    name: str, given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError) as raised:
        call(name, tmp_path / "run", **given)
    assert message in str(raised.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Search(trials=5), "Search: unknown argument 'trials' (did you mean 'n_trials'?); known: confirm, "),
        (lambda: prunetune.Pruning(flop=0.1), "Pruning: unknown argument 'flop' (did you mean 'flops'?); known: depth"),
        (lambda: Comparison(seed=1), "Comparison: unknown argument 'seed' (did you mean 'seeds'?); known: config"),
        (
            lambda: Search(refine=2),
            "Search: unknown argument 'refine'; known: confirm, direction, n_trials, optimizer, ",
        ),
    ],
)
def test_an_option_that_there_is_not_is_a_sentence(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError) as raised:
        make()
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("name", CALLS)
def test_signatures_are_still_there_to_be_looked_at(name: str) -> None:
    assert "example_inputs" in inspect.signature(CALLS[name]).parameters


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        (FloatDistribution(1e-4, 1.0, log=True), Float(1e-4, 1.0, log=True)),
        (IntDistribution(1, 9, step=2), Int(1, 9, step=2)),
        (CategoricalDistribution(["a", "b"]), Categorical(["a", "b"])),
    ],
)
def test_a_distribution_of_optunas_is_told_as_ours(given: Any, ours: object) -> None:
    with pytest.raises(InputError) as raised:
        SearchSpace({"lr": given})
    assert f"is Optuna's; write {ours!r}, or SearchSpace.from_optuna" in str(raised.value)


def test_a_result_has_what_people_look_for(tmp_path: Path) -> None:
    search = Search(direction="maximize", n_trials=4, confirm=2, optimizer="random", trial_pruner="none")
    result = tiny_tune(tmp_path, search=search, evaluate=lambda model: {"accuracy": 0.25})
    stored = json.loads((tmp_path / "result.json").read_text())
    assert result.test == {"accuracy": 0.25}
    assert result.report == tmp_path / "report.html"
    assert result.seconds == stored["time"]["total"] > 0
    spent = sum(stored["time"][phase] for phase in ("prune", "measure", "search", "climb", "confirm"))
    assert result.seconds_saved == pytest.approx(stored["time"]["search_on_base_estimate"] - spent)
    assert [trial["number"] for trial in result.trials] == [0, 1, 2, 3]
    for trial in result.trials:  # the score of this train function on the proxy: the learning rate plus the width of 8
        assert set(trial) == {"number", "params", "score", "outcome", "seconds"}
        assert set(trial["params"]) == {"lr", "steps"}
        assert trial["score"] == pytest.approx(trial["params"]["lr"] + 8)
        assert (trial["outcome"], trial["seconds"] > 0) == ("complete", True)


def test_trials_that_cannot_be_read_are_an_error(tmp_path: Path) -> None:
    result = tiny_tune(tmp_path)
    (tmp_path / "study.log").unlink()
    with pytest.raises(SearchError, match=r"There is no study\.log in the run folder"):
        _ = result.trials


def test_numbers_of_other_libraries_become_pythons() -> None:
    asked = prunetune.Pruning(flops=np.float32(0.25), multiple_of=np.int64(8), protect=["stem"])  # type: ignore[arg-type]
    assert (type(asked.flops), type(asked.multiple_of), asked.protect) == (float, int, ("stem",))
    assert prunetune.Pruning(percentile=torch.tensor(60.0)).percentile == 60  # type: ignore[arg-type]


def test_options_can_be_copied_and_pickled() -> None:
    asked = Search(n_trials=7, storage="journal:///somewhere")
    assert pickle.loads(pickle.dumps(asked)) == asked
    assert replace(asked, n_trials=9).n_trials == 9
    assert replace(prunetune.Pruning(), flops=0.1) == prunetune.Pruning(flops=0.1)


def test_the_classes_of_options_are_public() -> None:
    """The sentences name them as they are imported."""
    assert {prunetune.Search, prunetune.Pruning, prunetune.Rung, Comparison} <= {
        getattr(prunetune, name) for name in prunetune.__all__ if isinstance(getattr(prunetune, name), type)
    }

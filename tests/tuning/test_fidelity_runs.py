"""Fidelities in whole runs: who is told what, what is recorded, what a killed run and a worker go on with."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import torch
from rich.console import Console
from torch import nn

import prunetune.engine
import prunetune.report
import prunetune.tuning.own_search
from prunetune import Categorical, Fidelity, Float, Pruning, Search, SearchSpace, TuneResult, tune, work
from prunetune.backends.study.trial import Report
from prunetune.cli.config import fidelity_of, parse_config
from prunetune.cli.job import prepare
from prunetune.cli.launch import _config_of, launch
from prunetune.console.summary import summary
from prunetune.data import ImageData, datasets
from prunetune.errors import InputError
from prunetune.events import Event, Notice, silent
from prunetune.report import load_run
from prunetune.report.prose import lead
from prunetune.report.tables import settings
from prunetune.training import ImageClassification
from tests.cli.test_config import changed
from tiny_tune import touch

pytestmark = pytest.mark.filterwarnings("error")

IMAGES = torch.zeros(2, 1, 8, 8)
SPACE = SearchSpace({"lr": Float(1e-3, 1.0, log=True)})
HALF = Pruning(scorer="magnitude", ratio=0.5)
LESS = Fidelity(resolution=0.5, epochs=0.5, data=0.25)


def net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 2))


def width(model: nn.Module) -> int:
    """16 for the full network, 8 for its proxy."""
    return int(next(model.parameters()).shape[0])


class Watched:
    """A train function that notes what it is told."""

    def __init__(self, *, reads: bool = True, stop_after: int | None = None) -> None:
        self.reads, self.stop_after = reads, stop_after
        self.told: list[tuple[Any, ...]] = []

    def __call__(self, model: nn.Module, params: dict[str, Any], report: Report) -> float:
        if len(self.told) == self.stop_after:
            raise KeyboardInterrupt
        shares = (report.resolution, report.data) if self.reads else ()
        self.told.append((width(model), report.epochs, *shares))
        touch(model)
        for epoch in range(1, report.epochs + 1):
            report(params["lr"], epoch)
        return float(params["lr"])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of the full network takes 4 s, of the proxy 1 s, on images of half the size a quarter of that."""

    def times(models: dict[str, nn.Module], inputs: torch.Tensor) -> dict[str, float]:
        small = getattr(models["proxy"], "images", inputs)
        return {"base": 4.0, "proxy": small.shape[-1] ** 2 / inputs.shape[-1] ** 2}

    monkeypatch.setattr(prunetune.engine, "step_time", times)
    monkeypatch.setattr(prunetune.report, "write_report", lambda run_dir: Path(run_dir) / "report.html")


SMALL = Search(direction="maximize", n_trials=3, confirm=1, optimizer="random", trial_pruner="none")
ANEW = replace(SMALL, trial_pruner="asha", rungs="reannealed")


def _tune(run_dir: Path, train: Callable[..., Any], fidelity: Fidelity | str = LESS, **options: Any) -> TuneResult:
    defaults: dict[str, Any] = {"example_inputs": IMAGES, "epochs": 4, "pruning": HALF, "search": SMALL}
    return tune(net, train, SPACE, run_dir=run_dir, fidelity=fidelity, **{**defaults, **options})


def test_trials_get_less_and_the_full_network_all(tmp_path: Path) -> None:
    train = Watched()
    record = _tune(tmp_path, train).record
    assert train.told == [(8, 2, 0.5, 0.25)] * 3 + [(16, 4, 1.0, 1.0)]
    assert record["fidelity"] == {"resolution": 0.5, "epochs": 0.5, "data": 0.25}
    assert record["epochs"] == 4
    assert record["search"]["epochs"] == 6
    trial = record["cost"]["trial"]
    assert trial["fidelity"] == {"resolution": 0.5, "epochs": 0.5, "data": 0.25}
    # a quarter by the width, a quarter of that by the pixels; half the epochs, a quarter of the data
    assert trial["predicted"] == {"step": 1 / 16, "epochs": 0.5, "data": 0.25, "total": 1 / 128}
    assert not any("nothing read" in each for each in record["search"]["notes"])


def test_what_a_trial_cost_is_measured_where_both_networks_trained(tmp_path: Path, monkeypatch: Any) -> None:
    """2 epochs of 1 s on the proxy, 4 epochs of 5 s on the full network: a tenth; without it 3 trials take 60 s."""
    clock = iter([0.0, 2.0] * 3 + [0.0, 20.0])
    monkeypatch.setattr("prunetune.tuning.objective.time", SimpleNamespace(perf_counter=lambda: next(clock)))
    record = _tune(tmp_path, Watched()).record
    assert record["cost"]["trial"]["measured"] == {"total": pytest.approx(0.1), "configurations": 1, "epochs": 0.5}
    assert record["time"]["search_on_base_estimate"] == pytest.approx(60)
    assert "x 10, the full network's seconds per training over the proxy's" in record["time"]["estimate_basis"]


def test_a_cost_is_split_once_and_a_killed_run_goes_on_with_it(tmp_path: Path, monkeypatch: Any) -> None:
    asked = Fidelity.for_budget(0.025)
    with pytest.raises(KeyboardInterrupt):
        _tune(tmp_path, Watched(stop_after=1), asked)
    stored = json.loads((tmp_path / "result.json").read_text())
    # 0.25 by the proxy, x 0.25 by half the resolution, leaves 0.4: one of four epochs
    assert stored["fidelity"] == {"resolution": 0.5, "epochs": 0.2, "data": 0.2, "cost": 0.025}
    assert stored["cost"]["trial"]["fidelity"] == {"resolution": 0.5, "epochs": 0.25, "data": 1.0}
    monkeypatch.setattr(prunetune.engine, "step_time", None)  # it is not measured again
    train = Watched()
    record = _tune(tmp_path, train, asked, resume="anyway").record
    assert train.told == [(8, 1, 0.5, 1.0)] * 2 + [(16, 4, 1.0, 1.0)]
    assert record["cost"]["trial"]["predicted"]["total"] == 1 / 64


def test_another_fidelity_is_another_run(tmp_path: Path) -> None:
    asha = replace(SMALL, trial_pruner="asha")
    _tune(tmp_path, Watched(), search=asha)
    assert _tune(tmp_path, Watched(), search=asha).already_finished
    for other, complaint in (
        (Fidelity(0.5, 0.5, 0.5), "was started with fidelity.data = 0.25, now it is 0.5"),
        ("full", "was started with fidelity.resolution = 0.5, now it is 1.0"),
        (Fidelity(0.5, 0.5, 0.25, 0.1), "was started with fidelity.cost = None, now it is 0.1"),
    ):
        with pytest.raises(InputError, match=re.escape(complaint)):
            _tune(tmp_path, Watched(), other, search=asha)
    with pytest.raises(InputError, match="was started with rungs = 'truncated', now it is 'reannealed'"):
        _tune(tmp_path, Watched(), search=ANEW)


def test_a_run_from_before_there_were_fidelities_goes_on(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _tune(tmp_path, Watched(stop_after=2), "full")
    path = tmp_path / "result.json"
    record = json.loads(path.read_text())
    del record["fidelity"], record["rungs"], record["cost"]["trial"]
    path.write_text(json.dumps(record))
    train = Watched()
    assert _tune(tmp_path, train, "full", resume="anyway").record["cost"]["trial"]["predicted"] is None
    assert train.told == [(8, 4, 1.0, 1.0), (16, 4, 1.0, 1.0)]


def test_workers_are_told_the_same(tmp_path: Path) -> None:
    url = f"journal://{tmp_path}/shared.log"
    with pytest.raises(KeyboardInterrupt):
        _tune(tmp_path / "run", Watched(stop_after=1), search=replace(SMALL, storage=url))
    train = Watched()
    assert work(net, train, url, resume="anyway") == 2
    assert train.told == [(8, 2, 0.5, 0.25)] * 2


def test_a_train_function_that_heeds_nothing_is_told_once(tmp_path: Path) -> None:
    events: list[Event] = []
    record = _tune(tmp_path, Watched(reads=False), observer=events.append).record
    note = "warning: nothing read report.resolution and report.data, so trials on the proxy train with all of it"
    assert [isinstance(event, Notice) and event.message.startswith(note) for event in events].count(True) == 1
    assert sum(each.startswith(note) for each in record["search"]["notes"]) == 1
    with pytest.warns(UserWarning, match="nothing read report.resolution and report.data"):  # nobody observes
        _tune(tmp_path / "silent", Watched(reads=False), observer=silent)
    record = _tune(tmp_path / "epochs", Watched(reads=False), Fidelity(epochs=0.5)).record
    assert not any("nothing read" in each for each in record["search"]["notes"])


def test_rungs_are_trained_anew_and_the_record_counts_it(tmp_path: Path) -> None:
    train = Watched()
    result = _tune(tmp_path, train, search=replace(ANEW, n_trials=1))
    assert train.told == [(8, 1, 0.5, 0.25), (8, 2, 0.5, 0.25), (16, 4, 1.0, 1.0)]
    assert result.record["search"]["epochs"] == 3
    assert result.record["rungs"] == "reannealed"


def test_images_too_small_for_the_network_are_refused_before_anything_is_cut(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape("of 2 pixels (") + ".*" + re.escape("is 0.375 (3 pixels)")):
        _tune(tmp_path, Watched(), Fidelity(resolution=0.25))
    assert not (tmp_path / "plan.json").exists()
    cheapest = Fidelity.for_budget(0.05, resolution=0.1)
    assert _tune(tmp_path / "cost", Watched(), cheapest).record["cost"]["trial"]["fidelity"]["resolution"] >= 0.375


def test_the_report_and_the_summary_show_the_cost(tmp_path: Path) -> None:
    record = _tune(tmp_path, Watched()).record
    run = load_run(tmp_path)
    fact = next(fact for fact in lead(run).facts if fact.name == "a trial costs")
    assert fact.note.endswith("predicted: 0.78 % = step 6.2 % × epochs 50.0 % × data 25.0 %")
    assert ("data of a trial", "25.0 %") in settings(run).rows
    console = Console(file=StringIO(), width=200)
    console.print(summary(record))
    assert "a trial, predicted" in console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def digits() -> ImageData:
    whole = datasets["digits"].load(8, None, 0)
    few = {
        f"{part}_{what}": getattr(whole, f"{part}_{what}")[:256]
        for part in ("train", "val")
        for what in ("images", "labels")
    }
    return replace(whole, **few)


def test_the_built_in_loop_heeds_all_three(digits: ImageData, tmp_path: Path) -> None:
    """Batches of the proxy are of 4 x 4 pixels, of the full network 8 x 8; both validate on what they train on."""
    seen: set[tuple[int, int, bool]] = set()

    class Net(nn.Sequential):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            if len(images) > 2:
                seen.add((width(self), images.shape[-1], self.training))
            result: torch.Tensor = super().forward(images)
            return result

    job = ImageClassification(digits)
    views = {job.data_at(0.5, 0.25) is job.data_at(0.5, 0.25), job.data_at(1.0, 1.0) is digits}
    assert views == {True}  # made once
    assert len(job.data_at(0.5, 0.25).train_labels) == 64  # of 256
    record = tune(
        lambda: Net(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)),
        job,
        {"batch_size": Categorical([16, 32])},
        example_inputs=IMAGES,
        epochs=2,
        pruning=HALF,
        search=replace(SMALL, n_trials=1),
        run_dir=tmp_path,
        fidelity=LESS,
    ).record
    assert seen == {(8, 4, True), (8, 4, False), (16, 8, True), (16, 8, False)}
    assert record["search"]["epochs"] == 1
    assert not any("nothing read" in each for each in record["search"]["notes"])


@pytest.mark.parametrize(
    ("table", "found"),
    [
        ("", Fidelity()),
        ('fidelity = {name = "faster"}', Fidelity(0.5, 1 / 3, 1.0)),
        ("fidelity = {resolution = 0.5, data = 0.1}", Fidelity(0.5, 1.0, 0.1)),
        ("fidelity = {cost = 0.02}", Fidelity(0.5, 0.2, 0.2, 0.02)),
        ("fidelity = {cost = 0.02, data = 1}", Fidelity(0.5, 0.2, 1.0, 0.02)),
    ],
)
def test_a_configuration_asks_by_name_by_shares_or_by_cost(table: str, found: Fidelity) -> None:
    assert fidelity_of(parse_config(changed(table))) == found


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ("fidelity = {data = 0}", "fidelity.data is 0, but it must be above 0 and at most 1"),
        ('fidelity = {name = "fst"}', "fidelity.name: unknown fidelity 'fst' (did you mean 'fast'?)"),
        ('fidelity = {name = "fast", cost = 0.1}', "fidelity.name and fidelity.cost are both given, but only one can"),
        ("fidelity = {epoch = 1}", "unknown key 'fidelity.epoch' (did you mean 'fidelity.epochs'?)"),
        ('search = {rungs = "x"}', "search.rungs is 'x', but it must be 'truncated' or 'reannealed'"),
        (
            'search = {rungs = "reannealed", trial_pruner = "median"}',
            "search.rungs is 'reannealed', but the trial pruner 'median' has no rungs",
        ),
    ],
)
def test_a_configuration_that_asks_for_what_cannot_be(table: str, complaint: str) -> None:
    with pytest.raises(InputError, match=re.escape(complaint)):
        parse_config(changed(table))


def test_a_batch_must_fit_into_what_is_left_of_the_data(tmp_path: Path) -> None:
    """A tenth of the 1,079 training images of the digits is 108."""
    batches = f'search = {{space = {{batch_size = {{choices = [64, 128]}}}}}}\nrun = {{folder = "{tmp_path}/run"}}\n'
    for fidelity, said in (("data = 0.1", "= 0.1"), ("cost = 0.5, data = 0.1", "may leave 0.1")):
        sentence = f"search.space.batch_size: batch_size 128 is impossible in trials, for which fidelity.data {said} of"
        with pytest.raises(InputError, match=re.escape(sentence) + ".* images, 108; raise fidelity.data"):
            launch(parse_config(changed(f"fidelity = {{{fidelity}}}\n{batches}")))
    assert not (tmp_path / "run").exists()


def test_workers_train_on_the_same_images_as_the_run() -> None:
    config = parse_config(changed("search = {seed = 7}"))
    job = config.model_dump(mode="json", exclude={"run"})
    of_run, of_worker = prepare(config).train, prepare(_config_of(job, "cpu", None)).train
    assert isinstance(of_run, ImageClassification)
    assert isinstance(of_worker, ImageClassification)
    one, other = of_run.data_at(1.0, 0.1).train_images, of_worker.data_at(1.0, 0.1).train_images
    assert torch.equal(one, other)
    assert of_worker.seed == 7


def _objective(train: Watched, fidelity: Fidelity | str) -> prunetune.tuning.own_search.ProxyObjective:
    return prunetune.proxy_objective(
        net, train, SPACE, example_inputs=IMAGES, epochs=4, pruning=HALF, fidelity=fidelity, direction="maximize"
    )


@pytest.mark.parametrize(
    ("fidelity", "told"),
    [
        ("full", (8, 4, 1.0, 1.0)),
        (LESS, (8, 2, 0.5, 0.25)),
        ("faster", (8, 1, 0.5, 1.0)),
        (Fidelity.for_budget(0.025), (8, 1, 0.5, 1.0)),  # split as above
    ],
)
def test_an_objective_of_ones_own_gets_less_as_well(fidelity: Fidelity | str, told: tuple[Any, ...]) -> None:
    train = Watched()
    state = torch.random.get_rng_state()
    objective = _objective(train, fidelity)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert objective.loss({"lr": 0.5}) == -0.5
    assert train.told == [told]
    assert (objective.fidelity.resolution, objective.fidelity.data) == told[2:]


def test_an_objective_whose_train_function_heeds_nothing_warns_once() -> None:
    objective = _objective(Watched(reads=False), LESS)
    study = optuna.create_study(direction="maximize")
    with pytest.warns(UserWarning, match="nothing read report.resolution and report.data") as heard:
        study.optimize(objective, n_trials=2)
    assert len(heard) == 1
    assert [trial.user_attrs["unread"] for trial in study.trials] == [["resolution", "data"]] * 2


def test_an_objective_refuses_what_the_network_does_not_run_on() -> None:
    with pytest.raises(InputError, match=re.escape("fidelity.resolution is 0.25, but the network does not run on")):
        _objective(Watched(), Fidelity(resolution=0.25))
    with pytest.raises(InputError, match=re.escape("fidelity.cost is 0.001, but a trial costs at least")):
        _objective(Watched(), Fidelity.for_budget(0.001))

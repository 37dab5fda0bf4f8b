"""Rungs with a share of the images, the epochs and the data: who is told what, and what of who does not heed it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from torch import nn

import prunetune
import prunetune.engine
import prunetune.report
from prunetune import Categorical, Float, Ladder, Pruning, Rung, Search, SearchSpace, TuneResult, tune, work
from prunetune.backends.study.trial import Report
from prunetune.data import ImageData, datasets
from prunetune.errors import InputError
from prunetune.events import Event, Notice, silent
from prunetune.training import ImageClassification
from tiny_tune import touch

pytestmark = pytest.mark.filterwarnings("error")

IMAGES = torch.zeros(2, 1, 8, 8)
SPACE = SearchSpace({"lr": Float(1e-3, 1.0, log=True)})
HALF = Pruning(scorer="magnitude", ratio=0.5)
LESS = Rung(None, epochs=0.5, resolution=0.5, data=0.25)
SEARCH = Search(direction="maximize", optimizer="random", trial_pruner="none")


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

    def times(models: dict[str, nn.Module], inputs: torch.Tensor, **_: object) -> dict[str, float]:
        shapes = {name: getattr(model, "images", inputs).shape for name, model in models.items()}
        whole = {"1.0": 4.0, "base": 4.0, "None": 1.0, "proxy": 1.0}
        return {name: whole[name] * shape[-1] ** 2 / inputs.shape[-1] ** 2 for name, shape in shapes.items()}

    monkeypatch.setattr(prunetune.engine, "step_time", times)
    monkeypatch.setattr(prunetune.report, "write_report", lambda run_dir: Path(run_dir) / "report.html")


def ladder(rung: Rung = LESS, trials: int = 3) -> Ladder:
    return Ladder(replace(rung, trials=trials, keep=1), Rung())


def run(run_dir: Path, train: Callable[..., Any], rung: Rung = LESS, **options: Any) -> TuneResult:
    defaults: dict[str, Any] = {"example_inputs": IMAGES, "epochs": 4, "pruning": HALF, "search": SEARCH}
    return tune(net, train, SPACE, run_dir=run_dir, **{**defaults, "ladder": ladder(rung), **options})


def test_a_rung_gets_less_and_the_full_network_all(tmp_path: Path) -> None:
    train = Watched()
    record = run(tmp_path, train).record
    assert train.told == [(8, 2, 0.5, 0.25)] * 3 + [(16, 4, 1.0, 1.0)]
    assert (record["epochs"], record["search"]["epochs"]) == (4, 6)
    first, last = record["ladder"]["rungs"]
    assert first["network"] == "the proxy, 1/2 of the epochs, 1/2 of the resolution, 1/4 of the data"
    # a quarter by the width, a quarter of that by the pixels; half the epochs, a quarter of the data
    assert (first["price"], last["price"]) == (pytest.approx(1 / 16 / 2 / 4), 1)
    assert not any("nothing read" in each for each in record["search"]["notes"])


def test_a_rung_in_between_gets_less_as_well(tmp_path: Path) -> None:
    train = Watched()
    between = Rung(None, resolution=0.5, keep=1)
    made = Ladder(replace(LESS, trials=3, keep=2), between, Rung())
    record = run(tmp_path, train, ladder=made).record
    assert train.told == [(8, 2, 0.5, 0.25)] * 3 + [(8, 4, 0.5, 1.0)] * 2 + [(16, 4, 1.0, 1.0)]
    assert [rung["price"] for rung in record["ladder"]["rungs"]] == pytest.approx([1 / 128, 1 / 16, 1])


def test_workers_are_told_the_same(tmp_path: Path) -> None:
    url = f"journal://{tmp_path}/shared.log"
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", Watched(stop_after=1), search=replace(SEARCH, storage=url))
    train = Watched()
    assert work(net, train, url, resume="anyway") == 2
    assert train.told == [(8, 2, 0.5, 0.25)] * 2


def test_a_train_function_that_heeds_nothing_is_told_once(tmp_path: Path) -> None:
    events: list[Event] = []
    record = run(tmp_path / "run", Watched(reads=False), observer=events.append).record
    note = "warning: nothing read report.resolution and report.data, so trials on the proxy train with all of it"
    assert [isinstance(event, Notice) and event.message.startswith(note) for event in events].count(True) == 1
    assert sum(each.startswith(note) for each in record["search"]["notes"]) == 1
    with pytest.warns(UserWarning, match="nothing read report.resolution and report.data"):  # nobody observes
        run(tmp_path / "silent", Watched(reads=False), observer=silent)
    record = run(tmp_path / "epochs", Watched(reads=False), Rung(None, epochs=0.5)).record
    assert not any("nothing read" in each for each in record["search"]["notes"])


def test_images_too_small_for_the_network_are_refused_before_anything_is_trained(tmp_path: Path) -> None:
    """A kernel of 3 x 3 needs 3 of the 8 pixels."""
    with pytest.raises(InputError, match=re.escape("of 2 pixels (") + ".*" + re.escape("is 0.375 (3 pixels)")):
        run(tmp_path, Watched(stop_after=0), Rung(None, resolution=0.25))
    assert not (tmp_path / "plan.json").exists()


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
        search=SEARCH,
        ladder=ladder(trials=1),
        run_dir=tmp_path,
    ).record
    assert seen == {(8, 4, True), (8, 4, False), (16, 8, True), (16, 8, False)}
    assert record["search"]["epochs"] == 1
    assert not any("nothing read" in each for each in record["search"]["notes"])


def _objective(train: Watched, rung: Any = LESS, **options: Any) -> Any:
    return prunetune.proxy_objective(
        net,
        train,
        SPACE,
        example_inputs=IMAGES,
        epochs=4,
        rung=rung,
        direction="maximize",
        **{"pruning": HALF, **options},
    )


@pytest.mark.parametrize(
    ("rung", "told"),
    [
        (Rung(None), (8, 4, 1.0, 1.0)),
        (LESS, (8, 2, 0.5, 0.25)),
        (Rung(1 / 4, epochs=1 / 4, data=0.5), (4, 1, 1.0, 0.5)),  # its own width, whatever the pruning says
        (Rung(), (16, 4, 1.0, 1.0)),
    ],
)
def test_an_objective_of_ones_own_gets_less_as_well(rung: Rung, told: tuple[Any, ...]) -> None:
    train = Watched()
    state = torch.random.get_rng_state()
    objective = _objective(train, rung)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert objective.loss({"lr": 0.5}) == -0.5
    assert train.told == [told]
    assert objective.rung == rung


def test_an_objective_whose_train_function_heeds_nothing_warns_once() -> None:
    objective = _objective(Watched(reads=False))
    study = optuna.create_study(direction="maximize")
    with pytest.warns(UserWarning, match="nothing read report.resolution and report.data") as heard:
        study.optimize(objective, n_trials=2)
    assert len(heard) == 1
    assert [trial.user_attrs["unread"] for trial in study.trials] == [["resolution", "data"]] * 2


@pytest.mark.parametrize(
    ("rung", "sentence"),
    [
        (Rung(None, resolution=0.25), "resolution is 0.25, but the network does not run on images of 2 pixels"),
        (0.5, "rung is 0.5, but it must be a prunetune.Rung, such as Rung(width=1/4, epochs=1/3)"),
        (Rung(None, trials=3), "rung has trials, keep or controls, which are of a ladder; leave them out"),
        (Rung(None, keep=1), "rung has trials, keep or controls, which are of a ladder; leave them out"),
        (Rung(None, controls=1), "rung has trials, keep or controls, which are of a ladder; leave them out"),
    ],
)
def test_an_objective_refuses_what_cannot_be_trained(rung: Any, sentence: str) -> None:
    with pytest.raises(InputError, match=re.escape(sentence)):
        _objective(Watched(stop_after=0), rung)

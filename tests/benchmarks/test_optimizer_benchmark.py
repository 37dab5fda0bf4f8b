"""The benchmark of optimizers: its tables against trainings, its arithmetic by hand, and a small form of all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.trial import TrialState
from torch import nn
from torch.nn import functional as F

from benchmarks.common.bootstrap import interval
from benchmarks.common.curves import CHANCE, GRIDS, NAMES, Table, load
from benchmarks.common.lines import results
from benchmarks.optimizer_training.runs import RECIPES, encode, fresh, train_together
from benchmarks.optimizer_training.runs import load as load_images
from benchmarks.optimizers.__main__ import main
from benchmarks.optimizers.report import by_seed, difference
from benchmarks.optimizers.rivals import search as native_search
from benchmarks.optimizers.runs import Extent, Record, search
from prunetune.training.schedules import step

FIVE = {"learning_rate": (0.01, 0.1), "lr_decay": (0.0, 1.0), "momentum": (0.0, 1.0)}
GRID = {**FIVE, "weight_decay": (1e-4, 1e-2), "batch_size": (4.0, 64.0)}


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    """The benchmark sets the process to one thread, and Optuna to silence."""
    threads, verbosity = torch.get_num_threads(), optuna.logging.get_verbosity()
    yield
    torch.set_num_threads(threads)
    optuna.logging.set_verbosity(verbosity)


def small(scores: np.ndarray | None = None, epochs: int = 3) -> Table:
    """A table of one cell, whose score is the learning rate's place and does not change."""
    if scores is None:
        scores = np.zeros((2, 2, 2, 2, 2, epochs)) + np.array([0.2, 0.8]).reshape(2, 1, 1, 1, 1, 1)
    return Table("small", GRID, scores, {})


def params(**changed: float) -> dict[str, float]:
    return {name: points[0] for name, points in GRID.items()} | changed


def sgd(table: str, seed: int, point: dict[str, float], epochs: int) -> list[float]:
    """The accuracies of one network, trained as anybody would."""
    recipe = RECIPES[table]
    (images, labels), (held_out, answers) = load_images(recipe)
    generator = torch.Generator().manual_seed(seed)
    initial = list(fresh(images.shape[1], recipe, generator))
    layers = [nn.Linear(*weight.shape[1:]) for weight in initial[::2]]
    with torch.no_grad():
        for layer, weight in zip(layers, initial[::2], strict=True):
            layer.weight.copy_(weight[0].T)
            layer.bias.zero_()
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
    rate, size = point["learning_rate"], int(point["batch_size"])
    optimizer = torch.optim.SGD(
        model.parameters(), lr=rate, momentum=point["momentum"], weight_decay=point["weight_decay"]
    )
    batches, curve = len(labels) // size, []
    for epoch in range(epochs):
        order = torch.randperm(len(labels), generator=generator)
        for number in range(batches):
            optimizer.param_groups[0]["lr"] = rate * step((epoch + number / batches) / epochs, point["lr_decay"])
            batch = order[number * size :][:size]
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
        with torch.no_grad():
            curve.append((model(held_out).argmax(1) == answers).float().mean().item())
    return curve


@pytest.mark.parametrize(
    "place", [(5, 1, 3, 2, 3), (8, 0, 0, 1, 3), (3, 2, 4, 0, 3)], ids=["usual", "fast", "much momentum"]
)
def test_the_digits_table_is_what_trainings_give(place: tuple[int, ...]) -> None:
    table = load("digits")
    point = {name: table.grid[name][each] for name, each in zip(NAMES, place, strict=True)}
    curves = [sgd("digits", seed, point, table.epochs) for seed in range(RECIPES["digits"].seeds)]
    # An image or two of 718 on the border between two classes may go the other way on another processor.
    assert np.mean(curves, axis=0) == pytest.approx(table.curves[place], abs=0.005)


def test_what_diverges_stays_diverged() -> None:
    recipe = RECIPES["digits"]
    points = torch.tensor([[0.01, 0.1, 0.9, 1e-4], [1e30, 0.1, 0.9, 1e-4], [0.01, 0.1, 0.9, 1e-4]])
    curves = train_together(points, 256, *load_images(recipe), recipe, seed=0, epochs=3)
    assert curves[1].isnan().all()
    assert torch.equal(curves[0], curves[2])
    assert not curves[0].isnan().any()
    stored = encode(curves.numpy())
    assert stored[1].tolist() == [65_535] * 3
    assert stored[0].tolist() == [round(score * 50_000) for score in curves[0].tolist()]


@pytest.mark.parametrize("name", GRIDS)
def test_stored_tables_are_whole(name: str) -> None:
    table = load(name)
    assert table.curves.shape == (*(len(points) for points in GRIDS[name].values()), 27)
    for each, points in GRIDS[name].items():
        assert table.grid[each] == pytest.approx(points)
    gone = np.isnan(table.curves)
    assert (gone[..., 1:] >= gone[..., :-1]).all()
    assert 0 <= np.nanmin(table.curves) < np.nanmax(table.curves) <= 1
    assert table.made["epochs"] == 27
    assert table.made["versions"].keys() == {"torch", "numpy", "scikit-learn"}


@pytest.mark.parametrize("name", GRIDS)
def test_no_point_between_is_better_than_the_best_of_the_grid(name: str) -> None:
    table = load(name)
    random = np.random.default_rng(0)
    for _ in range(200):
        point = {each: points[0] * (points[-1] / points[0]) ** random.random() for each, points in table.grid.items()}
        assert not table.curve(point)[-1] > table.best
        place = [random.integers(len(points)) for points in table.grid.values()]
        there = {each: points[i] for (each, points), i in zip(table.grid.items(), place, strict=True)}
        np.testing.assert_allclose(table.curve(there), table.curves[tuple(place)])


@pytest.mark.parametrize(
    ("learning_rate", "score"),
    [(0.01, 0.2), (0.1, 0.8), (0.01 * 10**0.5, 0.5), (0.01 * 10**0.25, 0.35)],
)
def test_between_the_points_of_the_grid(learning_rate: float, score: float) -> None:
    assert small().curve(params(learning_rate=learning_rate)) == pytest.approx([score] * 3)


def test_between_the_points_in_two_directions() -> None:
    scores = np.zeros((2, 2, 2, 2, 2, 1))
    scores[1, :, 1] = 0.8
    # Half of the way by the logarithm, and a quarter of the way: 0.5 * 0.25 * 0.8.
    point = params(learning_rate=0.01 * 10**0.5, momentum=0.25)
    assert small(scores).curve(point) == pytest.approx([0.1])
    batches = np.zeros((2, 2, 2, 2, 2, 1))
    batches[..., 1, :] = 1.0
    assert small(batches).curve(params(batch_size=16)) == pytest.approx([0.5])  # 16 is half of the way from 4 to 64


def test_what_is_near_a_diverged_point() -> None:
    scores = np.full((2, 2, 2, 2, 2, 3), 0.9)
    scores[:, :, 1, :, :, 1:] = np.nan  # diverges at the second epoch where the momentum is 1
    curve = small(scores).curve
    assert curve(params(momentum=0.25)) == pytest.approx([0.9, 0.75 * 0.9 + 0.25 * CHANCE, 0.75 * 0.9 + 0.25 * CHANCE])
    np.testing.assert_equal(np.isnan(curve(params(momentum=0.75))), [False, True, True])


def test_what_a_search_has_found() -> None:
    record = Record()
    for epochs, score in ((3, 0.5), (1, None), (3, 0.7), (3, 0.6), (3, 0.9)):
        record.add(epochs, score)
    assert [record.after_trials(n) for n in (1, 2, 3, 4, 5)] == [0.5, 0.5, 0.7, 0.7, 0.9]
    assert [record.after_epochs(n) for n in (2, 3, 6, 7, 12, 13)] == [CHANCE, 0.5, 0.5, 0.7, 0.7, 0.9]
    assert Extent(50).marks == (10, 25, 50)
    assert Extent(50).budgets(load("digits")) == (450, 1350)


class Watching(optuna.samplers.RandomSampler):
    """How many trials ran and how many had ended when each was asked for."""

    def __init__(self) -> None:
        super().__init__(seed=0)
        self.seen: list[tuple[int, int]] = []

    def before_trial(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        states = [each.state for each in study.get_trials(deepcopy=False) if each.number != trial.number]
        self.seen.append((states.count(TrialState.RUNNING), states.count(TrialState.COMPLETE)))
        super().before_trial(study, trial)


def test_four_workers_run_four_trials_at_once() -> None:
    alone, together = Watching(), Watching()
    search(small(), alone, "none", 0, Extent(6))
    search(small(), together, "none", 0, Extent(6), workers=4)
    assert alone.seen == [(0, n) for n in range(6)]
    assert together.seen == [(0, 0), (1, 0), (2, 0), (3, 0), (3, 1), (3, 2), (3, 3), (3, 4), (3, 5)]


def test_a_search_goes_on_until_all_epochs_are_spent() -> None:
    scores = np.full((2, 2, 2, 2, 2, 3), 0.5)
    scores[1, ..., :] = np.nan  # half of all points diverge at once
    record = search(small(scores), optuna.samplers.RandomSampler(seed=0), "none", 0, Extent(10))
    assert 30 <= record.spent < 33
    assert [epochs for epochs, score in zip(record.epochs, record.scores, strict=True) if score is None] == [
        1 for score in record.scores if score is None
    ]
    assert None in record.scores


@pytest.mark.parametrize("name", ["nevergrad:OnePlusOne", "skopt:et"])
def test_natively_the_libraries_search_the_same_space(name: str) -> None:
    record = native_search(small(), name, seed=0, trials=12)
    assert len(record.scores) == 12
    assert record.after_trials(12) > 0.6  # 0.2 to 0.8: a third of the space at random


def test_differences_are_paired_by_seed() -> None:
    ours = {("a", 0): 1.0, ("b", 0): 3.0, ("a", 1): 5.0, ("b", 1): 7.0, ("a", 2): 0.0}
    assert by_seed(ours) == {0: 2.0, 1: 6.0}  # the third seed is not in both tables
    theirs = {key: value + 1 for key, value in ours.items()} | {("a", 9): 7.0}
    assert difference(ours, theirs) == "-1.00 (2 seeds)"
    assert difference({("a", 0): 1.0}, {("a", 0): 2.0}) == "-1.00 (1 seed)"
    assert difference({("a", 0): 1.0}, {("a", 1): 2.0}) == "-"
    many = {("a", seed): float(seed**2) for seed in range(5)}
    assert difference({key: value - 1 for key, value in many.items()}, many) == "-1.00 [-1.00, -1.00]"


def test_the_interval_is_that_of_the_mean() -> None:
    values = np.random.default_rng(1).normal(3.0, 2.0, size=400)
    low, high = interval(lambda each: each.mean(axis=-1), values)
    half = 1.96 * values.std() / 20  # the normal approximation
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.02)


def run(path: Path, *arguments: str) -> list[dict[str, Any]]:
    assert main(["--json", str(path), *arguments]) == 0
    return results(path)


def table_of(printed: str, title: str) -> Sequence[Sequence[str]]:
    part = printed.split(f"## {title}")[1].split("\n\n")[1]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines()]


def test_a_small_benchmark(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--optimizer", "random", "tpe", "nevergrad:cma", "--table", "digits", "--trials", "6", "--markdown"]
    rows = run(tmp_path / "rows", *few, "--seeds", "2")
    parts = [row["part"] for row in rows]
    assert {part: parts.count(part) for part in parts} == {
        "overhead": 3,
        "search": 3 * 4 * 2,
        "workers": 3 * 2,
        "native": 2,
        "native-integers": 2,
        "no-startup": 2,
    }
    full = {
        (row["optimizer"], row["seed"]): row["after_trials"]["6"]
        for row in rows
        if (row["part"], row["trial_pruner"]) == ("search", "none")
    }
    random = [full["optuna:random", seed] for seed in (0, 1)]
    printed = capsys.readouterr().out
    line = next(line for line in table_of(printed, "Full trials") if line[0] == "optuna:random")
    assert line[-2:] == ["2", "+0.00 (2 seeds)"]
    assert float(line[3]) == pytest.approx(sum(random) / 2, abs=0.005)
    for title in ("Equal epochs: regret", "Equal epochs: the best", "The adapters", "Four workers", "Milliseconds"):
        assert len(table_of(printed, title)) > 2
    assert run(tmp_path / "rows", *few, "--seeds", "2", "--resume") == rows
    more = run(tmp_path / "rows", *few, "--seeds", "3", "--resume", "--part", "search", "--trial-pruner", "none")
    assert more[: len(rows)] == rows
    assert [(row["optimizer"], row["seed"]) for row in more[len(rows) :]] == [
        (name, 2) for name in ("optuna:random", "optuna:tpe", "nevergrad:cma")
    ]
    with pytest.raises(SystemExit):
        run(tmp_path / "rows", *few)

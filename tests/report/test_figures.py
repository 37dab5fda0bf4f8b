"""The figures' data against numbers worked out by hand from the synthetic run in ``conftest.py``."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from optuna.trial import TrialState
from synthetic_runs import four_trials, numbered, trial

from prunetune.report import figures, load_run
from prunetune.report.figures.search import importance_values
from prunetune.report.run import Run
from prunetune.report.theme import DARK, LIGHT, dark

MakeRun = Callable[..., Path]


@pytest.fixture
def run(make_run: MakeRun, result: dict[str, Any]) -> Run:
    return replace(load_run(make_run(result)), trials=numbered(four_trials()))


def named(figure: go.Figure, name: str) -> Any:
    """The one trace of that name."""
    (found,) = [trace for trace in figure.data if trace.name == name]
    return found


def points(trace: Any) -> list[tuple[Any, Any]]:
    return list(zip(trace.x, trace.y, strict=True))


def test_the_database_says_the_same(make_run: MakeRun, result: dict[str, Any], run: Run) -> None:
    read = load_run(make_run(result, four_trials(), name="stored"))
    assert not read.problems
    for stored, made in zip(read.trials, run.trials, strict=True):
        for name in ("number", "outcome", "score", "params", "distributions", "curve", "message"):
            assert getattr(stored, name) == getattr(made, name)


def test_history_tells_outcomes_apart(run: Run) -> None:
    figure = figures.search_history(run)
    assert points(named(figure, "complete")) == [(0, 0.8), (1, 0.7)]
    assert points(named(figure, "stopped early")) == [(2, 0.2)]
    assert points(named(figure, "winner (trial 1)")) == [(1, 0.7)]
    # The diverged trial's value in Optuna, 0.05, is only what the optimizer was told; it has no score of use.
    assert list(named(figure, "diverged").x) == [3]
    assert list(named(figure, "failed").x) == [4]
    assert named(figure, "diverged").yaxis == named(figure, "failed").yaxis == "y2"


def test_best_so_far_follows_the_direction(make_run: MakeRun, result: dict[str, Any]) -> None:
    scores = [0.5, 0.7, 0.6, 0.4]
    trials = [trial(TrialState.COMPLETE, {"lr": 0.1}, score) for score in scores]
    run = replace(load_run(make_run(result)), trials=numbered(trials))
    up = figures.search_history(run)
    assert points(named(up, "best so far")) == [(0, 0.5), (1, 0.7), (3, 0.7)]
    down = figures.search_history(replace(run, result=replace(run.result, direction="minimize")))
    assert points(named(down, "best so far")) == [(0, 0.5), (3, 0.4), (3, 0.4)]


def test_rungs_have_every_trial_that_ended_where_it_did(run: Run) -> None:
    figure = figures.rungs(run)
    drawn = {(bar.name, x): y for bar in figure.data for x, y in zip(bar.x, bar.y, strict=True)}
    expected: dict[tuple[str, int], int] = {}
    for each in run.trials:
        if each.outcome != "running":
            key = ("stopped early" if each.outcome == "pruned" else each.outcome, len(each.curve))
            expected[key] = expected.get(key, 0) + 1
    assert drawn == expected
    assert sum(drawn.values()) > 2


def test_learning_curves_have_every_report(run: Run) -> None:
    figure = figures.learning_curves(run)
    assert points(named(figure, "best (trial 0)")) == [(1, 0.5), (2, 0.7), (3, 0.8), (None, None)]
    assert points(named(figure, "complete")) == [(1, 0.4), (2, 0.6), (3, 0.7), (None, None)]
    assert points(named(figure, "stopped early")) == [(1, 0.1), (2, 0.2), (None, None)]
    assert points(named(figure, "diverged")) == [(1, 0.1), (None, None)]


def test_parallel_coordinates_place_values_on_their_scales(run: Run) -> None:
    best = named(figures.parallel_coordinates(run), "best (trial 0)")
    # lr 0.1 on 1e-4..1: 3 of 4 decades. momentum 0.9 on 0..1. batch 32 on 16..256: 1 of 4 doublings. sgd: the first
    # of two choices. The best score of two: the end of the axis.
    assert list(best.x)[:5] == pytest.approx([0.75, 0.9, 0.25, 0.0, 1.0])
    assert list(best.y)[:5] == [4, 3, 2, 1, 0]
    stopped = named(figures.parallel_coordinates(run), "stopped early or without score")
    assert 0 not in list(stopped.y)


def test_slices_show_scored_trials_only(run: Run) -> None:
    figure = figures.parameter_slice(run, "lr")
    assert points(named(figure, "complete")) == [(0.1, 0.8), (0.01, 0.7)]
    assert points(named(figure, "stopped early")) == [(0.001, 0.2)]
    assert figure.layout.xaxis.type == "log"
    assert list(figure.layout.xaxis.range) == pytest.approx([-4.2, 0.2])
    categories = figures.parameter_slice(run, "optimizer")
    assert points(named(categories, "complete")) == [(0, 0.8), (1, 0.7)]
    assert list(categories.layout.xaxis.ticktext) == ["sgd", "adam"]


def test_slice_of_an_unknown_parameter(run: Run) -> None:
    with pytest.raises(figures.NothingToShow, match="No trial has a hyperparameter “depth”"):
        figures.parameter_slice(run, "depth")


def test_importance_goes_to_the_only_parameter_that_matters(make_run: MakeRun, result: dict[str, Any]) -> None:
    trials = []
    for i in range(40):
        momentum = (i * 7 % 40) / 39
        trials.append(trial(TrialState.COMPLETE, {"lr": 10 ** (-4 * i / 39), "momentum": momentum}, 1 - i / 39))
    run = replace(load_run(make_run(result)), trials=numbered(trials))
    values = importance_values(run)
    assert sum(values.values()) == pytest.approx(1.0)
    assert values["lr"] > 0.8
    figure = figures.importances(run)
    assert list(figure.layout.yaxis.ticktext) == ["lr", "momentum"]
    assert list(figure.data[0].x) == [values["lr"], values["momentum"]]


@pytest.mark.parametrize(
    ("trials", "sentence"),
    [
        ([], "There is no study.log in the run folder, so nothing is shown trial by trial."),
        (four_trials(), "Importances need at least 4 complete trials; there are 2 so far."),
        (
            [trial(TrialState.COMPLETE, {"lr": 0.1 * (i + 1), "momentum": 0.5}, i / 10) for i in range(5)],
            "Importances compare hyperparameters; fewer than two of them were varied.",
        ),
        (
            [trial(TrialState.COMPLETE, {"lr": 0.1 * (i + 1), "momentum": i / 5}, 0.5) for i in range(5)],
            "All complete trials have the same score, so no hyperparameter can be told to matter.",
        ),
    ],
)
def test_why_there_are_no_importances(
    make_run: MakeRun, result: dict[str, Any], trials: list[Any], sentence: str
) -> None:
    with pytest.raises(figures.NothingToShow) as error:
        figures.importances(replace(load_run(make_run(result)), trials=numbered(trials)))
    assert str(error.value) == sentence


def test_cut_bars(run: Run) -> None:
    layers = figures.layers_cut(run)
    assert list(named(layers, "kept").x) == [270, 100]  # 10 * 3 * 3 * 3 and 10 * 10
    assert list(named(layers, "removed").x) == [1728 - 270, 640 - 100]
    groups = figures.groups_cut(run)
    assert (list(named(groups, "kept").x), list(named(groups, "removed").x)) == ([10], [54])


def test_two_hundred_layers_fit(make_run: MakeRun, result: dict[str, Any]) -> None:
    names = [f"features.denseblock{i // 50}.denselayer{i % 50}.conv" for i in range(200)]
    result["pruning"]["layers"] = [{"name": name, "before": [8, 4], "after": [2, 4]} for name in names]
    figure = figures.layers_cut(load_run(make_run(result)))
    assert len(figure.data[0].x) == 200
    assert figure.layout.height <= 1200
    labels = list(figure.layout.yaxis.ticktext)
    assert 40 <= len(labels) <= 70  # names that would overlap are left out
    assert len(set(labels)) == len(labels)
    assert max(map(len, labels)) <= 22


def test_cost_shares(run: Run) -> None:
    (bars,) = figures.proxy_cost(run).data
    assert list(bars.y) == ["parameters", "FLOPs", "step time"]
    assert list(bars.x) == pytest.approx([100 * 370 / 2368, 5.0, 25.0])


def test_time_by_phase(run: Run) -> None:
    figure = figures.time_spent(run)
    minutes = {trace.name: trace.x[0] for trace in figure.data}
    assert minutes == pytest.approx(
        {
            "cut and time networks": 1.5 / 60,
            "start the energy meter": 0.5 / 60,
            "rung 1": 1,
            "train in full": 28 / 60,
            "everything else": 10 / 60,
            "estimate": 4,
        }
    )
    assert figure.layout.xaxis.title.text == "minutes"


def test_confirmation_points_and_winner(run: Run) -> None:
    figure = figures.confirmation(run)
    assert points(named(figure, "winner")) == [(0.7, 0.95)]
    assert points(named(figure, "trained")) == [(0.8, 0.9), (0.6, 0.85)]  # the diverged one has no second score
    # Ranks 3, 2, 1 against 2, 3, 1: 1 - 6 * (1 + 1 + 0) / (3 * 8) = 0.5
    assert figures.rank_correlation(run) == pytest.approx(0.5)


def test_rank_correlation_needs_three(make_run: MakeRun, result: dict[str, Any]) -> None:
    del result["confirmation"][2]
    assert figures.rank_correlation(load_run(make_run(result))) is None


def test_confirmation_curves(make_run: MakeRun, result: dict[str, Any]) -> None:
    confirm = [trial(TrialState.COMPLETE, {"lr": 0.1}, 0.9, [0.6, 0.9], search_trial=17)]
    figure = figures.confirmation_curves(replace(load_run(make_run(result)), confirm_trials=numbered(confirm)))
    assert points(named(figure, "best (trial 17)"))[:2] == [(1, 0.6), (2, 0.9)]


def test_thousands_of_trials_are_thinned_and_keep_the_best(make_run: MakeRun, result: dict[str, Any]) -> None:
    trials = [trial(TrialState.COMPLETE, {"lr": 0.1}, (i * 37 % 2003) / 2003) for i in range(2003)]
    run = replace(load_run(make_run(result)), trials=numbered(trials))
    shown = named(figures.search_history(run), "complete")
    assert len(shown.x) <= 1000
    best_hundred = sorted(range(2003), key=lambda i: -(i * 37 % 2003))[:100]
    assert set(best_hundred) <= set(shown.x)


def test_odd_values_are_drawn_or_left_out(make_run: MakeRun, result: dict[str, Any]) -> None:
    trials = [
        trial(TrialState.COMPLETE, {"lr": 0.1}, math.inf, [math.inf, 0.2]),
        trial(TrialState.COMPLETE, {"lr": 0.1}, 1e-6),
        trial(TrialState.COMPLETE, {"lr": 0.1}, 1.0),
    ]
    figure = figures.search_history(replace(load_run(make_run(result)), trials=numbered(trials)))
    assert points(named(figure, "complete")) == [(0, 0.2), (1, 1e-6), (2, 1.0)]
    assert figure.layout.yaxis.type == "log"


def test_dark_changes_colours_only(run: Run) -> None:
    light = figures.groups_cut(run)
    night = dark(light)
    assert named(night, "kept").marker.color == DARK["kept"]
    assert night.layout.template.layout.paper_bgcolor == DARK["background"]
    assert points(named(night, "kept")) == points(named(light, "kept"))


def test_palette_roles_are_distinct_and_contrast() -> None:
    assert len(set(LIGHT.values())) == len(LIGHT)
    assert LIGHT.keys() == DARK.keys()
    for colours in (LIGHT, DARK):
        for text in ("ink", "muted", "kept"):  # WCAG 2.2: 4.5 for text, 3 for what pictures are made of
            for ground in ("background", "surface"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for role in ("kept", "line", "best", "pruned", "diverged", "failed", "prune", "other"):
            assert contrast(colours[role], colours["background"]) >= 2.95, role


def contrast(one: str, other: str) -> float:
    """WCAG's contrast ratio of two colours."""
    bright, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (bright + 0.05) / (low + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_contrast_of_black_and_white() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def network(*groups: dict[str, Any]) -> dict[str, Any]:
    """The pruning of five layers; a chain with one residual stage."""
    layers = [{"name": f"{name}.weight", "before": [8, 8], "after": [4, 4]} for name in ("stem", "a", "b", "c", "fc")]
    return {"layers": layers, "groups": [{"before": 8, "after": 2, **group} for group in groups]}


STAGES = network(
    {"name": "a.weight", "made_by": [1], "read_by": [2]},
    {"name": "stem.weight", "made_by": [0, 2], "read_by": [1, 3]},
    {"name": "c.weight", "made_by": [3], "read_by": [4]},
)


def test_the_dependency_graph_has_a_dot_where_a_layer_makes_or_reads_channels(
    make_run: MakeRun, result: dict[str, Any]
) -> None:
    figure = figures.dependencies(load_run(make_run({**result, "pruning": STAGES})))
    dots = {
        label: {point for trace in figure.data if trace.name == label for point in points(trace)}
        for label in ("makes", "reads")
    }
    # The stage, which begins first, has lane 0; the others lie inside it or begin in its last row.
    assert dots["makes"] == {(0, "stem"), (0, "b"), (1, "a"), (1, "c")}
    assert dots["reads"] == {(0, "a"), (0, "c"), (1, "b"), (1, "fc")}
    assert list(figure.layout.yaxis.categoryarray) == ["stem", "a", "b", "c", "fc"]
    (said,) = {text for trace in figure.data for text in trace.hovertext or () if text.endswith("made by c")}
    assert said == "<b>c.weight</b><br>8 → 2 channels, 25.0 % kept<br>made by c"


def test_a_place_that_no_layer_has_is_not_drawn(make_run: MakeRun, result: dict[str, Any]) -> None:
    strange = network({"name": "x", "made_by": [0, 99], "read_by": [-1]})
    figure = figures.dependencies(load_run(make_run({**result, "pruning": strange})))
    assert {point for trace in figure.data if trace.name for point in points(trace)} == {(0, "stem")}


def test_a_run_that_does_not_know_its_dependencies_says_so(make_run: MakeRun, result: dict[str, Any]) -> None:
    with pytest.raises(figures.NothingToShow, match="not recorded which layers share channels"):
        figures.dependencies(load_run(make_run({**result, "pruning": network({"name": "old"})})))


def test_layers_of_one_name_have_rows_of_their_own(make_run: MakeRun, result: dict[str, Any]) -> None:
    long = "part_with_a_long_name"
    layers = [{"name": f"{i}{long * 3}{i}.weight", "before": [4, 4], "after": [2, 2]} for i in (11, 11)]
    group = {"name": "g", "before": 4, "after": 2, "made_by": [0], "read_by": [1]}
    pruning = {"layers": layers, "groups": [group]}
    rows = figures.dependencies(load_run(make_run({**result, "pruning": pruning}))).layout.yaxis.categoryarray
    assert len(set(rows)) == 2

"""``compare``: which proxy, which optimizer, or no proxy at all? Measured on one network and dataset, at equal cost."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from prunetune._utils.arguments import names_checked
from prunetune._utils.caller import given_back
from prunetune._utils.checks import Direction
from prunetune._utils.hashes import digest
from prunetune._utils.interrupts import interruptible
from prunetune._utils.malloc import freed_memory_kept
from prunetune.backends import Distribution
from prunetune.backends.study.study import StudySettings
from prunetune.comparison.judge import (
    RANDOM,
    Reference,
    Row,
    Searched,
    cost_of,
    first_choices,
    judged,
    random_pick,
    searched,
)
from prunetune.comparison.rivals import HAVE_THEIR_OWN_COST
from prunetune.comparison.settings import BASE, FEWEST, Comparison, Way
from prunetune.comparison.trainings import Trained, Trainings, key
from prunetune.errors import InputError
from prunetune.events import Observer
from prunetune.record import provenance
from prunetune.record.folder import FORMAT, RunFolder
from prunetune.record.provenance import Record
from prunetune.report.comparison import write_comparison
from prunetune.tuning.configurations import draw_configurations
from prunetune.tuning.fingerprint import Resume, check_resume, continued, sentences
from prunetune.tuning.plans import architectures
from prunetune.tuning.problem import Problem
from prunetune.tuning.ranks import Ranks
from prunetune.tuning.types import EvaluateFunction, GivenModelFunction, ModelFunction, TrainFunction
from prunetune.tuning.watching import Watching

if TYPE_CHECKING:
    from prunetune.engine import ExampleInputs
    from prunetune.plugins.base import Batch, Loss

ANY_COST: Final = "any"
"""The group of rivals whose cost was given."""


@dataclass(frozen=True)
class CompareResult:
    """What a comparison came to."""

    run_dir: Path
    rows: tuple[Row, ...]
    """The full network itself first (the ceiling), then proxies, then rivals; of each way one row an optimizer."""
    random_pick: float
    """The regret of a choice without looking."""
    record: Record = field(repr=False)
    """All of ``compare.json``."""


@names_checked(comparison=Comparison)
@interruptible(signal.SIGINT)
@given_back()
def compare(
    model_fn: GivenModelFunction,
    train: TrainFunction,
    space: str | Mapping[str, Distribution] = "paper",
    *,
    example_inputs: ExampleInputs,
    epochs: int,
    run_dir: str | Path = "runs/compare",
    resume: Resume = "same",
    comparison: Comparison = Comparison(),  # noqa: B008  # frozen
    smaller: Mapping[str, ModelFunction] | None = None,
    direction: Direction | None = None,
    seed: int = 0,
    evaluate: EvaluateFunction | None = None,
    data: Iterable[Batch] | None = None,
    loss: Loss | None = None,
    observer: Observer | None = None,
) -> CompareResult:
    """Train the same configurations on the full network, on its proxies and in rivals' ways, and say who is right.

    The truth of a configuration is the full network's mean score over ``comparison.truth_seeds`` trainings that choose
    nothing. Every way is judged by its rank correlation with the truth, and by its regret: the best truth of all
    configurations that anyone considered, minus that of its choice. What was trained is kept in the run folder: a
    comparison that was stopped goes on, and one with another scorer, size, rival or more configurations or seeds trains
    only what is new. Writes ``compare.json`` and ``compare.html``. Decision 24 has the reasons.

    Parameters
    ----------
    model_fn, train, space, example_inputs, epochs, run_dir, resume, seed, data, loss, observer
        As for ``prunetune.tune``. For the rival "less-data" the train function must heed ``report.data``.
    comparison
        What is compared.
    direction
        "maximize" where a higher score is better, "minimize" where a lower one is; it must be given.
    smaller
        Networks that stand in for the full one, by name: smaller members of its family. They are trained in full.
    evaluate
        ``evaluate(model) -> {"accuracy": 0.9}``, of the full network on data that chose nothing: the truth is the mean
        of its first value, which must be better in the same direction. Without it, the truth is made of scores.

    Raises
    ------
    InputError
        An argument is impossible, or the run folder cannot be used.
    TraceError
        The model does not run on the example inputs.
    SearchError
        Every training of one kind failed.

    Example
    -------
    Which scorer, and are proxies better than fewer epochs? ::

        comparison = prunetune.Comparison(scorers=("synflow", "uniform"), rivals=("fewer-epochs",))
        found = prunetune.compare(
            MyNet, train, space, example_inputs=images, epochs=40, comparison=comparison, direction="maximize"
        )
        for row in found.rows:
            print(row.name, row.search_cost, row.regret.mean)
    """
    problem = Problem.of(
        model_fn,
        train,
        space,
        example_inputs=example_inputs,
        epochs=epochs,
        direction=direction,
        seed=seed,
        evaluate=evaluate,
        data=data,
        loss=loss,
        smaller=smaller,
    )
    check_resume(resume)
    if isinstance(train, Ranks):
        raise InputError(
            "train is a Ranks, but compare weighs trainings by the time of this process, and those of ranks are in "
            "others; compare with the train function in one process"
        )
    comparison.check_cost()
    settings = StudySettings(problem.space, problem.epochs, problem.direction, RANDOM, "none", problem.seed)
    base, pretrained = problem.full_network()
    if comparison.proxy_ways():
        architectures(problem.model_fn, problem.seed)  # raises InputError for what no plans can cut
    fingerprint = problem.fingerprint(base)  # raises InputError for what does not build networks
    points = draw_configurations(problem.space, comparison.configurations, seed)
    if len(points) < FEWEST:
        raise InputError(f"the search space has {len(points)} configurations in all, and a comparison takes {FEWEST}")
    goes_on = f"the comparison in {run_dir} was stopped; the same call continues it"
    with freed_memory_kept(), Watching(observer, goes_on) as watching, RunFolder(run_dir) as folder:
        trainings = Trainings(folder, settings, problem, watching, pretrained=bool(pretrained))
        trainings.notes += sentences(continued(folder, fingerprint, resume=resume, observer=watching))
        result = _Comparing(comparison, trainings, points).go()
        written = _written(result, folder, settings, comparison, provenance.machine(problem.model_fn()))
    watching.sum_up("comparison", written.run_dir)
    return written


@dataclass(frozen=True)
class _Result:
    rows: list[Row]
    reference: Reference
    costs: Mapping[str, float]
    notes: list[str]


class _Comparing:
    """One comparison from start or restart to end: the full network first, then proxies, rivals, and searches."""

    def __init__(self, asked: Comparison, trainings: Trainings, points: Sequence[dict[str, Any]]) -> None:
        self.asked = asked
        self.trainings = trainings
        self.points = points
        self.seeds = [str(number) for number in range(asked.seeds)]

    def go(self) -> _Result:
        reference = self._reference([[] for _ in self.seeds])
        trained = {BASE: self._judge(BASE)}
        proxies = self.asked.proxy_ways(pretrained=self.trainings.pretrained)
        trained |= {way: self._judge(way) for way in proxies}
        costs = self._costs({way: trained[way] for way in proxies}, reference)
        rivals = self.asked.rival_ways(costs, self.trainings.settings.epochs)
        rivals += [Way(f"smaller: {name}", "rival", smaller=name) for name in self.trainings.problem.smaller]
        trained |= {way: self._judge(way) for way in rivals}
        optimizers = [name for name in self.asked.optimizers if name != RANDOM]
        searches = [self._search(way, name) for way in (*proxies, *rivals) for name in optimizers]
        chosen = [[params for each in searches for params in each.choices[seed]] for seed in range(len(self.seeds))]
        reference = self._reference(chosen) if searches else reference
        rows = []
        for way, each in trained.items():
            row = judged(way, each, reference, self.asked.confirm)
            rows += [row] if RANDOM in self.asked.optimizers or way == BASE else []
            rows += [searched(search, row, reference) for search in searches if search.way == way]
        return _Result(rows, reference, costs, self.trainings.notes)

    def _reference(self, others: Sequence[Sequence[Mapping[str, Any]]]) -> Reference:
        """What the full network makes of the configurations and of others, by seed, that searches have chosen."""
        every = {key(point): point for point in (*self.points, *itertools.chain(*others))}
        points = list(every.values())
        truths = [self.trainings.of(BASE, f"truth-{number}", points) for number in range(self.asked.truth_seeds)]
        choosers = [
            self.trainings.of(BASE, seed, [*self.points, *mine]) for seed, mine in zip(self.seeds, others, strict=True)
        ]
        return Reference(
            {name: place for place, name in enumerate(every)},
            points,
            [np.array([each.test for each in trained]) for trained in truths],
            [{key(each.params): each for each in trained} for trained in choosers],
            len(self.points),
        )

    def _judge(self, way: Way) -> list[list[Trained]]:
        return [self.trainings.of(way, seed, self.points) for seed in self.seeds]

    def _search(self, way: Way, optimizer: str) -> Searched:
        trials = tuple(self.trainings.search(way, seed, optimizer, len(self.points)) for seed in self.seeds)
        return Searched(way, optimizer, trials, first_choices(trials, self.asked.confirm))

    def _costs(self, proxies: Mapping[Way, list[list[Trained]]], reference: Reference) -> dict[str, float]:
        """What rivals are to cost, by group of proxies. It stays what it was first, lest they be trained again."""
        if self.asked.cost is not None:
            return {ANY_COST: self.asked.cost}
        if not set(self.asked.rivals) - HAVE_THEIR_OWN_COST:
            return {ANY_COST: 1.0} if self.asked.rivals else {}
        folder = self.trainings.folder
        kept: dict[str, dict[str, float]] = folder.read_json(folder.equal_cost) or {}
        mine = kept.setdefault(digest(json.dumps(self.trainings.settings.fingerprint(), sort_keys=True))[:16], {})
        groups = dict.fromkeys(way.group for way in proxies)
        for group in groups:
            if group not in mine:
                measured = [cost_of(trained, reference) for way, trained in proxies.items() if way.group == group]
                mine[group] = min(1.0, sum(measured) / len(measured))
        folder.write_json(folder.equal_cost, kept)
        return {group: mine[group] for group in groups}


def _written(
    result: _Result, folder: RunFolder, settings: StudySettings, comparison: Comparison, machine: Record
) -> CompareResult:
    reference, truth = result.reference, result.reference.truth
    pick = random_pick(reference)
    record: Record = {
        "format": FORMAT,
        "seed": settings.seed,
        "epochs": settings.epochs,
        "direction": settings.direction,
        "space": settings.space.to_dict(),
        "comparison": comparison.to_record(),
        "machine": machine,
        "versions": provenance.versions(),
        "seconds_of_a_full_training": reference.seconds,
        "equal_cost": dict(result.costs),
        "random_pick_regret": pick,
        "rows": [asdict(row) for row in result.rows],
        "configurations": [
            {"params": dict(point), "truth": float(value), "considered_by_all": place < reference.common}
            for place, (point, value) in enumerate(zip(reference.points, truth, strict=True))
        ],
        "notes": result.notes,
    }
    if settings.direction == "minimize":
        for each in record["configurations"]:
            each["truth"] = -each["truth"]
    folder.write_json(folder.comparison, record)
    write_comparison(record, folder.path.name, folder.comparison_page)
    return CompareResult(folder.path, tuple(result.rows), pick, record)

"""The paper's tables and figures, each a function from a `Bench` to rows with our numbers beside the paper's.

A number that is missing in the text of the paper that we have is None; what is inferred says so.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from benchmarks.common.command import provenance
from benchmarks.common.tables import table
from benchmarks.paper.cases import PRESETS, Record
from benchmarks.paper.runs import OURS, TYPICAL, Bench
from prunetune.backends import Float, Int

EVIDENCE: Final = Path(__file__).with_name("paper_evidence.json")
METHODS: Final = {
    "Neuron Merging [19]": "merging", "Network Slimming [20]": "slimming", "3SP [14]": "3sp", "Ours": OURS,
}  # fmt: skip
"""Rows of Table 1 → our names."""
TARGETS: Final = ("VGG16-BN", "MobileNetV2", "ResNet56")
SOURCES: Final = {  # order of Table 5's rows, inferred from the text: see "source_order_text" in the evidence
    "VGG16-BN": ("VGG16-BN", "MobileNetV2", "ResNet56"),
    "MobileNetV2": ("MobileNetV2", "ResNet56", "VGG16-BN"),
    "ResNet56": ("ResNet56", "MobileNetV2", "VGG16-BN"),
}
FAMILY: Final = ("ResNet8", "ResNet14", "ResNet32")

Printed: TypeAlias = tuple[float | None, float | None]
"""An accuracy and a difference that the paper gives; None where the text that we have lacks it."""


@dataclass(frozen=True)
class Table:
    """Columns, as key of a row → heading, rows, and sentences on them."""

    columns: Mapping[str, str]
    rows: list[Record]
    notes: Sequence[str] = ()


def evidence() -> Record:
    """The paper's numbers, with what is missing or inferred."""
    found: Record = json.loads(EVIDENCE.read_text(encoding="utf-8"))
    return found


def searches(bench: Bench, network: str, dataset: str, route: str, **options: Any) -> list[Record]:
    """The records of all seeds."""
    return [bench.search(network, dataset, route, seed, **options) for seed in range(bench.preset.seeds)]


def accuracy(records: Sequence[Record]) -> float:
    """Mean test accuracy of the base, %."""
    return 100 * statistics.fmean(record["test"]["accuracy"] for record in records)


def table1(bench: Bench) -> Table:
    """Methods of pruning: accuracy with hyperparameters from the base and from each method's proxy."""
    rows = []
    for row in evidence()["table1_acc_pct"]["rows"]:
        network, dataset = row["model"], row["dataset"]
        if not bench.has(network, dataset):
            continue
        typical = accuracy(searches(bench, network, dataset, TYPICAL))
        pruned = accuracy(searches(bench, network, dataset, METHODS[row["method"]]))
        rows.append({
            "method": row["method"], "model": network, "dataset": dataset,
            "typical": typical, "pruned": pruned, "difference": pruned - typical,
            "paper_typical": row["typical_hpo"], "paper_pruned": row["with_pruning"],
            "paper_difference": row["with_pruning"] - row["typical_hpo"],
        })  # fmt: skip
    columns = {
        "method": "method", "model": "network", "dataset": "dataset", "typical": "typical HPO, %",
        "pruned": "with pruning, %", "difference": "difference", "paper_typical": "paper: typical",
        "paper_pruned": "paper: with pruning", "paper_difference": "paper: difference",
    }  # fmt: skip
    return Table(columns, rows)


def table3(bench: Bench) -> Table:
    """Time that the proxy saves, and accuracies, by optimizer."""
    rows = []
    for dataset, cells in evidence()["table3_time_reduction_pct"]["by_dataset_model"].items():
        for network in TARGETS:
            for optimizer in bench.preset.optimizers if bench.has(network, dataset) else ():
                typical = searches(bench, network, dataset, TYPICAL, optimizer=optimizer)
                pruned = searches(bench, network, dataset, OURS, optimizer=optimizer)
                rows.append({
                    "dataset": dataset, "model": network, "optimizer": optimizer,
                    "typical": accuracy(typical), "pruned": accuracy(pruned),
                    "search_saved": 100 * (1 - _searching(pruned) / _searching(typical)),
                    "epoch_saved": 100 * (1 - _pace(pruned) / _pace(typical)),
                    "step_saved": 100 * _step_saved(pruned),
                    "paper_saved": cells[network], "paper_typical": None, "paper_pruned": None,
                    **_energy(typical, pruned),
                })  # fmt: skip
    columns = {
        "dataset": "dataset", "model": "network", "optimizer": "optimizer", "typical": "typical HPO, %",
        "pruned": "with pruning, %", "search_saved": "search saved, %", "epoch_saved": "epoch saved, %",
        "step_saved": "step saved, %", "paper_saved": "paper: time saved, %",
    }  # fmt: skip
    if any(row["energy_saved"] is not None for row in rows):
        columns["energy_saved"] = "energy saved, %"
    return Table(columns, rows, ("the paper's accuracies are not in the text that we have",))


def table4(bench: Bench) -> Table:
    """ResNet-56 with hyperparameters from proxies of shorter ResNets."""
    return _transferred(bench, "ResNet56", FAMILY, bench.preset.datasets, lambda source, dataset: (None, None))


def table5(bench: Bench) -> Table:
    """Every network with hyperparameters from the proxies of the others."""
    printed = evidence()["table5_cross_arch_transfer_acc_pct"]
    columns: Mapping[str, str] = {}
    rows: list[Record] = []
    for target in TARGETS:
        block = dict(zip(SOURCES[target], printed[target], strict=True))

        def paper(source: str, dataset: str, block: Mapping[str, Any] = block) -> Printed:
            return _printed(block[source], dataset)

        table = _transferred(bench, target, SOURCES[target][1:], bench.preset.datasets, paper)
        columns, rows = table.columns, rows + table.rows
    return Table(
        columns,
        rows,
        (
            "which row of the paper's is which source is inferred from its text",
            f"the paper contradicts itself: {printed['inconsistency']}",
        ),
    )


def _transferred(
    bench: Bench,
    target: str,
    sources: Sequence[str],
    chosen: Mapping[str, Any],
    paper: Callable[[str, str], Printed],
) -> Table:
    rows = []
    for dataset in chosen:
        if not bench.has(target, dataset):
            continue
        own = accuracy(searches(bench, target, dataset, OURS))
        for source in (target, *sources):
            if not bench.has(source, dataset):
                continue
            reached = own if source == target else 100 * statistics.fmean(_from(bench, target, source, dataset))
            theirs, behind = paper(source, dataset)
            rows.append({
                "dataset": dataset, "target": target, "source": source,
                "accuracy": reached, "difference": reached - own, "paper_accuracy": theirs,
                "paper_difference": behind,
            })  # fmt: skip
    columns = {
        "dataset": "dataset", "target": "network", "source": "searched on the proxy of", "accuracy": "accuracy, %",
        "difference": "minus its own proxy's", "paper_accuracy": "paper", "paper_difference": "paper: difference",
    }  # fmt: skip
    return Table(columns, rows, ("the paper says: small differences of around 0.7 %",) if target == "ResNet56" else ())


def _from(bench: Bench, target: str, source: str, dataset: str) -> Iterator[float]:
    """Accuracies of the target, by seed, with what was found on the source's proxy."""
    for seed, record in enumerate(searches(bench, source, dataset, OURS)):
        yield bench.trained(target, dataset, source, record["winner"]["params"], seed)


def figure2(bench: Bench) -> Table:
    """Training loss of ResNet-56 and its proxy, epoch by epoch, with the paper's recipe."""
    seeds = range(bench.preset.seeds)
    base, proxy = (
        [
            statistics.fmean(each)
            for each in zip(
                *(bench.losses("ResNet56", "CIFAR10", on_proxy=cut, seed=seed) for seed in seeds), strict=True
            )
        ]
        for cut in (False, True)
    )
    rows = [
        {"epoch": epoch, "base": full, "proxy": small, "proxy_higher": small > full}
        for epoch, (full, small) in enumerate(zip(base, proxy, strict=True), 1)
    ]
    higher = sum(row["proxy_higher"] for row in rows)
    columns = {"epoch": "epoch", "base": "base, loss", "proxy": "proxy, loss"}
    says = evidence()["training_recipe"]["training_trend_fig2"]
    return Table(columns, rows, (f"the proxy's loss is higher in {higher} of {len(rows)} epochs; paper: {says}",))


def extra(bench: Bench) -> Table:
    """Five hyperparameters at once, by both routes."""
    dataset = _extra_dataset(bench)
    rows = []
    found = {route: searches(bench, "ResNet56", dataset, route, extra=True) for route in (TYPICAL, OURS)}
    for route, records in found.items():
        scores = [100 * record["test"]["accuracy"] for record in records]
        rows.append({
            "dataset": dataset, "model": "ResNet56", "route": route, "accuracy": statistics.fmean(scores),
            "deviation": statistics.stdev(scores) if len(scores) > 1 else None, "by_seed": scores,
            "search_saved": 100 * (1 - _searching(records) / _searching(found[TYPICAL])), "paper_accuracy": None,
        })  # fmt: skip
    columns = {
        "dataset": "dataset", "model": "network", "route": "searched on", "accuracy": "accuracy, %",
        "deviation": "deviation", "search_saved": "search saved, %", "paper_accuracy": "paper",
    }  # fmt: skip
    return Table(columns, rows, ("the paper's accuracies are not in the text that we have",))


def figure3(bench: Bench) -> Table:
    """What both routes found of the five hyperparameters: means and deviations, on the scale of the search."""
    dataset = _extra_dataset(bench)
    found = {
        route: [record["winner"]["params"] for record in searches(bench, "ResNet56", dataset, route, extra=True)]
        for route in (TYPICAL, OURS)
    }
    rows = []
    for name, distribution in bench.preset.space(extra=True).items():
        assert isinstance(distribution, Float | Int)
        row: Record = {"hyperparameter": name, "log": distribution.log}
        for route, key in ((TYPICAL, "typical"), (OURS, "pruned")):
            values = [math.log10(p[name]) if distribution.log else float(p[name]) for p in found[route]]
            mean = statistics.fmean(values)
            row |= {
                f"{key}_mean": 10**mean if distribution.log else mean,
                f"{key}_deviation": statistics.stdev(values) if len(values) > 1 else None,
                f"{key}_values": [p[name] for p in found[route]],
            }
        rows.append(row)
    columns = {
        "hyperparameter": "hyperparameter", "typical_mean": "typical HPO, mean", "typical_deviation": "deviation",
        "pruned_mean": "with pruning, mean", "pruned_deviation": "deviation ",
    }  # fmt: skip
    says = evidence()["additional_hparams"]["fig3"]
    return Table(columns, rows, ("means of logarithms where the search is logarithmic, deviations in powers of ten",
                                 f"paper: {says}"))  # fmt: skip


def _extra_dataset(bench: Bench) -> str:
    """The paper's, CIFAR-100, where the preset has something for it."""
    paper: str = evidence()["additional_hparams"]["dataset"]
    return paper if paper in bench.preset.datasets else next(iter(bench.preset.datasets))


def _searching(records: Sequence[Record]) -> float:
    """Seconds of all trials."""
    return sum(record["search"]["seconds"] for record in records)


def _pace(records: Sequence[Record]) -> float:
    """Seconds of an epoch: batch sizes and stopped trials differ between searches."""
    return _searching(records) / sum(record["search"]["epochs"] for record in records)


def _step_saved(records: Sequence[Record]) -> float:
    """Share of a training step's time; the mean of the seeds."""
    costs = [record["cost"] for record in records]
    return statistics.fmean(1 - cost["proxy"]["step_seconds"] / cost["base"]["step_seconds"] for cost in costs)


def _energy(typical: Sequence[Record], pruned: Sequence[Record]) -> Record:
    """Energy of the searches where it was measured."""
    kwh = {
        name: sum(record["energy"]["search"]["kwh"] for record in records)
        for name, records in (("typical", typical), ("pruned", pruned))
        if all("energy" in record for record in records)
    }
    saved = 100 * (1 - kwh["pruned"] / kwh["typical"]) if len(kwh) == 2 and kwh["typical"] else None
    return {"energy_kwh": kwh, "energy_saved": saved}


def _printed(row: Any, dataset: str) -> Printed:
    """Accuracy and difference to the target's own proxy in a cell of Table 5; None where it is stripped."""
    value = row.get(dataset) if isinstance(row, dict) else None
    if isinstance(value, list):
        return float(value[0]), float(value[1])
    return (float(value) if isinstance(value, int | float) else None), None


TABLES: Final[Mapping[str, Callable[[Bench], Table]]] = {
    "table1": table1, "table3": table3, "table4": table4, "table5": table5,
    "figure2": figure2, "figure3": figure3, "extra": extra,
}  # fmt: skip


MOST_LINES: Final = 24
"""Of a curve on the terminal; all of it is in the JSON."""


def result(found: Mapping[str, Table], bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    """Everything that was found, as plain values."""
    return {
        "benchmark": "paper",
        "settings": {"scale": options.scale, "device": options.device, **bench.preset.record()},
        "paper": {"file": EVIDENCE.name, "missing": "null where the text that we have does not give it"},
        "seeds": list(range(bench.preset.seeds)),
        **provenance(bench.device, load=True, threads=options.threads),
        "results": {name: {"rows": each.rows, "notes": list(each.notes)} for name, each in found.items()},
    }


def report(name: str, found: Table, bench: Bench, *, markdown: bool) -> str:
    """One table, what stands for what, and what is to be said of it."""
    rows = found.rows
    if len(rows) > MOST_LINES and "epoch" in found.columns:
        rows = [rows[round(i * (len(rows) - 1) / (MOST_LINES - 1))] for i in range(MOST_LINES)]
    body = [[_cell(row[key]) for key in found.columns] for row in rows]
    lines = [f"{'## ' if markdown else ''}{name}", "", table(list(found.columns.values()), body, markdown=markdown), ""]
    return "\n".join([*lines, *(f"{note[0].upper()}{note[1:]}." for note in (*found.notes, *stand_ins(bench))), ""])


def _cell(value: object) -> object:
    """Small numbers, such as learning rates, with three digits that say something."""
    return f"{value:.3g}" if isinstance(value, float) and 0 < abs(value) < 0.01 else value


def stand_ins(bench: Bench) -> list[str]:
    """Which networks and datasets are not the paper's."""
    full, here = PRESETS["full"], bench.preset
    pairs = [f"{theirs}: {ours}" for theirs, ours in here.networks.items() if full.networks[theirs] != ours]
    pairs += [f"{theirs}: {ours[0]}" for theirs, ours in here.datasets.items() if full.datasets[theirs][0] != ours[0]]
    return [f"In the place of the paper's: {', '.join(pairs)}"] if pairs else []

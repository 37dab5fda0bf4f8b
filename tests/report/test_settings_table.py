"""What the report says of the transfer rule: who follows it, and by which factors."""

from __future__ import annotations

from pathlib import Path

import pytest

import prunetune
from prunetune.report import tables
from prunetune.report.run import load_run
from tiny_tune import INPUTS, SPACE, net, touch


@pytest.mark.parametrize(
    ("optimizers", "transfer", "said"),
    [
        ("asked", "mup", "those with report.param_groups"),
        ("adam", "mup", "all, as adam"),
        ("asked", "identity", None),
    ],
)
def test_the_factors_of_the_first_rung(tmp_path: Path, optimizers: str, transfer: str, said: str | None) -> None:
    def train(model: object, params: dict[str, float], report: prunetune.Report) -> float:
        touch(model)  # type: ignore[arg-type]
        report(params["lr"], 1)
        return params["lr"]

    prunetune.tune(
        net, train, SPACE, example_inputs=INPUTS, epochs=1, run_dir=tmp_path,
        pruning=prunetune.Pruning(scorer="magnitude", ratio=0.25, optimizers=optimizers, transfer=transfer),  # type: ignore[arg-type]
        search=prunetune.Search(direction="maximize", n_trials=2, confirm=1), observer=prunetune.silent,
    )  # fmt: skip
    rows = dict(tables.settings(load_run(tmp_path)).rows)
    assert rows.get("optimizers that follow it") == said
    # Of 16 units 4 are left: by table 3 of Tensor Programs V the first layer has r, the hidden one 1, the readout 1/r.
    by_hand = {"sgd": "times 0.25 to 4, by layer", "adam": "times 1 to 4, by layer"}
    same = dict.fromkeys(by_hand, "times 1 to 1, by layer")
    found = {kind: rows[f"learning rates on rung 1, {kind}"] for kind in by_hand}
    assert found == (same if transfer == "identity" else by_hand)

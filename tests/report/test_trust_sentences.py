"""What the page says of the proxy's errors: the sentences, for each way in which a confirmation can have ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import RESULT, four_trials, write_run

from prunetune.errors import InputError
from prunetune.record.schema import Correlation, Result, Trust
from prunetune.report import load_run
from prunetune.report.page import render
from prunetune.report.run import Run
from prunetune.report.trust import trust_sentences

TRUST = Trust(
    searched=50,
    confirmed=3,
    missed=0.197,
    missed_by_full_network=0.02,
    basis="the check, in which 8 configurations were trained on both",
    believed=Correlation(0.9, 0.66, 0.97),
    compared=4,
    correlation=Correlation(0.8, -0.75, 1.0, 4),
    pairs_in_order=5,
    pairs=6,
    transfer_regret=0.0125,
    transfer_outcome="complete",
)


def said(**changes: Any) -> str:
    run = Run("demo", Result(1, trust=replace(TRUST, **changes)))
    return " ".join(trust_sentences(run))


def test_all_that_there_is_to_say() -> None:
    assert said() == (
        "The full network's best of the 50 configurations that were searched is not among the 3 best on the proxy with "
        "a probability of 19.7 % (estimate); had the search been on the full network itself, 2.0 %. This takes the "
        "rank correlation to be 0.90 [0.66, 0.97]: the check, in which 8 configurations were trained on both. Of the 6 "
        "pairs among them that came to an end on the full network, the proxy had 5 in the right order (Spearman 0.80, "
        "95 % interval -0.75 to 1.00). Plain transfer of the proxy's first choice would have cost 0.0125 of the score."
    )


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"confirmed": 1}, "is not the best on the proxy with a probability of"),
        ({"confirmed": 0}, "The first choice of the proxy was not trained on the full network."),
        ({"level": 0.1}, "More would have to be confirmed to come below 10.0 %."),
        ({"pairs": 1, "pairs_in_order": 0}, "The two that came to an end had the opposite order on both networks"),
        ({"pairs": 1, "pairs_in_order": 1}, "The two that came to an end had the same order on both networks"),
        ({"transfer_regret": 0.0}, "Plain transfer of the proxy's first choice would have found the same winner."),
        ({"transfer_regret": None, "transfer_outcome": "pruned"}, "The proxy's first choice was stopped early on the"),
        ({"transfer_regret": None, "transfer_outcome": "diverged"}, "The proxy's first choice diverged on the full"),
        ({"transfer_regret": None, "transfer_outcome": "failed"}, "The proxy's first choice came to no score on the"),
    ],
)
def test_each_case(changes: dict[str, Any], sentence: str) -> None:
    assert sentence in said(**changes)


def test_what_is_not_known_is_not_said() -> None:
    assert "had the search been" not in said(missed_by_full_network=None)
    assert "Spearman" not in said(correlation=Correlation(0.5, -1, 1, 3), pairs=3)
    assert "pairs" not in said(pairs=0)
    assert "More would" not in said(level=0.1, missed=0.099)
    assert "Plain transfer" not in said(compared=1)
    assert "first choice" not in said(transfer_regret=None, transfer_outcome=None)
    assert trust_sentences(Run("demo", Result(1))) == ()
    assert trust_sentences(Run("demo", Result(1, trust=Trust()))) == ()


def test_the_page_has_them_and_nothing_in_them_acts(tmp_path: Path) -> None:
    trust = {"searched": 5, "confirmed": 3, "missed": 0.125, "basis": "<b>x</b>"}
    believed = {"value": 0.9, "low": 0.5, "high": 1.0}
    folder = write_run(tmp_path / "run", {**RESULT, "trust": {**trust, "believed": believed}}, four_trials())
    page = render(load_run(folder))
    assert "best of the 5 configurations that were searched" in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page
    assert "<b>x</b>" not in page


def test_a_damaged_trust_is_one_sentence(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", {**RESULT, "trust": {"missed": "often"}})
    with pytest.raises(InputError, match=r"is not a result.json of prunetune: trust.missed: Input should be a valid"):
        load_run(folder)

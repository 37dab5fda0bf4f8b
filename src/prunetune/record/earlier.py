"""Records of searches on one proxy, as version 0.1 wrote them, read as the ladders of two rungs that they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from prunetune.record.provenance import Record

AXES: Final = ("epochs", "resolution", "data")
TRIALS: Final = 50
CONFIRM: Final = 3
"""What was run and confirmed where nobody said it; ``confirm="auto"`` is taken for it, too."""
GONE: Final = ("fidelity", "race", "raced", "refine", "refinement", "rungs", "trust")


def with_ladder(record: Record) -> Record:
    """The record of a run, which has a ladder in any case: many on a proxy, the best in full.

    What was trained on the full network to refine the best comes after what was confirmed, counted on from the trials.
    """
    if record.get("ladder") or "cost" not in record:
        return record
    now = {name: value for name, value in record.items() if name not in GONE}
    refined = ((record.get("refinement") or {}).get("trials")) or ()
    first = max([record["n_trials"], *(each["trial"] + 1 for each in record["confirmation"])])
    now["confirmation"] = [
        *record["confirmation"],
        *({**each, "trial": first + place, "proxy_score": None} for place, each in enumerate(refined)),
    ]
    winner = record.get("winner")
    if winner and winner.get("refine_trial"):
        now["winner"] = {**winner, "trial": first + winner["refine_trial"] - 1}
    time = record["time"]
    now["time"] = {**time, "confirm": (time.get("confirm") or 0.0) + (time.get("refine") or 0.0)}
    now["time"].pop("refine", None)
    confirm = record["confirm"] if isinstance(record["confirm"], int) else CONFIRM
    now["confirm"] = max(1, confirm, len(now["confirmation"]))
    asked = {"ladder": "paper", "n_trials": record["n_trials"], "confirm": confirm, "trainings": None, "seconds": None}
    now["ladder"] = {"earlier": True, "asked": asked, **_ladder(record, now["confirm"])}
    return now


def _ladder(record: Record, confirmed: int) -> Record:
    cost = record["cost"]
    trial = cost.get("trial") or {}
    shares = {axis: (trial.get("fidelity") or {}).get(axis) or 1.0 for axis in AXES}
    step = cost["proxy"]["step_seconds"] / (cost["base"]["step_seconds"] or 1.0)
    predicted = trial.get("predicted") or {}
    price = predicted.get("total") or step * shares["epochs"] * shares["data"]
    entrants = [record["n_trials"], min(confirmed, record["n_trials"])]
    names = [", ".join(["the proxy", *(f"{share:.3g} of the {axis}" for axis, share in shares.items() if share < 1)])]
    names.append("the full network")
    rungs = [{"width": None, **shares, "trials": entrants[0], "keep": entrants[1]}, {}]
    prices = [price, 1.0]
    studies = ("search", "confirm")
    told = [
        {"network": name, "entrants": n, "price": each, "study": study}
        for name, n, each, study in zip(names, entrants, prices, studies, strict=True)
    ]
    whole: dict[str, Any] = {"ladder": rungs, "prices": prices, "reasons": [], "networks": names, "entrants": entrants}
    steps = [{"width": None, "resolution": shares["resolution"], "ratio": predicted.get("step") or step}]
    return {
        "plan": {**whole, "total": sum(n * each for n, each in zip(entrants, prices, strict=True))},
        "rungs": told,
        "reasons": [],
        "costs": {"epochs": record["epochs"], "steps": steps},
        "networks": [{"width": None, "file": "plan.json", "sha256": record["pruning"]["plan_sha256"]}],
        "full_seconds": None,
    }

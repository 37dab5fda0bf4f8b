"""What a record says, in sentences for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

ENERGY_PHASES: Final = ("search", "confirm")
PHASES: Final = ("prune", "measure", "search", "climb", "confirm")
"""All that finding the hyperparameters takes time for."""


def energy_sentence(energy: Mapping[str, Any]) -> str:
    """What all phases took, for people.

    >>> search = {"kwh": 0.5, "co2_kg": 0.2, "seconds": 3600.0}
    >>> energy_sentence({"by": "codecarbon 3.3.2", "country": "KOR", "search": search})
    '0.5 kWh, 200 g of CO₂ (KOR); search 0.5 kWh'
    """
    parts = {phase: energy[phase] for phase in ENERGY_PHASES if energy.get(phase) is not None}
    kwh, co2 = 0.0, None if not parts else 0.0
    for part in parts.values():
        kwh, co2 = kwh + part["kwh"], added(co2, part["co2_kg"])
    grid = f", {1000 * co2:.3g} g of CO₂ ({energy['country']})" if co2 is not None else ""
    shares = ", ".join(f"{phase} {part['kwh']:.3g} kWh" for phase, part in parts.items())
    return f"{kwh:.3g} kWh{grid}; {shares}"


def added(a: float | None, b: float | None) -> float | None:
    """The sum; None where one of them is not known."""
    return None if a is None or b is None else a + b


def transfer_sentence(transfer: str, asked: int, complete: int) -> str:
    """How proxies took their hyperparameters, where ``asked`` of ``complete`` trials asked for parameter groups.

    >>> transfer_sentence("mup", 3, 3)
    "transfer 'mup': learning rates on the proxy were corrected for its width"
    """
    if not complete:
        return ""
    if transfer == "identity":
        return "transfer 'identity': proxy and full network got the same hyperparameters"
    if not asked:
        return (
            f"transfer {transfer!r} had no effect: the train function never called report.param_groups(model, lr=…), "
            "so proxy and full network got the same hyperparameters"
        )
    where = "" if asked == complete else f" in {asked} of {complete} trials; the others never asked for it"
    return f"transfer {transfer!r}: learning rates on the proxy were corrected for its width{where}"


def first_network(rungs: int) -> str:
    """What the network of the search is called, where a ladder has so many rungs.

    >>> first_network(4), first_network(1)
    ('rung 1', 'the full network')
    """
    return "the full network" if rungs == 1 else "rung 1"


def compared_with(customary: float | None) -> str:
    """What the time of a run is held against; version 0.1 knew no cost of the customary search."""
    return "the search on the full network" if customary is None else "the customary search"


def spent(time: Mapping[str, Any]) -> float:
    """Seconds from pruning to the winner, by a record's ``time``."""
    return float(sum(time.get(phase) or 0.0 for phase in PHASES))


def did_not_pay(record: Mapping[str, Any]) -> str:
    """What to know after a run that took longer than its search would have on the full network; else empty."""
    estimate = record["time"]["search_on_base_estimate"]
    took = spent(record["time"])
    if record["pruning"].get("ratio") == 1 or not estimate or took < estimate:
        return ""
    return (
        f"It did not pay here: from pruning to the winner it took {took / estimate:.3g} times as long as "
        f"{compared_with(record['ladder'].get('customary'))} would have taken (an estimate)."
    )

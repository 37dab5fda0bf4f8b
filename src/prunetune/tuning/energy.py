"""Electricity and CO2 of a run, as codecarbon measures them where it is installed.

Nothing goes over the network. The whole machine is measured, and what else runs on it counts, too; workers on other
machines do not.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from prunetune._utils.extras import require, version
from prunetune.errors import InputError, warn_caller
from prunetune.record.sentences import added

EXTRA: Final = "prunetune[energy]"


@dataclass(frozen=True)
class Meter:
    """Measures phases of a run, or nothing.

    ``asked``: whether to measure; None is where codecarbon is installed. ``country`` is the three-letter ISO code of
    the grid, which says how much CO2 a kilowatt-hour is; without it, or a configuration of codecarbon's own that names
    one, there is energy alone.

    Raises
    ------
    InputError
        It is asked for, and codecarbon is not installed; or codecarbon does not know the country.
    """

    asked: bool | None = None
    country: str | None = None

    def __post_init__(self) -> None:
        if self.asked is not None and not isinstance(self.asked, bool):
            raise InputError(f"energy is {self.asked!r}, but it must be True, False or None")
        if self.asked:
            require("codecarbon", EXTRA, "energy = true")
        if self.country is not None and self.measures:
            _check_country(self.country)

    @property
    def measures(self) -> bool:
        """Whether anything is measured."""
        if self.asked is None:
            return importlib.util.find_spec("codecarbon") is not None
        return self.asked

    @contextlib.contextmanager
    def measured(self, record: dict[str, Any], phase: str) -> Iterator[None]:
        """Add what the block takes to ``record["energy"][phase]``: ``kwh``, ``co2_kg`` and ``seconds``.

        A run that goes on adds to what there is; what was killed is not in it.
        """
        tracker = self._started() if self.measures else None
        try:
            yield
        finally:
            found = None if tracker is None else _stopped(tracker)
            if found is not None:
                record["energy"] = _added(record.get("energy"), phase, found)
            elif self.asked:
                warn_caller(f"codecarbon measured nothing of the phase {phase!r}")

    def _started(self) -> Any:
        """A tracker that runs; None, unless it was asked for, where this machine cannot be measured."""
        from codecarbon import OfflineEmissionsTracker

        where = {} if self.country is None else {"country_iso_code": self.country}
        try:
            with _quiet():
                tracker = OfflineEmissionsTracker(
                    **where, save_to_file=False, allow_multiple_runs=True, log_level="critical"
                )
                tracker.start()
        except Exception as error:  # whatever the sensors of a machine raise
            if self.asked:
                raise InputError(f"energy = true, but codecarbon cannot measure here: {error}") from error
            return None
        return tracker


def _stopped(tracker: Any) -> dict[str, Any] | None:
    """What a tracker measured; None where it measured nothing."""
    with _quiet(), contextlib.suppress(Exception):  # a run is not lost because of what it used
        tracker.stop()
    data = getattr(tracker, "final_emissions_data", None)
    if data is None:
        return None
    return {
        "kwh": float(data.energy_consumed),
        "co2_kg": float(data.emissions) if data.country_name else None,
        "seconds": float(data.duration),
        "country": data.country_iso_code or None,
    }


def _added(before: Mapping[str, Any] | None, phase: str, found: Mapping[str, Any]) -> dict[str, Any]:
    """The record's part with one more measurement."""
    part = {name: found[name] for name in ("kwh", "co2_kg", "seconds")}
    known = (before or {}).get(phase)
    if known is not None:
        part = {name: added(known[name], value) for name, value in part.items()}
    by = f"codecarbon {version('codecarbon')}"
    return {**(before or {}), "by": by, "country": found["country"], phase: part}


def _check_country(code: str) -> None:
    from codecarbon.input import DataSource

    if code not in DataSource().get_global_energy_mix_data():
        raise InputError(
            f"country is {code!r}, which codecarbon does not know; give a three-letter ISO code, such as 'KOR' or 'DEU'"
        )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what codecarbon logs before it is told not to, and what its libraries warn of; a warning that is an error
    would end it, which it hides.
    """
    logger = logging.getLogger("codecarbon")
    before = logger.level, logger.disabled
    logger.disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.level, logger.disabled = before

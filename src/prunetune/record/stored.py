"""``result.json``, read by who cannot do without what a prunetune of any version has written into it.

The report shows what there is (``record.schema``, whose types these are). Whoever goes on with a run or sums it up gets
one sentence here for what is missing, and nothing of what is read here can fail later. ``field()`` takes away the
default that a class of the report's has.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import FiniteFloat, TypeAdapter, ValidationError

from prunetune.errors import InputError
from prunetune.record import schema as shown
from prunetune.record.folder import FORMAT, read_json

if TYPE_CHECKING:
    from prunetune.record.provenance import Record


@dataclass(frozen=True, kw_only=True)
class Pruning(shown.Pruning):
    """How the proxy was made."""

    plan_sha256: str = field()


@dataclass(frozen=True, kw_only=True)
class NetworkCost(shown.NetworkCost):
    """What one network costs."""

    parameters: int = field()
    flops: int = field()
    step_seconds: FiniteFloat = field()


@dataclass(frozen=True, kw_only=True)
class Predicted(shown.TrialShares):
    """What a trial was to cost."""

    total: FiniteFloat = field()


@dataclass(frozen=True, kw_only=True)
class TrialCost(shown.TrialCost):
    """The cost of a trial; ``fidelity`` is what the trials are run with."""

    fidelity: shown.Fidelity = field()
    predicted: Predicted | None = field()
    measured: Predicted | None = field()


@dataclass(frozen=True, kw_only=True)
class Cost(shown.Cost):
    """What both networks cost, and a trial."""

    base: NetworkCost = field()
    proxy: NetworkCost = field()
    trial: TrialCost | None = None  # not in records of earlier versions


@dataclass(frozen=True, kw_only=True)
class Choice(shown.Choice):
    """A trial with its hyperparameters."""

    trial: int | None = field()
    params: dict[str, Any] = field()
    score: FiniteFloat = field()


@dataclass(frozen=True, kw_only=True)
class Search(shown.Search):
    """The search so far."""

    trials: dict[str, int] = field()


@dataclass(frozen=True, kw_only=True)
class Confirmation(shown.Confirmation):
    """A training of the full network."""

    params: dict[str, Any] = field()
    outcome: str = field()


@dataclass(frozen=True, kw_only=True)
class Refinement(shown.Refinement):
    """The trials of the refinement, and where they are looked for."""

    space: dict[str, Any] = field()


@dataclass(frozen=True, kw_only=True)
class Time(shown.Time):
    """Seconds by phase."""

    search: FiniteFloat = 0.0
    confirm: FiniteFloat = 0.0
    total: FiniteFloat = 0.0


@dataclass(frozen=True, kw_only=True)
class Begun(shown.Result):
    """What a run has written that has begun."""

    id: str | None = None
    status: str = field()
    seed: int = field()
    space: dict[str, dict[str, Any]] = field()
    optimizer: str = field()
    n_trials: int = field()
    epochs: int = field()
    confirm: int | Literal["auto"] = field()
    refine: int = 0  # not in records of earlier versions
    fidelity: shown.Fidelity = field(default_factory=shown.Fidelity)  # likewise
    pruning: Pruning = field()
    cost: Cost = field()
    search: Search | None = field()
    confirmation: tuple[Confirmation, ...] = field()
    refinement: Refinement | None = None
    winner: Choice | None = field()
    time: Time = field()
    test: dict[str, float | None] = field()


@dataclass(frozen=True, kw_only=True)
class Finished(Begun):
    """What a run has written that has come to its end."""

    search: Search = field()
    winner: Choice = field()


def read_record(path: Path) -> Record | None:
    """The contents of ``result.json``, with all in it that a run of its status has; None if there is no such file.

    Raises InputError if it is damaged, or of another format.
    """
    stored = read_json(path)
    if stored is None:
        return None
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise InputError(f"{path} is not of format {FORMAT}; choose another run folder")
    check_stored(path, stored, Finished if stored.get("status") == "finished" else Begun)
    return stored


def check_stored(path: Path, stored: Any, kind: type) -> None:
    """Raise InputError, naming the first key that is missing or wrong, unless ``stored`` has all that ``kind`` has."""
    try:
        _adapter(kind).validate_python(stored)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole file"
        raise InputError(f"{path} is damaged ({where}: {first['msg']}); choose another run folder") from None


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)

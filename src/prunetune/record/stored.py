"""``result.json``, read by code that cannot do without what a prunetune of any version has written into it.

The report shows what there is. Whoever continues a run or sums it up gets one sentence here for what is missing or
wrong, so that nothing that is read here can fail later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from prunetune.errors import InputError
from prunetune.record.earlier import with_ladder
from prunetune.record.folder import FORMAT, read_json
from prunetune.record.schema import Result

if TYPE_CHECKING:
    from prunetune.record.provenance import Record

BEGUN: Final = (
    *("status", "seed", "space", "optimizer", "n_trials", "epochs", "confirm", "time", "test"),
    *("pruning.plan_sha256", "search?.trials", "winner?.params", "winner?.score"),
    *(f"cost.{network}.{name}" for network in ("base", "proxy") for name in ("parameters", "flops", "step_seconds")),
    *(f"ladder?.{name}" for name in ("plan", "rungs", "reasons", "costs", "networks")),
    *("confirmation.*.trial", "confirmation.*.params", "confirmation.*.outcome"),
)
"""What a run has written once it has begun. What stands before a question mark may be missing; a star is each entry."""
LATER: Final = ("search", "winner")
"""What is in every record, null until it is known."""
FINISHED: Final = (
    *(*BEGUN, "search", "winner.trial", "direction"),
    *(f"time.{phase}" for phase in ("search", "confirm", "total")),
)


def read_record(path: Path) -> Record | None:
    """The contents of ``result.json``, all that a run of its status has, and a ladder; None if there is no such file.

    Raises InputError if it is damaged, or of another format.
    """
    stored = read_json(path)
    if stored is None:
        return None
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        raise InputError(f"{path} is not of format {FORMAT}; choose another run folder")
    stored, wrong = _converted(stored)
    check_stored(path, stored, Result)
    for name in LATER:
        if name not in stored:
            raise _damaged(path, name, "Field required")
    for need in FINISHED if stored.get("status") == "finished" else BEGUN:
        for missing in _missing(stored, need.split(".")):
            raise _damaged(path, missing, "Field required")
    if wrong:
        raise _damaged(path, "what version 0.1 wrote", wrong)
    return stored


def _converted(stored: Record) -> tuple[Record, str]:
    """The record with its ladder; one that is too damaged for that as it is, and why."""
    try:
        return with_ladder(stored), ""
    except (TypeError, ValueError, LookupError, AttributeError) as error:
        return stored, str(error) or type(error).__name__


def check_stored(path: Path, stored: Any, kind: type) -> None:
    """Raise InputError, naming the first key that is wrong, unless ``stored`` is a ``kind``."""
    try:
        _adapter(kind).validate_python(stored)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise _damaged(path, ".".join(str(part) for part in first["loc"]) or "the whole file", first["msg"]) from None


def _missing(value: Any, need: Sequence[str], where: str = "") -> Iterator[str]:
    """Names of what ``need`` leads to and ``value`` lacks."""
    if not need:
        return
    if need[0] == "*":
        for place, each in enumerate(value):
            yield from _missing(each, need[1:], f"{where}{place}.")
        return
    key = need[0].removesuffix("?")
    found = value.get(key)
    if found is not None:
        yield from _missing(found, need[1:], f"{where}{key}.")
    elif not need[0].endswith("?"):
        yield f"{where}{key}"


def _damaged(path: Path, where: str, why: str) -> InputError:
    return InputError(f"{path} is damaged ({where}: {why}); choose another run folder")


@cache
def _adapter(kind: type) -> TypeAdapter[Any]:
    return TypeAdapter(kind)

"""What a user asked of a search: a ladder, by name or rung by rung, and a budget; or the search of two rungs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prunetune._utils.checks import real_number
from prunetune.errors import InputError
from prunetune.ladder import ladders
from prunetune.ladder.budget import read_budget
from prunetune.ladder.costs import Costs
from prunetune.ladder.named import networks_of
from prunetune.ladder.plan import Plan
from prunetune.ladder.rung import Ladder
from prunetune.pruning.budget import BUDGETS
from prunetune.tuning.fidelity import FULL, Fidelity, resolve_fidelity
from prunetune.tuning.settings import NO_BUDGET, Pruning, Search, Settings

if TYPE_CHECKING:
    from prunetune.tuning.problem import Problem


def settings_of(
    problem: Problem,
    pruning: Pruning,
    search: Search,
    fidelity: Fidelity | str,
    ladder: Ladder | str | None,
    budget: float | str | None,
) -> Settings:
    """The settings of a run that climbs a ladder; or has two rungs, where what is given only makes sense on these.

    Raises InputError for what does not go together, and for unknown names.
    """
    wanted = resolve_fidelity(fidelity)
    two_rungs = _of_two_rungs(pruning, search, wanted)
    if ladder is None and budget is None and (two_rungs or search.n_trials is not None):
        return with_two_rungs(problem, pruning, search, wanted)
    if isinstance(ladder, str):
        ladders.check(ladder)
    elif not isinstance(ladder, Ladder | None):
        raise InputError(f"ladder is {ladder!r}, but it must be a name ({', '.join(ladders)}) or a prunetune.Ladder")
    if isinstance(ladder, Ladder) and (late := [n for n, rung in enumerate(ladder.rungs, 1) if n > 1 and rung.trials]):
        raise InputError(
            f"rung {late[0]} of the ladder has trials, but hyperparameters are proposed on the first rung only; leave "
            "them out, and let more go up to it"
        )
    if isinstance(ladder, Ladder) and (budget is not None or search.n_trials is not None):
        given = "a budget" if budget is not None else "search.n_trials"
        raise InputError(f"{given} is given, but the rungs of the ladder say how many are trained; drop one of them")
    sizes = [f"pruning.{name}" for name in BUDGETS if getattr(pruning, name) is not None]
    proxy = _has_proxy(ladder) if isinstance(ladder, Ladder) else None in networks_of(ladder or "default")
    if unread := [name for name in two_rungs if not (proxy and name in sizes)]:
        what = "the planner chooses widths" if unread[0] in sizes else "the rungs of the ladder say that"
        raise InputError(
            f"{unread[0]} is given, but {what}; drop it, or drop {'ladder' if budget is None else 'budget'}"
            + (", or take ladder='confirm-3'" if unread[0] in sizes else "")
        )
    return _checked(
        Settings(
            problem.space,
            problem.epochs,
            pruning,
            search,
            problem.seed,
            ladder=ladder or "default",
            budget=NO_BUDGET if budget is None else read_budget(budget),
            trials=search.n_trials,
        )
    )


def with_two_rungs(problem: Problem, pruning: Pruning, search: Search, fidelity: Fidelity | str) -> Settings:
    """The settings of a search on one proxy, whose best are confirmed."""
    search = replace(search, n_trials=search.trials, confirm=search.confirmed)
    wanted = resolve_fidelity(fidelity)
    return _checked(Settings(problem.space, problem.epochs, pruning, search, problem.seed, wanted))


def resumed(settings: Settings, stored: Mapping[str, Any], folder: Path) -> Settings:
    """The settings of the run in ``folder``, whose record is given: its plan, if it has one.

    Raises InputError if it was started with another ladder or a larger budget.
    """
    part = stored.get("ladder")
    if settings.ladder is None:
        if part:
            raise InputError(
                f"the run in {folder} climbs a ladder, and what is given now is for a search of two rungs (n_trials, "
                "confirm, refine, fidelity or a size of the proxy); continue it with what it was started with, or "
                "choose another folder"
            )
        return settings
    if not part:
        if settings.ladder != "default" or settings.budget != NO_BUDGET:
            raise InputError(f"the run in {folder} was started without ladder and budget; choose another folder")
        numbers = {name: stored[name] for name in ("n_trials", "confirm")}
        return replace(settings, ladder=None, search=replace(settings.search, **numbers))
    before, now = part["asked"], settings.asked()
    for name, value in now.items():
        if before[name] != value and not (name in ("trainings", "seconds") and _more(before[name], value)):
            then, instead = (_shown(each) for each in (before[name], value))
            raise InputError(
                f"the run in {folder} was started with {_SAID[name]} {then}, now it is {instead}; continue it with the "
                "same or a larger budget, or choose another folder"
            )
    return settings.on(stored_plan(part, folder)[0].ladder)


def stored_plan(part: Mapping[str, Any], folder: Path) -> tuple[Plan, Costs]:
    """The plan of a run and what it was made of, as its record has them. Raises InputError if they are damaged."""
    try:
        plan, costs = Plan.from_record(part["plan"]), Costs.from_record(part["costs"])
        known = [part["full_seconds"]] if part.get("full_seconds") is not None else []
        if not all(0 < real_number("a cost", number) < math.inf for number in (*plan.prices, *plan.spending, *known)):
            raise ValueError("costs must be above 0")
        widths = {1.0, *(each["width"] for each in part["networks"])}
        if missing := [rung.describe() for rung in plan.ladder.rungs if rung.width not in widths]:
            raise ValueError(f"there is no network for {missing[0]}")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / 'result.json'} is damaged (ladder: {error}); choose another run folder") from None
    return plan, costs


_SAID: Final = {
    "ladder": "the ladder",
    "n_trials": "search.n_trials",
    "trainings": "a budget in full trainings of",
    "seconds": "a budget in seconds of",
}


def _shown(asked: Any) -> str:
    """A name, a number, or rungs in words.

    >>> _shown("paper"), _shown(None), _shown([{"width": 0.25, "trials": 8, "keep": 1}, {}])
    ("'paper'", 'none', '8 × 1/4 of the width → 1 × the full network')
    """
    if not isinstance(asked, list):
        return "none" if asked is None else repr(asked)
    ladder = Ladder.from_record(asked)
    return " → ".join(f"{n} × {rung.describe()}" for n, rung in zip(ladder.entrants, ladder.rungs, strict=True))


def _more(before: float | None, now: float | None) -> bool:
    return before is not None and now is not None and now > before


def _checked(settings: Settings) -> Settings:
    settings.study()
    return settings


def _of_two_rungs(pruning: Pruning, search: Search, fidelity: Fidelity) -> list[str]:
    """What is given that only a search of two rungs reads."""
    given = {
        "search.confirm": search.confirm is not None,
        "search.refine": search.refine > 0,
        "search.rungs": search.rungs != "truncated",
        "fidelity": fidelity != FULL,
        **{f"pruning.{name}": getattr(pruning, name) is not None for name in BUDGETS},
        "pruning.depth": pruning.depth,
    }
    return [name for name, there in given.items() if there]


def _has_proxy(ladder: Ladder) -> bool:
    return any(rung.width is None for rung in ladder.rungs)

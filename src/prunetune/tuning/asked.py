"""What a user asked of a search: a ladder, by name or rung by rung, and a budget."""

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
from prunetune.record.earlier import CONFIRM, TRIALS
from prunetune.tuning.settings import NO_BUDGET, Pruning, Search, Settings

if TYPE_CHECKING:
    from prunetune.tuning.problem import Problem


def settings_of(
    problem: Problem, pruning: Pruning, search: Search, ladder: Ladder | str | None, budget: float | str | None
) -> Settings:
    """The settings of a run. Raises InputError for what does not go together, and for unknown names."""
    given = sizes(pruning)
    if ladder is None:
        ladder = "paper" if given or search.confirm is not None else "default"
    elif isinstance(ladder, str):
        ladders.check(ladder)
    elif not isinstance(ladder, Ladder):
        raise InputError(f"ladder is {ladder!r}, but it must be a name ({', '.join(ladders)}) or a prunetune.Ladder")
    if isinstance(ladder, Ladder):
        _check_own(ladder, search, budget)
    elif search.confirm is not None and ladder != "paper":
        raise InputError(f"search.confirm is given, but the ladder {ladder!r} says how many go up to the end; drop it")
    has_proxy = _has_proxy(ladder) if isinstance(ladder, Ladder) else None in networks_of(ladder)
    if given and not has_proxy:
        what = "the rungs of the ladder say that" if isinstance(ladder, Ladder) else "the planner chooses widths"
        raise InputError(f"{given[0]} is given, but {what}; drop it, or take ladder='paper'")
    spent = NO_BUDGET if budget is None else read_budget(budget)
    settings = Settings(problem.space, problem.epochs, pruning, search, problem.seed, ladder, spent)
    settings.study()  # raises InputError for unknown names
    return settings


def sizes(pruning: Pruning) -> list[str]:
    """The options that say how small the proxy is, as a user writes them, where any is given."""
    return [f"pruning.{name}" for name in BUDGETS if getattr(pruning, name) is not None]


def may_cut(settings: Settings) -> bool:
    """Whether any rung may be of a network that is narrower than the full one."""
    asked = settings.ladder
    widths = {rung.width for rung in asked.rungs} if isinstance(asked, Ladder) else {*networks_of(asked)}
    return bool(widths - {1.0, None}) or (None in widths and settings.pruning.ratio != 1)


def _check_own(ladder: Ladder, search: Search, budget: float | str | None) -> None:
    if late := [n for n, rung in enumerate(ladder.rungs, 1) if n > 1 and rung.trials]:
        raise InputError(
            f"rung {late[0]} of the ladder has trials, but hyperparameters are proposed on the first rung only; leave "
            "them out, and let more go up to it"
        )
    numbers = {"a budget": budget, "search.n_trials": search.n_trials, "search.confirm": search.confirm}
    if given := [name for name, value in numbers.items() if value is not None]:
        raise InputError(f"{given[0]} is given, but the rungs of the ladder say how many are trained; drop one of them")


def resumed(settings: Settings, stored: Mapping[str, Any], folder: Path) -> Settings:
    """The settings of the run in ``folder``, whose record is given, with its plan.

    Raises InputError if it was started with another ladder or a larger budget.
    """
    part = stored["ladder"]
    before = part["asked"]
    if part.get("earlier"):
        if settings.ladder == "default" and settings.budget == NO_BUDGET:
            settings = replace(settings, ladder="paper")
        search = settings.search
        trials, confirm = search.n_trials or TRIALS, CONFIRM if search.confirm is None else search.confirm
        settings = replace(settings, search=replace(search, n_trials=trials, confirm=confirm))
    now = settings.asked()
    for name, value in now.items():
        if before[name] != value and not (name in RAISED and _more(before[name], value)):
            then, instead = (_shown(each) for each in (before[name], value))
            raise InputError(
                f"the run in {folder} was started with {_SAID[name]} {then}, now it is {instead}; continue it with the "
                "same or more, or choose another folder"
            )
    return settings.on(stored_plan(part, folder)[0].ladder)


def as_begun(settings: Settings, stored: Mapping[str, Any]) -> Settings:
    """The same settings with what was the default when an earlier run was started: its rule, its proxies' weights."""
    pruning, before = settings.pruning, stored.get("pruning") or {}
    if before.get("transfer") == EARLIER_RULE and pruning.transfer == Pruning().transfer:
        pruning = replace(pruning, transfer=EARLIER_RULE)
    if before.get("weights") == EARLIER_WEIGHTS and pruning.weights == "recovered":
        pruning = replace(pruning, weights=EARLIER_WEIGHTS)
    return replace(settings, pruning=pruning)


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


EARLIER_RULE: Final = "mup"
EARLIER_WEIGHTS: Final = "redraw"
"""The defaults before version 0.2."""
RAISED: Final = ("n_trials", "confirm", "trainings", "seconds")
_SAID: Final = {
    "ladder": "the ladder",
    "n_trials": "search.n_trials",
    "confirm": "search.confirm",
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


def _has_proxy(ladder: Ladder) -> bool:
    return any(rung.width is None for rung in ladder.rungs)

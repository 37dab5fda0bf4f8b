"""Samplers and trial pruners that are objects of the user's, under a name, as all others have one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeAlias

from prunetune.errors import InputError

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler

Optimizer: TypeAlias = "str | BaseSampler"
TrialPruner: TypeAlias = "str | BasePruner | None"

PREFIX = "object "


class Given(str):
    """The name of a ``thing`` that has none: what it is, for people and files to read."""

    thing: Any

    def __new__(cls, thing: Any) -> Self:
        """``object TPESampler`` for a ``TPESampler``."""
        made = super().__new__(cls, f"{PREFIX}{type(thing).__name__}")
        made.thing = thing
        return made

    def __deepcopy__(self, memo: object) -> Self:
        """Itself: the thing has a state that all share."""
        return self


def optimizer_name(optimizer: Optimizer) -> str:
    """The name of an optimizer, or ``Given`` for a sampler of Optuna's. Raises InputError for anything else.

    >>> optimizer_name("tpe")
    'tpe'
    """
    if isinstance(optimizer, str):
        return optimizer
    from optuna.samplers import BaseSampler

    return _given("optimizer", optimizer, BaseSampler, "sampler")


def trial_pruner_name(trial_pruner: TrialPruner) -> str:
    """As ``optimizer_name``, of a trial pruner; None stands for "none"."""
    if trial_pruner is None or isinstance(trial_pruner, str):
        return "none" if trial_pruner is None else trial_pruner
    from optuna.pruners import BasePruner

    return _given("trial_pruner", trial_pruner, BasePruner, "pruner")


def _given(name: str, thing: object, base: type, kind: str) -> Given:
    if isinstance(thing, type) and issubclass(thing, base):
        raise InputError(f"{name} is the class {thing.__name__}; give an object of it, {thing.__name__}(), or a name")
    if not isinstance(thing, base):
        raise InputError(f"{name} must be a name, or a {kind} of Optuna's; got {type(thing).__name__}")
    return Given(thing)


def check_at_hand(name: str) -> None:
    """Raise InputError for the name of an object of another process."""
    if name.startswith(PREFIX) and not isinstance(name, Given):
        raise InputError(
            f"the search uses an {name}, which only the process that made it has, so workers cannot join it; start "
            "a search whose optimizer and trial pruner are given by name"
        )

"""What a run is: the settings that it is started with and can only be continued with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from prunetune.backends import SearchSpace, full_name
from prunetune.backends.checks import real_number, whole_number
from prunetune.errors import InputError

if TYPE_CHECKING:
    from prunetune.backends.study import StudySettings


SEED_LIMIT: Final = 2**63


@dataclass(frozen=True)
class Pruning:
    """How the proxy is cut: the arguments of ``prunetune.prune``, ``scorer`` by name."""

    scorer: str = "synflow"
    percentile: float | None = None
    floor: float = 0.15
    ratio: float | None = None

    def __post_init__(self) -> None:
        for name in ("percentile", "floor", "ratio"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, real_number(name, getattr(self, name)))


@dataclass(frozen=True)
class Search:
    """How hyperparameters are searched on the proxy and confirmed on the full network.

    ``n_trials`` are finished on the proxy, then the ``confirm`` best are trained on the full network and the best of
    them wins. With ``confirm=0`` the proxy's best is trained without comparison: the paper's plain transfer.
    """

    n_trials: int = 50
    confirm: int = 3
    optimizer: str = "tpe"
    trial_pruner: str = "hyperband"
    direction: Literal["maximize", "minimize"] = "maximize"

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_trials", whole_number("n_trials", self.n_trials, minimum=1))
        object.__setattr__(self, "confirm", whole_number("confirm", self.confirm, minimum=0))


@dataclass(frozen=True)
class Settings:
    """All settings of a run."""

    space: SearchSpace
    epochs: int
    pruning: Pruning
    search: Search
    seed: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "epochs", whole_number("epochs", self.epochs, minimum=1))
        object.__setattr__(self, "seed", whole_number("seed", self.seed, minimum=0))
        if self.seed >= SEED_LIMIT:
            raise InputError(f"seed is {self.seed}, but it must be below 2**63")

    def study(self) -> StudySettings:
        """Those of the search on the proxy. Raises InputError for unknown names."""
        from prunetune.backends.study import StudySettings

        search = self.search
        return StudySettings(
            self.space, self.epochs, search.direction, search.optimizer, search.trial_pruner, self.seed
        )

    def to_record(self) -> dict[str, Any]:
        """The part of ``result.json`` that says what was asked for."""
        from prunetune.budgets import PAPER_PERCENTILE

        search, pruning = asdict(self.search), asdict(self.pruning)
        if self.pruning.ratio is not None:
            pruning["floor"] = None  # it belongs to the percentile
        elif self.pruning.percentile is None:
            pruning["percentile"] = PAPER_PERCENTILE
        return {
            "seed": self.seed,
            "epochs": self.epochs,
            **search,
            "space": self.space.to_dict(),
            "pruning": pruning,
        }

    def check_same(self, record: Mapping[str, Any], folder: Path) -> None:
        """Raise InputError, naming the first setting that differs, if ``record`` is of a run with other settings."""
        before, now = _flat(record), _flat(self.to_record())
        for name, value in now.items():
            if before.get(name) != value:
                raise InputError(
                    f"the run in {folder} was started with {name} = {before.get(name)!r}, now it is {value!r}; "
                    "continue it with the same settings, or choose another folder"
                )
        for name in before:
            if name.startswith("space.") and name not in now:
                raise InputError(
                    f"the run in {folder} searches {name.removeprefix('space.')!r} too, which is not in the space now; "
                    "continue it with the same settings, or choose another folder"
                )


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    parts = {name: record[name] for name in ("seed", "epochs", "n_trials", "confirm", "trial_pruner", "direction")}
    pruning = {f"pruning.{name}": record["pruning"][name] for name in ("scorer", "percentile", "floor", "ratio")}
    space = {f"space.{name}": each for name, each in record["space"].items()}
    return {**parts, "optimizer": full_name(record["optimizer"]), **pruning, **space}

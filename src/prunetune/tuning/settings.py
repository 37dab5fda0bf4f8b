"""What a run is: the settings that it is started with and can only be continued with."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeAlias

from annotated_types import Ge, Lt

from prunetune._utils.checks import Direction, known_direction
from prunetune._utils.options import Options
from prunetune.backends import RungsForm, SearchSpace, full_name
from prunetune.backends.given import Optimizer, TrialPruner, optimizer_name, trial_pruner_name
from prunetune.errors import InputError
from prunetune.ladder.budget import SearchBudget
from prunetune.ladder.rung import Ladder
from prunetune.plugins import check_scorer
from prunetune.pruning.budget import BUDGETS, PAPER_FLOOR, Budget, Share
from prunetune.transfer import transfers
from prunetune.tuning.fidelity import FULL, Fidelity

if TYPE_CHECKING:
    from prunetune.backends.study.study import StudySettings

Weights: TypeAlias = Literal["redraw", "reset", "sliced"]
SEED_LIMIT: Final = 2**63
TRIALS: Final = 50
CONFIRM: Final = 3
"""Of a search of two rungs, where they are not given."""
NO_BUDGET: Final = SearchBudget()
Seed: TypeAlias = Annotated[int, Ge(0), Lt(SEED_LIMIT)]
Count: TypeAlias = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class Pruning(Budget):
    """How the proxy is cut: the arguments of ``prunetune.prune``, ``scorer`` by name.

    ``weights`` says what every trial begins with, see ``prunetune.engine.fresh_proxy``; ``transfer`` what the proxy
    makes of hyperparameters that are right for the full network, see ``Report.param_groups``.
    """

    scorer: Annotated[str, check_scorer] = "synflow"
    ratio: Share | None = None
    weights: Weights = "redraw"
    transfer: Annotated[str, transfers.check] = "mup"

    def to_record(self) -> dict[str, Any]:
        """What was asked for, defaults filled in."""
        record = {**asdict(self), "protect": list(self.protect), "percentile": self.asked_percentile}
        if self.ratio is not None:
            record["floor"] = None  # it has no part in it
        return record


def absolute_url(storage: object) -> str:
    """The URL of a storage, whose file, if it is one, is found from any folder. Raises InputError for what is none."""
    from prunetune.backends.study.storage import absolute, check_url  # loads Optuna: only for a search

    if not isinstance(storage, str):
        raise InputError(f"storage must be a URL; got {type(storage).__name__}: write 'journal:///FILE', say")
    check_url(storage)
    return absolute(storage)


def check_study_name(name: object) -> None:
    """Raise InputError for what no study can be called."""
    if not isinstance(name, str) or not 1 <= len(name) <= 200:
        raise InputError(f"study is {name!r}, but it must be a name of 1 to 200 characters")


@dataclass(frozen=True)
class Search(Options):
    """How hyperparameters are searched on the proxy and confirmed on the full network.

    ``direction`` is "maximize" where a higher score is better, as of an accuracy, and "minimize" where a lower one is,
    as of a loss. It must be given: nothing else tells what your train function returns.

    A search climbs a ladder (see ``prunetune.tune``), which says how many are trained on each rung; ``n_trials`` is
    how many on the first, if you want to say it. Where it is given and no ladder, or ``confirm`` is, the search has two
    rungs: ``n_trials`` (50) are finished on the proxy, then the ``confirm`` (3) best are trained on the full network
    and the best of them wins. With ``confirm=0`` the proxy's best is trained without comparison: the paper's plain
    transfer. With ``confirm="auto"`` it is so many that the full network's best is missed less often than once in ten,
    as far as ``prunetune.check`` measured or a prior tells, and at most 8.

    With ``race`` a training on the full network is stopped when it is clearly behind the best that has finished. Then
    ``refine`` more trials are run on the full network, in narrowed ranges around the proxy's best, and the winner is
    the best of all.

    The study is in the run folder, or in a ``storage`` that other machines reach: ``postgresql://USER@HOST/NAME``,
    ``mysql://USER@HOST/NAME``, ``journal:///FILE`` (of Optuna), ``grpc://HOST:PORT`` (Optuna's proxy). There it is
    called ``study``, or as the run folder. A password in the URL is shown and written nowhere.

    ``optimizer`` and ``trial_pruner`` are names (``prunetune list optimizers``), or a sampler and a pruner of Optuna's;
    a search with such objects cannot be joined, and once stopped goes on with their random state begun anew.

    ``rungs`` says how a trial comes to the epochs at which the trial pruner judges it, 1, 3, 9, … with ASHA: on
    the way through its schedule ("truncated"), or each time in a training of its own with so many epochs, whose
    schedule is finished ("reannealed"), as long as the train function trains for ``report.epochs``.
    """

    n_trials: Count | None = None
    confirm: Literal["auto"] | Annotated[int, Ge(0)] | None = None
    optimizer: Annotated[Optimizer, optimizer_name] = "optuna:cmaes"
    trial_pruner: Annotated[TrialPruner, trial_pruner_name] = "asha"
    direction: Direction | None = None
    rungs: RungsForm = "truncated"
    storage: Annotated[str, absolute_url] | None = field(default=None, repr=False)
    study: Annotated[str, check_study_name] | None = None
    race: bool = True
    refine: Annotated[int, Ge(0)] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.study is not None and self.storage is None:
            raise InputError(
                f"study is {self.study!r}, but the study in a run folder has no other name; give a storage"
            )

    @property
    def trials(self) -> int:
        """How many are finished on the first rung, in the end."""
        return TRIALS if self.n_trials is None else self.n_trials

    @property
    def confirmed(self) -> int | Literal["auto"]:
        """How many of them are confirmed."""
        return CONFIRM if self.confirm is None else self.confirm

    def numbers(self) -> dict[str, Any]:
        """How many are trained: what may be raised later."""
        return {"n_trials": self.n_trials, "refine": self.refine, "confirm": self.confirm}

    def study_name(self, folder: Path) -> str:
        """What the search of the run in ``folder`` is called in its storage."""
        return "search" if self.storage is None else self.study or folder.resolve().name

    def to_record(self) -> dict[str, Any]:
        """What was asked for, without a password."""
        from prunetune.backends.study.storage import without_password  # loads Optuna: only for a search

        shown = None if self.storage is None else without_password(self.storage)
        return {**asdict(self), "storage": shown}


@dataclass(frozen=True)
class Settings(Options):
    """All settings of a run."""

    space: SearchSpace
    epochs: Count
    pruning: Pruning
    search: Search
    seed: Seed
    fidelity: Fidelity = FULL
    ladder: Ladder | str | None = None
    """What was asked for; None is a search of two rungs."""
    budget: SearchBudget = NO_BUDGET
    trials: Count | None = None
    """How many configurations were asked for on the first rung."""

    def on(self, ladder: Ladder) -> Self:
        """Those of a run that climbs ``ladder``: its search is the first rung."""
        first, last = ladder.rungs[0], ladder.entrants[-1]
        return replace(
            self,
            pruning=at_width(self.pruning, first.width),
            search=replace(self.search, n_trials=first.trials, confirm=last if len(ladder.rungs) > 1 else 0),
            fidelity=Fidelity(first.resolution, first.epochs, first.data),
        )

    def asked(self) -> dict[str, Any]:
        """What was asked of the ladder, as plain values."""
        named = self.ladder.to_record() if isinstance(self.ladder, Ladder) else self.ladder
        return {"ladder": named, "n_trials": self.trials, **asdict(self.budget)}

    def study(self) -> "StudySettings":
        """Those of the search on the proxy. Raises InputError for unknown names."""
        from prunetune.backends.study.study import StudySettings  # loads Optuna: only for a search

        search = self.search
        return StudySettings(
            self.space,
            self.fidelity.of_epochs(self.epochs),
            known_direction(search.direction, "search=prunetune.Search({})"),
            optimizer_name(search.optimizer),
            trial_pruner_name(search.trial_pruner),
            self.seed,
            search.rungs,
        )

    def to_record(self) -> dict[str, Any]:
        """The part of ``result.json`` that says what was asked for."""
        return {
            "seed": self.seed,
            "epochs": self.epochs,
            **self.search.to_record(),
            "space": self.space.to_dict(),
            "fidelity": self.fidelity.to_record(),
            "pruning": self.pruning.to_record(),
        }

    def check_same(self, record: Mapping[str, Any], folder: Path) -> None:
        """Raise InputError, naming the first setting that differs, if ``record`` is of a run with other settings.

        There may be more trials than before; where the study is kept is looked at when it is opened.
        """
        for name, now in self.search.numbers().items():
            before = record.get(name, 0)
            if "auto" not in (before, now) and now < before:
                raise InputError(
                    f"the run in {folder} was started with {name} = {before}, which can be raised, but now it is {now};"
                    " choose another folder"
                )
        old, new = _flat(record), _flat(self.to_record())
        for name, value in new.items():
            if name == "confirm" and "auto" not in (old[name], value):  # looked at above
                continue
            if old.get(name) != value and name.startswith("space."):
                raise InputError(
                    f"the run in {folder} was started with {name} = {old.get(name)!r}, now it is {value!r}, and a "
                    f"search keeps its space; {_ANOTHER_SPACE}"
                )
            if old.get(name) != value:
                raise InputError(
                    f"the run in {folder} was started with {name} = {old.get(name)!r}, now it is {value!r}; "
                    "continue it with the same settings, or choose another folder"
                )
        for name in old:
            if name.startswith("space.") and name not in new:
                raise InputError(
                    f"the run in {folder} searches {name.removeprefix('space.')!r} too, which is not in the space now; "
                    f"{_ANOTHER_SPACE}"
                )


def at_width(pruning: Pruning, width: float | None) -> Pruning:
    """How the proxy of a rung is cut: as ``pruning`` says, but to that share of every group's channels."""
    if width is None:
        return pruning
    changes: dict[str, Any] = {**dict.fromkeys(BUDGETS), "ratio": width, "depth": False, "floor": PAPER_FLOOR}
    return replace(pruning, **changes)


_ANOTHER_SPACE: Final = (
    "continue it with the same space, or choose another folder and begin there with the best of this run: "
    "tune(…, first=[…])"
)


def _flat(record: Mapping[str, Any]) -> dict[str, Any]:
    parts = {name: record.get(name) for name in ("seed", "epochs", "confirm", "trial_pruner", "direction")}
    parts["race"] = record.get("race", False)  # what runs were before there was a choice; and so the transfer
    asked = {"transfer": "identity", **record["pruning"]}
    pruning = {f"pruning.{field.name}": asked.get(field.name) for field in fields(Pruning)}
    space = {f"space.{name}": each for name, each in record["space"].items()}
    fidelity = {f"fidelity.{name}": each for name, each in record.get("fidelity", FULL.to_record()).items()}
    added = {"rungs": record.get("rungs", "truncated"), "optimizer": full_name(record["optimizer"])}
    return {**parts, **added, **fidelity, **pruning, **space}

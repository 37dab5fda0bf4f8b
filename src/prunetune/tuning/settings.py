"""What a run is: the settings that it is started with and can only be continued with."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self, TypeAlias

from annotated_types import Ge, Lt

from prunetune._utils.checks import Direction, known_direction
from prunetune._utils.options import Options
from prunetune.backends import SearchSpace, full_name
from prunetune.backends.given import Optimizer, TrialPruner, optimizer_name, trial_pruner_name
from prunetune.errors import InputError
from prunetune.ladder.budget import SearchBudget
from prunetune.ladder.rung import Ladder
from prunetune.plugins import check_scorer
from prunetune.pruning.budget import BUDGETS, PAPER_FLOOR, Budget, Share
from prunetune.transfer import transfers
from prunetune.transfer.kinds import Corrected

if TYPE_CHECKING:
    from prunetune.backends.study.study import StudySettings

Weights: TypeAlias = Literal["redraw", "reset", "sliced", "recovered"]
SEED_LIMIT: Final = 2**63
NO_BUDGET: Final = SearchBudget()
Seed: TypeAlias = Annotated[int, Ge(0), Lt(SEED_LIMIT)]
Count: TypeAlias = Annotated[int, Ge(1)]


@dataclass(frozen=True)
class Pruning(Budget):
    """How the proxy is cut, and what it makes of hyperparameters.

    Parameters
    ----------
    scorer, percentile, ratio, flops, params, speedup, depth, floor, protect, multiple_of, heads
        As for ``prunetune.prune``; the scorer by its name, and one share as ``ratio``. Without a size (``percentile``,
        ``ratio``, ``flops``, ``params``, ``speedup``) the planner of the default ladder chooses the widths.
    weights
        What every trial begins with: "redraw", the initial weights that ``model_fn`` has drawn, cut and rescaled for
        the narrower layers; "sliced", the same without rescaling; "reset", new ones, by ``reset_parameters``;
        "recovered", see ``prunetune.engine.fresh_proxy``. None is "redraw", or "recovered" where ``model_fn`` returns a
        pretrained network.
    transfer
        The rule by which a proxy corrects hyperparameters that are right for the full network
        (``prunetune list transfers``); see ``Report.param_groups``.
    optimizers
        Which optimizers are corrected. "asked": those that get ``report.param_groups(model, lr=…)``. "sgd" or "adam"
        (for AdamW and all others whose steps do not grow with the gradient): every torch optimizer that is built for a
        proxy's parameters, as one of that kind.
    """

    scorer: Annotated[str, check_scorer] = "synflow"
    ratio: Share | None = None
    weights: Weights | None = None
    transfer: Annotated[str, transfers.check] = "norm-aware"
    optimizers: Corrected = "asked"

    @property
    def begins(self) -> Weights:
        """The ``weights``, or what they are without a word on a network that does not come pretrained."""
        return self.weights or "redraw"

    def for_network(self, *, pretrained: bool) -> Self:
        """The same with ``weights`` that suit the network, where none were asked for."""
        return replace(self, weights="recovered") if self.weights is None and pretrained else self

    def to_record(self) -> dict[str, Any]:
        """What was asked for, defaults filled in."""
        asked = {**asdict(self), "weights": self.begins}
        record = {**asked, "protect": list(self.protect), "percentile": self.asked_percentile}
        if self.ratio is not None:
            record["floor"] = None  # it has no part in it
        if self.optimizers == "asked":  # as records were before there was a choice, and studies are named by them
            del record["optimizers"]
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
    """How hyperparameters are proposed, and where the search is kept.

    Parameters
    ----------
    n_trials
        How many configurations the first rung trains. By default the ladder says it (see ``prunetune.tune``).
    confirm
        How many of them are trained in full, on the ladder "paper", which has no rung in between.
    optimizer
        What proposes hyperparameters: a name (``prunetune list optimizers``), or a sampler of Optuna's. A search with
        an object cannot be joined by workers, and after a stop it continues with a new random state.
    trial_pruner
        What stops trials early: a name (``prunetune list trial-pruners``), or a pruner of Optuna's.
    direction
        "maximize" if a higher score is better, as of an accuracy; "minimize" if a lower one is, as of a loss. It must
        be given: nothing else tells what your train function returns.
    target
        A score that is good enough: a rung ends as soon as a configuration on it reaches it.
    patience
        The first rung also ends after this many trials without a better score. ``target`` and ``patience`` may be
        changed when a run is continued.
    storage
        The URL of a storage that other machines reach: ``postgresql://USER@HOST/NAME``, ``mysql://USER@HOST/NAME``,
        ``journal:///FILE`` (of Optuna), ``grpc://HOST:PORT`` (Optuna's proxy). By default the studies are in the run
        folder. A password in the URL is shown and written nowhere.
    study
        The name of the search in that storage; by default the name of the run folder.
    """

    n_trials: Count | None = None
    confirm: Annotated[int, Ge(0)] | None = None
    optimizer: Annotated[Optimizer, optimizer_name] = "optuna:cmaes"
    trial_pruner: Annotated[TrialPruner, trial_pruner_name] = "asha"
    direction: Direction | None = None
    target: float | None = None
    patience: Count | None = None
    storage: Annotated[str, absolute_url] | None = field(default=None, repr=False)
    study: Annotated[str, check_study_name] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.study is not None and self.storage is None:
            raise InputError(
                f"study is {self.study!r}, but the study in a run folder has no other name; give a storage"
            )

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
    ladder: Ladder | str = "default"
    """What was asked for."""
    budget: SearchBudget = NO_BUDGET
    climbed: Ladder | None = None
    """What was planned: the search is its first rung."""

    def for_network(self, *, pretrained: bool) -> Self:
        """Those of a run on a network that comes so."""
        return replace(self, pruning=self.pruning.for_network(pretrained=pretrained))

    def on(self, ladder: Ladder) -> Self:
        """Those of a run that climbs ``ladder``."""
        return replace(self, pruning=at_width(self.pruning, ladder.rungs[0].width), climbed=ladder)

    @property
    def trials(self) -> int:
        """How many are finished on the first rung, in the end; it has been planned."""
        assert self.climbed is not None
        return self.climbed.entrants[0]

    def asked(self) -> dict[str, Any]:
        """What was asked of the ladder, as plain values."""
        named = self.ladder.to_record() if isinstance(self.ladder, Ladder) else self.ladder
        return {
            "ladder": named,
            "n_trials": self.search.n_trials,
            "confirm": self.search.confirm,
            **asdict(self.budget),
        }

    def numbers(self) -> dict[str, int]:
        """How many are trained on the first rung and, if that is another, on the last."""
        if self.climbed is None:
            return {}
        last = self.climbed.entrants[-1] if len(self.climbed.rungs) > 1 else 0
        return {"n_trials": self.trials, "confirm": last}

    def study(self) -> "StudySettings":
        """Those of the search, on the first rung. Raises InputError for unknown names."""
        from prunetune.backends.study.study import StudySettings  # loads Optuna: only for a search

        search = self.search
        return StudySettings(
            self.space,
            self.epochs if self.climbed is None else self.climbed.rungs[0].of_epochs(self.epochs),
            known_direction(search.direction, "search=prunetune.Search({})"),
            optimizer_name(search.optimizer),
            trial_pruner_name(search.trial_pruner),
            self.seed,
        )

    def to_record(self) -> dict[str, Any]:
        """The part of ``result.json`` that says what was asked for."""
        return {
            "seed": self.seed,
            "epochs": self.epochs,
            **self.search.to_record(),
            **self.numbers(),
            "space": self.space.to_dict(),
            "pruning": self.pruning.to_record(),
        }

    def check_same(self, record: Mapping[str, Any], folder: Path) -> None:
        """Raise InputError, naming the first setting that differs, if ``record`` is of a run with other settings.

        The ladder is looked at elsewhere, and where the study is kept when it is opened.
        """
        old, new = _flat(record), _flat(self.to_record())
        for name, value in new.items():
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
    parts = {name: record.get(name) for name in ("seed", "epochs", "trial_pruner", "direction")}
    asked = {
        "transfer": "identity",
        "optimizers": "asked",
        **record["pruning"],
    }  # what runs were before there was a choice
    pruning = {f"pruning.{field.name}": asked.get(field.name) for field in fields(Pruning)}
    space = {f"space.{name}": each for name, each in record["space"].items()}
    return {**parts, "optimizer": full_name(record["optimizer"]), **pruning, **space}

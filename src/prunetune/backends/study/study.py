"""A study in a storage: made or found and checked to be the same search; and how its trials ended."""

from __future__ import annotations

import contextlib
import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self, get_args

import optuna
from optuna.pruners import BasePruner
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from prunetune._utils.checks import Direction, known_direction, whole_number
from prunetune.backends import full_name, optimizers, trial_pruners
from prunetune.backends.given import Given, check_at_hand
from prunetune.backends.samplers.seeded import sampler
from prunetune.backends.space import SearchSpace
from prunetune.backends.study.attributes import DISCOUNTED, FINGERPRINT, GIVEN_UP, OWNER, WITHDRAWN
from prunetune.backends.study.damage import NOTHING, Kind, check_trials
from prunetune.backends.study.retrying_storage import PATIENCE_SECONDS, PatientStorage
from prunetune.backends.study.storage import connected
from prunetune.backends.study.trial import Outcome
from prunetune.errors import InputError, SearchError, StorageError
from prunetune.events import Notice, Observer, silent
from prunetune.registry import build

if TYPE_CHECKING:
    from optuna.study._frozen import FrozenStudy

FINGERPRINT_FORMAT: Final = 1
RACE: Final = "race"
"""The trial pruner of full trainings in version 0.1, which are not stopped any more."""
MAKER_SECONDS: Final = 5.0
AWAIT_PAUSE: Final = 1.0
_SPACE: Final = "space."

_BY_STATE: Final[dict[TrialState, Outcome]] = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}


@dataclass(frozen=True)
class StudySettings:
    """What makes two searches the same: one study can be continued with equal settings only."""

    space: SearchSpace
    epochs: int
    direction: Direction = "maximize"
    optimizer: str = "optuna:cmaes"
    trial_pruner: str = "asha"
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "epochs", whole_number("epochs", self.epochs, minimum=1))
        object.__setattr__(self, "seed", whole_number("seed", self.seed, minimum=0))
        known_direction(self.direction)
        for name, registry in ((self.optimizer, optimizers), (self.trial_pruner, trial_pruners)):
            check_at_hand(name)
            if not isinstance(name, Given):
                registry.check(name)

    def fingerprint(self) -> dict[str, Any]:
        """The settings as plain values, one key a setting, one a dimension of the space."""
        return {
            "format": FINGERPRINT_FORMAT,
            "epochs": self.epochs,
            "direction": self.direction,
            "optimizer": full_name(self.optimizer),
            "trial_pruner": self.trial_pruner,
            "seed": self.seed,
            **{f"{_SPACE}{name}": each for name, each in self.space.to_dict().items()},
        }

    @classmethod
    def from_fingerprint(cls, fingerprint: Any, name: str) -> Self:
        """The settings of the study ``name`` that has this fingerprint. Raises SearchError if it is another version's.

        Raises InputError for an optimizer or a trial pruner that is not installed.
        """
        _check_format(fingerprint, name)
        space = {key.removeprefix(_SPACE): each for key, each in fingerprint.items() if key.startswith(_SPACE)}
        plain = ("epochs", "direction", "optimizer", "trial_pruner", "seed")
        try:
            return cls(SearchSpace.from_dict(space), **{key: fingerprint[key] for key in plain})
        except (LookupError, TypeError, AttributeError) as error:
            raise SearchError(f"the settings of the study {name!r} are damaged ({error!r}); start another") from None


@contextlib.contextmanager
def open_study(
    storage: str,
    name: str,
    settings: StudySettings,
    *,
    owner: Mapping[str, str] | None = None,
    observer: Observer = silent,
    patience: float = PATIENCE_SECONDS,
    needs: Mapping[str, Kind] = NOTHING,
) -> Iterator[optuna.Study]:
    """The study ``name`` in the storage at that URL, made if need be; closed when the block ends.

    Several processes may have it open, and may be the first to at the same moment; with ``owner`` (an ``id``, and the
    ``folder`` and ``host`` for people to read) only those with the same owner. A storage that goes away while it
    is open is waited for, ``patience`` seconds at most; ``observer`` hears of that. While the block lasts, Optuna logs
    warnings only. ``needs`` are user attributes that every trial has.

    Raises
    ------
    SearchError
        The storage cannot be opened, the study in it was started with other settings, or is damaged; the sentence
        says which.
    InputError
        The URL is of no known kind, or the package that it needs is not installed.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        database = stack.enter_context(connected(storage, observer=observer, patience=patience))
        study = _make_or_load(database, name, settings, owner)
        _check_same(study, settings)
        _check_owner(study, owner)
        _check_whole(study, settings, needs)
        yield study


@contextlib.contextmanager
def join_study(
    storage: str,
    name: str | None,
    *,
    marker: str,
    observer: Observer = silent,
    wait: float = PATIENCE_SECONDS,
) -> Iterator[tuple[optuna.Study, StudySettings]]:
    """A study that another process made, and its settings; like ``open_study`` otherwise.

    It is the one with the user attribute ``marker``, of several the one called ``name``, and may appear within ``wait``
    seconds only.

    Raises
    ------
    SearchError
        There is no such study, or none that this version can continue.
    InputError
        There are several and ``name`` is None, or the URL is impossible.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_quiet())
        database = stack.enter_context(connected(storage, observer=observer))
        found = _await_study(database, name, marker, observer, wait)
        settings = StudySettings.from_fingerprint(found.user_attrs.get(FINGERPRINT), found.study_name)
        study = _load(database, found.study_name, settings)
        _check_whole(study, settings, NOTHING)
        yield study, settings


def _await_study(database: BaseStorage, name: str | None, marker: str, observer: Observer, wait: float) -> FrozenStudy:
    deadline, said = time.monotonic() + wait, False
    wanted = "no search" if name is None else f"no search named {name!r}"
    while True:
        marked = [each for each in database.get_all_studies() if marker in each.user_attrs]
        found = [each for each in marked if name in (None, each.study_name)]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(sorted(repr(each.study_name) for each in found))
            raise InputError(f"the storage holds {len(found)} searches ({names}); say which by its name")
        if time.monotonic() > deadline:
            others = ", ".join(sorted(repr(each.study_name) for each in marked))
            there = f"; there are {others}" if others else ""
            raise SearchError(f"the storage holds {wanted} that could be joined{there}; start it with `prunetune run`")
        if not said:
            said = True
            observer(Notice(f"the storage holds {wanted} yet; waiting for one, {wait:.0f} s at most"))
        time.sleep(min(AWAIT_PAUSE, max(0.0, deadline - time.monotonic())))


def _make_or_load(
    database: BaseStorage, name: str, settings: StudySettings, owner: Mapping[str, str] | None
) -> optuna.Study:
    """The study, made by exactly one of the processes that come here at the same moment."""
    try:
        optuna.create_study(storage=database, study_name=name, direction=settings.direction)
    except optuna.exceptions.DuplicatedStudyError:
        study = _load(database, name, settings)
        deadline = time.monotonic() + MAKER_SECONDS  # its maker may not have come to writing down what it is
        while FINGERPRINT not in study.user_attrs and time.monotonic() < deadline:
            # looked for once more after the trials: its maker may have signed and begun since
            if study.get_trials(deepcopy=False) and FINGERPRINT not in study.user_attrs:
                raise SearchError(f"the study {name!r} was not made by prunetune; choose another storage") from None
            time.sleep(0.1)
    else:
        study = _load(database, name, settings)
    if FINGERPRINT not in study.user_attrs:
        if owner is not None:
            study.set_user_attr(OWNER, dict(owner))
        study.set_user_attr(FINGERPRINT, json.loads(json.dumps(settings.fingerprint())))
    return study


def _load(database: BaseStorage, name: str, settings: StudySettings) -> optuna.Study:
    try:
        return optuna.load_study(
            storage=database,
            study_name=name,  # Hyperband's brackets depend on it
            sampler=sampler(settings.optimizer, settings.seed),
            pruner=trial_pruner(settings.trial_pruner, settings.epochs),
        )
    except KeyError:
        raise StorageError(f"the study {name!r} is damaged: it was there, and is not found") from None


def trial_pruner(name: str, epochs: int) -> BasePruner:
    """The trial pruner of that name, for trials of so many epochs; one that is ``Given`` is as it is."""
    if isinstance(name, Given):
        found: BasePruner = name.thing
        return found
    return build(trial_pruners, name, BasePruner, epochs)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _check_same(study: optuna.Study, settings: StudySettings) -> None:
    before, now = study.user_attrs[FINGERPRINT], json.loads(json.dumps(settings.fingerprint()))
    _check_format(before, study.study_name)
    before = {**before, "trial_pruner": "none"} if before.get("trial_pruner") == RACE else before
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            raise SearchError(
                f"the study {study.study_name!r} was started with {key} = {before.get(key)!r}, now it is "
                f"{now.get(key)!r}; continue it with the same settings, or choose another storage"
            )


def _check_owner(study: optuna.Study, owner: Mapping[str, str] | None) -> None:
    before = study.user_attrs.get(OWNER)
    known = before if isinstance(before, dict) else {}
    if owner is not None and before is not None and known.get("id") != owner["id"]:
        raise SearchError(
            f"the study {study.study_name!r} belongs to the run in {known.get('folder')} on {known.get('host')}; join "
            "it with `prunetune worker`, or give this run a study of another name"
        )


def _check_whole(study: optuna.Study, settings: StudySettings, needs: Mapping[str, Kind]) -> None:
    """Raise StorageError if the study is damaged, as far as that shows."""
    if [direction.name.lower() for direction in study.directions] != [settings.direction]:
        raise StorageError(f"the study {study.study_name!r} is damaged: its direction is not {settings.direction}")
    found = study.user_attrs.get(DISCOUNTED, [])
    if not isinstance(found, list) or not all(isinstance(number, int) for number in found):
        raise StorageError(f"the study {study.study_name!r} is damaged: its {DISCOUNTED} is {found!r}")
    check_trials(study, settings.space, needs)


def _check_format(fingerprint: object, name: str) -> None:
    if not isinstance(fingerprint, dict) or fingerprint.get("format") != FINGERPRINT_FORMAT:
        found = fingerprint.get("format") if isinstance(fingerprint, dict) else None
        raise SearchError(
            f"the study {name!r} is of format {found!r}, and this prunetune reads and writes format "
            f"{FINGERPRINT_FORMAT}: take the same version of prunetune, or another study"
        )


def read_once(study: optuna.Study) -> contextlib.AbstractContextManager[None]:
    """A block in which those who ask for the trials of ``study`` one after another share what was read."""
    storage = study._storage
    return storage.read_once() if isinstance(storage, PatientStorage) else contextlib.nullcontext()


def note_ending(study: optuna.Study, trial: optuna.Trial, attributes: Mapping[str, Any]) -> None:
    """User attributes of a trial that is told next how it ended."""
    storage = study._storage
    if isinstance(storage, PatientStorage):
        storage.note_ending(trial._trial_id, attributes)
        return
    for name, value in attributes.items():
        trial.set_user_attr(name, value)


def copy_study(
    study: optuna.Study, storage: str, name: str, settings: StudySettings, *, observer: Observer = silent
) -> None:
    """Put all trials of ``study`` into a study ``name`` of its own in ``storage``, in place of what it held before."""
    with connected(storage, observer=observer) as database, contextlib.suppress(KeyError):
        database.delete_study(database.get_study_id_from_name(name))
    with open_study(storage, name, settings, observer=observer) as copy:
        copy.add_trials(study.get_trials(deepcopy=False))


def outcome(trial: FrozenTrial) -> Outcome | None:
    """How a trial ended; None for one that waits or runs, or that was not needed any more."""
    if not trial.state.is_finished():
        return None
    said = trial.user_attrs.get("outcome")
    if said == WITHDRAWN:
        return None
    if trial.state == TrialState.FAIL and trial.user_attrs.get(GIVEN_UP):
        return "interrupted"  # whatever its worker, if it was alive after all, had noted by then
    return said or _BY_STATE[trial.state]


def ended_trials(study: optuna.Study) -> list[FrozenTrial]:
    """All trials that ended, in order, but those that were interrupted."""
    return [t for t in study.get_trials(deepcopy=False) if outcome(t) not in (None, "interrupted")]


def finished_trials(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that use up the budget, in order: all that ended but those that were interrupted or discounted."""
    free = discounted(study)
    return [trial for trial in ended_trials(study) if trial.number not in free]


def discounted(study: optuna.Study) -> set[int]:
    """Numbers of failed trials that are not counted: a search was stopped, for something was wrong with all of them."""
    notes = study._storage.get_study_user_attrs(study._study_id)  # the study's own property copies all of them
    return set(notes.get(DISCOUNTED, ()))


def discount(study: optuna.Study, numbers: Iterable[int]) -> None:
    """Do not count these failed trials."""
    study.set_user_attr(DISCOUNTED, sorted(discounted(study).union(numbers)))


def count_outcomes(study: optuna.Study) -> dict[str, int]:
    """How many trials ended in each way, all ways named."""
    return {**dict.fromkeys(get_args(Outcome), 0), **tally(study.get_trials(deepcopy=False))}


def tally(trials: Iterable[FrozenTrial]) -> dict[str, int]:
    """How many trials ended in each way that there is."""
    return dict(Counter(end for trial in trials if (end := outcome(trial)) is not None))


def top_trials(study: optuna.Study, k: int) -> list[FrozenTrial]:
    """The best ``k`` complete trials, best first, no two with the same hyperparameters; the earlier wins a tie.

    Fewer if there are fewer. Trials that diverged or were stopped are never among them.
    """
    sign = -1.0 if study.direction == StudyDirection.MAXIMIZE else 1.0
    complete = [trial for trial in study.get_trials(deepcopy=False) if outcome(trial) == "complete"]
    best: dict[str, FrozenTrial] = {}
    for trial in sorted(complete, key=lambda each: (sign * _score(each), each.number)):
        if len(best) == k:
            break
        best.setdefault(json.dumps(trial.params, sort_keys=True), trial)
    return list(best.values())


def worst_score(study: optuna.Study) -> float:
    """What a diverged trial is told as: the worst finite score in the study, those after single epochs included.

    Before there is any it is the worst that there can be, -inf or +inf, which Optuna stores and TPE ranks last.
    """
    trials = study.get_trials(deepcopy=False)
    seen = [score for trial in trials for score in (*trial.intermediate_values.values(), *(trial.values or ()))]
    finite = [score for score in seen if math.isfinite(score)]
    if study.direction == StudyDirection.MAXIMIZE:
        return min(finite, default=-math.inf)
    return max(finite, default=math.inf)


def _score(trial: FrozenTrial) -> float:
    assert trial.value is not None
    return trial.value

"""A run folder as plain values. Everything in it is untrusted: read as JSON and SQL, checked, never unpickled."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from prunetune.errors import InputError
from prunetune.record.earlier import with_ladder
from prunetune.record.folder import read_json, study_file, whole_path
from prunetune.record.schema import Choice, Confirmation, Params, Result
from prunetune.record.sentences import compared_with, energy_sentence, first_network
from prunetune.report.trials import Trial, read_trials

SEARCH_STUDY = "search"
CONFIRM_STUDY = "confirm"
MAX_RESULT_BYTES = 50_000_000


@dataclass(frozen=True)
class Run:
    """A run folder, read: its result, the trials of both studies, and what could not be read (in sentences)."""

    name: str
    result: Result
    trials: tuple[Trial, ...] = ()
    confirm_trials: tuple[Trial, ...] = ()
    problems: tuple[str, ...] = ()
    task: str = ""
    """The names of model and data, where it was started from a configuration."""

    @property
    def finished(self) -> bool:
        """Whether the run says that it has ended well."""
        return self.result.status == "finished"

    @property
    def rungs(self) -> int:
        """How many the ladder has; 0 before it is known."""
        return len(self.result.ladder.rungs) if self.result.ladder else 0

    @property
    def first(self) -> str:
        """What the network of the search is called."""
        return first_network(self.rungs)

    @property
    def below(self) -> str:
        """Where those that are trained on the full network come from."""
        return f"rung {self.rungs - 1}" if self.rungs > 1 else self.first

    @property
    def compared_with(self) -> str:
        """The search whose estimated time stands beside this run's."""
        return compared_with(self.result.ladder.customary if self.result.ladder else None)

    def won(self, row: Confirmation) -> bool:
        """Whether this confirmation is the winner's."""
        winner = self.result.winner
        return winner is not None and row.trial == winner.trial and row.base_score is not None

    @property
    def estimate_basis(self) -> str:
        """How the estimate of the search on the full network was made, or why there is none."""
        basis = (
            self.result.time.estimate_basis if self.result.time else None
        ) or "the run does not say how it was made"
        return basis.removeprefix("an estimate: ")

    @property
    def energy(self) -> str | None:
        """What the run took, in words; None where it was not measured."""
        found = self.result.energy
        return None if found is None else energy_sentence(asdict(found))

    @property
    def chosen(self) -> Choice | None:
        """The winner; before there is one, the best of the search so far; None where nothing was scored."""
        return self.result.winner or (self.result.search.best if self.result.search else None) or self._best_trial

    @property
    def not_read(self) -> tuple[str, ...]:
        """Hyperparameters that were searched though the train function never read them."""
        return self.result.search.not_read if self.result.search else ()

    @property
    def best_params(self) -> Params:
        """Those of the chosen, as far as the train function reads them."""
        found = self.chosen.params if self.chosen else {}
        return {name: value for name, value in found.items() if name not in self.not_read}

    @property
    def _best_trial(self) -> Choice | None:
        scored = [trial for trial in self.trials if trial.outcome == "complete" and trial.score is not None]
        if not scored:
            return None
        best = min(scored, key=lambda trial: self.rank_key(trial.score))
        return Choice(trial=best.number, params=dict(best.params), score=best.score)

    def rank_key(self, score: float | None) -> float:
        """A key that sorts scores best first, and what has no score last."""
        if score is None or math.isnan(score):
            return math.inf
        return -score if self.result.direction == "maximize" else score


_RESULT = TypeAdapter(Result)


def load_run(run_dir: str | Path, *, storage: str | None = None) -> Run:
    """The run in ``run_dir``. A study that is missing or cannot be read is a sentence in ``Run.problems``.

    Raises
    ------
    InputError
        ``result.json`` is missing, or is not one that prunetune wrote.
    """
    folder = whole_path("the run folder", run_dir)
    result = read_result(folder / "result.json")
    trials, problem = read_trials(study_file(folder), SEARCH_STUDY, storage=storage)
    problems = [problem] if problem else []
    confirm_trials: tuple[Trial, ...] = ()
    if not problem and result.confirmation:
        confirm_trials, _ = read_trials(study_file(folder), CONFIRM_STUDY, storage=storage)
    return Run(folder.resolve().name, result, trials, confirm_trials, tuple(problems), _task(folder / "config.json"))


def read_result(path: Path) -> Result:
    """The checked contents of the ``result.json`` at ``path``. Raises InputError in one sentence."""
    try:
        size = path.stat().st_size
        if size > MAX_RESULT_BYTES:
            raise InputError(f"{path} has {size:,} bytes; prunetune writes no result.json that large")
        result = _RESULT.validate_python(_with_ladder(json.loads(path.read_bytes())))
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}); give the folder of a prunetune run") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"{path} is not a result.json of prunetune: {where}: {first['msg']}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a result.json of prunetune: the file: {error}") from None
    if result.format != 1:
        raise InputError(f"{path} has format {result.format}; this prunetune reads format 1")
    return result


def _with_ladder(stored: Any) -> Any:
    """What was read, with the ladder that every record has now; a damaged one as it is."""
    try:
        return with_ladder(stored)
    except (TypeError, ValueError, LookupError, AttributeError):
        return stored


def _task(path: Path) -> str:
    """Such as "resnet8 on digits", as far as a run's configuration says it."""
    try:
        stored = read_json(path) if path.stat().st_size <= MAX_RESULT_BYTES else None
        named = [stored[table]["name"] for table in ("model", "data") if stored.get(table)] if stored else []
    except (OSError, InputError, TypeError, LookupError, AttributeError):
        return ""
    return " on ".join(map(str, named))

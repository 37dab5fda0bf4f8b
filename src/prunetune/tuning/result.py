"""What ``prunetune.tune`` returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from prunetune.errors import SearchError
from prunetune.record.folder import load_weights, study_file
from prunetune.record.provenance import Record
from prunetune.record.sentences import spent
from prunetune.tuning.rung_study import SEARCH_STUDY


@dataclass(frozen=True)
class TuneResult:
    """The winner of a run, and where everything else about the run is."""

    run_dir: Path
    params: dict[str, Any]
    """The winner's hyperparameters, but for those that the train function never read (``not_read``)."""
    score: float
    """The winner's score on the full network."""
    record: Record = field(repr=False)
    """All of ``result.json``."""
    already_finished: bool
    """Whether the run had been finished before, so that nothing was done now."""

    @property
    def not_read(self) -> tuple[str, ...]:
        """Hyperparameters that the train function read in no trial, so that the search says nothing of them."""
        return tuple(self.record["search"].get("not_read", ()))

    @property
    def test(self) -> dict[str, float | None]:
        """What ``evaluate`` said of the winner, by name: empty without it, None for what was not finite."""
        return dict(self.record["test"])

    @property
    def seconds(self) -> float:
        """What the whole run took, over all its starts."""
        return float(self.record["time"]["total"])

    @property
    def seconds_saved(self) -> float | None:
        """An estimate of what the search would have taken longer on the full network: below 0 if it was faster there.

        From pruning to the winner, all rungs included. None where it is not known.
        """
        estimate = self.record["time"]["search_on_base_estimate"]
        return None if estimate is None else float(estimate - spent(self.record["time"]))

    @property
    def trials(self) -> list[dict[str, Any]]:
        """Every trial on the proxy: its "number", "params", "score", "outcome" and "seconds"; for a data frame, say.

        The outcome is "complete", "pruned", "diverged", "failed" or "interrupted". The score is the last that was
        reported, or None. Raises SearchError if the study in the run folder cannot be read.
        """
        from prunetune.report.trials import read_trials  # loads SQLAlchemy: only when asked

        trials, problem = read_trials(study_file(self.run_dir), SEARCH_STUDY)
        if problem is not None:
            raise SearchError(f"the trials of the run in {self.run_dir} are not known: {problem}")
        names = ("number", "score", "outcome", "seconds")
        return [{"params": dict(each.params), **{name: getattr(each, name) for name in names}} for each in trials]

    @property
    def report(self) -> Path:
        """The report, a web page in one file."""
        return self.run_dir / "report.html"

    @property
    def weights(self) -> Path:
        """The trained weights of the full network, as safetensors."""
        return self.run_dir / "weights.safetensors"

    def load_weights(self, model: nn.Module) -> None:
        """Give ``model``, a full network, the winner's trained weights."""
        load_weights(model, self.weights)

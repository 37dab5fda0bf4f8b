"""How often a run writes down what its trials have come to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from prunetune.events import Event, TrialEnded, TrialStarted
from prunetune.record.folder import RunFolder
from prunetune.tuning import journal
from prunetune.tuning.energy import Meter


@pytest.mark.parametrize(("seconds_a_trial", "updates"), [(2.0, 50), (0.001, 5), (0.05, 4)])
def test_the_record_is_written_as_often_as_it_takes_a_twentieth_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds_a_trial: float, updates: int
) -> None:
    """An update takes a tenth of a second: after each trial of two seconds; of short ones every two seconds."""
    now = 0.0
    heard: list[Event] = []
    monkeypatch.setattr(journal, "time", SimpleNamespace(perf_counter=lambda: now))
    with RunFolder(tmp_path / "run") as folder:
        kept = journal.Journal(folder, heard.append, Meter(False, None))
        monkeypatch.setattr(kept, "save", lambda: None)
        done: list[float] = []

        def update() -> None:
            nonlocal now
            now += 0.1
            done.append(now)

        observer = kept.after_trials(update)
        trials = 50 if seconds_a_trial > 1 else round(6.0 / seconds_a_trial) + 1
        for number in range(trials):
            observer(TrialStarted("search", number, {}))
            now += seconds_a_trial
            observer(TrialEnded("search", number, "complete", 1.0, seconds_a_trial, ""))
    assert len(done) == pytest.approx(updates, abs=1) and done[0] == pytest.approx(seconds_a_trial + 0.1)
    assert len(heard) == 2 * trials
    assert 0.1 * (len(done) - 1) <= now / 20 + 1e-9 or seconds_a_trial > 1

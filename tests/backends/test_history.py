"""What an optimizer is told of a study, and which draw of the random stream a trial has."""

from __future__ import annotations

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from prunetune.backends.samplers.history import Observation, claim_draw, common_space, observations
from prunetune.backends.study.attributes import DRAW, GIVEN_UP, RETRY_OF
from prunetune.errors import InputError

X = FloatDistribution(0, 1)


def _study(direction: str = "minimize") -> optuna.Study:
    return optuna.create_study(direction=direction, storage=optuna.storages.InMemoryStorage())


def _add(study: optuna.Study, state: TrialState, value: float | None = None, **options: Any) -> None:
    study.add_trial(optuna.create_trial(state=state, value=value, params={"x": 0.5}, distributions={"x": X}, **options))


def _now(study: optuna.Study) -> optuna.trial.FrozenTrial:
    return study._storage.get_trial(study.ask()._trial_id)


def _told(study: optuna.Study) -> list[Observation]:
    trial = _now(study)
    return observations(study, trial, claim_draw(study, trial))


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_what_trials_are_told_as(direction: str) -> None:
    study = _study(direction)
    sign = 1.0 if direction == "minimize" else -1.0
    _add(study, TrialState.COMPLETE, 2.0 * sign)
    _add(study, TrialState.COMPLETE, math.inf)
    _add(study, TrialState.COMPLETE, -math.inf)
    _add(study, TrialState.PRUNED, intermediate_values={1: 9.0 * sign, 3: 4.0 * sign})  # its last
    _add(study, TrialState.PRUNED, intermediate_values={1: 1.0 * sign, 2: math.nan})
    _add(study, TrialState.PRUNED)
    _add(study, TrialState.FAIL)
    study.enqueue_trial({"x": 0.1})  # has not begun
    running = study.ask({"x": X})  # which is now the one that was enqueued
    told = _told(study)
    assert [each.loss for each in told] == [2.0, 4.0, 4.0, 4.0, 4.0, None, None, None]
    assert [each.running for each in told] == [False] * 7 + [True]
    assert told[-1].params == running.params


def test_without_any_finite_score_nothing_infinite_is_told() -> None:
    study = _study()
    _add(study, TrialState.COMPLETE, math.inf)
    assert [each.loss for each in _told(study)] == [0.0]


def test_several_objectives_are_refused() -> None:
    study = optuna.create_study(directions=["minimize", "minimize"])
    with pytest.raises(InputError, match="for one objective, and the study has several"):
        _told(study)


def test_the_common_space_has_what_no_trial_lacks() -> None:
    study = _study()
    for names in (("a", "b", "one", "moved"), ("b", "a", "one", "moved", "c")):
        ranges = {name: FloatDistribution(0, 1) for name in names}
        ranges["one"] = FloatDistribution(3, 3)
        ranges["moved"] = FloatDistribution(0, len(names))
        study.tell(study.ask(ranges), 1.0)
    study.ask({"d": X})  # has no score yet
    assert list(common_space(_told(study))) == ["a", "b"]


def _interrupt(study: optuna.Study, trial: optuna.Trial) -> None:
    trial.set_user_attr("outcome", "interrupted")
    study.tell(trial, state=TrialState.FAIL)


def _claim(study: optuna.Study) -> tuple[optuna.Trial, int]:
    trial = study.ask()
    return trial, claim_draw(study, study._storage.get_trial(trial._trial_id))


def test_a_killed_trials_draw_goes_to_the_next_and_so_on() -> None:
    study = _study()
    _, first = _claim(study)
    killed, second = _claim(study)
    other, third = _claim(study)  # runs in parallel
    assert (first, second, third) == (0, 1, 2)
    _interrupt(study, killed)
    again, draw = _claim(study)
    assert draw == 1
    _, draw = _claim(study)  # number 4, of which one was killed
    assert draw == 3
    _interrupt(study, again)  # killed twice: it may be what kills
    _, draw = _claim(study)
    assert draw == 4
    study.tell(other, state=TrialState.FAIL)  # by an error of its own: its draw is used up
    _, draw = _claim(study)
    assert draw == 5


def test_killed_trials_are_not_told_unless_they_are_given_up() -> None:
    study = _study()
    killed, _ = _claim(study)
    _interrupt(study, killed)
    assert _told(study) == []
    study = _study()
    for _ in range(2):
        killed, draw = _claim(study)
        assert draw == 0
        _interrupt(study, killed)
    assert [told.loss for told in _told(study)] == [None, None]


def test_of_two_that_have_begun_the_later_takes_account_of_the_earlier() -> None:
    study = _study()
    first, second = (study._storage.get_trial(study.ask()._trial_id) for _ in range(2))
    assert observations(study, first, 0) == []
    assert [told.running for told in observations(study, second, 1)] == [True]


def _begin(study: optuna.Study, **attributes: Any) -> optuna.trial.FrozenTrial:
    """A trial that runs, also where others wait."""
    template = optuna.create_trial(state=TrialState.RUNNING, user_attrs=attributes)
    return study._storage.get_trial(study._storage.create_new_trial(study._study_id, template))


def _give_up(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
    study._storage.set_trial_user_attr(trial._trial_id, GIVEN_UP, True)
    study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)


def test_the_draw_of_a_dead_ones_trial_is_kept_for_the_one_that_repeats_it() -> None:
    """Before it is queued, while it waits, while it runs, and if that dies, too."""
    study = _study()
    dead, other = (_begin(study) for _ in range(2))
    assert [claim_draw(study, trial) for trial in (dead, other)] == [0, 1]
    _give_up(study, dead)
    assert claim_draw(study, _begin(study)) == 2
    study.enqueue_trial({"x": 0.5}, user_attrs={RETRY_OF: 0})
    assert claim_draw(study, _begin(study)) == 3  # has the number 4: the other one has no place of its own
    again = study._storage.get_trial(study.ask()._trial_id)
    assert (again.number, claim_draw(study, again)) == (3, 0)
    assert claim_draw(study, _begin(study)) == 4
    _give_up(study, again)
    assert claim_draw(study, _begin(study)) == 5
    assert claim_draw(study, _begin(study, **{RETRY_OF: again.number})) == 0


@pytest.mark.parametrize("workers", [2, 5])
def test_workers_that_claim_in_the_same_moment_get_different_draws(
    workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All have looked before the first writes, and all have written before the first looks again."""
    study = _study()
    killed, _ = _claim(study)
    _interrupt(study, killed)
    trials = [_begin(study) for _ in range(workers)]
    meeting, met, write = threading.Barrier(workers), set(), study._storage.set_trial_system_attr

    def together(trial_id: int, key: str, value: Any) -> None:
        first = trial_id not in met
        met.add(trial_id)
        if first:
            meeting.wait(timeout=60)
        write(trial_id, key, value)
        if first:
            meeting.wait(timeout=60)

    monkeypatch.setattr(study._storage, "set_trial_system_attr", together)
    with ThreadPoolExecutor(workers) as pool:
        draws = list(pool.map(lambda trial: claim_draw(study, trial), trials))
    assert len(set(draws)) == workers
    stored = [study._storage.get_trial(trial._trial_id).system_attrs[DRAW] for trial in trials]
    assert stored == draws


def test_one_that_wrote_a_moment_too_late_goes_on_to_another_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    study = _study()
    killed, _ = _claim(study)
    _interrupt(study, killed)
    slow, quick = (_begin(study) for _ in range(2))
    write = study._storage.set_trial_system_attr
    draws: list[int | None] = []

    def late(trial_id: int, key: str, value: Any) -> None:
        if trial_id == slow._trial_id and not draws:
            draws.append(None)
            draws[0] = claim_draw(study, quick)
        write(trial_id, key, value)

    monkeypatch.setattr(study._storage, "set_trial_system_attr", late)
    assert (claim_draw(study, slow), draws) == (1, [0])


def test_what_a_dead_one_left_is_told_as_the_trial_that_repeats_it() -> None:
    """As if nobody had died; the draw that is given up for good is told as failed."""
    study = _study()
    first = _begin(study)
    _give_up(study, first)
    _give_up(study, _begin(study, **{RETRY_OF: 0}))
    study.enqueue_trial({"x": 0.5}, user_attrs={RETRY_OF: 1})
    assert observations(study, _begin(study), 1) == []
    study.tell(study.ask({"x": X}), 2.0)
    assert [told.loss for told in observations(study, _begin(study), 1)] == [2.0]
    study = _study()
    _give_up(study, _begin(study))
    _give_up(study, _begin(study, **{RETRY_OF: 0}))
    assert [told.loss for told in observations(study, _begin(study), 1)] == [None, None]

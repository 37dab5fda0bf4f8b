"""How many are confirmed, what may have been missed, and what a confirmation reveals, on studies written by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from scipy import stats

from prunetune.backends import Float, SearchSpace
from prunetune.cli.config import parse_config
from prunetune.cli.tables import Config
from prunetune.errors import InputError
from prunetune.record.folder import RunFolder
from prunetune.tuning.confirmations import AUTO_LIMIT, MISS_LEVEL, PRIOR, confirmations, trust_part
from prunetune.tuning.settings import Pruning, Search, Settings

pytestmark = pytest.mark.filterwarnings("error")


def study_of(scores: list[float | None], direction: str = "maximize", stopped: int = 0) -> optuna.Study:
    """Trials with these scores (None: failed), and some that were stopped, all with different hyperparameters."""
    study = optuna.create_study(direction=direction)
    for number, score in enumerate([*scores, *[0.0] * stopped]):
        state = TrialState.FAIL if score is None else TrialState.COMPLETE
        study.add_trial(_trial(number, TrialState.PRUNED if number >= len(scores) else state, score))
    return study


def confirmed_of(entries: dict[int, float | str], direction: str = "maximize") -> optuna.Study:
    """Confirmations of these trials of the search: a score, or how they ended."""
    study = optuna.create_study(direction=direction)
    for number, ended in entries.items():
        states = {"diverged": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        state = states[ended] if isinstance(ended, str) else TrialState.COMPLETE
        attributes = {"search_trial": number, **({"outcome": ended} if isinstance(ended, str) else {})}
        study.add_trial(_trial(number, state, -math.inf if isinstance(ended, str) else ended, **attributes))
    return study


def _trial(number: int, state: TrialState, value: float | None, **attributes: Any) -> optuna.trial.FrozenTrial:
    value = value if state == TrialState.COMPLETE else None
    place = {"lr": FloatDistribution(0, 1000)}
    return create_trial(
        state=state, value=value, params={"lr": float(number)}, distributions=place, user_attrs=attributes
    )


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


def settings(confirm: Any = 3, direction: Any = "maximize") -> Settings:
    search = Search(confirm=confirm, direction=direction)
    return Settings(SearchSpace({"lr": Float(0, 1)}), 2, Pruning(scorer="magnitude"), search, 0)


def simulated(n: int, k: int, z: float, error: float) -> float:
    """How often the best of ``n`` is not among the ``k`` first on the proxy, by drawing."""
    rng = np.random.default_rng(n * k)
    rho = 2 * np.sin(np.pi * np.tanh(rng.normal(z, error, 40_000)) / 6)[:, None]
    base = rng.standard_normal((40_000, n))
    proxy = rho * base + np.sqrt(1 - rho**2) * rng.standard_normal((40_000, n))
    of_best = np.take_along_axis(proxy, base.argmax(1)[:, None], 1)
    return float(((proxy > of_best).sum(1) >= k).mean())


def test_a_number_is_taken_as_it_is_and_none_is_one(folder: RunFolder) -> None:
    study = study_of([1.0, 2.0])
    assert [confirmations(settings(confirm), folder, study) for confirm in (0, 1, 5)] == [1, 1, 5]


def test_auto_takes_the_fewest_that_miss_the_best_less_than_once_in_ten(folder: RunFolder) -> None:
    """Without a check, of 30: by simulation of the prior."""
    study = study_of([float(number) for number in range(20)], stopped=10)
    k = confirmations(settings("auto"), folder, study)
    assert 2 < k < AUTO_LIMIT
    assert simulated(30, k, PRIOR.z, PRIOR.error) < MISS_LEVEL + 0.005
    assert simulated(30, k - 1, PRIOR.z, PRIOR.error) > MISS_LEVEL - 0.005


def test_auto_has_limits(folder: RunFolder) -> None:
    assert confirmations(settings("auto"), folder, study_of([float(n) for n in range(400)])) == AUTO_LIMIT
    assert confirmations(settings("auto"), folder, study_of([1.0, 2.0], stopped=200)) == 2
    assert confirmations(settings("auto"), folder, study_of([1.0])) == 1


def test_the_errors_that_a_confirmation_reveals(folder: RunFolder) -> None:
    """On the proxy 4 > 3 > 2 > 1 > 0; in full 0.7, 0.9, 0.5, 0.8 for the first four."""
    study = study_of([0.1, 0.2, 0.3, 0.4, 0.5, None], stopped=4)
    trust = trust_part(settings(4), folder, study, confirmed_of({4: 0.7, 3: 0.9, 2: 0.5, 1: 0.8}))
    assert (trust["searched"], trust["confirmed"], trust["compared"]) == (9, 4, 4)
    expected = stats.spearmanr([0.5, 0.4, 0.3, 0.2], [0.7, 0.9, 0.5, 0.8]).statistic
    assert trust["correlation"]["value"] == pytest.approx(expected)
    # in order: 4 > 2, 3 > 2, 3 > 1; not: 4 and 3, 4 and 1, 2 and 1
    assert (trust["pairs_in_order"], trust["pairs"]) == (3, 6)
    assert trust["transfer_regret"] == pytest.approx(0.9 - 0.7)
    assert trust["transfer_outcome"] == "complete"
    assert trust["missed"] == pytest.approx(simulated(9, 4, PRIOR.z, PRIOR.error), abs=0.008)
    assert (trust["level"], trust["missed_by_full_network"]) == (None, None)


def test_when_less_is_better_the_regret_is_what_is_more(folder: RunFolder) -> None:
    study = study_of([0.1, 0.2, 0.3], direction="minimize")
    confirmed = confirmed_of({0: 0.6, 1: 0.4, 2: 0.5}, direction="minimize")
    trust = trust_part(settings(3, "minimize"), folder, study, confirmed)
    assert trust["transfer_regret"] == pytest.approx(0.2)
    assert (trust["pairs_in_order"], trust["pairs"]) == (1, 3)  # 1 < 2 on both
    assert trust["missed"] == 0  # all that were searched were confirmed


def test_what_was_stopped_on_the_full_network_has_no_part_and_what_diverged_is_the_worst(folder: RunFolder) -> None:
    study = study_of([0.1, 0.2, 0.3, 0.4, 0.5])
    confirmed = confirmed_of({4: "pruned", 3: 0.9, 2: "diverged", 1: 0.8, 0: "failed"})
    trust = trust_part(settings(5), folder, study, confirmed)
    assert (trust["confirmed"], trust["compared"]) == (5, 3)
    assert trust["correlation"]["value"] == pytest.approx(0.5)  # orders 3 2 1 and 3 1 2: 1 - 6 (0 + 1 + 1) / 24
    assert (trust["pairs_in_order"], trust["pairs"]) == (2, 3)
    assert (trust["transfer_regret"], trust["transfer_outcome"]) == (None, "pruned")


def test_only_the_first_without_a_gap_count_as_confirmed(folder: RunFolder) -> None:
    """A run that was made longer has confirmed what was best before."""
    study = study_of([0.1, 0.2, 0.3, 0.4, 0.5])
    trust = trust_part(settings(3), folder, study, confirmed_of({0: 0.5, 1: 0.6, 4: 0.7, 3: 0.8}))
    assert (trust["confirmed"], trust["compared"]) == (2, 4)


def test_plain_transfer_has_a_chance_too_and_nothing_to_compare(folder: RunFolder) -> None:
    trust = trust_part(settings(0), folder, study_of([0.1, 0.3, 0.2]), confirmed_of({1: 0.9}))
    assert (trust["confirmed"], trust["compared"], trust["pairs"], trust["correlation"]) == (1, 1, 0, None)
    assert trust["transfer_regret"] == 0
    assert trust["missed"] == pytest.approx(simulated(3, 1, PRIOR.z, PRIOR.error), abs=0.01)


@pytest.mark.parametrize("confirm", ["most", "3", ""])
def test_other_words_are_refused(confirm: str) -> None:
    with pytest.raises(InputError, match=f"confirm is '{confirm}', but it must be 'auto' or a whole number of at leas"):
        Search(direction="maximize", confirm=confirm)  # type: ignore[arg-type]


def _config(confirm: object) -> Config:
    tables = {"model": {"name": "resnet8"}, "data": {"name": "digits"}, "run": {"folder": "runs/x"}}
    return parse_config({**tables, "search": {"n_trials": 2, "confirm": confirm}})


def test_a_configuration_may_say_auto() -> None:
    assert [_config(confirm).search.confirm for confirm in ("auto", 0, 2)] == ["auto", 0, 2]


@pytest.mark.parametrize("confirm", ["most", -1, 1.5, True])
def test_a_configuration_that_says_something_else_is_one_sentence(confirm: object) -> None:
    with pytest.raises(InputError) as caught:
        _config(confirm)
    assert str(caught.value) == (
        f"search.confirm is {confirm!r}, but it must be 'auto' or a whole number of at least 0"
    )

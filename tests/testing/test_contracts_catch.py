"""The contract suites fail for those that break the contract, each in a test of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
import torch
from optuna.samplers import BaseSampler, RandomSampler
from torch import nn

from prunetune.backends import optimizers
from prunetune.errors import InputError
from prunetune.plugins.base import ChannelScores, Context, Need, Scorer
from prunetune.plugins.magnitude import Magnitude
from prunetune.plugins.snip import Snip
from prunetune.testing import OptimizerContract, ScorerContract, scorer_contract
from prunetune.testing.optimizers import SPACE

SUITE = ScorerContract()


class Unseeded(Magnitude):
    """Draws random numbers of its own."""

    def channel_scores(self, context: Context) -> ChannelScores:
        return {
            axis: torch.from_numpy(np.random.default_rng().random(w.shape[axis[1]]))
            for axis, w in context.weights().items()
        }


class Writes(Magnitude):
    """Says that it only reads, and halves a weight."""

    def channel_scores(self, context: Context) -> ChannelScores:
        with torch.no_grad():
            next(iter(context.weights().values())).mul_(0.5)
        return super().channel_scores(context)


class ChangesData(Snip):
    def channel_scores(self, context: Context) -> ChannelScores:
        context.data[0][0].zero_()  # type: ignore[union-attr]
        return super().channel_scores(context)


class Runs(Magnitude):
    def channel_scores(self, context: Context) -> ChannelScores:
        with torch.no_grad():
            context.model.eval()(context.example_inputs)
        context.model.train()
        return super().channel_scores(context)


class Constant(Scorer):
    def channel_scores(self, context: Context) -> ChannelScores:
        return {axis: torch.ones(w.shape[axis[1]]) for axis, w in context.weights().items()}


class Invents(Magnitude):
    """Gives a finite score to all units, also to those that it does not judge."""

    def channel_scores(self, context: Context) -> ChannelScores:
        return dict(list(super().channel_scores(context).items())[:1])

    def unit_scores(self, context: Context) -> Any:
        scores = super().unit_scores(context)
        return np.where(np.isinf(scores), 0.0, scores)


class ConvolutionsOnly(Magnitude):
    def channel_scores(self, context: Context) -> ChannelScores:
        return {axis: w.abs().mean((1, 2, 3)) for axis, w in context.weights().items() if w.ndim in (2, 4)}


class SecretLoss(Snip):
    needs = frozenset({Need.DATA})


class NoLoss(Magnitude):
    needs = frozenset({Need.DATA, Need.LOSS})


class Wordy(Snip):
    def check(self, model: nn.Module, data: object) -> None:
        if not data:
            raise InputError("no data:\nplease give some")


class SinglePrecision(Magnitude):
    def channel_scores(self, context: Context) -> ChannelScores:
        return {axis: torch.mv(w.flatten(1), torch.ones(w[0].numel())) for axis, w in context.weights().items()}


@pytest.mark.parametrize(
    ("test", "broken", "said"),
    [
        (SUITE.test_the_same_seed_gives_the_same_scores, Unseeded, "array_equal"),
        (SUITE.test_it_leaves_everything_as_it_was, Writes, "the model has changed"),
        (SUITE.test_it_leaves_everything_as_it_was, ChangesData, "the data have changed"),
        (SUITE.test_if_it_only_reads_it_runs_nothing, Runs, "only_reads is declared, and the network is run"),
        (SUITE.test_a_score_a_unit, Constant, "it gives every unit the same score"),
        (SUITE.test_a_score_a_unit, Invents, "array_equal"),
        (
            lambda scorer: SUITE.test_it_works_on_every_kind_of_network(scorer, "transformer"),
            ConvolutionsOnly,
            "Dimension out of range",
        ),
        (SUITE.test_what_it_says_it_needs_is_true, SecretLoss, "declared if and only if the loss is called"),
        (SUITE.test_what_it_says_it_needs_is_true, NoLoss, "declared if and only if the loss is called"),
        (SUITE.test_what_goes_wrong_is_one_sentence, Wordy, "no data:"),
        (
            lambda scorer: SUITE.test_it_works_in_double_precision_and_after_moving(scorer, "cpu"),
            SinglePrecision,
            "same dtype",
        ),
    ],
)
def test_a_scorer_that_breaks_the_contract_is_caught(
    test: Callable[[Callable[[], Scorer]], None], broken: Callable[[], Scorer], said: str
) -> None:
    with pytest.raises((AssertionError, IndexError, RuntimeError), match=said):
        test(broken)
    test(Magnitude)


def test_a_network_that_does_not_exist_cannot_be_refused() -> None:
    with pytest.raises(InputError, match="refuses names 'resnet', which is no network of the suite; known: residual"):
        scorer_contract("magnitude", refuses=["resnet"])


class OutOfBounds(RandomSampler):
    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        value = super().sample_independent(study, trial, param_name, param_distribution)
        return value * 2 if isinstance(value, float) else value


class Repeats(RandomSampler):
    """Seeded by its own number, so that it is the same in every trial."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed=0)


class Remembers(RandomSampler):
    """Counts the trials of this process."""

    count = 0

    def __init__(self, seed: int) -> None:
        Remembers.count += 1
        super().__init__(seed=Remembers.count)


class Upwards(RandomSampler):
    """Takes a loss for a score: y goes towards that of the highest."""

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        trials = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
        best = max(trials, key=lambda each: each.value, default=None)
        if best is None or param_name != "y":
            return super().sample_independent(study, trial, param_name, param_distribution)
        return best.params["y"] / 2 + 0.1


class NeedsScores(RandomSampler):
    """Takes it for granted that all trials before have a score."""

    def before_trial(self, study: Any, trial: Any) -> None:
        sum(each.value for each in study.get_trials(deepcopy=False)[:-1])


class ByNumber(RandomSampler):
    """Goes on in its sequence after a trial that was killed."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed=0)

    def before_trial(self, study: Any, trial: Any) -> None:
        self._rng.rng.seed(trial.number)


class Impatient(RandomSampler):
    """Its place in its sequence is the number of trials that have ended."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed=0)

    def before_trial(self, study: Any, trial: Any) -> None:
        self._rng.rng.seed(sum(each.state.is_finished() for each in study.get_trials(deepcopy=False)))


class Unconditional(RandomSampler):
    """Takes it for granted that all trials have all hyperparameters."""

    def before_trial(self, study: Any, trial: Any) -> None:
        sum(each.params["y"] for each in study.get_trials(deepcopy=False)[:-1])


CONTRACT = OptimizerContract()


@pytest.mark.parametrize(
    ("test", "broken"),
    [
        (CONTRACT.test_the_same_seed_gives_the_same_trials, Repeats),
        (CONTRACT.test_the_same_seed_gives_the_same_trials, Remembers),
        (CONTRACT.test_a_search_that_is_resumed_goes_on_as_it_would_have, Remembers),
        (CONTRACT.test_a_search_that_is_resumed_goes_on_as_it_would_have, ByNumber),
        (CONTRACT.test_trials_in_parallel_are_told_in_any_order, Impatient),
        (CONTRACT.test_hyperparameters_may_depend_on_others, Unconditional),
        (CONTRACT.test_the_direction_is_that_of_the_search, Upwards),
        (CONTRACT.test_trials_that_fail_are_stopped_or_diverge, NeedsScores),
        (CONTRACT.test_points_of_the_users_come_first, OutOfBounds),
        (lambda optimizer, direction: CONTRACT.test_it_stays_in_the_space(optimizer, direction, SPACE), OutOfBounds),
    ],
)
def test_an_optimizer_that_breaks_the_contract_is_caught(
    test: Callable[[str, str], None], broken: Callable[[int], BaseSampler], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(optimizers._entries, "broken", broken)
    with pytest.raises((AssertionError, KeyError, TypeError, ValueError)):
        test("broken", "minimize")
    test("random", "minimize")


def test_without_pytest_there_is_a_sentence(tmp_path: Path) -> None:
    code = "import sys; sys.modules['pytest'] = None; from prunetune.testing import scorer_contract"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ModuleNotFoundError: prunetune.testing.scorer_contract needs pytest, "
        "which is not installed: pip install pytest"
    )

"""``retrain``: the winner of a finished run, trained again as it was."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from prunetune._utils.caller import given_back, seed_all
from prunetune._utils.checks import real_number, whole_number
from prunetune.backends import SearchSpace
from prunetune.backends.study.trial import Report
from prunetune.errors import InputError
from prunetune.events import Observer, silent
from prunetune.pruning.checks import check_train
from prunetune.record.folder import RunFolder, whole_path
from prunetune.record.stored import read_record
from prunetune.tuning.architecture import network_of
from prunetune.tuning.fingerprint import Fingerprint, Resume, continued
from prunetune.tuning.objective import Objective
from prunetune.tuning.problem import check_full_builder
from prunetune.tuning.types import GivenModelFunction, TrainFunction


@dataclass(frozen=True)
class Retrained:
    """The full network, trained with the winner's hyperparameters."""

    model: nn.Module
    score: float
    params: dict[str, Any]
    seed: int
    """That of the training: the winner's, unless another was asked for."""
    recorded: float
    """The winner's score in the run."""


@given_back()
def retrain(
    run_dir: str | Path,
    model_fn: GivenModelFunction,
    train: TrainFunction,
    *,
    seed: int | None = None,
    resume: Resume = "same",
    observer: Observer = silent,
) -> Retrained:
    """Train the full network once more with the hyperparameters, the epochs and the seed of the winner in ``run_dir``.

    Where the train function is deterministic, score and weights are those of the run, bit for bit. With another
    ``seed`` it is one more training with the winner's hyperparameters.

    Parameters
    ----------
    run_dir
        The folder of a run that has a winner.
    model_fn, train, resume
        As for ``tune``, in which the run was made.
    seed
        The seed of this training; None is the winner's own.
    observer
        Hears of what happens, see ``prunetune.events``.

    Raises
    ------
    InputError
        There is no winner in the folder yet, or the network or the train function is another than the run's.

    Example
    -------
    How much of the winner's score is luck? ::

        scores = [prunetune.retrain("runs/my", MyNet, train, seed=seed).score for seed in range(3)]
    """
    check_full_builder(model_fn)
    check_train(train)
    if not (path := whole_path("the run folder", run_dir)).is_dir():
        raise InputError(f"there is no run in {path}: there is no such folder; give the folder of a run that has ended")
    with RunFolder(path) as folder:
        record = read_record(folder.result)
        winner = record and record["winner"]
        if record is None or not winner:
            raise InputError(f"the run in {folder.path} has no winner yet; end it with tune, or choose another folder")
        training = _training_of(record, folder.path)
        chosen = training["seed"] if seed is None else whole_number("seed", seed, minimum=0)
        seed_all(chosen)
        build = network_of(model_fn, SearchSpace.from_dict(record["space"]))
        now = Fingerprint.of({"network": build()}, {"model_fn": model_fn, "train": train})
        continued(folder, now, resume=resume, observer=observer, known=1)
    report = _report(training["params"], chosen, record["epochs"], observer)
    model, returned = Objective(build, train).trained(training["params"], report)
    score = real_number("the train function's return value, its final score,", returned)
    return Retrained(model, score, training["params"], chosen, winner["score"])


def _training_of(record: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The training of the full network that won. Raises InputError for a damaged record."""
    try:
        winner = record["winner"]
        training = winner
        if trained := record["confirmation"]:  # else the search was of the full network, with the winner among its own
            won = (winner["trial"], winner["score"])
            training = [each for each in trained if (each["trial"], each["base_score"]) == won][-1]
        return {"params": dict(training["params"]), "seed": int(training["seed"])}
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        raise InputError(f"{folder / 'result.json'} is damaged ({error!r}); choose another run folder") from None


def _report(params: dict[str, Any], seed: int, epochs: int, observer: Observer) -> Report:
    from optuna.trial import FixedTrial

    trial: Any = FixedTrial(params)
    return Report(trial, seed=seed, epochs=epochs, phase="train", observer=observer)

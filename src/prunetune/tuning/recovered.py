"""Proxies of a pretrained network: weights that make up for what was cut, found once and kept in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import torch

from prunetune._utils.caller import seed_all
from prunetune._utils.hashes import digest
from prunetune.engine import PruningPlan, Recovered, recover
from prunetune.errors import InputError
from prunetune.events import Notice, Warned
from prunetune.pruning.checks import pretrained_parameters
from prunetune.record.folder import read_tensors, write_tensors

if TYPE_CHECKING:
    from prunetune.engine import ExampleInputs
    from prunetune.events import Observer
    from prunetune.tuning.plans import Plans
    from prunetune.tuning.problem import Problem
    from prunetune.tuning.settings import Pruning
    from prunetune.tuning.types import ModelFunction

POOR: Final = 0.5
"""A share of the variance; proxies that rank well in `benchmarks.finetuning` explain more."""
PRETRAINED: Final = "model_fn returns the same weights at each call, as of a pretrained network"
KEPT: Final = (
    f"{PRETRAINED}: proxies keep them, adapted to what is cut (weights='recovered'); check tells how well they rank. "
    "If it is not pretrained but sets a seed, leave the seed to prunetune"
)
LOST: Final = (
    f"warning: {PRETRAINED}, and proxies begin with others, so that they find what is right for training from scratch; "
    "leave weights out, and they begin with those of the full network, adapted to what is cut (weights='recovered')"
)


def kept_recovered(
    folder: Path, problem: Problem, plans: Plans, pruning: Pruning, observer: Observer
) -> Mapping[str, torch.Tensor] | None:
    """The weights that ``keep_recovered`` puts there; None where none are asked for."""
    keep_recovered(folder, problem, plans, pruning, observer)
    return read_recovered(folder, plans.usual) if pruning.weights == "recovered" else None


def keep_recovered(folder: Path, problem: Problem, plans: Plans, pruning: Pruning, observer: Observer) -> None:
    """Find the weights of what the plan leaves, if any are asked for and the run folder has them not yet.

    Raises InputError as ``recovered`` does, and where there are several plans.
    """
    if pruning.weights != "recovered":
        return
    if plans.names:
        raise InputError(
            f"weights='recovered' is for one pretrained network, and other values of {', '.join(plans.names)} make "
            "networks of other shapes; leave these out of the space, or say Pruning(weights='redraw')"
        )
    if not (path := recovered_file(folder, plans.usual)).exists():
        found = recovered(problem.model_fn, plans.usual, problem.example_inputs, problem.seed)
        write_tensors(found.tensors, path)
        observer(_told(found))


def recovered(model_fn: ModelFunction, plan: PruningPlan, example_inputs: ExampleInputs, seed: int) -> Recovered:
    """The weights, of parameters that are the same at each call of ``model_fn``: a new head is drawn for each training.

    Raises InputError where the network is not pretrained, or the example inputs say nothing.
    """
    with torch.random.fork_rng():
        seed_all(seed)
        model, again = model_fn(), model_fn()
        names = pretrained_parameters(model, again)
        if not names:
            raise InputError(
                "weights='recovered' is for a network that comes pretrained, but model_fn returns other weights at "
                "each call; leave weights out"
            )
        found = recover(model, plan, example_inputs)
    return replace(found, tensors={name: each for name, each in found.tensors.items() if name in names})


def recovered_file(folder: Path, plan: PruningPlan) -> Path:
    """Where a run folder keeps the recovered weights of what ``plan`` leaves of a pretrained network."""
    return folder / f"recovered-{digest(plan.to_json())[:16]}.safetensors"


def read_recovered(folder: Path | None, plan: PruningPlan) -> Mapping[str, torch.Tensor]:
    """These weights. Raises InputError where ``folder`` is not reached, or they are damaged."""
    if folder is None:
        raise InputError(
            "the proxies of this run begin with recovered weights, which are in the run's folder, and this process "
            "does not reach that: put it on a file system that all workers see, or say Pruning(weights='sliced') there"
        )
    return read_tensors(recovered_file(folder, plan))


def _told(found: Recovered) -> Notice:
    said = (
        "proxies begin with the pretrained weights that are left, adapted to what is cut: they explain "
        f"{max(found.recovered, 0.0):.0%} of what the full network computes ({max(found.sliced, 0.0):.0%} before)"
    )
    if found.recovered >= POOR:
        return Notice(said)
    return Warned(
        f"warning: {said}. So little may not rank hyperparameters of fine-tuning; give more example_inputs, bypass "
        "blocks (depth=True), or search on the full network with fewer epochs: "
        "tune(…, ladder=Ladder(Rung(epochs=0.3, trials=32, keep=1), Rung()))"
    )

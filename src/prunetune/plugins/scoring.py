"""`score`: the worth of every unit of a network, by any scorer; the network and what is around it stay as they are."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import nn

from prunetune.engine import DependencyGraph, ExampleInputs, to_device
from prunetune.engine.selection.ranking import Scores
from prunetune.engine.surroundings import set_aside
from prunetune.engine.tracing.copies import copy_with
from prunetune.errors import InputError
from prunetune.plugins.base import Batch, Context, Loss, Need, Scorer


def score(
    model: nn.Module,
    example_inputs: ExampleInputs,
    graph: DependencyGraph,
    scorer: Scorer,
    *,
    data: Iterable[Batch] | None = None,
    loss: Loss = nn.functional.cross_entropy,
    seed: int,
) -> Scores:
    """One score a unit, shape (graph.unit_count + 1,); inf for units that the scorer does not judge.

    What runs or changes the model works on a copy, and the random state is as before.

    Raises
    ------
    InputError
        If the scorer needs something that was not given, or its scores are not finite.
    """
    scorer.check(model, data)
    generator = torch.Generator().manual_seed(seed)
    device = next(model.parameters()).device
    inputs: Any = to_device(example_inputs, device)
    with torch.inference_mode(False):
        own = model if scorer.only_reads else copy_with(model, {}).eval()
        with set_aside(own):
            torch.manual_seed(seed)
            batches = _batches(data, scorer.batches, device) if Need.DATA in scorer.needs else ()
            scores = scorer.unit_scores(Context(own, inputs, graph, generator, batches, loss))
    if np.isnan(scores).any() or np.isneginf(scores).any():
        raise InputError(
            f"{scorer.title} gave scores that are not finite; are the weights finite, or does the network overflow?"
        )
    if not np.isfinite(scores[1:]).any():
        raise InputError(f"{scorer.title} judges no channel of {type(model).__name__}; take another scorer")
    return scores


def _batches(data: Any, count: int, device: torch.device) -> tuple[Batch, ...]:
    """The first `count` batches, on `device`."""
    if isinstance(data, torch.Tensor) or not isinstance(data, Iterable):
        raise InputError(
            f"data must be batches of inputs and targets, [(inputs, targets), …] or a DataLoader; "
            f"got {type(data).__name__}"
        )
    batches = []
    for batch in islice(data, count):
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise InputError(
                "each batch of data must be a pair of inputs and targets; "
                f"got {type(batch).__name__}: is it one batch, (inputs, targets)? Then put it into a list"
            )
        inputs, targets = (to_device(part, device) for part in batch)
        batches.append((inputs, targets))
    if not batches:
        raise InputError("data has no batches; give at least one, data=[(inputs, targets)]")
    return tuple(batches)

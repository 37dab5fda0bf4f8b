"""A training, watched: what the train function did with the model that it was given, in one sentence if it was wrong.

Nothing is looked at between the first step and the last, so nothing waits for the device there.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.optimizer import register_optimizer_step_post_hook

from prunetune._utils.caller import as_the_caller
from prunetune._utils.checks import real_number
from prunetune.backends.study.attributes import NOT_READ
from prunetune.errors import InputError
from prunetune.tuning.params import ReadDict

if TYPE_CHECKING:
    from prunetune.backends.study.trial import Report

Train: TypeAlias = "Callable[[nn.Module, dict[str, Any], Report], float]"

UNTOUCHED: Final = (
    "warning: the train function left the model that it was given as it was: train that very model, in place. Does it "
    "train another one, or a copy? Is the batch larger than the dataset, so that a loader with drop_last is empty? "
    "Are all parameters frozen?"
)
UNSEEN: Final = (
    "warning: the batch norms of the model saw no batch in training mode, though it was trained: call model.train() "
    "before each epoch, for measuring leaves it in evaluation mode (model.eval()), and some networks come in it"
)
ON_FULL: Final = ("check-base", "check-again", "confirm", "train")
"""Phases after others with the same train function, which has been told by then."""
NEAR: Final = 0.1
"""A score that is this much beyond what was reported may be the same measure, of the best or of averaged weights."""
_DEVICE: Final = re.compile(r"same device|should be the same|Expected object of device|is on (cpu|cuda|mps)")


def watched(train: Train, model: nn.Module, given: ReadDict, report: Report) -> float:
    """The score from the train function; what is most likely wrong with it is told at the first trial.

    ``given`` are the hyperparameters, which know what was read of them; the trial notes what was not.

    A model that is as it was before is no error: scores may come from elsewhere, and nothing that is known here says
    that they do not. But its weights would be kept as the trained ones.
    """
    first = report.number == 0 and report.phase != "climb"  # there it has been told
    before = _copies(model) if first else {}
    names = tuple(given)
    try:
        with as_the_caller():
            score = train(model, given, report)
    except Exception as error:
        if hint := explain(error, model, names):
            error.add_note(hint)
        raise
    finally:
        if given.unread:
            report.note(NOT_READ, list(given.unread))
        if first and _never_in_training_mode(model, before):
            report.warn(UNSEEN)
    if first and given.unread and report.phase not in ON_FULL:
        report.warn(not_read_note(given.unread))
    if first and report.phase not in ON_FULL and (warning := other_score_warning(report.scores, score)):
        report.warn(warning)
    if first and _is_score(score) and not _is_touched(model, before):
        report.warn(UNTOUCHED)
    return score


@dataclass
class StepCount:
    """How many steps torch's optimizers have taken."""

    count: int = 0

    def add(self, *_: object) -> None:
        """One more."""
        self.count += 1


@contextlib.contextmanager
def counted_steps() -> Iterator[StepCount]:
    """Counts the steps of all torch optimizers of this process while the block lasts."""
    steps = StepCount()
    handle = register_optimizer_step_post_hook(steps.add)
    try:
        yield steps
    finally:
        handle.remove()


def few_steps_note(steps: int, epochs: int) -> str:
    """What a person should know of a rung on which a training has so few optimizer steps."""
    count, known = f"{steps} optimizer {'step' if steps == 1 else 'steps'}", max(1, round(steps / epochs))
    return (
        f"warning: a training on this rung has {count}, which may be too few to rank hyperparameters; "
        f"give steps_per_epoch={known} (to tune, or in the table [train]), and the default ladder leaves such rungs out"
    )


def other_score_warning(reported: Sequence[float], returned: object) -> str:
    """Whether what was returned can hardly be the score that was reported; empty if it can.

    It need not be the last: the best of all, or one of averaged weights, is near what was reported.
    """
    try:
        score = real_number("the score", returned)
    except InputError:
        return ""
    if not reported or not math.isfinite(score):
        return ""
    low, high = min(reported), max(reported)
    near = max(high - low, NEAR * max(abs(low), abs(high)))
    if low - near <= score <= high + near:
        return ""
    return (
        f"warning: the train function reported {reported[-1]:.4g} last and returned {score:.4g}: trials are stopped "
        "early by what they report and compared by what they return, so both must be the same score; does it report an "
        "accuracy and return a loss?"
    )


def not_read_note(names: Sequence[str]) -> str:
    """What a person should know of hyperparameters that the train function never read; empty for none."""
    if not names:
        return ""
    them = " and ".join(f"params[{name!r}]" for name in names)
    return (
        f"warning: the train function has not read {them}, so searching {'it' if len(names) == 1 else 'them'} changes "
        "nothing; use it in train or in model_fn(params), or take it out of the space"
    )


def _is_score(returned: object) -> bool:
    """Whether the trial has come to a score: no other ending says that anything was trained."""
    try:
        return math.isfinite(real_number("the score", returned))
    except InputError:
        return False


def explain(error: Exception, model: nn.Module, params: Sequence[str]) -> str:
    """What is usually behind an error that a train function raises; empty for those that speak for themselves."""
    text = str(error)
    if isinstance(error, KeyError) and error.args and isinstance(error.args[0], str) and error.args[0] not in params:
        return f"params holds what is in the search space: {', '.join(params)}"
    if isinstance(error, RuntimeError | ValueError) and _DEVICE.search(text):
        device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
        return f"the model is on {device}; move each batch there: batch.to(next(model.parameters()).device)"
    if isinstance(error, RuntimeError) and "size mismatch for" in text:
        return (
            "in the search the train function gets the proxy, which is narrower: load a checkpoint by "
            "prunetune.load_cut(model, state_dict), which cuts it along, or in model_fn, from whose weights the proxy "
            "is cut"
        )
    if isinstance(error, UnboundLocalError | ZeroDivisionError):
        return "did a loop run zero times? A DataLoader with drop_last yields nothing if its batch exceeds the dataset"
    return ""


def _copies(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, on the CPU, so that they take no memory on the device."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in _tensors(model)}


def _tensors(model: nn.Module) -> Iterable[tuple[str, Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


def _is_touched(model: nn.Module, before: Mapping[str, Tensor]) -> bool:
    """Whether anything is different, or at least has a gradient: a tiny learning rate may change no bit."""
    if any(parameter.grad is not None for parameter in model.parameters()):
        return True
    now = dict(_tensors(model))
    return not before or now.keys() != before.keys() or any(_differ(now[name], before[name]) for name in before)


def _differ(now: Tensor, before: Tensor) -> bool:
    return now.shape != before.shape or not torch.equal(now.detach().cpu(), before)


def _never_in_training_mode(model: nn.Module, before: Mapping[str, Tensor]) -> bool:
    """Whether the model was trained while no batch norm counted a batch."""
    counters = [
        f"{path}.num_batches_tracked" if path else "num_batches_tracked"
        for path, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.num_batches_tracked is not None
    ]
    now = dict(_tensors(model))
    if not counters or any(name not in before or _differ(now[name], before[name]) for name in counters):
        return False
    return any(parameter.grad is not None for parameter in model.parameters())

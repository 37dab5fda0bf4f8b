"""Training a transformer on texts that are on the device as numbers, as a train function for the tuner.

Text classification and causal language modelling differ in their loss and score only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn
from torch.nn import functional as F

from prunetune.data import reduced_indices
from prunetune.errors import InputError
from prunetune.training.execution import AS_MEASURED, Execution, deterministic
from prunetune.training.hyperparameters import Updatable
from prunetune.training.schedules import cosine

if TYPE_CHECKING:
    from prunetune.backends.study.trial import Report
    from prunetune.data._texts import TextParts

EVALUATION_BATCH: Final = 64
LARGEST_NORM: Final = 1.0
"""Of the gradient of all parameters; larger ones are scaled down, as by the Trainer of transformers."""


@dataclass(frozen=True)
class TextHyperparameters(Updatable):
    """Of AdamW with a rate that rises for the share ``warmup`` of all steps and falls as a cosine.

    The defaults are usual for fine-tuning.
    """

    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    batch_size: int = 16
    warmup: float = 0.1

    def rate(self, progress: float) -> float:
        """The factor of the learning rate at a share of all steps.

        >>> TextHyperparameters(warmup=0.5).rate(0.25), TextHyperparameters(warmup=0.0).rate(0.5)
        (0.5, 0.5)
        """
        if progress < self.warmup:
            return progress / self.warmup
        return cosine((progress - self.warmup) / (1 - self.warmup), 0.0)


@dataclass(frozen=True, eq=False)
class Tokens:
    """Texts as numbers, all of one length: ``ids`` int64 (N, L).

    ``mask`` int64 (N, L) is 0 where a text is over, and None where all are full; ``labels`` int64 (N,) are classes, and
    None where the next token is to be predicted.
    """

    ids: torch.Tensor
    mask: torch.Tensor | None = None
    labels: torch.Tensor | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, chosen: torch.Tensor | slice) -> Tokens:
        """Those texts."""
        return Tokens(*(None if each is None else each[chosen] for each in self._all()))  # type: ignore[arg-type]

    def to(self, device: torch.device) -> Tokens:
        """The same on ``device``."""
        return Tokens(*(None if each is None else each.to(device) for each in self._all()))  # type: ignore[arg-type]

    def inputs(self) -> dict[str, torch.Tensor]:
        """What a network is called with, by the names that transformers have."""
        mask = {} if self.mask is None else {"attention_mask": self.mask}
        return {"input_ids": self.ids, **mask}

    def _all(self) -> tuple[torch.Tensor | None, ...]:
        return self.ids, self.mask, self.labels


@dataclass(frozen=True, eq=False)
class TextTraining:
    """A train function, ``job(model, params, report) -> score``, on the training texts of ``parts``.

    Trains the given model in place with AdamW, whose groups follow the proxy's width. The score is that of the
    validation texts after the last epoch: the share that is classified correctly, 0..1, or, where there are no labels,
    the mean loss of a token in nats, of which less is better. Where ``report.data`` is below 1, trials share a part of
    the training texts, which depends on ``seed``.
    """

    parts: TextParts[Tokens]
    defaults: TextHyperparameters = TextHyperparameters()
    execution: Execution = AS_MEASURED
    seed: int = 0
    _smaller: dict[float, Tokens] = field(default_factory=dict, init=False, repr=False)

    def __call__(self, model: nn.Module, params: Mapping[str, Any], report: Report) -> float:
        """Train ``model``; NaN as soon as the score or an epoch's loss is not finite. Raises InputError."""
        settings = self.defaults.updated(params)
        texts = self.texts_at(report.data)
        check_batch_size(settings.batch_size, len(texts))
        device, score = texts.ids.device, math.nan
        model.to(device)
        with deterministic(device, report.seed) as generator:
            groups = report.param_groups(
                model, lr=settings.learning_rate, weight_decay=settings.weight_decay, optimizer="adam"
            )
            adam = torch.optim.AdamW(groups)
            for group in adam.param_groups:
                group["initial_lr"] = group["lr"]  # the name that torch's own schedules use
            training = _Training(texts, model, adam, settings, self.execution, generator)
            for epoch in range(1, report.epochs + 1):
                model.train()
                loss = training.epoch((epoch - 1, report.epochs))
                score = self.score(model, self.parts.val) if math.isfinite(loss) else math.nan
                report(score, epoch)
                if not math.isfinite(score):
                    break
        return score

    def texts_at(self, share: float) -> Tokens:
        """The texts that trials train with, made once for all of them."""
        if share == 1:
            return self.parts.train
        if share not in self._smaller:
            train = self.parts.train
            self._smaller[share] = train[reduced_indices(len(train), share, self.seed).to(train.ids.device)]
        return self._smaller[share]

    @torch.no_grad()
    def score(self, model: nn.Module, texts: Tokens) -> float:
        """The score on these texts, in evaluation mode. The model is left in the mode it was in."""
        was_training = model.training
        model.eval()
        total = torch.zeros((), dtype=torch.float64, device=texts.ids.device)
        for start in range(0, len(texts), EVALUATION_BATCH):
            batch = texts[slice(start, start + EVALUATION_BATCH)]
            logits = logits_of(model, batch, self.execution)
            if batch.labels is None:
                total += loss_of(logits, batch).double() * len(batch)
            else:
                total += (logits.argmax(1) == batch.labels).sum()
        model.train(was_training)
        return total.item() / len(texts)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """``{"accuracy": 0..1}`` or ``{"loss": nats}`` on the test texts, which have no part in the selection."""
        name = "loss" if self.parts.test.labels is None else "accuracy"
        return {name: self.score(model.to(self.parts.test.ids.device), self.parts.test)}


@dataclass(frozen=True, eq=False)
class _Training:
    """One network in training. Nothing in an epoch waits for the device: its loss is read once, at the end."""

    texts: Tokens
    model: nn.Module
    adam: torch.optim.Optimizer
    settings: TextHyperparameters
    execution: Execution
    generator: torch.Generator

    def epoch(self, done: tuple[int, int]) -> float:
        """One pass over the training texts after so many epochs of so many; returns the sum of the batches' losses.

        The texts that are left over when the batches are full wait for another epoch's order.
        """
        device, size = self.texts.ids.device, self.settings.batch_size
        order = torch.randperm(len(self.texts), generator=self.generator, device=device)
        batches = torch.split(order, size)[: len(order) // size]
        total = torch.zeros((), device=device)
        for number, batch in enumerate(batches):
            # the first step is one into the warm-up, not at its beginning, where the rate is 0
            progress = (done[0] + (number + 0.5) / len(batches)) / done[1]
            for group in self.adam.param_groups:
                group["lr"] = group["initial_lr"] * self.settings.rate(progress)
            total += self._step(self.texts[batch])
        return total.item()

    def _step(self, batch: Tokens) -> torch.Tensor:
        self.adam.zero_grad()
        loss = loss_of(logits_of(self.model, batch, self.execution), batch)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), LARGEST_NORM)
        self.adam.step()
        return loss.detach()


def logits_of(model: nn.Module, batch: Tokens, execution: Execution = AS_MEASURED) -> torch.Tensor:
    """(B, classes) or (B, L, vocabulary), float32: what the model returns, or the ``logits`` of that."""
    with execution.autocast(batch.ids.device):
        found = model(**batch.inputs())
    logits: torch.Tensor = found if isinstance(found, torch.Tensor) else found.logits
    return logits.to(torch.float32)


def loss_of(logits: torch.Tensor, batch: Tokens) -> torch.Tensor:
    """The mean cross-entropy in nats: of the classes, or of every token but the first of a text."""
    if batch.labels is not None:
        return F.cross_entropy(logits, batch.labels)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), batch.ids[:, 1:].flatten())


def check_batch_size(batch_size: int, texts: int) -> None:
    """Raise InputError unless there are that many training texts."""
    if not 1 <= batch_size <= texts:
        raise InputError(f"batch_size {batch_size} is impossible: there are {texts} training texts; lower it")

"""Hugging Face's ``Trainer``: a callback that tells a trial's ``report`` the metric after each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from prunetune._utils.moved import renamed
from prunetune.errors import InputError

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    import prunetune.backends.study.trial


class TransformersReport(TrainerCallback):
    """Calls ``report(metric, epoch)`` at the first evaluation after every whole epoch.

    ``eval_strategy="epoch"`` makes one. What ``report`` raises to end a trial ends ``train`` as well.

    Raises InputError if there is no such metric.

    Example
    -------
    In a train function::

        options = TrainingArguments(folder, num_train_epochs=report.epochs, eval_strategy="epoch")
        adam = torch.optim.AdamW(report.param_groups(model, lr=params["lr"], optimizer="adam"))
        callbacks = [TransformersReport(report, "eval_loss")]
        trainer = Trainer(model, options, optimizers=(adam, None), callbacks=callbacks, **datasets)
        trainer.train()
        return trainer.evaluate()["eval_loss"]
    """

    def __init__(self, report: prunetune.backends.study.trial.Report, metric: str) -> None:
        self._report = report
        self._metric = metric

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **others: Any,
    ) -> None:
        """Tell it."""
        epoch = round(state.epoch or 0)
        if abs((state.epoch or 0) - epoch) > 1e-6 or epoch <= self._report.epoch:
            return
        found = metrics or {}
        if self._metric not in found:
            raise InputError(f"an evaluation has no metric {self._metric!r}; it has {', '.join(found) or 'none'}")
        self._report(found[self._metric], epoch)


__getattr__ = renamed(__name__, Report=TransformersReport)

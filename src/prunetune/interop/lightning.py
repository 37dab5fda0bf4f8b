"""Lightning: a callback that tells a trial's ``report`` the metric after each epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning.pytorch.callbacks import Callback

from prunetune._utils.moved import renamed
from prunetune.errors import InputError

if TYPE_CHECKING:
    from lightning.pytorch import LightningModule, Trainer

    import prunetune.backends.study.trial


class LightningReport(Callback):
    """Calls ``report(metric, epoch)`` after every epoch with a validation, epochs counted from 1.

    The sanity check before the first epoch is none, and of several validations in an epoch the last counts. What
    ``report`` raises to end a trial ends ``fit`` as well.

    Raises InputError if nothing was logged by that name.

    Example
    -------
    In a train function, for a ``LightningModule`` that logs "accuracy" in its ``validation_step``::

        trainer = lightning.Trainer(max_epochs=report.epochs, callbacks=[LightningReport(report, "accuracy")])
        groups = report.param_groups(model, lr=params["lr"])  # for the optimizer of ``Digits``
        trainer.fit(Digits(model, groups), train_loader, val_loader)
        return trainer.callback_metrics["accuracy"].item()
    """

    def __init__(self, report: prunetune.backends.study.trial.Report, metric: str) -> None:
        self._report = report
        self._metric = metric
        self._validated = False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """There is something to tell at the end of the epoch."""
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell it."""
        if not self._validated:
            return
        self._validated = False
        found = trainer.callback_metrics
        if self._metric not in found:
            raise InputError(f"nothing was logged as {self._metric!r}; logged were {', '.join(found) or 'no metrics'}")
        self._report(found[self._metric].item(), trainer.current_epoch + 1)


__getattr__ = renamed(__name__, Report=LightningReport)

"""What a user should know of the transfer in a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunetune.backends.trial import ASKED

if TYPE_CHECKING:
    import optuna


def transfer_note(study: optuna.Study, transfer: str) -> str:
    """A sentence on how the proxies of ``study`` took their hyperparameters; none before a trial has been trained."""
    from prunetune.backends.study import finished_trials

    trained = finished_trials(study)
    if not trained:
        return ""
    if transfer == "identity":
        return "transfer 'identity': proxy and full network got the same hyperparameters"
    if any(trial.user_attrs.get(ASKED) for trial in trained):
        return f"transfer {transfer!r}: learning rates on the proxy were corrected for its width"
    return (
        f"transfer {transfer!r} had no effect: the train function never called report.param_groups(model, lr=…), so "
        "proxy and full network got the same hyperparameters"
    )

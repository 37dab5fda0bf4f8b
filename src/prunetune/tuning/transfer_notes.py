"""What a user should know of the transfer in a search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunetune.backends.study.attributes import ASKED
from prunetune.backends.study.study import outcome
from prunetune.record.sentences import transfer_sentence

if TYPE_CHECKING:
    import optuna


def never_asked(transfer: str) -> str:
    """What a person should know of a train function that never asked for parameter groups; nothing of identity."""
    if transfer == "identity":
        return ""
    return (
        f"warning: transfer={transfer!r} asked for, but the train function never called report.param_groups, so the "
        "proxy trains with the full network's hyperparameters as they are; give the optimizer "
        "report.param_groups(model, lr=…) in place of model.parameters(), or set optimizers to 'sgd' or 'adam', or "
        "transfer to 'identity'"
    )


def asked_trials(study: optuna.Study) -> tuple[int, int]:
    """How many complete trials asked for parameter groups, and how many there are."""
    complete = [trial for trial in study.get_trials(deepcopy=False) if outcome(trial) == "complete"]
    return sum(bool(trial.user_attrs.get(ASKED)) for trial in complete), len(complete)


def transfer_note(study: optuna.Study, transfer: str) -> str:
    """How the proxies of ``study`` took their hyperparameters, by its complete trials; nothing before there is one."""
    return transfer_sentence(transfer, *asked_trials(study))

"""The parts of ``result.json``: plain values out of studies, plans and the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from prunetune._utils.checks import real_number
from prunetune.backends.study.attributes import BEHIND, NOT_READ
from prunetune.backends.study.study import count_outcomes, outcome, top_trials
from prunetune.errors import InputError
from prunetune.record.provenance import Record, finite
from prunetune.record.schema import (
    Choice,
    Confirmation,
    CostPart,
    FidelityPart,
    FrozenNode,
    Layer,
    LayerGroup,
    NetworkCost,
    PruningPart,
    Raced,
    Refined,
    SearchPart,
    StepMeasurement,
    TrialCostPart,
    TrialShares,
    plain,
)
from prunetune.tuning.fidelity import AXES
from prunetune.tuning.transfer_notes import asked_trials

if TYPE_CHECKING:
    import optuna

    from prunetune.backends import SearchSpace
    from prunetune.pruning.result import PruneResult
    from prunetune.tuning.fidelity import Fidelity, TrialCost


def pruning_part(asked: Record, result: PruneResult, plan_sha256: str) -> PruningPart:
    """What was asked for, what was cut and what could not be."""
    return PruningPart(
        **{**asked, "protect": tuple(asked["protect"])},
        plan_sha256=plan_sha256,
        seconds=result.seconds,
        measurements=tuple(StepMeasurement(m.base_seconds, m.proxy_seconds, m.speedup) for m in result.measurements),
        layers=tuple(Layer(each.name, tuple(each.before), tuple(each.after)) for each in result.layers),
        groups=tuple(LayerGroup(**asdict(group)) for group in result.groups),
        frozen=tuple(FrozenNode(each.node, each.reason) for each in result.frozen),
    )


def cost_part(
    result: PruneResult, step_seconds: Mapping[str, float], fidelity: Fidelity, predicted: TrialCost
) -> CostPart:
    """What the full network ("base"), its proxy, and a trial cost: predicted, and once both have trained, measured."""
    base, proxy = (
        NetworkCost(cost.parameters, cost.flops, step_seconds[name])
        for name, cost in (("base", result.cost.base), ("proxy", result.cost.proxy))
    )
    shares = FidelityPart(**{axis: getattr(fidelity, axis) for axis in AXES})
    return CostPart(base, proxy, TrialCostPart(shares, TrialShares(predicted.total, **asdict(predicted))))


def search_part(study: optuna.Study, space: SearchSpace, notes: Sequence[str]) -> Record:
    """Totals of a study, interrupted trials included as far as their time is known, its best trial, and notes on it."""
    trials = study.get_trials(deepcopy=False)
    best = top_trials(study, 1)
    part = SearchPart(
        seconds=sum(trial.user_attrs.get("seconds", 0.0) for trial in trials),
        epochs=sum(trial.user_attrs.get("epochs", trial.last_step or 0) for trial in trials),
        trials=count_outcomes(study),
        best=choice(best[0].number, best[0], space) if best else None,
        param_groups=asked_trials(study)[0],
        not_read=tuple(not_read(study)),
        notes=tuple(notes),
    )
    return plain(part)


def not_read(study: optuna.Study) -> list[str]:
    """The hyperparameters that the train function read in no trial: whatever was found for them means nothing."""
    ended = [
        trial for trial in study.get_trials(deepcopy=False) if outcome(trial) in ("complete", "pruned", "diverged")
    ]
    unread = [trial.user_attrs.get(NOT_READ, ()) for trial in ended]
    return [name for name in (unread[0] if unread else ()) if all(name in each for each in unread)]


def choice(number: int, trial: optuna.trial.FrozenTrial, space: SearchSpace) -> Choice:
    """The hyperparameters, the score and the seed of ``trial``, under the ``number`` that they had in the search."""
    return Choice(number, space.plain(trial.params), trial.value, trial.user_attrs.get("seed"))


def _trained(trial: optuna.trial.FrozenTrial, space: SearchSpace) -> Record:
    """How one training of the full network ended."""
    ended, notes = outcome(trial), trial.user_attrs
    message = ": ".join(said for said in (notes.get("message", ""), notes.get(BEHIND, "")) if said)
    return {
        "params": space.plain(trial.params) if trial.params else {},
        "base_score": trial.value if ended == "complete" else None,
        "outcome": ended,
        "message": message,
        "seconds": notes.get("seconds"),
        "epochs": notes.get("epochs", trial.last_step or 0),
        "seed": notes.get("seed"),
    }


def confirmation_part(study: optuna.Study, space: SearchSpace) -> list[Record]:
    """One entry for each training of the full network, in order."""
    return [
        plain(
            Confirmation(
                trial=trial.user_attrs["search_trial"],
                proxy_score=trial.user_attrs["proxy_score"],
                **_trained(trial, space),
            )
        )
        for trial in study.get_trials(deepcopy=False)
        if outcome(trial) is not None
    ]


def refined_part(study: optuna.Study, space: SearchSpace) -> list[Record]:
    """One entry for each trial of the refinement, in order, counted from 1."""
    ran = [trial for trial in study.get_trials(deepcopy=False) if outcome(trial) is not None]
    return [plain(Refined(refine_trial=place, **_trained(trial, space))) for place, trial in enumerate(ran, 1)]


def refined_choice(study: optuna.Study, trial: optuna.trial.FrozenTrial, space: SearchSpace) -> Choice:
    """As ``choice``, of a trial of the refinement; it is none of the search."""
    earlier = [each for each in study.get_trials(deepcopy=False)[: trial.number] if outcome(each) is not None]
    return replace(choice(trial.number, trial, space), trial=None, refine_trial=len(earlier) + 1)


def raced_part(study: optuna.Study, epochs: int) -> Record:
    """How many trainings the race stopped, and the epochs and the time that they did not take, each at its own pace."""
    ended = [trial for trial in study.get_trials(deepcopy=False) if outcome(trial) == "pruned"]
    stopped = [trial for trial in ended if BEHIND in trial.user_attrs]  # not those that the train function gave up
    left = [epochs - trial.user_attrs["epochs"] for trial in stopped]
    seconds = sum(_seconds_of(trial, count) for count, trial in zip(left, stopped, strict=True))
    return plain(Raced(len(stopped), sum(left), seconds))


def measured_part(
    search: optuna.Study, confirm: optuna.Study, search_epochs: int, confirm_epochs: int
) -> Record | None:
    """What a whole trial cost as a share of a full training, from the configurations on both; None without any.

    It is the ratio of the sums of seconds, proxy over base, each brought to all epochs of its network.
    """
    on_proxy = {trial.number: trial for trial in search.get_trials(deepcopy=False)}
    both = [
        (trial, on_proxy[trial.user_attrs["search_trial"]])
        for trial in confirm.get_trials(deepcopy=False)
        if outcome(trial) == "complete"
    ]
    seconds = sum(_seconds_of(proxy, search_epochs) for _, proxy in both)
    if not seconds:
        return None
    total = seconds / sum(_seconds_of(base, confirm_epochs) for base, _ in both)
    return plain(TrialShares(total, epochs=search_epochs / confirm_epochs, configurations=len(both)))


def estimate_part(search: optuna.Study, measured: Mapping[str, Any] | None) -> Record:
    """What the search would have taken on the full network: its training time over ``measured_part``'s ratio."""
    if measured is None:
        return {"search_on_base_estimate": None, "estimate_basis": "no configuration ran on both networks"}
    trained = sum(trial.user_attrs.get("train_seconds", 0.0) for trial in search.get_trials(deepcopy=False))
    ratio, many = 1 / measured["total"], measured["configurations"]
    count = f"the {many} configurations that ran" if many > 1 else "the one configuration that ran"
    what, stopped = "epoch", "at the same epochs"
    if measured["epochs"] != 1:
        what, stopped = "training", "after the same share of their epochs"
    return {
        "search_on_base_estimate": trained * ratio,
        "estimate_basis": (
            f"an estimate: {trained:.4g} s of training on the proxy x {ratio:.4g}, the full network's seconds per "
            f"{what} over the proxy's in {count} on both, the same trials being stopped {stopped}"
        ),
    }


def _seconds_of(trial: optuna.trial.FrozenTrial, epochs: int) -> float:
    """Seconds of training for so many epochs, at this trial's pace; one without reports has trained them all."""
    return train_seconds(trial) * epochs / (trial.user_attrs["epochs"] or epochs)


def train_seconds(trial: optuna.trial.FrozenTrial) -> float:
    """What the train function took; where that was not noted, the whole trial."""
    return float(trial.user_attrs.get("train_seconds", trial.user_attrs["seconds"]))


def tested(returned: object) -> dict[str, float | None]:
    """What ``evaluate`` returned, as plain numbers by name; a number alone is called "score". Raises InputError."""
    named = returned if isinstance(returned, Mapping) else {"score": returned}
    try:
        return finite({name: real_number(str(name), value) for name, value in named.items()})
    except InputError:
        shown = repr(returned)
        raise InputError(
            f"evaluate must return numbers by name, such as {{'accuracy': 0.9}}, or one number; it returned "
            f"{shown if len(shown) <= 80 else shown[:80] + '…'}"
        ) from None

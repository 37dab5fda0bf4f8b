"""The parts of ``result.json``: plain values out of studies, plans and the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from prunetune._utils.checks import real_number
from prunetune.backends.study.attributes import NOT_READ, PROXY_SCORE, SEARCH_TRIAL
from prunetune.backends.study.study import count_outcomes, outcome, top_trials
from prunetune.errors import InputError
from prunetune.record.provenance import Record, finite
from prunetune.record.schema import (
    AgreementPart,
    Choice,
    Climbed,
    ClimbPart,
    Confirmation,
    CostPart,
    FrozenNode,
    Layer,
    LayerGroup,
    NetworkCost,
    PruningPart,
    SearchPart,
    StepMeasurement,
    plain,
)
from prunetune.transfer.table import factor_ranges
from prunetune.tuning.transfer_notes import asked_trials

if TYPE_CHECKING:
    import optuna

    from prunetune.backends import SearchSpace
    from prunetune.ladder.agreement import Agreement
    from prunetune.pruning.result import PruneResult


def pruning_part(asked: Record, result: PruneResult, plan_sha256: str) -> PruningPart:
    """What was asked for, what was cut and what could not be."""
    return PruningPart(
        **{**asked, "protect": tuple(asked["protect"])},
        factors=factor_ranges(result.model, result.plan, asked["transfer"]),
        plan_sha256=plan_sha256,
        seconds=result.seconds,
        measurements=tuple(StepMeasurement(m.base_seconds, m.proxy_seconds, m.speedup) for m in result.measurements),
        layers=tuple(Layer(each.name, tuple(each.before), tuple(each.after)) for each in result.layers),
        groups=tuple(LayerGroup(**asdict(group)) for group in result.groups),
        frozen=tuple(FrozenNode(each.node, each.reason) for each in result.frozen),
    )


def cost_part(result: PruneResult, step_seconds: Mapping[str, float]) -> CostPart:
    """What the full network ("base") and the first rung's cost."""
    base, proxy = (
        NetworkCost(cost.parameters, cost.flops, step_seconds[name])
        for name, cost in (("base", result.cost.base), ("proxy", result.cost.proxy))
    )
    return CostPart(base, proxy)


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
    return {
        "params": space.plain(trial.params) if trial.params else {},
        "base_score": trial.value if ended == "complete" else None,
        "outcome": ended,
        "message": notes.get("message", ""),
        "seconds": notes.get("seconds"),
        "epochs": notes.get("epochs", trial.last_step or 0),
        "seed": notes.get("seed"),
    }


def climb_part(study: optuna.Study, name: str, network: str, controls: Sequence[int], space: SearchSpace) -> ClimbPart:
    """What was trained on a rung between the first and the last, whose study the folder has by that name."""
    climbed = []
    for trial in _ended(study):
        number, known = trial.user_attrs[SEARCH_TRIAL], _trained(trial, space)
        score, below = known.pop("base_score"), trial.user_attrs[PROXY_SCORE]
        climbed.append(Climbed(number, score=score, score_below=below, control=number in controls, **known))
    return ClimbPart(name, network, sum(each.seconds or 0.0 for each in climbed), tuple(climbed))


def agreement_part(found: Agreement) -> AgreementPart:
    """How two rungs agree, as plain values."""
    spearman = found.spearman
    return AgreementPart(
        found.configurations,
        found.controls,
        found.decision,
        found.sentence,
        *(None if each is None else float(each) for each in (spearman.mean, spearman.low, spearman.high)),
    )


def confirmation_part(study: optuna.Study, space: SearchSpace) -> list[Record]:
    """One entry for each training of the full network, in order."""
    return [
        plain(
            Confirmation(
                trial=trial.user_attrs[SEARCH_TRIAL],
                proxy_score=trial.user_attrs[PROXY_SCORE],
                **_trained(trial, space),
            )
        )
        for trial in _ended(study)
    ]


def _ended(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """The trials of those that came up which have ended; a worker that died may have left one that did not."""
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if outcome(trial) is not None and SEARCH_TRIAL in trial.user_attrs]


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

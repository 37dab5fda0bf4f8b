"""How many of a search's best to confirm, how likely the best is missed, and what the confirmation revealed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from prunetune.backends.study.study import outcome
from prunetune.record.folder import FORMAT, RunFolder
from prunetune.record.provenance import Record
from prunetune.record.schema import Correlation, Trust, plain
from prunetune.stats.ranks import Belief, RankCorrelation, chance_missed, pairs_in_order, spearman
from prunetune.tuning.ascent import Climber, climbers, in_order
from prunetune.tuning.fidelity import AXES

if TYPE_CHECKING:
    import optuna

    from prunetune.tuning.settings import Settings

MISS_LEVEL: Final = 0.1
"""``confirm="auto"`` confirms so many that the best is missed less often than this,"""
AUTO_LIMIT: Final = 8
"""and no more than these."""
PRIOR: Final = Belief(z=math.atanh(0.9), error=0.35)
"""Of a proxy that nobody has checked: Spearman's correlation is 0.90, between 0.66 and 0.97 (95 %); decision 21."""
ALIKE: Final = 0.1
"""Shares of the fidelity that differ by less are the same, since they may come from measured step times."""
PRIOR_BASIS: Final = "a prior, since this proxy was not checked: `prunetune check` measures it"


@dataclass(frozen=True)
class Grounds:
    """What is believed of the rank correlation of the proxy, and on what grounds, in words.

    ``ceiling`` is the same of the full network with itself, where that was measured.
    """

    proxy: Belief
    basis: str
    ceiling: Belief | None = None
    verdict: str | None = None


def grounds(settings: Settings, folder: RunFolder) -> Grounds:
    """What the check in ``folder`` measured of this proxy; the prior, and why, where there is no such check."""
    if not folder.check.exists():
        return Grounds(PRIOR, PRIOR_BASIS)
    try:
        stored = folder.read_json(folder.check)
        asked = settings.to_record()
        differs = [name for name in ("pruning", "space", "direction") if stored[name] != asked[name]]
        shares = [(stored["fidelity"][axis], asked["fidelity"][axis]) for axis in AXES]
        differs += [] if all(math.isclose(*pair, rel_tol=ALIKE) for pair in shares) else ["fidelity"]
        if stored["format"] != FORMAT or differs:
            other = f"with another {differs[0]}" if differs else f"in format {stored['format']!r}"
            return Grounds(PRIOR, f"a prior, since the check in check.json was made {other}")
        found, ceiling = _stored(stored["correlation"]), _stored(stored["ceiling"])
        word = str(stored["verdict"]["word"])
    except (ValueError, KeyError, TypeError, AttributeError):  # InputError, of what is not JSON, is a ValueError
        return Grounds(PRIOR, "a prior, since check.json is damaged; `prunetune check` writes it again")
    if found is None or found.belief is None:
        return Grounds(PRIOR, "a prior, since the check came to no rank correlation", verdict=word)
    basis = f"the check, in which {found.n} configurations were trained on both"
    return Grounds(found.belief, basis, None if ceiling is None else ceiling.belief, word)


def _stored(values: Any) -> RankCorrelation | None:
    """Raises ValueError, KeyError or TypeError for what is no rank correlation."""
    if values is None:
        return None
    value, low, high = (float(values[name]) for name in ("value", "low", "high"))
    n = values["n"]
    if not isinstance(n, int) or n < 3 or not -1 <= low <= value <= high <= 1:
        raise ValueError(f"{values} is no rank correlation")
    return RankCorrelation(value, low, high, n)


def confirmations(settings: Settings, folder: RunFolder, study: optuna.Study) -> int:
    """How many of the best of ``study`` to train on the full network: what was asked for, at least 1.

    For "auto" the fewest with which the best is missed with a probability below ``MISS_LEVEL``, at most ``AUTO_LIMIT``
    and as many as there are.
    """
    asked = settings.search.confirmed
    if asked != "auto":
        return max(1, asked)
    most = max(1, min(AUTO_LIMIT, len(_ranking(study, settings))))
    belief, searched = grounds(settings, folder).proxy, _searched(study)
    enough = (k for k in range(1, most) if chance_missed(belief, searched, k) < MISS_LEVEL)
    return next(enough, most)


def _ranking(study: optuna.Study, settings: Settings) -> list[Climber]:
    """All that might be confirmed, the best first."""
    return in_order(climbers(study), (), settings.study().direction)


def _searched(study: optuna.Study) -> int:
    """How many different configurations might be the best: those that came to a score or were stopped."""
    trials = study.get_trials(deepcopy=False)
    return len({repr(sorted(t.params.items())) for t in trials if outcome(t) in ("complete", "pruned")})


def trust_part(settings: Settings, folder: RunFolder, study: optuna.Study, confirmed: optuna.Study) -> Record:
    """What ``record["trust"]`` says: the chance that the best was missed, and the proxy's errors that were revealed.

    ``missed`` is about the best of all that were searched, of which the ``confirmed`` best on the proxy were trained on
    the full network; ``missed_by_full_network`` is the same had the search been on the full network with another seed.
    The rank correlation and the pairs in order are of the configurations that came to an end on the full network;
    those that diverged there count as the worst, those that were stopped have no part in it. ``transfer_regret`` is
    the best of them minus the score of the proxy's first choice (negated if less is better), both on the full network.
    """
    maximize = settings.search.direction == "maximize"
    tried = {trial.user_attrs["search_trial"]: trial for trial in confirmed.get_trials(deepcopy=False)}
    ended = {number: trial for number, trial in tried.items() if outcome(trial) in ("complete", "diverged")}
    on_base = {n: _score(trial, maximize) if outcome(trial) == "complete" else -math.inf for n, trial in ended.items()}
    scores = {each.number: each.result.score or 0.0 for each in _ranking(study, settings)}
    on_proxy = {number: score if maximize else -score for number, score in scores.items()}
    ranking = list(on_proxy)
    both = [number for number in ranking if number in ended]
    proxy_scores, base_scores = [on_proxy[n] for n in both], [on_base[n] for n in both]
    correlation = spearman(proxy_scores, base_scores)
    same, pairs = pairs_in_order(proxy_scores, base_scores)
    first = next(iter(ranking), None)
    regret = _regret(on_base, first)
    trust = _missed(settings, grounds(settings, folder), _searched(study), _leading(ranking, tried))
    measured = replace(
        trust,
        compared=len(both),
        correlation=None if correlation is None else Correlation(**vars(correlation)),
        pairs_in_order=same,
        pairs=pairs,
        transfer_regret=regret,
        transfer_outcome=None if first not in tried else outcome(tried[first]),
    )
    return plain(measured)


def _missed(settings: Settings, known: Grounds, searched: int, confirmed: int) -> Trust:
    low, high = known.proxy.interval()
    ceiling = known.ceiling
    return Trust(
        searched,
        confirmed,
        missed=chance_missed(known.proxy, searched, confirmed),
        missed_by_full_network=None if ceiling is None else chance_missed(ceiling, searched, confirmed),
        level=MISS_LEVEL if settings.search.confirm == "auto" else None,
        basis=known.basis,
        believed=Correlation(math.tanh(known.proxy.z), low, high),
        verdict=known.verdict,
    )


def _leading(ranking: list[int], tried: Mapping[int, object]) -> int:
    """How many of the first of ``ranking`` were tried, up to the first that was not."""
    return next((place for place, number in enumerate(ranking) if number not in tried), len(ranking))


def _regret(on_base: Mapping[int, float], first: int | None) -> float | None:
    """The best score on the full network minus that of the proxy's first choice; None where that has none."""
    if first is None or not math.isfinite(on_base.get(first, -math.inf)):
        return None
    return max(on_base.values()) - on_base[first]


def _score(trial: optuna.trial.FrozenTrial, maximize: bool) -> float:
    assert trial.value is not None
    return trial.value if maximize else -trial.value

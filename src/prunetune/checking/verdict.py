"""Whether a proxy is to be trusted: a fixed rule on what a check measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from prunetune.stats.ranks import RankCorrelation, interval_of

Word: TypeAlias = Literal["use", "larger", "don't", "unclear"]

CHEAPER: Final = 1.2
"""A proxy on which trials are not so many times cheaper is not worth its errors."""
REPEATABLE: Final = 0.5
"""A full network whose own rank correlation, with another seed, is below this says nothing about any proxy."""
CHEAPEN: Final = (
    "cut more, or search on the full network; if the machine was busy with other things, check again in a new folder"
)
GOOD: Final = 0.8
"""The share of the noise ceiling that a good proxy's rank correlation reaches."""
SURE: Final = 0.3
"""What the lower limit of a good proxy's rank correlation reaches."""
WEAK: Final = 0.5
"""The share of the noise ceiling that even the upper limit of a useless proxy's does not reach."""


MOST: Final = 1000
"""More configurations than this are not worth naming."""


def configurations_for(value: float) -> int | None:
    """How many configurations make a rank correlation of ``value`` sure: its lower limit reaches 0.3.

    None where that takes more than 1000. The interval is that of ``ranks.spearman``.

    >>> configurations_for(1.0), configurations_for(0.8)
    (6, 12)
    """
    return next((n for n in range(4, MOST + 1) if interval_of(value, n)[0] >= SURE), None)


def too_few(configurations: int) -> str:
    """What to know before a check that is too small to find any proxy good; empty for one that is not."""
    least = configurations_for(1.0)
    if least is None or configurations >= least:
        return ""
    return (
        f"with {configurations} configurations a check can find no proxy good, not even one that ranks exactly as the "
        f"full network does; that takes at least {least}"
    )


@dataclass(frozen=True)
class Verdict:
    """One of four words, and a sentence that says why."""

    word: Word
    sentence: str


def verdict(proxy: RankCorrelation | None, ceiling: RankCorrelation | None, cost_ratio: float | None) -> Verdict:
    """The first of these that is true; decision 21 says why.

    1. too few to tell: no rank correlation, of the proxy or of the full network with itself, or the latter below 0.5;
    2. don't: a trial on the proxy is not at least 1.2 times cheaper;
    3. don't: the upper limit of the proxy's correlation is below half of the ceiling;
    4. use: its correlation is at least 0.8 of the ceiling, its lower limit at least 0.3;
    5. too few to tell: the upper limit is at least 0.8 of the ceiling, the lower one below 0.3;
    6. use a larger one.

    The ceiling is the rank correlation of the full network with itself, trained with another seed.
    """
    if proxy is None or ceiling is None or cost_ratio is None:
        why = "too few configurations came to different scores on both networks"
        return Verdict("unclear", f"too few to tell: {why}; check more configurations")
    found = f"rank correlation {_of(proxy)} with the full network, whose own is {_of(ceiling)}"
    if ceiling.value < REPEATABLE:
        why = f"the full network with another seed orders the configurations differently ({_of(ceiling)})"
        return Verdict("unclear", f"too few to tell: {why}; check more configurations, or train them for longer")
    if cost_ratio < CHEAPER:
        why = f"a trial on it is only {cost_ratio:.3g} times as cheap as a training of the full network"
        return Verdict("don't", f"don't use this proxy: {why}; {CHEAPEN}")
    if proxy.high < WEAK * ceiling.value:
        return Verdict("don't", f"don't use this proxy: {found}")
    if proxy.value >= GOOD * ceiling.value and proxy.low >= SURE:
        return Verdict("use", f"use this proxy: {found}, and a trial on it is {cost_ratio:.3g} times as cheap")
    if proxy.high >= GOOD * ceiling.value and proxy.low < SURE:
        enough = configurations_for(proxy.value)
        many = f"with {enough} or more configurations" if enough else "with more configurations"
        return Verdict("unclear", f"too few to tell: {found}; check {many}, which trains only the new ones")
    return Verdict("larger", f"use a larger proxy: {found}")


def _of(correlation: RankCorrelation) -> str:
    return f"{correlation.value:.2f} [{correlation.low:.2f}, {correlation.high:.2f}]"

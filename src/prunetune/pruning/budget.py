"""How small the proxy is to be: one budget, and what holds beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunetune.errors import InputError

if TYPE_CHECKING:
    from prunetune.engine import Cost, DependencyGraph
    from prunetune.engine.selection.ranking import Mask, Ranking, Ratio, Scores

PAPER_PERCENTILE = 85.0
PAPER_FLOOR = 0.15
BUDGETS = ("percentile", "ratio", "flops", "params", "speedup")


@dataclass(frozen=True)
class Budget:
    """One of `percentile`, `ratio`, `flops`, `params` and `speedup`; the paper's percentile if none is given.

    Raises InputError for more than one of them, or for `depth` with a budget that does not say how small.
    """

    percentile: float | None = None
    ratio: Ratio | None = None
    flops: float | None = None
    params: float | None = None
    speedup: float | None = None
    floor: float = PAPER_FLOOR
    protect: Sequence[str] = ()
    multiple_of: int = 1
    depth: bool = False

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in BUDGETS if getattr(self, name) is not None}
        if len(given) > 1:
            listed = " and ".join(f"{name}={value}" for name, value in given.items())
            raise InputError(f"give one budget, not {len(given)}; got {listed}")
        if not given:
            object.__setattr__(self, "percentile", PAPER_PERCENTILE)
        if self.depth and self.kind in ("percentile", "ratio"):
            raise InputError(
                f"depth=True needs a budget that says how small the proxy must be (flops, params or speedup); "
                f"got {self.kind}={getattr(self, self.kind)}"
            )
        if self.speedup is not None:
            number = isinstance(self.speedup, (int, float)) and not isinstance(self.speedup, bool)
            if not number or not 1 <= self.speedup < float("inf"):
                raise InputError(f"speedup must be at least 1 (5: a fifth of the time); got {self.speedup!r}")

    @property
    def kind(self) -> str:
        """Which of the budgets it is."""
        return next(name for name in BUDGETS if getattr(self, name) is not None)

    @property
    def share(self) -> float:
        """What is to be left, for budgets that can be counted."""
        share = self.flops if self.flops is not None else self.params
        assert share is not None
        return share

    def ranking(self, graph: DependencyGraph, scores: Scores) -> Ranking:
        """All units of `graph` in the order in which they go."""
        from prunetune.engine.selection.ranking import Ranking  # loads torch, and settings are read without

        return Ranking(graph, scores, floor=self.floor, protect=self.protect, multiple_of=self.multiple_of)

    def select(self, graph: DependencyGraph, scores: Scores, base: Cost) -> Mask:
        """What stays, for every budget that can be counted (all but `speedup`); `base` is the full network's cost."""
        from prunetune.engine import by_cost, by_percentile, by_ratio  # likewise

        beside: Mapping[str, Any] = {"protect": self.protect, "multiple_of": self.multiple_of}
        if self.ratio is not None:
            return by_ratio(graph, scores, ratio=self.ratio, **beside)
        if self.percentile is not None:
            return by_percentile(graph, scores, percentile=self.percentile, floor=self.floor, **beside)
        quantity, share = ("flops", self.flops) if self.flops is not None else ("params", self.params)
        return by_cost(graph, scores, quantity, share, floor=self.floor, base=base, **beside)  # type: ignore[arg-type]

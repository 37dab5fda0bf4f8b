"""How a network is cut: by which scores, to what budget, and what holds beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, TypeAlias

from annotated_types import Ge, Gt, Le, Lt

from prunetune._utils.options import Options
from prunetune.errors import InputError

if TYPE_CHECKING:  # the engine loads torch, and settings are checked without
    from prunetune.engine import Cost, DependencyGraph
    from prunetune.engine.selection.ranking import Mask, Ranking, Scores

PAPER_PERCENTILE: Final = 85.0
PAPER_FLOOR: Final = 0.15
BUDGETS: Final = ("percentile", "ratio", "flops", "params", "speedup")

Heads: TypeAlias = Literal["auto", "dims", "whole"]
"""The engine's."""

Share: TypeAlias = Annotated[float, Gt(0), Le(1)]


@dataclass(frozen=True)
class Budget(Options):
    """The arguments of `prunetune.prune` that say how to cut, see there; the paper's percentile unless one is given.

    Raises InputError for more than one budget, or for `depth` with a budget that does not say how small.
    """

    scorer: Any = "synflow"
    percentile: Annotated[float, Gt(0), Lt(100)] | None = None
    ratio: Share | Mapping[str, Share] | None = None
    flops: Share | None = None
    params: Share | None = None
    speedup: Annotated[float, Ge(1)] | None = None
    depth: bool = False
    floor: Share = PAPER_FLOOR
    protect: Sequence[str] = ()
    multiple_of: Annotated[int, Ge(1)] = 1
    heads: Heads = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        given = {name: getattr(self, name) for name in BUDGETS if getattr(self, name) is not None}
        if len(given) > 1:
            listed = " and ".join(f"{name}={value}" for name, value in given.items())
            raise InputError(f"give one budget, not {len(given)}; got {listed}")
        if self.ratio is not None and self.floor != PAPER_FLOOR:
            raise InputError(f"floor is {self.floor:g}, but it has no part in ratio={self.ratio}; drop one of them")
        if self.depth and self.kind in ("percentile", "ratio"):
            raise InputError(
                "depth is True, but needs a budget that says how small the proxy must be (flops, params or speedup); "
                f"got {self.kind}={given.get(self.kind, PAPER_PERCENTILE)}"
            )

    def arguments(self) -> dict[str, Any]:
        """What `prunetune.prune` is called with."""
        return {field.name: getattr(self, field.name) for field in fields(Budget)}

    @property
    def kind(self) -> str:
        """Which of the budgets it is."""
        return next((name for name in BUDGETS if getattr(self, name) is not None), "percentile")

    @property
    def asked_percentile(self) -> float | None:
        """The percentile, where that is the budget."""
        return self.percentile or PAPER_PERCENTILE if self.kind == "percentile" else None

    @property
    def share(self) -> float:
        """What is to be left, for budgets that can be counted."""
        share = self.flops if self.flops is not None else self.params
        assert share is not None
        return share

    def ranking(self, graph: "DependencyGraph", scores: "Scores") -> "Ranking":
        """All units of `graph` in the order in which they go."""
        from prunetune.engine.selection.ranking import Ranking  # loads torch, which settings do without

        return Ranking(graph, scores, floor=self.floor, protect=self.protect, multiple_of=self.multiple_of)

    def select(self, graph: "DependencyGraph", scores: "Scores", base: "Cost") -> "Mask":
        """What stays, for every budget that can be counted (all but `speedup`); `base` is the full network's cost."""
        from prunetune.engine import by_cost, by_percentile, by_ratio  # loads torch

        beside: Mapping[str, Any] = {"protect": self.protect, "multiple_of": self.multiple_of}
        if self.ratio is not None:
            return by_ratio(graph, scores, ratio=self.ratio, **beside)
        if (percentile := self.asked_percentile) is not None:
            return by_percentile(graph, scores, percentile=percentile, floor=self.floor, **beside)
        quantity, share = ("flops", self.flops) if self.flops is not None else ("params", self.params)
        return by_cost(graph, scores, quantity, share, floor=self.floor, base=base, **beside)  # type: ignore[arg-type]

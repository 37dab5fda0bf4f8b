"""The contents of ``result.json`` as frozen dataclasses, which write it and read it.

What a run has not come to yet is None or empty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, TypeAlias

Params: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Layer:
    """One layer's weight: its shape in the base and in the proxy."""

    name: str
    before: tuple[int, ...]
    after: tuple[int, ...]

    @property
    def sizes(self) -> tuple[int, int]:
        """Weights in the base and in the proxy."""
        return math.prod(self.before), math.prod(self.after)


@dataclass(frozen=True)
class LayerGroup:
    """Channels that are pruned together: how many the base and the proxy have, and the layers that they tie together.

    ``made_by`` and ``read_by`` are places in ``Pruning.layers``.
    """

    name: str
    before: int
    after: int
    made_by: tuple[int, ...] = ()
    read_by: tuple[int, ...] = ()

    def rows(self, layers: int) -> list[int]:
        """Places of all its layers, in order; those that ``layers`` has no room for are not of this run."""
        return sorted({row for row in (*self.made_by, *self.read_by) if 0 <= row < layers})


@dataclass(frozen=True)
class FrozenNode:
    """A node of the traced graph that made channels stay, why, and how many."""

    node: str
    reason: str
    channels: int | None = None


@dataclass(frozen=True)
class StepMeasurement:
    """A candidate for the proxy that was measured beside the base: seconds of a training step."""

    base_seconds: float
    proxy_seconds: float
    speedup: float


@dataclass(frozen=True)
class PruningPart:
    """How the proxy was made, and what it left."""

    scorer: str | None = None
    percentile: float | None = None
    floor: float | None = None
    ratio: float | None = None
    flops: float | None = None
    params: float | None = None
    speedup: float | None = None
    depth: bool | None = None
    protect: tuple[str, ...] = ()
    multiple_of: int | None = None
    heads: str | None = None
    weights: str | None = None
    transfer: str | None = None
    optimizers: str = "asked"
    factors: dict[str, tuple[float, float]] | None = None
    """By kind of optimizer ("sgd", "adam") the smallest and largest factor of a learning rate on the first rung."""
    plan_sha256: str | None = None
    seconds: float | None = None
    measurements: tuple[StepMeasurement, ...] = ()
    layers: tuple[Layer, ...] = ()
    groups: tuple[LayerGroup, ...] = ()
    frozen: tuple[FrozenNode, ...] = ()


@dataclass(frozen=True)
class NetworkCost:
    """What one network costs: parameters, FLOPs of one forward pass, measured seconds of one training step."""

    parameters: int | None = None
    flops: int | None = None
    step_seconds: float | None = None


@dataclass(frozen=True)
class CostPart:
    """The base's cost beside the proxy's."""

    base: NetworkCost | None = None
    proxy: NetworkCost | None = None


@dataclass(frozen=True)
class Choice:
    """A trial of the search with its hyperparameters; ``score`` is the one that it was chosen by."""

    trial: int | None = None
    params: Params = field(default_factory=dict)
    score: float | None = None
    seed: Any = None


@dataclass(frozen=True)
class SearchPart:
    """Totals of the search on the proxy."""

    seconds: float | None = None
    epochs: float | None = None
    trials: dict[str, int] = field(default_factory=dict)
    best: Choice | None = None
    param_groups: int | None = None
    """How many complete trials asked for parameter groups."""
    not_read: tuple[str, ...] = ()
    """Hyperparameters that the train function read in no trial."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Confirmation:
    """One of the best of the search, trained on the base, with the score that it came with, and how that ended."""

    trial: int
    params: Params = field(default_factory=dict)
    proxy_score: float | None = None
    base_score: float | None = None
    outcome: str | None = None
    message: str = ""
    seconds: float | None = None
    epochs: float | None = None
    seed: Any = None


@dataclass(frozen=True)
class AgreementPart:
    """How a rung and the one below rank the same configurations, some of them controls; see ``ladder.agreement``."""

    configurations: int
    controls: int
    decision: str
    sentence: str
    spearman: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Climbed:
    """One configuration on a rung between the first and the last, with its score on the rung below."""

    trial: int
    params: Params = field(default_factory=dict)
    score: float | None = None
    score_below: float | None = None
    outcome: str | None = None
    message: str = ""
    seconds: float | None = None
    epochs: float | None = None
    seed: Any = None
    control: bool = False


@dataclass(frozen=True)
class ClimbPart:
    """A rung between the first and the last: what was trained on it, and how the one below had ranked."""

    study: str
    network: str
    """What a training on it is, in words."""
    seconds: float = 0.0
    trained: tuple[Climbed, ...] = ()
    agreement: AgreementPart | None = None


@dataclass(frozen=True)
class RungPart:
    """A rung for people: what is trained on it, how many are, and what one of them costs in full trainings."""

    network: str
    entrants: int
    price: float
    study: str
    epochs: int | None = None
    """Of a training on it; None in records of before version 0.2."""


@dataclass(frozen=True)
class AskedPart:
    """What the user said of a ladder: its name or its rungs, how many on the first, a budget."""

    ladder: Any
    n_trials: int | None
    confirm: int | None
    trainings: float | None
    seconds: float | None


@dataclass(frozen=True)
class NetworkFile:
    """Where in the run folder the pruning plan of a network is, by its share of the width."""

    width: float | None
    file: str
    sha256: str


@dataclass(frozen=True)
class LadderPart:
    """The rungs of a search as planned, and why; costs are in full trainings.

    ``customary`` is about how much the customary search costs.
    """

    asked: AskedPart
    earlier: bool = False
    """Of version 0.1, where other numbers were meant by none."""
    plan: dict[str, Any] = field(default_factory=dict)
    rungs: tuple[RungPart, ...] = ()
    reasons: tuple[str, ...] = ()
    costs: dict[str, Any] = field(default_factory=dict)
    networks: tuple[NetworkFile, ...] = ()
    full_seconds: float | None = None
    reached: int | None = None
    """The place of the highest rung that was begun; those below are as they are."""
    customary: float | None = None
    total: float | None = None
    """What all trainings came to, in trainings of the winner."""


@dataclass(frozen=True)
class TimePart:
    """Seconds by phase, and the estimate of what the same search would have taken on the base."""

    prune: float | None = None
    measure: float | None = None
    search: float | None = None
    climb: float | None = None
    confirm: float | None = None
    total: float | None = None
    search_on_base_estimate: float | None = None
    estimate_basis: str | None = None


@dataclass(frozen=True)
class PhaseEnergy:
    """Electricity of a phase, and CO2 where the grid is known."""

    kwh: float
    co2_kg: float | None
    seconds: float


@dataclass(frozen=True)
class Energy:
    """What a run took, who measured it, and by which country's grid."""

    by: str
    country: str | None = None
    search: PhaseEnergy | None = None
    confirm: PhaseEnergy | None = None


@dataclass(frozen=True)
class Result:
    """The contents of ``result.json``. What a run has not come to yet is None or empty."""

    format: int
    id: str | None = None
    status: str = "searching"
    error: str | None = None
    anyway: tuple[str, ...] = ()
    """What was different from what the run was started with, and was let pass."""
    seed: int | None = None
    direction: Literal["maximize", "minimize"] = "maximize"
    command: str | None = None
    versions: dict[str, Any] | None = None
    machine: dict[str, Any] | None = None
    space: dict[str, Any] | None = None
    optimizer: str | None = None
    trial_pruner: str | None = None
    target: float | None = None
    patience: int | None = None
    storage: str | None = None
    study: str | None = None
    n_trials: int | None = None
    epochs: int | None = None
    confirm: int | None = None
    pruning: PruningPart | None = None
    cost: CostPart | None = None
    ladder: LadderPart | None = None
    search: SearchPart | None = None
    climbs: tuple[ClimbPart, ...] = ()
    confirmation: tuple[Confirmation, ...] | None = None
    winner: Choice | None = None
    time: TimePart | None = None
    energy: Energy | None = None
    test: dict[str, float | None] | None = None


def plain(part: Any) -> dict[str, Any]:
    """A part as JSON has it: dictionaries, lists, numbers and text."""

    def listed(value: Any) -> Any:
        if is_dataclass(value) and not isinstance(value, type):
            return {each.name: listed(getattr(value, each.name)) for each in fields(value)}
        if isinstance(value, dict):
            return {name: listed(each) for name, each in value.items()}
        return [listed(each) for each in value] if isinstance(value, list | tuple) else value

    return {**listed(part)}

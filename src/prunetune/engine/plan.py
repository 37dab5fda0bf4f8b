"""What stays: a plain value that can be printed, saved, and applied to a fresh copy of the same architecture."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from prunetune.engine.dependency import DependencyGraph
from prunetune.engine.depth.shortcut import check_bypasses, enclosing, inside, outermost
from prunetune.errors import PlanError

FORMAT = 1


@dataclass(frozen=True)
class TensorCut:
    """What stays of one parameter or buffer."""

    shape: tuple[int, ...]
    """Its shape before."""
    keep: Mapping[int, tuple[int, ...]]
    """For every dimension that is cut, the indices that stay, ascending."""
    persistent: bool = True
    """Whether a state dict holds it."""

    @property
    def shape_after(self) -> tuple[int, ...]:
        return tuple(len(self.keep[d]) if d in self.keep else n for d, n in enumerate(self.shape))


@dataclass(frozen=True)
class AttributeChange:
    """An integer attribute of a module (`layer1.0.conv.groups`) that follows the cut."""

    before: int
    after: int


def _indices(axes: Iterable[NDArray[np.int64]], stays: NDArray[np.bool_]) -> dict[int, tuple[int, ...]]:
    """By the id of each array of units, the indices that stay; those that are equal are one tuple."""
    found: dict[int, tuple[int, ...]] = {}
    equal: dict[tuple[int, ...], tuple[int, ...]] = {}
    for units in axes:
        if id(units) not in found:
            indices = tuple(np.flatnonzero(stays[units]).tolist())
            found[id(units)] = equal.setdefault(indices, indices)
    return found


@dataclass(frozen=True, repr=False)
class PruningPlan:
    """Which indices of which tensors stay, which attributes follow, and which residual blocks are bypassed.

    Only what is cut is named; a plan without tensors and bypasses cuts nothing. Frozen, comparable, and portable as
    JSON. Raises PlanError where it contradicts itself: a tail that is not known, a cut in what is bypassed.
    """

    tensors: Mapping[str, TensorCut]
    attributes: Mapping[str, AttributeChange]
    bypasses: Mapping[str, str] = field(default_factory=dict)
    """For every module that becomes its shortcut, the activation that stays behind it: see `residual_blocks`."""
    normed: frozenset[str] = frozenset()
    """Weights of the network that stand before a norm, where somebody has looked: see `prunetune.transfer.norms`."""
    depth: float = 1.0
    """The share of the residual blocks that is left, where somebody has counted them, as `prune` does."""

    def __post_init__(self) -> None:
        if self.bypasses:
            check_bypasses(self.bypasses, self.tensors, self.attributes)

    def __repr__(self) -> str:
        """One line: `to_json` gives every index."""
        return f"<PruningPlan: {len(self.tensors)} tensors cut, {len(self.bypasses)} blocks bypassed>"

    @staticmethod
    def of(graph: DependencyGraph, keep: NDArray[np.bool_]) -> PruningPlan:
        """The plan that keeps the units for which `keep` is true.

        Parameters
        ----------
        keep
            Shape (graph.unit_count + 1,); entry u is unit u, entry 0 is ignored (what is frozen stays).

        Raises
        ------
        PlanError
            If an axis would be left empty.
        """
        stays = keep.copy()
        stays[0] = True
        cuts: dict[str, dict[int, tuple[int, ...]]] = {}
        kept = _indices(graph.axes.values(), stays)
        for (name, dim), units in graph.axes.items():
            indices = kept[id(units)]
            if len(indices) == len(units):
                continue
            if not indices:
                raise PlanError(
                    f"the plan leaves nothing of {name} (dimension {dim}); keep at least one unit of every group"
                )
            cuts.setdefault(name, {})[dim] = indices
        attributes = {}
        for path, (constant, terms) in graph.attributes.items():
            before = int(constant + sum(c * len(units) for units, c in terms))
            after = int(constant + sum(c * int(stays[units].sum()) for units, c in terms))
            if after != before:
                attributes[path] = AttributeChange(before, after)
        return PruningPlan(
            {
                name: TensorCut(graph.shapes[name], dict(sorted(cut.items())), name not in graph.transient)
                for name, cut in cuts.items()
            },
            attributes,
        )

    def kept(self, graph: DependencyGraph) -> NDArray[np.bool_]:
        """Which units of `graph` this plan keeps; shape (unit_count + 1,).

        Widths only: a unit that lies in bypassed modules alone counts as kept. The graph that has none of these is that
        of the bypassed network, `DependencyGraph.of(apply(PruningPlan({}, {}, plan.bypasses), model), inputs)`.
        """
        keep = np.ones(graph.unit_count + 1, dtype=bool)
        for (name, dim), units in graph.axes.items():
            if name in self.tensors and dim in self.tensors[name].keep:
                gone = np.ones(len(units), dtype=bool)
                gone[list(self.tensors[name].keep[dim])] = False
                keep[units[gone]] = False
        return keep

    def then(self, later: PruningPlan) -> PruningPlan:
        """One plan for the original: this one and then, on the network that it gives, another.

        Raises
        ------
        PlanError
            If `later` was made for another network than this plan gives, for example for one that still has a block
            that this plan bypasses.
        """
        if not (self.tensors or self.attributes or self.bypasses):
            return later
        for name in (*inside(self.bypasses, later.tensors, later.attributes), *later.bypasses):
            gone = name if name in self.bypasses else enclosing(name, self.bypasses)
            if gone is not None:
                raise PlanError(f"the second plan does not follow the first: {name} is gone, {gone} is bypassed")
        lost = set(inside(later.bypasses, self.tensors, self.attributes))
        tensors = {name: cut for name, cut in self.tensors.items() if name not in lost}
        for name, second in later.tensors.items():
            first = self.tensors.get(name, TensorCut(second.shape, {}, second.persistent))
            if first.shape_after != second.shape:
                raise PlanError(
                    f"the second plan does not follow the first: {name} has shape {first.shape_after} after the first, "
                    f"the second was made for {second.shape}"
                )
            keep = dict(first.keep)
            for dim, kept in second.keep.items():
                keep[dim] = tuple(keep[dim][i] for i in kept) if dim in keep else kept
            tensors[name] = TensorCut(first.shape, dict(sorted(keep.items())), first.persistent)
        attributes = {path: change for path, change in self.attributes.items() if path not in lost}
        for name, change in later.attributes.items():
            before = attributes[name] if name in attributes else AttributeChange(change.before, change.before)
            if before.after != change.before:
                raise PlanError(
                    f"the second plan does not follow the first: {name} is {before.after} after the first, "
                    f"the second was made for {change.before}"
                )
            attributes[name] = AttributeChange(before.before, change.after)
        bypasses = outermost({**self.bypasses, **later.bypasses})
        return PruningPlan(tensors, attributes, bypasses, self.normed | later.normed, self.depth * later.depth)

    def save(self, path: str | Path) -> None:
        """Write the plan to a file, as JSON."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @staticmethod
    def load(path: str | Path) -> PruningPlan:
        """The plan that `save` wrote. Raises PlanError if the file holds none or cannot be read."""
        try:
            return PruningPlan.from_json(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise PlanError(f"cannot read a pruning plan from {str(path)!r}: {error}") from error

    def to_json(self) -> str:
        """The plan as text; `from_json` gives an equal plan back."""
        return json.dumps(
            {
                "format": FORMAT,
                "tensors": {
                    name: {"shape": cut.shape, "keep": {str(d): list(i) for d, i in cut.keep.items()}}
                    | ({} if cut.persistent else {"persistent": False})
                    for name, cut in self.tensors.items()
                },
                "attributes": {name: [c.before, c.after] for name, c in self.attributes.items()},
                "bypasses": dict(self.bypasses),
                **({"normed": sorted(self.normed)} if self.normed else {}),
                **({"depth": self.depth} if self.depth != 1.0 else {}),
            }
        )

    @staticmethod
    def from_json(text: str) -> PruningPlan:
        """The plan that `to_json` wrote. Raises PlanError if the text is none."""
        try:
            data = json.loads(text)
            if data["format"] != FORMAT:
                raise PlanError(f"the plan has format {data['format']!r}; this version reads format {FORMAT}")
            tensors = {
                str(name): TensorCut(
                    tuple(_whole(n) for n in cut["shape"]),
                    {int(d): tuple(_whole(i) for i in kept) for d, kept in cut["keep"].items()},
                    bool(cut.get("persistent", True)),
                )
                for name, cut in data["tensors"].items()
            }
            changes = {str(n): AttributeChange(_whole(b), _whole(a)) for n, (b, a) in data["attributes"].items()}
            bypasses = {str(path): str(tail) for path, tail in data.get("bypasses", {}).items()}
            normed = frozenset(map(str, data.get("normed", ())))
            depth = float(data.get("depth", 1.0))
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise PlanError(f"this is not a pruning plan: {type(error).__name__}: {error}") from error
        return PruningPlan(tensors, changes, bypasses, normed, depth)


def _whole(value: object) -> int:
    """A number as `to_json` writes it; nothing is rounded."""
    if type(value) is not int or abs(value) >= 2**63:
        raise ValueError(f"{str(value)[:40]!r} is no whole number of 64 bits")
    return value

"""The dependency graph of a model: units (what can be removed) and groups (units that lie on the same axes).

Units are the connected components of the tied labels; see `labels.py`. One unit is, for example, channel 17 of a
residual stage with all that belongs to it: filters, batch norms, and the input channels of whatever reads it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import nn

from prunetune.engine.analysis import NO_RULE, Analysis, Heads, analysed
from prunetune.engine.labels import Axis, LabelSpace, Vec
from prunetune.engine.reductions import Reduction, Seen
from prunetune.engine.rules.context import Term
from prunetune.engine.tracing.collector import paused
from prunetune.engine.tracing.copies import transient_buffers
from prunetune.engine.tracing.trace import ExampleInputs, traces
from prunetune.engine.ways import Call, SizesAfter, predicted
from prunetune.errors import InputError

if TYPE_CHECKING:
    import networkx

SIGNATURE_SEED = 0x5EED


@dataclass(frozen=True)
class Group:
    """Units that lie on the same axes: a residual stage, or the inner width of a block."""

    name: str
    """The first weight that produces it."""
    units: tuple[int, ...]
    """Numbers of its units, in the order of their first channel."""
    axes: tuple[Axis, ...]
    """All axes it is cut from: (qualified name, dimension)."""
    producers: tuple[Axis, ...]
    """Those of them that are output axes of weights."""

    def __len__(self) -> int:
        return len(self.units)


@dataclass(frozen=True)
class Frozen:
    """Channels that stay, the operation that keeps them, and why."""

    node: str
    reason: str
    channels: int


@dataclass(frozen=True, repr=False)
class DependencyGraph:
    """What belongs together in a model. Made by `DependencyGraph.of(model, example_inputs)`."""

    shapes: Mapping[str, tuple[int, ...]]
    """Shape of every parameter and buffer."""
    parameters: frozenset[str]
    """Names of those that are parameters."""
    transient: frozenset[str]
    """Names of the buffers that no state dict holds."""
    axes: Mapping[Axis, Vec]
    """For every axis that can be cut, the unit of every index; 0 means that it stays."""
    groups: tuple[Group, ...]
    flops: tuple[Term, ...]
    """Floating point operations of a forward pass, node by node."""
    activations: tuple[Term, ...]
    """Bytes that the nodes of a forward pass in training mode make, node by node."""
    labels: Vec
    """Unit of every label, which is what the terms count."""
    attributes: Mapping[str, tuple[Fraction, tuple[tuple[Vec, Fraction], ...]]]
    """Module attributes to set: a constant, and units to count with a factor."""
    unit_count: int
    one_mode: bool
    """Whether the model does the same operations in training and in evaluation mode."""
    calls: Mapping[bool, tuple[Call, ...]]
    """The functions that the model called, in evaluation (False) and in training mode (True)."""
    by_values: bool
    """Whether values decided what it called."""
    _seen: tuple[Seen, ...] = field(compare=False)
    _space: LabelSpace = field(compare=False)
    _component: Vec = field(compare=False)

    @functools.cached_property
    def frozen(self) -> tuple[Frozen, ...]:
        """What stays whole, which operation keeps it, and why; found out when it is asked for."""
        return _frozen(self._space, self._component)

    def __repr__(self) -> str:
        """One line: `summary` has the groups."""
        return f"<DependencyGraph: {self.unit_count:,} units in {len(self.groups)} groups>"

    @staticmethod
    def of(
        model: nn.Module, example_inputs: ExampleInputs, *, heads: Heads = "auto", keep_sizes: bool = False
    ) -> DependencyGraph:
        """Analyse `model`, run on `example_inputs` in training and in evaluation mode; the model is not changed.

        Parameters
        ----------
        heads
            What goes from an attention (and wherever code folds channels into two dimensions): `"dims"`, the same
            dimensions of every head; `"whole"`, heads; `"auto"`, dimensions, but heads where dimensions can't go, for
            example under rotary position embeddings.
        keep_sizes
            Keep every width that the model's code reads as a number: for a model that decides by one in a way that
            can't be followed, as `layers[x.shape[1] // 8]` does.

        Raises
        ------
        TraceError
            If the model cannot be run on the inputs.
        InputError
            If `heads` is none of the three.
        """
        if heads not in ("auto", "dims", "whole"):
            raise InputError(f"heads must be 'auto', 'dims' or 'whole'; got {heads!r}")
        with paused():
            traced = traces(model, example_inputs, keep_sizes=keep_sizes)
            analysis = analysed(traced, heads)
            contexts = (analysis.evaluation, analysis.training)
            calls = {
                bool(mode): tuple(predicted(name, contexts[mode].called.get(node)) for name, node in t.calls)
                for mode, t in enumerate(traced)
            }
            return _graph(analysis, traced[0].parameters, calls, by_values=traced[0].by_values)

    def calls_after(self, keep: NDArray[np.bool_]) -> dict[bool, list[Call]]:
        """What the model is to call when the units stay for which `keep` is true, in each mode."""
        sizes = SizesAfter(self._space, self.labels, keep)
        return {mode: [sizes.of(call) for call in calls] for mode, calls in self.calls.items()}

    def reductions(self, keep: NDArray[np.bool_]) -> tuple[Reduction, ...]:
        """What sees only the channels that are kept, when the units stay for which `keep` is true."""
        sizes = SizesAfter(self._space, self.labels, keep)
        changed = (s for s in self._seen if any(sizes(size) != size.value for size in s.sizes))
        return tuple(dict.fromkeys(Reduction(s.node, s.reason) for s in changed))

    def unit_of(self, axis: Axis) -> Vec:
        """Unit of every index of an axis (0: it stays)."""
        found = self.axes.get(axis)
        return np.zeros(self.shapes[axis[0]][axis[1]], dtype=np.int64) if found is None else found

    def summary(self) -> str:
        """A line for each group, with its units and the weights whose outputs they are, and what is frozen."""
        rows = [(group.name, str(len(group)), ", ".join(name for name, _ in group.producers)) for group in self.groups]
        widths = [max([len(row[i]) for row in rows] or [0]) for i in range(2)]
        lines = [f"{name:<{widths[0]}}  {units:>{widths[1]}} units  {made}".rstrip() for name, units, made in rows]
        lines.extend(f"frozen  {f.channels} channels: {f.node}: {f.reason}" for f in self.frozen)
        return "\n".join(lines)

    def networkx(self) -> networkx.Graph[str]:
        """Groups and weights as a bipartite `networkx` graph, for drawing and for graph algorithms."""
        import networkx

        graph: networkx.Graph[str] = networkx.Graph()
        for group in self.groups:
            graph.add_node(group.name, kind="group", units=len(group))
            for name, dim in group.axes:
                graph.add_node(f"tensor:{name}", kind="tensor", shape=str(self.shapes[name]))
                graph.add_edge(group.name, f"tensor:{name}", dim=dim, produces=(name, dim) in group.producers)
        return graph


def _graph(
    analysis: Analysis, parameters: frozenset[str], calls: Mapping[bool, tuple[Call, ...]], *, by_values: bool = False
) -> DependencyGraph:
    space, component, prunable, ctx = analysis.space, analysis.component, analysis.prunable, analysis.evaluation
    unit = np.zeros(int(component.max(initial=0)) + 1, dtype=np.int64)
    unit[prunable] = np.arange(1, len(prunable) + 1)
    of_label = unit[component]
    axes = _units_on(space.axes, of_label)
    direct = {**ctx.producers, **analysis.training.producers}
    indirect = _indirect_producers(space, axes, ctx.shapes, parameters - {name for name, _ in direct})
    known = {axis: None for axis in (*direct, *indirect) if axis in axes}
    return DependencyGraph(
        shapes=ctx.shapes,
        parameters=parameters,
        transient=transient_buffers(ctx.model),
        axes=axes,
        groups=_groups(axes, tuple(known), len(prunable)),
        flops=tuple(ctx.flops),
        activations=tuple(analysis.training.activations),
        labels=of_label,
        attributes=_attributes(space, of_label),
        unit_count=len(prunable),
        one_mode=analysis.evaluation is analysis.training,
        calls=calls,
        by_values=by_values,
        _seen=tuple(s for context in (ctx, analysis.training) for s in context.seen),
        _space=space,
        _component=component,
    )


def _indirect_producers(
    space: LabelSpace, axes: Mapping[Axis, Vec], shapes: Mapping[str, tuple[int, ...]], others: frozenset[str]
) -> list[Axis]:
    """Output axes of parameters that become a weight only through other operations, as under weight normalisation."""
    candidates = [(n, d) for n, d in space.own if (n, d) in axes and len(shapes[n]) > 1 and n in others]
    if not candidates:
        return []
    produced = np.unique(np.concatenate([vec.ravel() for vec in space.produced]))
    return [axis for axis in candidates if np.isin(space.axes[axis], produced).any()]


def _units_on(axes: Mapping[Axis, Vec], of_label: Vec) -> dict[Axis, Vec]:
    """The units on every axis that has any. Axes that share their labels share this array, too."""
    units = {id(vec): of_label[vec] for vec in {id(vec): vec for vec in axes.values()}.values()}
    moving = {key for key, vec in units.items() if vec.any()}
    return {axis: units[id(vec)] for axis, vec in axes.items() if id(vec) in moving}


def _groups(axes: Mapping[Axis, Vec], producers: tuple[Axis, ...], unit_count: int) -> tuple[Group, ...]:
    """Units with the same signature, a sum of random numbers, one for each set of axes a unit lies on."""
    distinct = {id(vec): vec for vec in axes.values()}
    signature = np.zeros(unit_count + 1, dtype=np.uint64)
    if distinct:
        vecs = list(distinct.values())
        numbers = np.random.default_rng(SIGNATURE_SEED).integers(1, 2**63, size=len(vecs), dtype=np.uint64)
        np.add.at(signature, np.concatenate(vecs), np.repeat(numbers, [len(vec) for vec in vecs]))
    _, group_of, sizes = np.unique(signature[1:], return_inverse=True, return_counts=True)
    by_group = np.split(np.argsort(group_of, kind="stable") + 1, np.cumsum(sizes)[:-1])
    members = dict(enumerate(by_group)) if unit_count else {}
    present = {key: _present(group_of[vec[vec > 0] - 1]) for key, vec in distinct.items()}
    lies_on: dict[int, list[Axis]] = {}
    for axis, vec in axes.items():
        for group in present[id(vec)]:
            lies_on.setdefault(group, []).append(axis)
    produces: dict[int, list[Axis]] = {}
    first: dict[int, Axis] = {}
    for axis in producers:
        for group in present[id(axes[axis])]:
            first.setdefault(group, axis)
            produces.setdefault(group, []).append(axis)
    result: list[Group] = []
    names: dict[str, int] = {}
    order = {axis: i for i, axis in enumerate(producers)}
    for group in sorted(members, key=lambda g: order.get(first.get(g, ("", 0)), len(order))):
        name, dim = first.get(group, lies_on[group][0])
        label = name.removesuffix(".weight") if dim == 0 else f"{name.removesuffix('.weight')}[{dim}]"
        names[label] = names.get(label, 0) + 1
        unique = label if names[label] == 1 else f"{label}#{names[label]}"
        result.append(
            Group(unique, tuple(members[group].tolist()), tuple(lies_on[group]), tuple(produces.get(group, ())))
        )
    return tuple(result)


def _present(numbers: Vec) -> list[int]:
    """The numbers that occur, ascending (numbers from 0, not many)."""
    found: list[int] = np.flatnonzero(np.bincount(numbers)).tolist()
    return found


def _frozen(space: LabelSpace, component: Vec) -> tuple[Frozen, ...]:
    """What keeps output channels of weights from being removed, each operation and reason once."""
    if not (space.produced and space.freezes):
        return ()
    produced = np.unique(np.concatenate(space.produced))
    reach = space.components_but_for_freezes()
    held = np.bincount(reach[produced[component[produced] == 0]], minlength=int(reach.max()) + 1)
    reached: dict[tuple[str, str], Vec] = {}
    for freeze in space.freezes:
        key, parts = (freeze.where, freeze.reason), np.unique(reach[freeze.vec[freeze.vec > 0]])
        reached[key] = np.union1d(reached[key], parts) if key in reached else parts
    found = {key: int(held[parts].sum()) for key, parts in reached.items()}
    for freeze in space.freezes:  # what the engine does not know is named even where no weight is known behind it
        key = (freeze.where, freeze.reason)
        if not found[key] and freeze.reason.startswith(NO_RULE):
            found[key] = len(np.unique(freeze.vec[freeze.vec > 0]))
    return tuple(Frozen(*key, channels) for key, channels in found.items() if channels)


def _attributes(space: LabelSpace, of_label: Vec) -> dict[str, tuple[Fraction, tuple[tuple[Vec, Fraction], ...]]]:
    """For every attribute that a cut can change: its constant part, and units to count with a factor."""
    found: dict[str, tuple[Fraction, tuple[tuple[Vec, Fraction], ...]]] = {}
    for name, form in space.attributes.items():
        terms = [(of_label[vec], c) for vec, c in form.terms if c]
        constant = form.constant + sum(c * int((units == 0).sum()) for units, c in terms)
        moving = tuple((units[units > 0], c) for units, c in terms if units.any())
        if moving:
            found[name] = (constant, moving)
    return found


__all__ = ["DependencyGraph", "Frozen", "Group", "Heads"]

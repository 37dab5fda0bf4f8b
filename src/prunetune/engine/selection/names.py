"""Layers by name: what a user calls `layer1.0.conv1`, and the engine `("layer1.0.conv1.weight", 0)`."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence

from prunetune.engine.dependency import DependencyGraph, Group
from prunetune.engine.labels import Axis
from prunetune.errors import InputError, unknown_name


def matches(pattern: str, tensor: str) -> bool:
    """Whether a pattern means a parameter: its name, a module that holds it, or either with wildcards.

    >>> [matches(p, "layer1.0.conv1.weight") for p in ("layer1", "layer1.0.conv1", "layer1.*.conv1", "*", "layer")]
    [True, True, True, True, False]
    """
    parts = tensor.split(".")
    names = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return any(fnmatch.fnmatchcase(name, pattern) for name in names)


def check_patterns(graph: DependencyGraph, what: str, patterns: Iterable[str]) -> None:
    """Raise InputError for a pattern that means no parameter of the model."""
    if isinstance(patterns, str):
        raise InputError(f"{what} must be several patterns; got {patterns!r}: put it into a list")
    for pattern in patterns:
        if not any(matches(pattern, name) for name in graph.parameters):
            raise unknown_name(
                f"layer in {what}:", pattern, sorted({n.rpartition(".")[0] or n for n in graph.parameters})
            )


def lies_on(group: Group, pattern: str) -> bool:
    """Whether a group is cut from a parameter that the pattern means."""
    return any(matches(pattern, name) for name, _ in group.axes)


def is_produced_by(group: Group, pattern: str) -> bool:
    """Whether a layer that the pattern means has the group's channels as its outputs."""
    return any(matches(pattern, name) for name, _ in group.producers)


def output_axis(graph: DependencyGraph, layer: str) -> Axis:
    """The axis of a layer's output channels, from the name of the layer or of its weight.

    Raises
    ------
    InputError
        If there is no such layer, it has several weights (then name one of them), or none of its channels can go.
    """
    axes = dict.fromkeys(axis for group in graph.groups for axis in group.producers)
    own = [axis for axis in axes if layer in (axis[0], axis[0].rpartition(".")[0])]
    if len(own) == 1:
        return own[0]
    if own:
        raise InputError(f"{layer} has several weights; name one of {', '.join(name for name, _ in own)}")
    names = {name.rpartition(".")[0] for name in graph.parameters} | set(graph.parameters)
    if layer not in names:
        raise unknown_name("layer", layer, sorted({name.rpartition(".")[0] for name, _ in axes}))
    raise InputError(f"no output channels of {layer} can be removed: {reasons(graph)}")


def reasons(graph: DependencyGraph) -> str:
    """What is frozen, and why, in a line."""
    unread = "no operation that has a rule reads its weights" if graph.parameters else "it has no weights"
    return "; ".join(f"{f.node}: {f.reason}" for f in graph.frozen) or unread


def groups_of(graph: DependencyGraph, layer: str) -> Sequence[Group]:
    """The groups that a layer is cut from, of its outputs and of its inputs. Raises InputError for an unknown layer."""
    check_patterns(graph, "groups_of", [layer])
    return tuple(group for group in graph.groups if lies_on(group, layer))

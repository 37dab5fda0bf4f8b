"""Residual blocks that can be bypassed: what adds its own input to something becomes its shortcut.

Nothing depends on a block's class, only on what it computes. See `docs/decisions/0011-depth.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import fx, nn

from prunetune.engine.depth.residual_sums import ModuleRecorder, Sum, sums
from prunetune.engine.depth.shortcut import enclosing, outermost, shortcut_of
from prunetune.engine.plan import PruningPlan
from prunetune.engine.tracing.collector import paused
from prunetune.engine.tracing.copies import all_tensors, copy_with
from prunetune.engine.tracing.trace import ExampleInputs, check_runs, traces
from prunetune.errors import TraceError


@dataclass(frozen=True)
class Block:
    """A module whose output is tail(x + f(x)), x being its input; bypassed, it is tail(x)."""

    name: str
    """Its qualified name."""
    tail: str
    """The activation behind the sum, `"identity"` if there is none, `"clone"` if x must be copied besides."""
    shape: tuple[int, ...]
    """Shape of x, and of the output, on the example inputs."""
    parameters: tuple[str, ...]
    """Names of its parameters: what goes when it is bypassed."""
    inside: str | None
    """The nearest other block that it lies in, and that it goes with."""


def residual_blocks(model: nn.Module, example_inputs: ExampleInputs) -> tuple[Block, ...]:
    """The residual blocks of `model` in the order in which they run; the model is not changed.

    A block is a submodule with parameters, called once in a run, whose output in training and in evaluation mode is
    tail(x + f(x)): x is the tensor that is its first argument, as large as the output, f anything that is computed from
    x, and tail one activation or none. An addition belongs to the smallest module that returns its sum: of a stage and
    its blocks only the blocks are listed. A block may still lie in the branch of another (`Block.inside`).

    Not blocks: a module that changes its input before it is added, that x passes in two ways (x + (x + f(x))), that
    writes into or hands out other tensors than its output, that shares weights with the rest of the model, or that code
    outside reaches into (`model.block.conv.weight`), so that the model would not run without it.

    Raises
    ------
    TraceError
        If the model cannot be run on the inputs.

    Example
    -------
    >>> from torch import ones
    >>> class Residual(nn.Sequential):
    ...     def forward(self, x):
    ...         return (x + super().forward(x)).relu()
    >>> [(b.name, b.tail) for b in residual_blocks(nn.Sequential(Residual(nn.Linear(4, 4))), ones(2, 4))]
    [('0', 'relu')]
    """
    with paused():
        evaluation, training = traces(model, example_inputs, ModuleRecorder)
        candidates = _in_both_modes(sums(evaluation), sums(training))
        tied = _tied(model)
        found: list[tuple[Sum, str]] = []
        taken: set[fx.Node] = set()
        for block, tail in candidates:
            path = block.call.path
            own = any(enclosing(name, [path]) for name in evaluation.parameters)
            shares = any(len({enclosing(name, [path]) for name in names}) > 1 for names in tied)
            if own and not shares and not taken.issuperset(block.additions):
                taken |= block.additions
                found.append((block, tail))
        tails = _removable(model, example_inputs, {block.call.path: tail for block, tail in found})
    blocks = sorted((block for block, _ in found), key=lambda block: (block.call.start, -block.call.stop))
    nearest = sorted(tails, key=len, reverse=True)
    return tuple(
        Block(
            path,
            tails[path],
            block.shape,
            tuple(n for n in evaluation.shapes if n in evaluation.parameters and enclosing(n, [path])),
            enclosing(path, nearest),
        )
        for block in blocks
        if (path := block.call.path) in tails
    )


def bypass(blocks: Iterable[Block]) -> PruningPlan:
    """The plan that bypasses these blocks, and cuts nothing else; blocks inside others of them go with those."""
    return PruningPlan({}, {}, outermost({block.name: block.tail for block in blocks}))


def _in_both_modes(evaluation: dict[str, Sum], training: dict[str, Sum]) -> list[tuple[Sum, str]]:
    """What is a sum with the same tail in both modes, innermost first."""
    found = []
    for path, block in evaluation.items():
        tails = {block.tail, training[path].tail} if path in training else set()
        if len(tails) == 1 or tails == {"identity", "clone"}:
            found.append((block, "clone" if "clone" in tails else block.tail))
    return found


def _tied(model: nn.Module) -> list[list[str]]:
    """The names of every tensor that has several."""
    names: dict[int, list[str]] = {}
    for kind in (model.named_parameters, model.named_buffers):
        for name, tensor in kind(remove_duplicate=False):
            names.setdefault(id(tensor), []).append(name)
    return [several for several in names.values() if len(several) > 1]


def _removable(model: nn.Module, example_inputs: ExampleInputs, tails: dict[str, str]) -> dict[str, str]:
    """Those blocks without which the model still runs: its code may read what is in them."""
    found: dict[str, str] = {}
    layers: dict[int, list[str]] = {}  # by how many other blocks they lie in: one of them at a time
    for path in tails:
        layers.setdefault(sum(enclosing(path, [other]) is not None for other in tails), []).append(path)
    for paths in layers.values():
        if not _runs_without(model, example_inputs, paths, tails):
            paths[:] = [path for path in paths if _runs_without(model, example_inputs, [path], tails)]
        found.update((path, tails[path]) for path in paths)
    return found


def _runs_without(model: nn.Module, example_inputs: ExampleInputs, paths: Sequence[str], tails: dict[str, str]) -> bool:
    stand_ins = {}
    for path in paths:
        module = model.get_submodule(path)
        stand_ins[id(module)] = shortcut_of(module, tails[path])
    try:
        check_runs(copy_with(model, {id(t): t for t in all_tensors(model)}, stand_ins), example_inputs)
    except TraceError:
        return False
    return True


__all__ = ["Block", "bypass", "residual_blocks"]

"""Modules that return tail(x + f(x)): their output is walked back to their input through a recorded run."""

from __future__ import annotations

import functools
import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from prunetune.engine.depth.aliasing import Memory
from prunetune.engine.depth.shortcut import stream_name
from prunetune.engine.rules.table import functions
from prunetune.engine.tracing.recorder import ModuleCall, Recorder
from prunetune.engine.tracing.trace import Trace

ADDITIONS = frozenset([*functions("add"), torch.Tensor.__radd__, torch.Tensor.__iadd__])

# Arguments with which a function is the tail of that name, besides its input and `inplace`.
_ARGUMENTS: Mapping[str, tuple[str, Sequence[Mapping[str, Any]]]] = {
    **{name: (name, [{}]) for name in ("relu", "relu6", "silu", "mish", "hardswish", "tanh", "sigmoid")},
    "hardtanh": ("relu6", [{"min_val": 0.0, "max_val": 6.0}]),
    "leaky_relu": ("leaky_relu", [{"negative_slope": 0.01}]),
    "elu": ("elu", [{"alpha": 1.0}]),
    "gelu": ("gelu", [{}, {"approximate": "none"}]),
}
ACTIVATIONS = {function: entry for name, entry in _ARGUMENTS.items() for function in functions(name)}
_ONCE = ("relu", "relu6")
"""Twice is the same as once."""
_RESHAPES = frozenset(functions("reshape", "view", "flatten", "unflatten", "squeeze", "unsqueeze", "contiguous"))
_PERMUTATIONS = frozenset(
    function
    for function in functions("permute", "transpose", "t", "swapaxes", "swapdims", "movedim", "moveaxis")
    if not function.__name__.endswith("_")  # which turn the tensor that others hold
)


@dataclass(frozen=True)
class Sum:
    """A call of a module that returned tail(x + f(x)), x being its first argument."""

    call: ModuleCall
    tail: str
    shape: tuple[int, ...]
    additions: frozenset[fx.Node]


class ModuleRecorder(Recorder):
    """A recorder that notes which tensors enter and leave which module, and what returns a tensor as it is."""

    compares = False  # where the memory of a result lies differs: dropout returns its input in evaluation mode

    def _scoped(self, path: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        run = super()._scoped(path, forward)
        stream, alone = stream_name(forward)

        @functools.wraps(forward)
        def noted(*args: Any, **kwargs: Any) -> Any:
            if self.muted:
                return run(*args, **kwargs)
            # A shortcut of one argument does not know by what name the block took it.
            x = args[0] if args else None if alone else kwargs.get(stream)
            entered = self.known.get(id(x)) if isinstance(x, Tensor) else None
            start = len(self.graph.nodes)
            out = run(*args, **kwargs)
            left = None
            if isinstance(x, Tensor) and isinstance(out, Tensor):
                with torch._C.DisableTorchFunction():  # looking at shapes is not the model's doing
                    alike = (x.shape, x.dtype) == (out.shape, out.dtype)
                left = self.known.get(id(out)) if alike else None
            self.modules.append(ModuleCall(path, start, len(self.graph.nodes), entered, left))
            return out

        return noted

    def _remember(self, out: Any, node: fx.Node) -> None:
        before = self.known.get(id(out))
        super()._remember(out, node)
        if isinstance(out, Tensor) and before is not None and before is not node:
            node.meta["again"] = before


def sums(trace: Trace) -> dict[str, Sum]:
    """All modules of one run that return tail(x + f(x)), by their names; those with the shortest runs first."""
    memory = Memory(trace.graph)
    times = Counter(call.path for call in trace.modules)
    found: dict[str, Sum] = {}
    for call in sorted(trace.modules, key=lambda call: call.stop - call.start):  # stable: a wrapper after what it wraps
        if call.path and times[call.path] == 1 and call.entered is not None and call.left is not None:
            result = _sum(call, call.entered, call.left, memory)
            if result is not None:
                found[call.path] = result
    return found


def _sum(call: ModuleCall, entered: fx.Node, left: fx.Node, memory: Memory) -> Sum | None:
    way = _way(entered, left, call.start, memory)
    steps = [node for node in way if node.target in ADDITIONS or node.target in ACTIVATIONS]
    if not steps or steps[0].target not in ADDITIONS:  # an activation in front of the sum belongs to x
        return None
    additions = frozenset(node for node in steps if node.target in ADDITIONS)
    tails = [ACTIVATIONS[node.target][0] for node in steps if node not in additions]
    if len(set(tails)) > 1 or (len(tails) > 1 and tails[0] not in _ONCE):
        return None
    branches = [a for node in additions for a in node.all_input_nodes if a not in way and a is not entered]
    if not _computed_from(entered, branches, call.start, memory) or not _comes_home(entered, way):
        return None
    if _is_written(call, entered, way, additions, memory) or _leaks(call, memory):
        return None
    tail = tails[0] if tails else "identity"
    if not tails and memory.root[left] is not memory.root[entered]:
        # Bypassed, output and input are one tensor, which nobody may change later for one and not for the other.
        later = call.stop - 1, len(memory.nodes)
        tail = "clone" if memory.written(left, *later) or memory.written(entered, *later) else tail
    return Sum(call, tail, left.meta["shape"], additions)


def _way(entered: fx.Node, left: fx.Node, start: int, memory: Memory) -> list[fx.Node]:
    """The nodes on the only way from a module's input to its output; empty if there is none, or more than one."""
    ways, behind = Counter({left: 1}), dict[fx.Node, fx.Node]()
    queue = [-memory.index[left]]
    while queue:  # the latest first, so that all ways to a node are known when it is looked at
        node = memory.nodes[-heapq.heappop(queue)]
        for operand in () if node is entered else _passes(node, memory):
            if operand is not entered and memory.index[operand] < start:
                continue
            if operand not in ways:
                heapq.heappush(queue, -memory.index[operand])
            ways[operand] += ways[node]
            behind[operand] = node
    if ways[entered] != 1:
        return []
    way, node = [], entered
    while node is not left:
        node = behind[node]
        way.append(node)
    return way


def _passes(node: fx.Node, memory: Memory) -> Sequence[fx.Node]:
    """The arguments whose elements a node would let through, but for an activation, if all other tensors were zero."""
    options = {key: value for key, value in node.kwargs.items() if key != "inplace"}
    if node in memory.same:
        return [memory.same[node]]
    if node.target in ADDITIONS:
        terms = [*node.args, *([options.pop("other")] if "other" in options else [])]
        plain = len(terms) == 2 and options.pop("alpha", 1) == 1 and not options
        operands = [term for term in terms if isinstance(term, fx.Node)]
        if not plain or any(term != 0 for term in terms if not isinstance(term, fx.Node)):
            return ()
        return [operand for operand in operands if operand.meta.get("shape") == node.meta["shape"]]
    first = node.args[0] if node.args else None
    if not isinstance(first, fx.Node):
        return ()
    if node.target in ACTIVATIONS:
        return [first] if len(node.args) == 1 and options in ACTIVATIONS[node.target][1] else ()
    if node.target in _PERMUTATIONS:
        return [first] if len(node.all_input_nodes) == 1 else ()
    reinterpreted = any(isinstance(value, torch.dtype) for value in (*node.args, *options.values()))
    return [first] if node.target in _RESHAPES and not reinterpreted else ()


def _comes_home(entered: fx.Node, way: Sequence[fx.Node]) -> bool:
    """Whether all that moves elements on the way puts them back in the end."""
    if not any(node.target in _PERMUTATIONS for node in way):
        return True  # reshapes alone keep the order
    shape = entered.meta["shape"]
    numbers = places = torch.arange(torch.Size(shape).numel(), device="cpu").reshape(shape)
    for node in way:
        if node.target in _PERMUTATIONS:
            places = node.target(places, *node.args[1:], **node.kwargs)  # type: ignore[operator]
        else:
            places = places.reshape(node.meta["shape"])
    return torch.equal(places, numbers)


def _computed_from(entered: fx.Node, nodes: Iterable[fx.Node], start: int, memory: Memory) -> bool:
    """Whether one of these nodes depends on a module's input."""
    todo, seen = list(nodes), set[fx.Node]()
    while todo:
        node = todo.pop()
        if node is entered:
            return True
        if node not in seen and memory.index[node] >= start:
            seen.add(node)
            todo.extend(node.all_input_nodes)
    return False


def _is_written(
    call: ModuleCall, entered: fx.Node, way: Sequence[fx.Node], additions: frozenset[fx.Node], memory: Memory
) -> bool:
    """Whether x is changed on its way other than by additions and the tail, or memory that is not the module's own."""
    stations = [(entered, call.start - 1), *((node, memory.index[node]) for node in way)]
    ends = [*(index for _, index in stations[1:]), call.stop]
    if any(memory.written(node, index, end) for (node, index), end in zip(stations, ends, strict=True)):
        return True
    for write in memory.writes:
        if call.start <= write.index < call.stop and not memory.made_in(write.root, call.path, call.start):
            added = memory.nodes[write.index] in additions and write.root is memory.root[entered]
            if not added:  # `x += f(x)` leaves x as the bypass does
                return True
    return False


def _leaks(call: ModuleCall, memory: Memory) -> bool:
    """Whether a tensor from inside a module is used outside, other than the one it returns."""
    for node in memory.nodes[call.start : call.stop]:
        if node is call.left or node.op == "get_attr" or "shape" not in node.meta or memory.is_older(node, call.start):
            continue
        if any(memory.index[user] >= call.stop for user in node.users):
            return True
    return False

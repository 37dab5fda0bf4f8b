"""An `fx.Graph` that is written from its beginning to its end, and can be played back: does another run do the same?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NoReturn

import torch
from torch import fx


class OtherRunError(BaseException):
    """The run that is compared with a recording does something else.

    Raised in the middle of the model's code, whose `except Exception` must not stop it.
    """


class ReplayGraph(fx.Graph):
    """A graph whose new nodes stand at its end, named by what they call and their place.

    `fx.Graph.create_node` looks through all arguments for symbolic sizes, makes a Python identifier of every target
    and looks for the next free number, which is nearly half of the time of a recording.

    After `rewind`, nodes are found and not made: whoever records a second run on the same graph gets the nodes of the
    first, as long as that run does the same, and OtherRunError when it does not. After that `differs` is true. The same
    are operations on the same nodes with arguments that are equal, but for flags and fractions (a dropout's `training`
    and its `p`, which no size depends on), and but for the counters of batch norms, which count in training only.
    """

    def __init__(self) -> None:
        super().__init__()
        self.differs = False
        self._ahead: Iterator[fx.Node] | None = None

    def rewind(self) -> None:
        """Compare from now on, beginning with the first node."""
        self._ahead = iter([node for node in self.nodes if not _counts_batches(node)])

    def at_its_end(self) -> bool:
        """Whether all of the recording has been met again."""
        return not self.differs and self._ahead is not None and next(self._ahead, None) is None

    def note(self, node: fx.Node, key: str, value: Any) -> None:
        """Write a fact about a node, or compare it with the one that was written."""
        if self._ahead is not None and node.meta.get(key) != value:
            self._give_up()
        node.meta[key] = value

    def create_node(
        self,
        op: str,
        target: Any,
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        name: str | None = None,
        type_expr: Any | None = None,
    ) -> fx.Node:
        """As `fx.Graph.create_node`, at the end of the graph; after `rewind` the next node, if it is that."""
        if self._ahead is not None:
            return self._found(op, target, args or (), kwargs or {})
        base = name or (target.replace(".", "_") if isinstance(target, str) else target.__name__)
        node = fx.Node(self, f"{base}_{self._len}", op, target, args or (), kwargs or {}, type_expr)
        self._insert(node)
        self._find_nodes_lookup_table.insert(node)
        self._len += 1
        return node

    @property
    def rewound(self) -> bool:
        """Whether nodes are found, not made."""
        return self._ahead is not None

    def _found(self, op: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Node:
        assert self._ahead is not None
        node = next(self._ahead, None)
        if node is None or node.op != op or node.target != target:
            self._give_up()
        if not ((_equal(node.args, args) or _alike(node.args, args)) and _alike(node.kwargs, kwargs)):
            self._give_up()
        return node

    def _give_up(self) -> NoReturn:
        self.differs = True
        raise OtherRunError


def _counts_batches(node: fx.Node) -> bool:
    """Whether all that a node does is to count the batches that a batch norm has seen."""
    if node.op == "get_attr":
        return str(node.target).endswith("num_batches_tracked")
    return node.target is torch.Tensor.add_ and _counts_batches(node.all_input_nodes[0])


def _equal(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    """Whether two tuples are equal, which is known at once; False also where something in them cannot be compared."""
    try:
        return a == b
    except (TypeError, ValueError, RuntimeError):
        return False


def _alike(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if isinstance(a, (tuple, list)):
        return isinstance(b, (tuple, list)) and len(a) == len(b) and all(map(_alike, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(_alike(x, b[key]) for key, x in a.items())
    if isinstance(a, slice):
        return isinstance(b, slice) and all(_alike(getattr(a, n), getattr(b, n)) for n in ("start", "stop", "step"))
    if isinstance(a, fx.Node) or type(a) is not type(b):
        return False
    return isinstance(a, (bool, float)) or _equal((a,), (b,))


__all__ = ["OtherRunError", "ReplayGraph"]

"""Which tensors of a recorded run share memory, and who writes into it when."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import fx

from prunetune.engine.tracing.placeholders import constant, hidden


@dataclass(frozen=True)
class Write:
    """An operation in place: the number of its node, and the node that made the memory it writes into."""

    index: int
    root: fx.Node


class Memory:
    """The nodes of a graph in their order, and for each the node that made its memory."""

    def __init__(self, graph: fx.Graph) -> None:
        self.nodes = list(graph.nodes)
        self.index = {node: i for i, node in enumerate(self.nodes)}
        self.root: dict[fx.Node, fx.Node] = {}
        self.same: dict[fx.Node, fx.Node] = {}
        """What gave back its argument as it was (`x.to(x.dtype)`), and the node which that was known by."""
        self.writes: list[Write] = []
        for i, node in enumerate(self.nodes):
            base = _base(node)
            self.root[node] = node if base is None else self.root[base]
            if base is not None and in_place(node):
                self.writes.append(Write(i, self.root[node]))
            elif "again" in node.meta:
                self.same[node] = node.meta["again"]

    def written(self, node: fx.Node, first: int, last: int) -> bool:
        """Whether an operation after number `first` and before number `last` writes into a node's memory."""
        return any(first < write.index < last and write.root is self.root[node] for write in self.writes)

    def made_in(self, root: fx.Node, path: str, start: int) -> bool:
        """Whether memory is a module's own: of its parameters and buffers, or made since node number `start`."""
        if root.op == "get_attr":
            return str(root.target).startswith(f"{path}.")
        return self.index[root] >= start and root.target not in (constant, hidden)

    def is_older(self, node: fx.Node, start: int) -> bool:
        """Whether a node stands for a tensor that was there before number `start`."""
        while node in self.same:
            node = self.same[node]
        return self.index[node] < start or node.op == "get_attr" or node.target is constant


def _base(node: fx.Node) -> fx.Node | None:
    """The argument whose memory a node's result lies in, if it made none itself."""
    if "itemsize" in node.meta or node.op not in ("call_function", "call_module"):
        return None
    where = node.kwargs.get("out", node.args[0] if node.args else node.kwargs.get("input"))
    return where if isinstance(where, fx.Node) else None


def in_place(node: fx.Node) -> bool:
    """Whether a node writes into its first argument (or into `out`)."""
    name = getattr(node.target, "__name__", "")
    if name == "__setitem__" or (name.startswith("__i") and name.endswith("__") and name not in _NO_WRITES):
        return True
    if name.endswith("_") and not name.endswith("__"):
        return node.target is not torch.Tensor.requires_grad_
    return bool(node.kwargs.get("inplace")) or node.kwargs.get("out") is not None


_NO_WRITES = ("__invert__", "__index__", "__int__")

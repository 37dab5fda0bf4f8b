"""Integers that remember where they came from: the sizes in a model's code."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

from torch import fx


class SizeProxy(int):
    """An int that knows the graph node it came from; arithmetic with it is recorded."""

    _make: Callable[[], fx.Node]
    _node: fx.Node | None

    @staticmethod
    def of(value: int, make_node: Callable[[], fx.Node]) -> SizeProxy:
        proxy = SizeProxy(value)
        proxy._make, proxy._node = make_node, None
        return proxy

    def make_node(self) -> fx.Node:
        """The node that computes this number; made when it is first used."""
        if self._node is None:
            self._node = self._make()
        return self._node

    def __deepcopy__(self, memo: dict[int, Any]) -> SizeProxy:
        return self

    def __reduce__(self) -> tuple[type[int], tuple[int]]:
        return int, (int(self),)


class AttributeProxy(SizeProxy):
    """An integer attribute of a module; it outlives the graph of one run, so its recorder knows its node."""

    def make_node(self) -> fx.Node:
        return self._make()


def _recorded(function: Callable[[Any, Any], Any], reflected: bool) -> Callable[[SizeProxy, Any], Any]:
    def method(self: SizeProxy, other: Any) -> Any:
        if not isinstance(other, int) or isinstance(other, bool):
            plain = getattr(int, f"__{'r' if reflected else ''}{function.__name__}__")
            return plain(self, other)
        left, right = (other, self) if reflected else (self, other)
        return SizeProxy.of(
            function(int(left), int(right)),
            lambda: self.make_node().graph.call_function(function, (_size_argument(left), _size_argument(right))),
        )

    return method


def _size_argument(value: int) -> fx.Node | int:
    return value.make_node() if isinstance(value, SizeProxy) else value


for _function in (operator.add, operator.sub, operator.mul, operator.floordiv):
    for _reflected in (False, True):
        setattr(
            SizeProxy,
            f"__{'r' if _reflected else ''}{_function.__name__}__",
            _recorded(_function, _reflected),
        )


class SizeTuple(tuple[int, ...]):
    """The shape of a tensor: like `torch.Size`, which would turn `SizeProxy` into plain int."""

    def numel(self) -> int:
        return functools.reduce(operator.mul, self, 1)

    def __getitem__(self, index: Any) -> Any:
        item = super().__getitem__(index)
        return SizeTuple(item) if isinstance(index, slice) else item

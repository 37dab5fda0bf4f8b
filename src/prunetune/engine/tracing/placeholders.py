"""What stands in a recorded graph where no torch function was called."""

from __future__ import annotations

from torch import Tensor


def constant() -> Tensor:
    """Stands in the graph for a tensor that the code holds itself, outside parameters and buffers."""
    raise RuntimeError("a constant of the traced code: the graph is for analysis, not for running")


def hidden() -> Tensor:
    """Stands in the graph for the result of an operation that the recorder could not see."""
    raise RuntimeError("an operation hidden from tracing: the graph is for analysis, not for running")


def alias(tensor: Tensor) -> Tensor:
    """Stands in the graph for another view of the same elements, made where the recorder could not see it."""
    return tensor


def left(*tensors: Tensor) -> None:
    """Stands in the graph for numbers that leave torch: to numpy, to a list."""
    raise RuntimeError("numbers that left torch: the graph is for analysis, not for running")


def decided() -> None:
    """Stands in the graph for a decision of the traced code that hung on a tensor's values."""
    raise RuntimeError("a decision of the traced code: the graph is for analysis, not for running")


def attribute(target: str, index: int | None) -> int:
    """Stands in the graph for an integer attribute of a module."""
    raise RuntimeError("an attribute of the traced model: the graph is for analysis, not for running")


def asked(left: int, sign: str, right: int) -> bool:
    """Stands in the graph for a comparison of sizes, with the sign that was true."""
    raise RuntimeError("a question of the traced code: the graph is for analysis, not for running")


def pinned(size: int, how: str) -> int:
    """Stands in the graph for a size whose further way was not seen."""
    raise RuntimeError("a size of the traced code: the graph is for analysis, not for running")

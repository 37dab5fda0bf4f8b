"""What a model returns stays as it is, whatever it is wrapped in: ten classes are ten classes."""

from __future__ import annotations

import collections
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunetune import prune
from prunetune.engine import DependencyGraph
from prunetune.engine.outputs import tensors_of
from prunetune.errors import InputError

X = torch.randn(3, 4)


class Returns(nn.Module):
    """Two layers, and a way to give back what they compute."""

    def __init__(self, wrap: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.a, self.b, self.wrap = nn.Linear(4, 8), nn.Linear(8, 10), wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.b(self.a(x).relu()))


@dataclass
class Plain:
    logits: Any


@dataclass(slots=True)
class Slots:
    logits: Any


class Named(NamedTuple):
    logits: Any
    rest: Any = None


class ByProperty:
    def __init__(self, logits: Tensor) -> None:
        self.__hidden = [logits]

    @property
    def logits(self) -> Tensor:
        return self.__hidden[0]


class OwnDict(dict[str, Any]):
    pass


class OwnMapping(collections.UserDict[str, Any]):
    pass


class Marked(Tensor):
    pass


def deep(logits: Tensor) -> Any:
    inner: Any = logits
    for i in range(9):
        inner = (Slots, Plain, SimpleNamespace)[i % 3](logits=inner)
    return inner


def a_row(logits: Tensor) -> Iterator[Tensor]:
    for row in logits:
        yield row * 2


def of_objects(logits: Tensor) -> Any:
    array = np.empty(1, dtype=object)
    array[0] = logits
    return array


HOLDS: dict[str, Callable[[Tensor], Any]] = {
    "a tensor": lambda y: y,
    "a list in a dict": lambda y: {"out": [y]},
    "a dataclass": Plain,
    "a dataclass with slots": Slots,
    "a named tuple": Named,
    "a property": ByProperty,
    "nine objects deep": deep,
    "a namespace": lambda y: SimpleNamespace(logits=y),
    "a dict of its own class": lambda y: OwnDict(logits=y),
    "a mapping": lambda y: OwnMapping(logits=y),
    "a view of a dict": lambda y: {"logits": y}.values(),
    "an iterator": lambda y: iter([y]),
    "a set": lambda y: {y},
    "a deque": lambda y: collections.deque([y]),
    "a default dict": lambda y: collections.defaultdict(list, logits=[y]),
    "an array of objects": of_objects,
    "a closure": lambda y: lambda: y,
    "a partial function": lambda y: functools.partial(torch.add, y),
    "a parameter": nn.Parameter,
    "a subclass": lambda y: y.as_subclass(Marked),
    "its data": lambda y: y.data,
    "detached": lambda y: y.detach(),
}
LEAVES: dict[str, Callable[[Tensor], Any]] = {
    "a list of numbers": lambda y: y.tolist(),
    "an array": lambda y: y.detach().numpy(),
    "an array by numpy": lambda y: np.asarray(y.detach()),
    "numpy and back": lambda y: torch.from_numpy(y.detach().numpy() * 2),
    "numpy and back, copied": lambda y: torch.tensor(y.detach().numpy()),
    "a list and back": lambda y: torch.tensor(y.tolist()),
    "numpy and back, in an object": lambda y: Slots(torch.from_numpy(np.sort(y.detach().numpy()))),
}


def numbers(output: Any) -> int:
    """How many there are, found without the engine."""
    if isinstance(output, Tensor) or (isinstance(output, np.ndarray) and output.dtype.kind != "O"):
        return int(np.prod(output.shape))
    if isinstance(output, (int, float)):
        return 1
    for name in ("logits", "args"):
        if hasattr(output, name):
            return numbers(getattr(output, name))
    if callable(output):
        return numbers(output())
    if isinstance(output, collections.abc.Mapping):
        return numbers(output.values())
    return sum(numbers(item) for item in output if item is not None)


@pytest.mark.parametrize("scorer", ["magnitude", "synflow"])
@pytest.mark.parametrize("name", [*HOLDS, *LEAVES])
def test_no_output_is_lost(name: str, scorer: str) -> None:
    model = Returns({**HOLDS, **LEAVES}[name])
    if scorer == "synflow" and (
        name in LEAVES or name in ("its data", "detached", "a parameter", "an array of objects")
    ):
        scorer = "magnitude"  # they carry no gradient
    result = prune(model, X, scorer=scorer, ratio=0.5)
    assert result.model.a.out_features == 4
    assert numbers(result.model(X)) == numbers(model(X)) == 30


@pytest.mark.parametrize("name", HOLDS)
def test_what_an_output_holds_is_found_once(name: str) -> None:
    tensor = torch.ones(2, 3)
    (found,) = tensors_of([HOLDS[name](tensor), HOLDS[name](tensor)][:1])
    assert found.shape == (2, 3)


@pytest.mark.parametrize("lazy", [a_row, lambda y: map(torch.relu, [y]), lambda y: Slots(row for row in y)])
def test_what_computes_when_it_is_read_is_refused_by_name(lazy: Callable[[Tensor], Any]) -> None:
    with pytest.raises(InputError, match=r"the model returns a (generator|map) .*let forward return a list"):
        prune(Returns(lazy), X, scorer="magnitude", ratio=0.5)


def test_numbers_that_leave_in_the_middle_keep_what_they_came_from() -> None:
    """Sorted by numpy between two layers: all eight channels stay, and what is behind them can still be cut."""

    class Sorts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 2)

        def forward(self, x: Tensor) -> Tensor:
            h = torch.from_numpy(np.sort(self.a(x).detach().numpy(), axis=1))
            return self.c(self.b(h).relu())

    graph = DependencyGraph.of(Sorts(), X)
    assert [group.name for group in graph.groups] == ["b"]
    assert ("its numbers leave torch", 8) in [(f.reason, f.channels) for f in graph.frozen]


def test_an_output_that_nobody_saw_made_keeps_everything() -> None:
    """By a way that torch lets nobody see: the same memory, read as numbers."""

    class Unseen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 10)

        def forward(self, x: Tensor) -> Tensor:
            y = self.b(self.a(x).relu())
            with torch._C.DisableTorchFunction():
                return y * 2

    with pytest.raises(InputError, match="hidden from tracing"):
        prune(Unseen(), X, scorer="magnitude", ratio=0.5)

"""A cut leaves the user's model as it was, whatever its forward pass does to it, and whatever the model holds."""

from __future__ import annotations

import itertools
import random
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunetune import prune
from prunetune.engine.tracing.copies import copy_with
from prunetune.testing.oracle import largest_error, randomise

X = torch.randn(3, 4, dtype=torch.float64)


class Net(nn.Module):
    """Two layers, a parameter and a buffer; `act` does something on the way."""

    def __init__(self, act: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.act = nn.Linear(4, 8), nn.Linear(8, 2), act
        self.scale = nn.Parameter(torch.tensor(5.0))
        self.register_buffer("steps", torch.zeros(3))
        self.shadow = nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.act(self, self.a(x).relu())) * self.scale


def clamped(net: Net, h: Tensor) -> Tensor:
    net.scale.data.clamp_(max=0.5)
    return h


def momentum(net: Net, h: Tensor) -> Tensor:
    for own, other in zip(net.shadow.parameters(), net.a.parameters(), strict=True):
        own.data = own.data * 0.9 + other.data * 0.1
    return h


def momentum_in_place(net: Net, h: Tensor) -> Tensor:
    with torch.no_grad():
        for own, other in zip(net.shadow.parameters(), net.a.parameters(), strict=True):
            own.mul_(0.9).add_(other, alpha=0.1)
    return h


def forced_norm(net: Net, h: Tensor) -> Tensor:
    net.shadow.weight.data.copy_(nn.functional.normalize(net.shadow.weight.data, dim=1))
    return h


def by_numpy(net: Net, h: Tensor) -> Tensor:
    net.scale.detach().numpy()[...] = 3.0
    return h


def counted(net: Net, h: Tensor) -> Tensor:
    net.steps += 1
    net.steps[0] = 7
    return h


def replaced(net: Net, h: Tensor) -> Tensor:
    net.steps = net.steps + 1
    net.last = h
    return h


WRITES = (clamped, momentum, momentum_in_place, forced_norm, by_numpy, counted, replaced)


def asks(act: Callable[[Net, Tensor], Tensor]) -> Callable[[Net, Tensor], Tensor]:
    """The same, in a network that cannot be recorded without values."""

    def run(net: Net, h: Tensor) -> Tensor:
        h = act(net, h)
        assert torch.isfinite(h).all()
        return h

    return run


def state(model: nn.Module) -> dict[str, Any]:
    """Every tensor: which object it is, where it lies, and its numbers; every attribute."""
    tensors = {
        name: (id(t), t.data_ptr(), t._version, t.tolist()) for name, t in model.state_dict(keep_vars=True).items()
    }
    return tensors | {f"{path}.": sorted(vars(module)) for path, module in model.named_modules()}


@pytest.mark.parametrize("scorer", ["magnitude", "synflow"])
@pytest.mark.parametrize("values", [False, True], ids=["shapes", "asks for values"])
@pytest.mark.parametrize("act", WRITES, ids=lambda act: act.__name__)
def test_what_a_forward_pass_writes_to(act: Callable[[Net, Tensor], Tensor], values: bool, scorer: str) -> None:
    model = randomise(Net(asks(act) if values else act), 0)
    before, generators = state(model), (torch.get_rng_state(), random.getstate(), str(np.random.get_state()))
    result = prune(model, X, scorer=scorer, ratio=0.5)
    assert state(model) == before
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert (random.getstate(), str(np.random.get_state())) == generators[1:]
    assert result.model.a.out_features == 4
    if act is not replaced:  # whose buffer loses its name
        assert largest_error(model, result.model, result.plan, X) < 1e-12


class Leaky(nn.Module):
    """A neuron that remembers, as in spiking networks."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.where, self.mem, self.all = where, None, []

    def forward(self, x: Tensor) -> Tensor:
        if self.where == "a list":
            self.all.append(x)
            return sum(self.all) / 2  # type: ignore[return-value]
        self.mem = x if self.mem is None else 0.9 * self.mem + x
        return self.mem.relu()


@pytest.mark.parametrize("where", ["an attribute", "a list"])
def test_state_between_calls(where: str) -> None:
    """Fresh, it is cut as if there were none; after a run its state has a width, which stays."""
    model = randomise(nn.Sequential(nn.Linear(4, 8), Leaky(where), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)), 0)
    result = prune(model, X, scorer="magnitude", ratio=0.5)
    assert [result.model[i].out_features for i in (0, 2, 4)] == [4, 3, 2]
    assert model[1].mem is None and not model[1].all
    assert largest_error(model, result.model, result.plan, X) < 1e-12
    model[1].mem, model[1].all = None, []
    model(X)
    left = model[1].mem, list(model[1].all)
    result = prune(model, X, scorer="magnitude", ratio=0.5)
    assert [result.model[i].out_features for i in (0, 2, 4)] == [8, 3, 2]
    assert model[1].mem is left[0] and all(one is other for one, other in zip(model[1].all, left[1], strict=True))


class Drops(nn.Module):
    """Leaves out blocks at random, in training."""

    def __init__(self, draw: Callable[[], float]) -> None:
        super().__init__()
        self.first, self.last, self.draw = nn.Linear(4, 8), nn.Linear(8, 2), draw
        self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8)) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            if not (self.training and self.draw() < 0.5):
                x = x + block(x)
        return self.last(x)


DRAWS: dict[str, Callable[[], float]] = {
    "python": random.random,
    "numpy": np.random.random,
    "torch": lambda: float(torch.rand(())),
    "a generator of its own": np.random.default_rng(0).random,
    "python's, of its own": random.Random(0).random,
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", DRAWS)
def test_random_depth(name: str, seed: int) -> None:
    for generator in (random.seed, np.random.seed, torch.manual_seed):
        generator(seed)
    model = randomise(Drops(DRAWS[name]), 0)
    following = [copy_of_state(), *(np.random.default_rng(0).random(2))]
    result = prune(model, X, scorer="synflow", ratio=0.5)
    assert [copy_of_state(), *(np.random.default_rng(0).random(2))] == following
    assert [block[0].out_features for block in result.model.blocks] == [8] * 4
    assert result.model.first.out_features == 4
    assert largest_error(model, result.model, result.plan, X) < 1e-12


def copy_of_state() -> str:
    return repr((random.getstate(), np.random.get_state(), torch.get_rng_state().tolist()))


# -- what a model holds ------------------------------------------------------------------------------------------------


class Writer:
    """Writes to a log, as those of TensorBoard do."""

    def __init__(self, path: Path) -> None:
        self.lock, self.file = threading.Lock(), path.open("w")
        self.seen: list[int] = []


def held(tmp_path: Path) -> Iterator[tuple[str, Any]]:
    writer = Writer(tmp_path / "log")
    yield "a lock", threading.Lock()
    yield "a reentrant lock", threading.RLock()
    yield "an event", threading.Event()
    yield "an open file", writer.file
    yield "a writer", writer
    yield "locks in a dict", {"lock": threading.Lock(), "writers": [writer, (writer, 1)]}
    yield "a database", sqlite3.connect(":memory:")
    yield "a generator of torch", torch.Generator()
    yield "a python generator", (n for n in range(3))
    yield "a module of python", itertools
    yield "thread-local data", threading.local()
    writer.file.close()


@pytest.mark.parametrize("scorer", ["magnitude", "synflow"])
def test_what_has_no_copy_is_shared(tmp_path: Path, scorer: str) -> None:
    for name, value in held(tmp_path):
        model = randomise(Net(lambda net, h: h), 0)
        model.a.held = value
        result = prune(model, X, scorer=scorer, ratio=0.5)
        assert result.model.a.out_features == 4, name
        assert model.a.held is value
        assert type(result.model.a.held) is type(value)
        assert largest_error(without(model), without(result.model), result.plan, X) < 1e-12


def without(model: nn.Module) -> nn.Module:
    twin = copy_with(model, {})
    del twin.a.held
    return twin


def test_around_what_has_no_copy_all_is_copied(tmp_path: Path) -> None:
    model = Net(lambda net, h: h)
    writer = Writer(tmp_path / "log")
    writer.file.close()
    model.held = {"writer": writer, "table": torch.ones(3), "of": [model.a]}
    twin = copy_with(model, {})
    assert (
        twin.held["writer"].lock is model.held["writer"].lock and twin.held["writer"].file is model.held["writer"].file
    )
    assert twin.held["writer"].seen is not model.held["writer"].seen
    assert twin.held["table"] is not model.held["table"] and twin.held["table"].tolist() == [1, 1, 1]
    assert twin.held["of"][0] is twin.a


def test_a_weak_reference_within_a_model_is_one_within_its_copy() -> None:
    """A child that calls its parent must not call the user's own."""
    model, other = Net(lambda net, h: h), nn.Linear(2, 2)
    model.a.parent, model.b.neighbour, model.b.other = weakref.ref(model), weakref.ref(model.a), weakref.ref(other)
    twin = copy_with(model, {})
    assert twin.a.parent() is twin and twin.b.neighbour() is twin.a and twin.b.other() is other
    assert model.a.parent() is model
    assert prune(model, X.float(), scorer="magnitude", ratio=0.5).model.a.out_features == 4

"""What a model's code keeps outside of the model: a cut finds all of it, and leaves it as it was."""

from __future__ import annotations

import functools
import gc
import itertools
import queue
import threading
from collections.abc import Callable
from typing import Any, ClassVar

import einops
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunetune import prune
from prunetune.plugins.base import ChannelScores, Context
from prunetune.plugins.magnitude import Magnitude
from prunetune.testing.oracle import largest_error, randomise


class Table(nn.Module):
    """Two layers, and between them a table that is made for the number of places, and kept somewhere."""

    def __init__(self, table: Callable[[int], Tensor] | None = None) -> None:
        super().__init__()
        self.a, self.b = nn.Conv1d(3, 8, 1), nn.Conv1d(8, 4, 1)
        self.table = table

    def places(self, n: int) -> Tensor:
        assert self.table is not None
        return self.table(n)

    def forward(self, x: Tensor) -> Tensor:
        h = self.a(x).relu()
        return self.b(h + self.places(h.shape[2]))


def sinusoid(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.float64).mul(0.7).sin()


cached = functools.lru_cache(sinusoid)
forever = functools.cache(sinusoid)
TABLES: dict[int, Tensor] = {}
LAST: list[Tensor] = []
NEWEST: Tensor | None = None


def kept_in_a_dict(n: int) -> Tensor:
    if n not in TABLES:
        TABLES[n] = sinusoid(n)
    return TABLES[n]


def kept_in_a_list(n: int) -> Tensor:
    if not LAST or len(LAST[0]) != n:
        LAST[:] = [sinusoid(n)]
    return LAST[0]


def kept_in_a_variable(n: int) -> Tensor:
    global NEWEST
    if NEWEST is None or len(NEWEST) != n:
        NEWEST = sinusoid(n)
    return NEWEST


def kept_as_a_default(n: int, known: dict[int, Tensor] = {}) -> Tensor:  # noqa: B006  this is what is tried
    if n not in known:
        known[n] = sinusoid(n)
    return known[n]


def kept_at_the_function(n: int) -> Tensor:
    if not hasattr(kept_at_the_function, "table"):
        kept_at_the_function.table = sinusoid(n)  # type: ignore[attr-defined]
    return kept_at_the_function.table  # type: ignore[attr-defined, no-any-return]


def closed_over() -> Callable[[int], Tensor]:
    known: dict[int, Tensor] = {}
    last: Tensor | None = None

    def table(n: int) -> Tensor:
        nonlocal last
        if last is None:
            last = known.setdefault(n, sinusoid(n))
        return last

    return table


class Store:
    """An object that keeps tables."""

    __slots__ = ("tables",)
    made = 0

    def __init__(self) -> None:
        self.tables: dict[int, Tensor] = {}

    def of(self, n: int) -> Tensor:
        if n not in self.tables:
            Store.made += 1
            self.tables[n] = sinusoid(n)
        return self.tables[n]


STORE = Store()


class AtItsClass(Table):
    tables: ClassVar[dict[int, Tensor]] = {}
    newest: ClassVar[Tensor | None] = None

    def places(self, n: int) -> Tensor:
        if n not in self.tables:
            self.tables[n] = sinusoid(n)
        if AtItsClass.newest is None:
            AtItsClass.newest = self.tables[n]
        return AtItsClass.newest


class NewAtItsClass(Table):
    def places(self, n: int) -> Tensor:
        if not hasattr(type(self), "fresh"):
            type(self).fresh = sinusoid(n)  # type: ignore[attr-defined]
        return type(self).fresh  # type: ignore[attr-defined, no-any-return]


class Method(Table):
    @functools.lru_cache  # noqa: B019  this is what is tried
    def places(self, n: int) -> Tensor:
        return sinusoid(n)


class StaticMethod(Table):
    @staticmethod
    @functools.lru_cache
    def places(n: int) -> Tensor:
        return sinusoid(n)


class ClassMethod(Table):
    @classmethod
    @functools.lru_cache
    def places(cls, n: int) -> Tensor:
        return sinusoid(n)


class InItself(Table):
    known: Tensor | None = None

    def places(self, n: int) -> Tensor:
        if self.known is None:
            self.known = sinusoid(n)
        return self.known


class ByEinops(Table):
    def forward(self, x: Tensor) -> Tensor:
        h = einops.rearrange(self.a(x), "b c n -> b n c")
        return self.b(einops.rearrange(h.relu(), "b (n one) c -> b c (n one)", one=1))


KEEPERS: dict[str, Callable[[], nn.Module]] = {
    **{
        keeper.__name__: functools.partial(Table, keeper)
        for keeper in (kept_in_a_dict, kept_in_a_list, kept_in_a_variable, kept_as_a_default, kept_at_the_function)
    },
    "lru_cache": lambda: Table(cached),
    "cache": lambda: Table(forever),
    "a lambda over a cache": lambda: Table(lambda n: cached(n)),
    "a closure": lambda: Table(closed_over()),
    "a method of an object": lambda: Table(STORE.of),
    "a partial function": lambda: Table(functools.partial(lambda store, n: store.of(n), STORE)),
    **{kind.__name__: kind for kind in (AtItsClass, NewAtItsClass, Method, StaticMethod, ClassMethod, InItself)},
    "einops": ByEinops,
}


def forget() -> None:
    """As in a fresh process."""
    global NEWEST
    NEWEST, AtItsClass.newest, Store.made = None, None, 0
    for kept in (TABLES, LAST, STORE.tables, AtItsClass.tables, vars(kept_at_the_function)):
        kept.clear()
    assert kept_as_a_default.__defaults__ is not None
    kept_as_a_default.__defaults__[0].clear()
    if "fresh" in vars(NewAtItsClass):
        del NewAtItsClass.fresh  # type: ignore[attr-defined]
    for cache in gc.get_referrers(functools._lru_cache_wrapper):
        if callable(getattr(cache, "cache_clear", None)) and cache.__module__.startswith(("einops", __name__)):
            cache.cache_clear()


def kept(model: nn.Module) -> list[Any]:
    """All that is kept, the numbers of every table and which object it is."""
    tables = [*TABLES.values(), *LAST, *STORE.tables.values(), *AtItsClass.tables.values(), NEWEST, AtItsClass.newest]
    tables += [*vars(kept_at_the_function).values(), *(kept_as_a_default.__defaults__ or ({},))[0].values()]
    tables += [vars(NewAtItsClass).get("fresh"), vars(model).get("known"), Store.made]
    for cell in getattr(getattr(model, "table", None), "__closure__", None) or ():
        tables += cell.cell_contents.values() if isinstance(cell.cell_contents, dict) else [cell.cell_contents]
    caches = [cached, forever, vars(Method)["places"], StaticMethod.places, ClassMethod.places]
    return [(id(t), t.tolist()) if isinstance(t, Tensor) else repr(t) for t in tables] + [
        c.cache_info()
        for c in caches  # type: ignore[attr-defined]
    ]


@pytest.mark.parametrize("scorer", ["magnitude", "synflow"])
@pytest.mark.parametrize("warm", [False, True], ids=["fresh", "after a run"])
@pytest.mark.parametrize("name", KEEPERS)
def test_what_code_keeps(name: str, warm: bool, scorer: str) -> None:
    forget()
    model, x = randomise(KEEPERS[name](), 0), torch.randn(2, 3, 5, dtype=torch.float64)
    with torch.no_grad():
        expected = randomise(KEEPERS[name](), 0)(x)
    forget()
    if warm:
        model(x)
    for _ in range(2):
        before = kept(model)
        result = prune(model, x, scorer=scorer, ratio=0.5)
        assert kept(model) == before
        assert result.model.a.out_channels == 4 and result.graph.one_mode
        assert largest_error(model, result.model, result.plan, x) < 1e-12
        if not warm:
            forget()
    with torch.no_grad():
        assert torch.equal(model(x), expected)


def test_a_singleton_stays_the_one() -> None:
    """A cache of a function without arguments holds the one thing there is, and no size goes into that."""
    made = itertools.count()

    @functools.lru_cache
    def the_one() -> list[int]:
        return [next(made)]

    class Asks(Table):
        def places(self, n: int) -> Tensor:
            return sinusoid(n) * len(the_one())

    first = the_one()
    prune(Asks().double(), torch.randn(2, 3, 5).double(), scorer="magnitude", ratio=0.5)
    assert the_one() is first and next(made) == 1


def test_functions_that_are_registered_stay() -> None:
    """A module that is imported when the model first runs is imported once: what it registers must not get lost."""
    registered: dict[str, Any] = {}

    class Registers(Table):
        def places(self, n: int) -> Tensor:
            registered.setdefault("sinusoid", sinusoid)
            registered.setdefault("n", n)
            return registered["sinusoid"](n)  # type: ignore[no-any-return]

    prune(Registers().double(), torch.randn(2, 3, 5).double(), scorer="magnitude", ratio=0.5)
    assert registered == {"sinusoid": sinusoid}


def test_generators_outside_of_the_model_go_on_where_they_were() -> None:
    numpy, torchs = np.random.default_rng(3), torch.Generator().manual_seed(3)

    class Draws(Table):
        def places(self, n: int) -> Tensor:
            return torch.rand(n, generator=torchs, dtype=torch.float64, device="cpu") * float(numpy.random())

    before = torchs.get_state().clone(), repr(numpy.bit_generator.state)
    model = Draws().double()
    prune(model, torch.randn(2, 3, 5).double(), scorer="synflow", ratio=0.5)
    assert torch.equal(torchs.get_state(), before[0]) and repr(numpy.bit_generator.state) == before[1]


def test_tensors_that_code_holds_are_not_written_to() -> None:
    steps, seen = torch.zeros(()), np.zeros(3)

    class Counts(Table):
        def places(self, n: int) -> Tensor:
            steps.add_(1)
            seen[0] += 1
            return torch.zeros(n, dtype=torch.float64)

    prune(Counts().double(), torch.randn(2, 3, 5).double(), scorer="synflow", ratio=0.5)
    assert steps.item() == 0 and seen.tolist() == [0, 0, 0]


def test_a_network_outside_of_the_model_is_not_changed() -> None:
    teacher = nn.Sequential(nn.Conv1d(3, 4, 1), nn.BatchNorm1d(4)).double()
    before = {key: value.clone() for key, value in teacher.state_dict().items()}

    class Taught(Table):
        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x).relu()) + teacher(x)

    prune(Taught().double(), torch.randn(2, 3, 5).double(), scorer="synflow", ratio=0.5)
    assert teacher.training and all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())


class Tracker:
    """As a package for logging or tracking has it: a thread of its own works on what it holds."""

    def __init__(self) -> None:
        self.counted = 0
        self.queue: queue.Queue[int] = queue.Queue()

    def count(self) -> None:
        self.counted += 1


def test_what_other_threads_of_another_package_do_meanwhile_is_not_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tracker, "__module__", "a_tracking_package.core")
    tracker = Tracker()

    class Tracked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))

        def forward(self, x: Tensor) -> Tensor:
            in_another_thread = threading.Thread(target=tracker.count)  # it need not be the model's
            in_another_thread.start()
            in_another_thread.join()
            return self.layers(x)  # type: ignore[no-any-return]

    ran = tracker.counted
    prune(Tracked(), torch.zeros(2, 4), scorer="uniform", ratio=0.5)
    assert tracker.counted > ran


def test_pytests_own_objects_are_not_looked_at() -> None:
    """Every assert that it has rewritten names them, and its workers change them meanwhile."""
    from prunetune.engine.surroundings import Surroundings

    class Asserts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[1] == 4
            return x

    looked_at = {type(each).__module__.partition(".")[0] for each in Surroundings(Asserts())._contents._kept}
    assert not looked_at & {"_pytest", "pluggy", "xdist", "execnet"}


class HooksItself(nn.Module):
    """Collects what its layers return by hooks that it sets at its first call, as transformers' models do."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 8), nn.Linear(8, 8)])
        self.read = nn.ModuleList([nn.Linear(8, 4), nn.Linear(8, 4)])
        self.hooked = False
        self.collected: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        if not self.hooked:
            for layer in self.layers:
                layer.register_forward_hook(lambda module, args, output: self.collected.append(output))
            self.hooked = True
        self.collected = []
        for layer in self.layers:
            x = layer(x).relu()
        assert len(self.collected) == len(self.layers), "hooked twice"
        return torch.stack([read(each) for read, each in zip(self.read, self.collected, strict=True)]).sum(0)


def test_hooks_that_a_forward_sets_once_are_set_once() -> None:
    model = HooksItself()
    result = prune(model, torch.randn(4, 6), ratio=0.5, scorer="uniform")
    assert not model.hooked
    assert not any(layer._forward_hooks for layer in model.layers)
    assert all(layer.out_features == 4 for layer in result.model.layers)
    result.model(torch.randn(4, 6))


def test_hooks_that_a_scorer_leaves_are_taken_off() -> None:
    class Hooks(Magnitude):
        def channel_scores(self, context: Context) -> ChannelScores:
            context.model.register_forward_hook(lambda *_: None)
            return super().channel_scores(context)

    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
    prune(model, torch.randn(4, 6), ratio=0.5, scorer=Hooks())
    assert not model._forward_hooks

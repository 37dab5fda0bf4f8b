"""Random forward functions, as source text: what people write between two layers, and what engines stumble over.

`Lines` are a few lines of a module, of `__init__` and of `forward`, on `h` of shape (N, C, L); a program puts some
of them together. What must hold for every one: the cut is exact, or what it would touch is frozen, and neither the
model, nor what its code keeps, nor any random state is another one afterwards.
"""

from __future__ import annotations

import functools
import random
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunetune.errors import InputError
from prunetune.pruning.cut import prune
from prunetune.testing.oracle import WrongCutError, assert_equal, randomise, without_consumers

LENGTH = 5
HEADER = """
import collections, functools, math, random
import dataclasses, types
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

def sinusoid(n):
    return torch.arange(n, dtype=torch.float64).mul(0.7).sin()
"""


@dataclass(frozen=True)
class Lines:
    """Lines with `{i}`, the number of the step, and `{c}`, the width that `h` has before it; `{w}`, another width."""

    forward: str
    init: str = ""
    module: str = ""
    attributes: str = ""
    """Of the class."""
    out: str = "{c}"
    """The width after it."""
    fits: Callable[[int], bool] = lambda c: True


LAYER = Lines("h = self.l{i}(h)", "self.l{i} = nn.Conv1d({c}, {w}, 1)", out="{w}")
PLAIN: dict[str, Lines] = {
    "relu": Lines("h = h.relu()"),
    "tanh": Lines("h = F.tanh(h)"),
    "norm": Lines("h = self.n{i}(h)", "self.n{i} = nn.BatchNorm1d({c})"),
    "residual": Lines("h = h + self.r{i}(h).relu()", "self.r{i} = nn.Conv1d({c}, {c}, 1)"),
    "dropout": Lines("h = F.dropout(h, 0.1, self.training)"),
}
SIZES: dict[str, Lines] = {
    "half by a float": Lines("n = int(h.shape[1] * 0.5)\nh = torch.cat([h[:, :n], 2 * h[:, n:]], 1)"),
    "half by floor": Lines("n = math.floor(h.shape[1] / 2)\nh = torch.cat([h[:, n:].relu(), h[:, :n]], 1)"),
    "half by a shift": Lines("n = h.size(1) >> 1\nh = torch.cat([h[:, :n] * 3, h[:, n:]], 1)"),
    "a third": Lines("n = -(-h.shape[1] // 3)\nh = torch.cat([h[:, :n].tanh(), h[:, n:]], 1)"),
    "a roll by a part": Lines("h = h.roll(h.shape[1] // 4, 1)"),
    "a pick": Lines("h = h + h[:, h.shape[1] // 2][:, None]"),
    "chunks": Lines("p, q = h.chunk(2, 1)\nh = torch.cat([q, p.relu()], 1)", fits=lambda c: c % 2 == 0),
    "a split by round": Lines(
        "n = round(h.shape[1] * 0.25)\np, q = h[:, :n], h[:, n:]\nh = torch.cat([p, q.tanh()], 1)"
    ),
    "at most": Lines("n = min(h.shape[1], 3)\nh = torch.cat([h[:, :n].relu(), h[:, n:]], 1)"),
    "all but one": Lines("h = torch.cat([h[:, :-1], h[:, -1:] * 2], 1)"),
    "every second": Lines("h = torch.cat([h[:, ::2], h[:, 1::2].relu()], 1)"),
    "a list of indices": Lines("h = h[:, list(range(h.shape[1]))[::-1]]"),
    "a reshape by len": Lines(
        "h = h.reshape(len(h), 2, -1, h.shape[2]).flip(1).flatten(1, 2)", fits=lambda c: c % 2 == 0
    ),
    "a reshape by numel": Lines("h = h.reshape(h.shape[0], h.numel() // (h.shape[0] * h.shape[2]), -1)"),
    "an attribute": Lines("h = h.reshape(-1, self.c{i}, h.shape[2])", "self.c{i} = {c}"),
    "zeros of its width": Lines("h = h + torch.zeros(h.shape[1], 1, dtype=h.dtype)"),
    "a ramp of its width": Lines("h = h * torch.arange(h.shape[1], dtype=h.dtype)[:, None]"),
}
DECISIONS: dict[str, Lines] = {
    "by a width": Lines("h = h.relu() if h.shape[1] > 5 else h.tanh()"),
    "by an even width": Lines("h = h * 2 if h.shape[1] % 2 == 0 else h"),
    "by an equal width": Lines("h = h.relu() if h.shape[1] == self.w{i} else -h", "self.w{i} = {c}"),
    "a check": Lines("assert h.shape[1] == {c}"),
    "a check that raises": Lines("if h.shape[1] != {c}:\n    raise ValueError(h.shape)"),
    "a check of a shape": Lines("if tuple(h.shape[1:]) != ({c}, h.shape[2]):\n    raise ValueError(h.shape)"),
    "a layer by a width": Lines(
        "h = self.m{i}[h.shape[1] // 8 % 2](h)",
        "self.m{i} = nn.ModuleList([nn.Conv1d({c}, {w}, 1), nn.Conv1d({c}, {w}, 1)])",
        out="{w}",
    ),
    "by values": Lines("if h.sum() > 1e9:\n    h = h * 2"),
    "a check of values": Lines("assert torch.isfinite(h).all()"),
    "as often as a width": Lines("for _ in range(h.shape[1] // 4):\n    h = h.tanh()"),
    "by len": Lines("h = h.relu() if len(h[0]) > 4 else h"),
}
KEEPS: dict[str, Lines] = {
    "lru_cache": Lines("h = h + cached{i}(h.shape[2])", module="cached{i} = functools.lru_cache(sinusoid)"),
    "cache of a width": Lines(
        "h = h * gains{i}(h.shape[1])[:, None]",
        module="@functools.cache\ndef gains{i}(n):\n    return sinusoid(n)",
    ),
    "a dict": Lines(
        "h = h + table{i}(h.shape[2])",
        module="TABLES{i} = {{}}\ndef table{i}(n):\n    if n not in TABLES{i}:\n        TABLES{i}[n] = sinusoid(n)\n"
        "    return TABLES{i}[n]",
    ),
    "a variable": Lines(
        "h = h + newest{i}(h.shape[2])",
        module="NEWEST{i} = None\ndef newest{i}(n):\n    global NEWEST{i}\n    if NEWEST{i} is None:\n"
        "        NEWEST{i} = sinusoid(n)\n    return NEWEST{i}",
    ),
    "a closure": Lines(
        "h = h + closed{i}(h.shape[2])",
        module="def make{i}():\n    last = None\n    def closed(n):\n        nonlocal last\n        if last is None:\n"
        "            last = sinusoid(n)\n        return last\n    return closed\nclosed{i} = make{i}()",
    ),
    "a class": Lines(
        "if Net.table{i} is None:\n    Net.table{i} = sinusoid(h.shape[2])\nh = h + self.table{i}",
        attributes="table{i} = None",
    ),
    "a dict of a class": Lines(
        "if h.shape[2] not in self.tables{i}:\n    self.tables{i}[h.shape[2]] = sinusoid(h.shape[2])\n"
        "h = h + self.tables{i}[h.shape[2]]",
        attributes="tables{i} = {{}}",
    ),
    "itself": Lines(
        "if self.own{i} is None:\n    self.own{i} = sinusoid(h.shape[2])\nh = h + self.own{i}", "self.own{i} = None"
    ),
    "a default": Lines(
        "h = h + kept{i}(h.shape[2])",
        module="def kept{i}(n, known={{}}):\n    known[n] = known.get(n, sinusoid(n))\n    return known[n]",
    ),
    "an object": Lines(
        "h = h + store{i}.of(h.shape[2])",
        module="class Store{i}:\n    def __init__(self):\n        self.known, self.asked = {{}}, 0\n"
        "    def of(self, n):\n        self.asked += 1\n        return self.known.setdefault(n, sinusoid(n))\n"
        "store{i} = Store{i}()",
    ),
    "a counter": Lines(
        "COUNTS{i}.append(len(h))\nCOUNTED{i}[0] += 1", module="COUNTS{i} = []\nCOUNTED{i} = np.zeros(1)"
    ),
    "a sum of all runs": Lines(
        "h = self.keep{i}(h)",
        "self.keep{i} = Keep{i}()",
        module=(
            "class Keep{i}(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.mem = None\n"
            "    def forward(self, h):\n        self.mem = h if self.mem is None else 0.9 * self.mem + h\n"
            "        return self.mem"
        ),
    ),
    "a clamp": Lines(
        "self.s{i}.data.clamp_(max=0.5)\nh = h * self.s{i}", "self.s{i} = nn.Parameter(torch.tensor(5.0))"
    ),
    "a momentum encoder": Lines(
        "for own, other in zip(self.e{i}.parameters(), self.f{i}.parameters()):\n"
        "    own.data = own.data * 0.9 + other.data * 0.1\nh = self.e{i}(h) + self.f{i}(h)",
        "self.e{i}, self.f{i} = nn.Conv1d({c}, {w}, 1), nn.Conv1d({c}, {w}, 1)",
        out="{w}",
    ),
    "a buffer": Lines("self.b{i} += 1", "self.register_buffer('b{i}', torch.zeros(2))"),
    "a running mean": Lines(
        "self.b{i}.mul_(0.9).add_(h.detach().mean((0, 2)), alpha=0.1)\nh = h + self.b{i}[:, None]",
        "self.register_buffer('b{i}', torch.zeros({c}))",
    ),
    "a tensor outside": Lines("OUT{i}.add_(1)", module="OUT{i} = torch.zeros(2)"),
}
CHANCE: dict[str, Lines] = {
    f"depth by {name}": Lines(
        f"if not (self.training and {draw} < 0.5):\n    h = h + self.d{{i}}(h)", "self.d{i} = nn.Conv1d({c}, {c}, 1)"
    )
    for name, draw in (("python", "random.random()"), ("numpy", "np.random.rand()"), ("torch", "torch.rand(()).item()"))
} | {
    "noise": Lines("h = h + torch.randn_like(h) if self.training else h"),
    "a generator": Lines(
        "h = h * (1.0 if not self.training else float(drawn{i}.random()))", module="drawn{i} = np.random.default_rng(0)"
    ),
}
LEAVES: dict[str, Lines] = {
    "sorted by numpy": Lines("h = torch.from_numpy(np.sort(h.detach().numpy(), axis=1))"),
    "by a list": Lines("h = torch.tensor(h.tolist(), dtype=h.dtype)"),
    "by numpy, in place": Lines("a = h.detach().clone().numpy()\na[:, 0] = 0\nh = torch.from_numpy(a)"),
    "a parameter of it": Lines("h = nn.Parameter(h, requires_grad=False)"),
    "its data": Lines("h = h.data"),
    "out of sight": Lines("with torch._C.DisableTorchFunction():\n    h = h * 2"),
}
FAMILIES = (PLAIN, SIZES, DECISIONS, KEEPS, CHANCE, LEAVES)
OUTPUTS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "h": ("", lambda out: out),
    "[h]": ("", lambda out: out[0]),
    "{{'out': h}}": ("", lambda out: out["out"]),
    "{{'out': h}}.values()": ("", lambda out: next(iter(out))),
    "Out(h)": ("@dataclasses.dataclass(slots=True)\nclass Out:\n    y: object", lambda out: out.y),
    "Pair(h, None)": ("Pair = collections.namedtuple('Pair', 'y rest')", lambda out: out.y),
    "types.SimpleNamespace(a=types.SimpleNamespace(b=(h,)))": ("", lambda out: out.a.b[0]),
    "h.detach().numpy()": ("", torch.as_tensor),
    "h.tolist()": ("", torch.tensor),
    "Deep(Deep(Deep(Deep(Deep(h)))))": (
        "class Deep:\n    def __init__(self, x):\n        self.x = x",
        lambda out: out.x.x.x.x.x,
    ),
    "Hides(h)": (
        "class Hides:\n    def __init__(self, y):\n        self.get = lambda: y\n    y = property(lambda s: s.get())",
        lambda out: out.y,
    ),
    "nn.Parameter(h)": ("", lambda out: out.data),
    "functools.partial(torch.mul, h)": ("", lambda out: out.args[0]),
}


@dataclass(frozen=True)
class ForwardFunction:
    """Source of a module with a class `Net`, and how to get the tensor out of what it returns."""

    source: str
    output: str
    kinds: tuple[str, ...]

    def world(self, name: str = "a_forward_function") -> dict[str, Any]:
        """The module, run afresh: nothing that it keeps is shared with another one."""
        module = sys.modules[name] = types.ModuleType(name)  # where dataclasses look for it
        exec(compile(self.source, f"<{name}>", "exec"), vars(module))
        return vars(module)

    def unwrap(self, out: Any) -> Tensor:
        return torch.as_tensor(OUTPUTS[self.output][1](out)).detach().double()


def draw(dice: random.Random) -> ForwardFunction:
    """A program of three to seven steps between its first and its last layer."""
    kinds: list[tuple[str, Lines]] = [("layer", LAYER)]
    for _ in range(dice.randrange(2, 6)):
        family = dice.choices(FAMILIES, weights=(3, 4, 3, 4, 1, 1))[0]
        kinds.append(dice.choice(list(family.items())))
        if dice.random() < 0.6:
            kinds.append(("layer", LAYER))
    kinds.append(("layer", LAYER))
    output = dice.choice(list(OUTPUTS)) if dice.random() < 0.6 else "h"
    return program(dice, kinds, output)


def program(dice: random.Random, kinds: list[tuple[str, Lines]], output: str = "h") -> ForwardFunction:
    """The source of these kinds, one after the other; what does not fit the width there is left out."""
    module, init, forward, attributes = [HEADER, OUTPUTS[output][0]], [], [], []
    width, used = 3, []
    for i, (name, kind) in enumerate(kinds):
        if not kind.fits(width):
            continue
        fill = functools.partial(_filled, i=i, c=width, w=dice.choice((4, 6, 8, 8, 12)))
        module.append(fill(kind.module))
        init.append(fill(kind.init))
        forward.append(fill(kind.forward))
        attributes.append(fill(kind.attributes))
        width = int(fill(kind.out))
        used.append(name)
    source = "\n".join(filter(None, module)) + "\n\nclass Net(nn.Module):\n"
    source += _indented(attributes, 4) + "    def __init__(self):\n        super().__init__()\n" + _indented(init, 8)
    source += "\n    def forward(self, h):\n" + _indented([*forward, f"return {_filled(output)}"], 8)
    return ForwardFunction(source, output, tuple(used))


def _filled(text: str, **values: Any) -> str:
    return text.format(**values)


def _indented(blocks: list[str], by: int) -> str:
    lines = [line for block in blocks if block for line in block.split("\n")]
    return "".join(f"{' ' * by}{line}\n" for line in lines)


# -- the check ---------------------------------------------------------------------------------------------------------


@dataclass
class Finding:
    """What one forward function has shown."""

    cut: bool = False
    exact: bool = False
    """Whether it could be compared: no reduction sees only what was kept."""
    frozen: str = ""
    discarded: bool = False

    @property
    def outcome(self) -> str:
        """In a word or two."""
        if self.discarded:
            return "discarded"
        return "frozen" if not self.cut else "exact" if self.exact else "sees what was kept"


def check(program: ForwardFunction, seed: int) -> Finding:
    """Cut the program's network. Raises WrongCutError, or whatever `prune` should not raise."""
    dice = random.Random(seed)
    x = torch.randn(2, 3, LENGTH, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    if not _runs(program, x, seed):
        return Finding(discarded=True)
    world = program.world()
    used = Use(training=dice.random() < 0.5, ran=dice.random() < 0.3, gradients=dice.random() < 0.5)
    model = used.model(world, x, seed)
    for generator in (random.seed, np.random.seed, torch.manual_seed):
        generator(seed)
    before = contents(model, world)
    scorer = dice.choice(("random", "magnitude", "synflow"))
    try:
        result = prune(model, x, scorer=scorer, ratio=dice.choice((0.25, 0.5, 0.75)), seed=seed)
    except InputError as error:
        if not any(part in str(error) for part in ("no channels that can be removed", "carry no gradient")):
            raise
        result, reason = None, str(error)
    after = contents(model, world)
    changed = [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
    if changed:
        raise WrongCutError(f"prune has changed {sorted(changed)}")
    if result is None:
        return Finding(frozen=reason)
    found = Finding(cut=bool(result.plan.tensors), exact=not result.reductions)
    with torch.no_grad():
        smaller = _seeded(seed, lambda: program.unwrap(result.model.eval()(x)))
        _seeded(seed, lambda: result.model.train()(x))
    if found.exact:
        _compare(program, result.plan, x, seed, used, smaller)
    return found


@dataclass(frozen=True)
class Use:
    """What the user has done with the model before it is cut."""

    training: bool
    ran: bool
    gradients: bool
    """Whether the run had gradients, so that what was kept of it has a history."""

    def model(self, world: Mapping[str, Any], x: Tensor, seed: int) -> nn.Module:
        model = randomise(world["Net"](), seed).train(self.training)
        if self.ran:
            with torch.set_grad_enabled(self.gradients):
                _seeded(seed, lambda: model(x))
        return model


def _compare(program: ForwardFunction, plan: Any, x: Tensor, seed: int, used: Use, smaller: Tensor) -> None:
    used = replace(used, gradients=False)  # the oracle copies it, and torch copies nothing that has a history
    original = without_consumers(used.model(program.world(), x, seed), plan).eval()
    with torch.no_grad():
        expected = _seeded(seed, lambda: program.unwrap(original(x)))
    assert_equal([expected], [smaller])


def _runs(program: ForwardFunction, x: Tensor, seed: int) -> bool:
    """Whether the function itself works, with finite outputs, twice and in both modes."""
    model = randomise(program.world()["Net"](), seed)
    with torch.no_grad():
        try:
            return all(bool(program.unwrap(model.train(mode)(x)).isfinite().all()) for mode in (True, False, False))
        except (RuntimeError, ValueError, IndexError):
            return False


def _seeded(seed: int, run: Callable[[], Any]) -> Any:
    for generator in (random.seed, np.random.seed, torch.manual_seed):
        generator(seed)
    return run()


def contents(model: nn.Module, world: Mapping[str, Any]) -> dict[str, Any]:
    """All that there is, as plain values: of the model, of its class, of the module, of the random generators."""
    found: dict[str, Any] = {
        "python's generator": random.getstate(),
        "numpy's generator": repr(np.random.get_state()),
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
    }
    for path, module in model.named_modules():
        for key, value in vars(module).items():
            found[f"{path}.{key}"] = plain(value)
    for name, value in world.items():
        if name != "__builtins__":
            found[name] = plain(value)
    return found


def plain(value: Any) -> Any:
    """A value as something that can be compared: which object, and what is in it."""
    if isinstance(value, Tensor):
        return id(value), value.data_ptr(), value.is_meta, value.requires_grad, value.detach().numpy().tobytes()
    if isinstance(value, np.ndarray):
        return id(value), value.tobytes()
    if isinstance(value, np.random.Generator):
        return repr(value.bit_generator.state)
    if isinstance(value, Mapping):
        return id(value), [(plain(key), plain(item)) for key, item in value.items()]
    if isinstance(value, (list, tuple, set)):
        return id(value), [plain(item) for item in value]
    if hasattr(value, "cache_info"):
        return id(value), value.cache_info()
    if isinstance(value, types.FunctionType):
        cells = [plain(cell.cell_contents) for cell in value.__closure__ or ()]
        return id(value), cells, plain(value.__defaults__), plain(vars(value))
    if isinstance(value, type):
        own = {key: item for key, item in vars(value).items() if not key.startswith("__")}
        return id(value), sorted(own), [plain(item) for item in own.values()]
    if type(value).__module__ == "a_forward_function":
        return id(value), sorted(vars(value)), [plain(item) for item in vars(value).values()]
    return id(value) if callable(value) or isinstance(value, types.ModuleType) else (type(value), repr(value))

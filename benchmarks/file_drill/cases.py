"""What is changed: three configurations and two plans; and the ways in which they are."""

from __future__ import annotations

import copy
import json
import math
import random
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import torch
from torch import nn

import prunetune

Content: TypeAlias = dict[str, Any]

EXAMPLES: Final = Path(__file__).parents[2] / "examples"
SMALL: Final[Mapping[str, Content]] = {"data": {"image_size": 8}, "model": {"name": "resnet8"}}
"""So that a configuration that is accepted is quickly at its training."""
DEEP: Final = 5_000
WRONG: Final[tuple[Any, ...]] = (
    -1, 0, 1, 2**63, -(10**30), 0.5, -0.0, 1e308, math.nan, math.inf, True, False, "", "é\x00\x1b[2J", "auto", "all",
    "../..", "1e5", [], [1], ["a", "a"], {}, {"a": 1}, [[]], "x" * 10_000,
)  # fmt: skip


NAMES: Final = (
    "tpe", "random", "bo", "magnitude", "uniform", "none", "median", "asha", "mup", "identity", "paper", "full",
    "digits", "cosine", "step", "sgd", "adam", "reset", "sliced", "cpu", "resnet14", "minimize",
    "examples.own_model:train",
)  # fmt: skip


def configurations() -> dict[str, Content]:
    """The examples, and one that has rungs of its own."""
    run = tomllib.loads((EXAMPLES / "run.toml").read_text(encoding="utf-8"))
    run = {**run, **{table: {**run[table], **changes} for table, changes in SMALL.items()}}
    own = tomllib.loads((EXAMPLES / "own_model.toml").read_text(encoding="utf-8"))
    rungs = [{"width": 0.25, "epochs": 0.5, "trials": 4, "keep": 2}, {"width": 0.5, "keep": 1}, {}]
    written = {
        "model": {"name": "resnet8"},
        "data": {"name": "digits", "image_size": 8},
        "ladder": {"rung": rungs},
        "pruning": {"scorer": "magnitude", "weights": "sliced", "transfer": "mup", "optimizers": "sgd"},
        "search": {
            "optimizer": "tpe", "trial_pruner": "none", "epochs": 4, "storage": "sqlite:///study.db", "study": "mine",
            "target": 0.9, "patience": 3, "first": [{"learning_rate": 0.1}],
        },
        "train": {"schedule": "step"},
        "run": {"folder": "run", "device": "cpu"},
    }  # fmt: skip
    return {"run.toml": run, "own_model.toml": own, "written": written}


def network() -> nn.Module:
    """Everything that a plan changes: tensors, attributes (groups), and blocks that it may bypass."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), Block(8),
        nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Flatten(), nn.Linear(8 * 4 * 4, 4),
    )  # fmt: skip


class Block(nn.Module):
    """A residual block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(width, 6, 1), nn.Conv2d(6, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, width, H, W), and the same."""
        return x + torch.as_tensor(self.conv2(self.conv1(x).relu()))


INPUTS: Final = (2, 3, 4, 4)


def plans() -> dict[str, Content]:
    """One that cuts, and one that bypasses, too."""
    inputs = torch.zeros(INPUTS)
    cut = prunetune.prune(network(), inputs, ratio=0.5, scorer="uniform").plan
    both = prunetune.prune(network(), inputs, flops=0.2, depth=True, scorer="uniform").plan
    return {"cut": json.loads(cut.to_json()), "bypassed": json.loads(both.to_json())}


def changed(content: Content, rng: random.Random) -> tuple[Content, str]:
    """A copy with one thing, or a few, changed; and what that was."""
    content = copy.deepcopy(content)
    said = [_change(content, rng) for _ in range(rng.choice([1, 1, 1, 2, 4]))]
    return content, "; ".join(said)


def _change(content: Content, rng: random.Random) -> str:
    at: Any = content
    where: list[str] = []
    while isinstance(at, (dict, list)) and at:
        key = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
        where.append(str(key))
        if not isinstance(at[key], (dict, list)) or not at[key] or rng.random() < 0.25:
            break
        at = at[key]
    name = ".".join(where)
    if not where:
        return "nothing is left"
    way = rng.random()
    if way < 0.2:
        del at[key]
        return f"{name} deleted"
    if way < 0.35 and isinstance(at, dict):
        new = rng.choice([f"{key}s", key.upper(), key[:-1] or "x", "seed", "name"])
        at[new] = at.pop(key)
        return f"{name} is called {new}"
    if way < 0.4:
        for _ in range(DEEP):
            at[key] = [at[key]]
        return f"{name} nested deeply"
    value = at[key]
    at[key] = rng.choice(rng.choice([WRONG, _near(value)]))
    new = at[key]
    return f"{name} = {f'a {type(new).__name__}' if isinstance(new, (dict, list)) and new else str(new)[:60]!r}"


def _near(value: Any) -> Sequence[Any]:
    """What may be right in its place."""
    if isinstance(value, bool):
        return (not value,)
    if isinstance(value, (int, float)):
        return (value + 1, value * 2, value / 2, -value, float(value), str(value))
    if isinstance(value, str):
        return NAMES
    return (value, [value]) if isinstance(value, dict) else ([*value, *value], value[:1])


def damaged(text: str, rng: random.Random) -> tuple[str, str]:
    """Text with characters changed, or cut short."""
    if not text or rng.random() < 0.5:
        length = rng.randrange(len(text) + 1)
        return text[:length], f"cut to {length} of {len(text)} characters"
    letters = list(text)
    places = [rng.randrange(len(text)) for _ in range(rng.choice([1, 3, 30]))]
    for place in places:
        letters[place] = chr(rng.choice([rng.randrange(128), rng.randrange(0xD7FF)]))
    return "".join(letters), f"{len(places)} characters changed"


def as_toml(content: Mapping[str, Any]) -> str:
    """Nested tables as a TOML file, all below the first level inline."""
    loose = [f"{_key(name)} = {_value(each)}\n" for name, each in content.items() if not isinstance(each, dict)]
    tables = [
        f"[{_key(name)}]\n" + "".join(f"{_key(key)} = {_value(value)}\n" for key, value in each.items())
        for name, each in content.items()
        if isinstance(each, dict)
    ]
    return "".join([*loose, *tables])


def _key(name: str) -> str:
    return json.dumps(name)


def _value(value: object) -> str:
    nested = 0
    while isinstance(value, list) and len(value) == 1 and nested < DEEP:  # without a recursion a level
        value, nested = value[0], nested + 1
    return "[" * nested + _plain(value) + "]" * nested


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(name)} = {_value(each)}" for name, each in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_value(each) for each in value) + "]"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    return json.dumps(value).replace("\x7f", "\\u007f")

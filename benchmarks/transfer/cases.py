"""Full networks, configurations, and the ways to judge a configuration."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from scipy.stats import qmc

from prunetune.comparison.rivals import at_cost

SCORERS: Final = (
    "synflow", "synflow-absolute", "synflow-iterative", "3sp", "snip", "grasp", "taylor", "magnitude", "magnitude-l2",
    "fpgm", "random",
)  # fmt: skip
"""Those that need no trained network."""


@dataclass(frozen=True)
class Base:
    """A full network and how it is trained: ``share`` is what a quarter of its width costs, which rivals may cost."""

    model: str
    dataset: str
    pixels: int
    images: int
    epochs: int
    share: float
    smaller: str | None = None


@dataclass(frozen=True)
class Scale:
    """What is run: full networks, configurations, and either scorers beside rivals or transfer rules."""

    bases: tuple[Base, ...]
    configurations: int
    scorers: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()


_CPU: Final = (
    Base("resnet14", "fashion-mnist", 14, 2000, 5, 0.4, "resnet8"),
    Base("vgg4-bn", "fashion-mnist", 14, 2000, 5, 0.17),
)
SCALES: Final = {
    "smoke": Scale((Base("resnet8", "digits", 8, 192, 2, 0.5),), 3, ("synflow",)),
    "cpu": Scale(_CPU, 26, SCORERS),
    "rules": Scale(_CPU, 26, rules=("mup", "norm-aware", "identity")),
    "full": Scale(
        (
            Base("resnet56", "cifar10", 32, 45_000, 40, 0.25, "resnet20"),
            Base("vgg16-bn", "cifar10", 32, 45_000, 40, 0.07, "vgg11-bn"),
        ),
        48,
        SCORERS,
    ),
}


@dataclass(frozen=True)
class Arm:
    """One way to judge a configuration: which network, for how many epochs, stopped after how many, on what data."""

    name: str
    prune: Mapping[str, Any] | None = None
    transfer: str = "mup"
    model: str | None = None
    epochs: int | None = None
    stop_after: int | None = None
    data: float = 1.0
    kind: str = "proxy"


def arms(base: Base, scale: Scale) -> list[Arm]:
    """The full network, the proxies, and the rivals at a quarter width's cost; or narrow proxies by every rule."""
    if scale.rules:
        return [Arm("base", kind="base"), *_by_rules(scale.rules)]
    quarter = {"scorer": "uniform", "ratio": 0.25}
    found = [
        Arm("base", kind="base"),
        Arm("the paper's rule", {"scorer": "synflow", "percentile": 85, "floor": 0.15}, "identity"),
        Arm("the paper's rule, mup", {"scorer": "synflow", "percentile": 85, "floor": 0.15}),
        Arm("uniform, identity", quarter, "identity"),
        Arm("uniform", quarter),
        *(Arm(name, {"scorer": name, "flops": "as a quarter of the width", "floor": 0.05}) for name in scale.scorers),
    ]
    for name in ("fewer epochs", "stopped early", "less data", "one epoch"):
        cut = at_cost(name.replace(" ", "-"), base.share, base.epochs)
        found.append(Arm(name, epochs=cut.epochs, stop_after=cut.stop_after, data=cut.data, kind="rival"))
    if base.smaller:
        found.append(Arm(f"a smaller member ({base.smaller})", model=base.smaller, kind="rival"))
    return found


def _by_rules(rules: Sequence[str]) -> Iterator[Arm]:
    for share, words in ((1 / 4, "1/4"), (1 / 8, "1/8")):
        for epochs, length in ((None, ""), (1, ", one epoch")):
            for rule in rules:
                yield Arm(f"{words}{length}, {rule}", {"scorer": "uniform", "ratio": share}, rule, epochs=epochs)


def configurations(count: int) -> list[dict[str, Any]]:
    """Points of a scrambled Sobol sequence: learning rate and weight decay on logarithmic scales, momentum, batch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the sequence is balanced for powers of two only
        cube = qmc.Sobol(4, seed=0).random(count)
    return [
        {
            "learning_rate": 10 ** (-3.5 + 3.5 * a),
            "weight_decay": 10 ** (-5 + 3 * b),
            "momentum": 0.5 + 0.49 * c,
            "batch_size": (16, 32, 64, 128)[int(4 * d)],
        }
        for a, b, c, d in cube.tolist()
    ]

"""What is compared, as plain values, and the ways to judge a configuration that follow from it."""

import itertools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Final, Literal, TypeAlias

from annotated_types import Ge, Le

from prunetune._utils.options import Options
from prunetune.backends import check_optimizer
from prunetune.comparison.rivals import HAVE_THEIR_OWN_COST, Cheaper, at_cost, check_rival
from prunetune.errors import InputError
from prunetune.plugins import check_scorer
from prunetune.pruning.budget import Share
from prunetune.transfer import transfers as rules
from prunetune.tuning.settings import Pruning

Size: TypeAlias = Literal["paper"] | Share
PAPER: Final = "paper"
FLOOR: Final = 0.05
"""Of proxies cut to a share of the FLOPs; with the paper's floor of 0.15 small ones cannot be had."""
FEWEST: Final = 4


@dataclass(frozen=True)
class Comparison(Options):
    """What is compared, on how many configurations, with how many seeds.

    Attributes
    ----------
    scorers, sizes, transfers
        Every scorer is tried at every size with every transfer rule. A size is the share of the FLOPs that is left, or
        ``"paper"``: the 85th percentile with a floor of 0.15.
    proxies
        Others, by names of your own.
    optimizers
        "random" stands for the configurations that all ways are judged on, and costs no training besides; any other
        one searches by itself, on every way, with as many trials.
    rivals
        Of ``prunetune.comparison.rivals``, each at the cost of the proxies of each size.
    configurations
        So many, at least 4, from a Sobol sequence; more of them begin with the same ones.
    seeds
        How often everything that chooses is trained: the ways themselves, and the full network that confirms.
    truth_seeds
        How often the full network is trained to say how good a configuration is; these choose nothing.
    confirm
        So many of a way's first choices are trained on the full network, of which the best is taken.
    cost
        What a rival's training costs as a share of a full one; by default what those of the proxies were measured to.
    """

    scorers: tuple[Annotated[str, check_scorer], ...] = ("synflow", "uniform")
    sizes: tuple[Size, ...] = (0.1,)
    transfers: tuple[Annotated[str, rules.check], ...] = ("norm-aware",)
    proxies: Mapping[str, Pruning] = field(default_factory=dict)
    optimizers: tuple[Annotated[str, check_optimizer], ...] = ("random",)
    rivals: tuple[Annotated[str, check_rival], ...] = ("fewer-epochs", "less-data")
    configurations: Annotated[int, Ge(FEWEST), Le(4096)] = 24
    seeds: Annotated[int, Ge(1), Le(1024)] = 3
    truth_seeds: Annotated[int, Ge(1), Le(1024)] = 2
    confirm: Annotated[int, Ge(1), Le(1024)] = 3
    cost: Share | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("scorers", "sizes", "transfers", "optimizers", "rivals"):
            given = getattr(self, name)
            for each in given:
                if given.count(each) > 1:
                    raise InputError(f"{name} has {each!r} twice")
        if self.confirm > self.configurations:
            raise InputError(f"confirm is {self.confirm}, but there are only {self.configurations} configurations")
        if not self.optimizers:
            raise InputError("optimizers is empty; 'random' costs nothing besides")

    def check_cost(self) -> None:
        """Raise InputError if nothing says what the rivals may cost."""
        if self.cost is None and not self.proxy_ways() and set(self.rivals) - HAVE_THEIR_OWN_COST:
            raise InputError("there is no proxy whose cost the rivals could have; give a cost")

    def to_record(self) -> dict[str, Any]:
        """All of it, as plain values."""
        named = {name: each.to_record() for name, each in self.proxies.items()}
        return {**asdict(self), "proxies": named}

    def proxy_ways(self, *, pretrained: bool = False) -> list["Way"]:
        """Every scorer at every size with every transfer rule, then the others, of such a network."""
        found = []
        for size, scorer, rule in itertools.product(self.sizes, self.scorers, self.transfers):
            name = f"{scorer}, {_of_size(size)}" + (f", {rule}" if len(self.transfers) > 1 else "")
            budget: dict[str, Any] = {} if size == PAPER else {"flops": size, "floor": FLOOR}
            pruning = Pruning(scorer=scorer, transfer=rule, **budget)
            found.append(Way(name, "proxy", _of_size(size), pruning=pruning.for_network(pretrained=pretrained)))
        for name, pruning in self.proxies.items():
            found.append(Way(name, "proxy", name, pruning=pruning.for_network(pretrained=pretrained)))
        return found

    def rival_ways(self, costs: Mapping[str, float], epochs: int) -> list["Way"]:
        """The rivals at each of these costs, which are named after the proxies that have it."""
        found: dict[str, Way] = {}
        for (group, share), rival in itertools.product(costs.items(), self.rivals):
            alone = len(costs) == 1 or rival in HAVE_THEIR_OWN_COST
            name = rival if alone else f"{rival}, at the cost of {group}"
            found.setdefault(name, Way(name, "rival", group, cheaper=at_cost(rival, share, epochs)))
        return list(found.values())


@dataclass(frozen=True)
class Way:
    """One way to judge a configuration: by which network, trained how."""

    name: str
    kind: Literal["base", "proxy", "rival"]
    group: str = ""
    """Of proxies, what they have in common that rivals match in cost."""
    pruning: Pruning | None = None
    cheaper: Cheaper | None = None
    smaller: str | None = None
    """The name of another network that stands in for the full one."""

    def identity(self) -> dict[str, Any]:
        """What makes two trainings of a configuration the same but for the seed."""
        return {
            "pruning": None if self.pruning is None else self.pruning.to_record(),
            "cheaper": None if self.cheaper is None else asdict(self.cheaper),
            "smaller": self.smaller,
        }


BASE: Final = Way("the full network", "base")


def _of_size(size: Size) -> str:
    return "p = 85" if size == PAPER else f"FLOPs {size:g}"

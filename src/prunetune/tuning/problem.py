"""What the user brought: the network, its training, the space and the inputs, checked once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

from torch import nn

from prunetune._utils.caller import seed_all
from prunetune._utils.checks import Direction, known_direction
from prunetune._utils.options import checked
from prunetune.backends import Distribution, SearchSpace, resolve_space
from prunetune.errors import InputError
from prunetune.pruning.checks import check_full_network, check_model_fn, check_train, pretrained_parameters
from prunetune.record.folder import check_saveable
from prunetune.tuning.architecture import Architecture, network_of
from prunetune.tuning.fingerprint import EVALUATE, Fingerprint
from prunetune.tuning.plans import Plans, plans_of
from prunetune.tuning.proxy_factory import ProxyFactory, ScoringData, proxy_of
from prunetune.tuning.settings import Count, Pruning, Seed
from prunetune.tuning.types import EvaluateFunction, GivenModelFunction, ModelFunction, TrainFunction

if TYPE_CHECKING:
    from prunetune.engine import ExampleInputs, PruningPlan
    from prunetune.plugins.base import Batch, Loss


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A network, how it is trained, and what is searched: see ``prunetune.tune`` for what each is.

    ``smaller`` are networks that stand in for the full one, by name.
    """

    model_fn: ModelFunction
    train: TrainFunction
    space: SearchSpace
    example_inputs: ExampleInputs
    epochs: int
    direction: Direction
    seed: int
    evaluate: EvaluateFunction | None = None
    scoring: ScoringData = field(default_factory=ScoringData)
    smaller: Mapping[str, ModelFunction] = field(default_factory=dict)
    steps: int | None = None
    """Optimizer steps of an epoch, where they are known."""

    @classmethod
    def of(
        cls,
        model_fn: GivenModelFunction,
        train: TrainFunction,
        space: str | Mapping[str, Distribution],
        *,
        example_inputs: ExampleInputs,
        epochs: int,
        direction: Direction | None,
        seed: int,
        evaluate: EvaluateFunction | None = None,
        data: Iterable[Batch] | None = None,
        loss: Loss | None = None,
        smaller: Mapping[str, ModelFunction] | None = None,
        steps: int | None = None,
        write: str = "{}",
    ) -> Self:
        """The problem as a user describes it; ``write`` is where the direction is written, for the error.

        Raises InputError for the first thing that is impossible. No network is built yet, see ``full_network``.
        """
        check_train(train)
        for name, function in (("evaluate", evaluate or train), *(smaller or {}).items()):
            if not callable(function):
                raise InputError(f"{name} must be a function; got {type(function).__name__}")
        asked = resolve_space(space)
        return cls(
            model_fn=network_of(model_fn, asked),
            train=train,
            space=asked,
            example_inputs=example_inputs,
            epochs=checked("epochs", epochs, Count),
            direction=known_direction(direction, write),
            seed=checked("seed", seed, Seed),
            evaluate=evaluate,
            scoring=ScoringData(data, loss),
            smaller=smaller or {},
            steps=checked("steps_per_epoch", steps, Count | None),
        )

    def full_network(self) -> tuple[nn.Module, frozenset[str]]:
        """A full network to look at, seeded, and its pretrained parameters. Raises InputError."""
        return build_base(self.model_fn, self.seed)

    def proxy(self, pruning: Pruning, seed: int | None = None) -> ProxyFactory:
        """What builds proxies of the full network, cut as ``pruning`` says; see ``prunetune.proxy_of``."""
        self.check_goes_with(pruning)
        scoring, draws = self.scoring, self.seed if seed is None else seed
        return proxy_of(self.model_fn, self.example_inputs, pruning, seed=draws, data=scoring.data, loss=scoring.loss)

    def plans(self, pruning: Pruning, seed: int | None = None) -> Plans:
        """How all networks of this problem are cut, each as ``proxy`` cuts the usual one. Raises InputError."""

        def cut(build: ModelFunction) -> dict[str, PruningPlan]:
            return {"proxy": replace(self, model_fn=build).proxy(pruning, seed).plan}

        return plans_of(self.model_fn, cut(self.model_fn), cut, self.seed)["proxy"]

    def check_goes_with(self, pruning: Pruning) -> None:
        """Raise InputError where proxies cannot be cut so: what stays of a bypassed block may be its activation."""
        if pruning.depth and isinstance(self.model_fn, Architecture):
            raise InputError("depth=True and a model_fn that takes params do not go together; leave one of them out")

    def fingerprint(self, base: nn.Module) -> Fingerprint:
        """What is kept with a run of this problem, of whose full networks ``base`` is one."""
        networks = {"network": base}
        networks |= {f"smaller {name}": build_base(build, self.seed)[0] for name, build in self.smaller.items()}
        built = self.model_fn.function if isinstance(self.model_fn, Architecture) else self.model_fn
        functions = {"model_fn": built, "train": self.train, EVALUATE: self.evaluate}
        return Fingerprint.of(networks, functions, self.example_inputs)


def build_base(model_fn: ModelFunction, seed: int) -> tuple[nn.Module, frozenset[str]]:
    """A full network from ``model_fn``, seeded, and its pretrained parameters: none where it is drawn at each call.

    Raises InputError unless that builds a new module at each call.
    """
    check_full_builder(model_fn)
    seed_all(seed)
    model = model_fn()
    if not isinstance(model, nn.Module):
        raise InputError(f"model_fn must return a torch.nn.Module; it returned {type(model).__name__}")
    again = model_fn()
    if again is model:
        raise InputError(
            "model_fn returns the same network each time; build a new one at each call, one for every trial"
        )
    check_full_network(model)
    check_saveable(model.state_dict())
    return model, pretrained_parameters(model, again)


def check_full_builder(model_fn: object) -> None:
    """Raise InputError unless ``model_fn`` may build a full network: it can be called, and builds no proxies."""
    check_model_fn(model_fn)
    if isinstance(model_fn, ProxyFactory):
        raise InputError(
            "model_fn builds proxies already (prunetune.proxy_of), and the best hyperparameters are to be confirmed on "
            "the full network; give the function that builds that one, and the proxy is cut from it here"
        )

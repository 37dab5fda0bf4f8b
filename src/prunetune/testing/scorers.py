"""What holds for every scorer."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunetune.engine import DependencyGraph
from prunetune.errors import InputError
from prunetune.plugins import ScorerFactory, make_scorer
from prunetune.plugins.base import Context, Need, Scorer, batch_norms
from prunetune.plugins.scoring import score
from prunetune.pruning.cut import PruneResult, prune
from prunetune.testing.networks import CASES, Case

Subject: TypeAlias = "str | ScorerFactory"
"""A scorer by its name, or the class (or function) that makes it."""


def scorer_contract(*subjects: Subject, refuses: Iterable[str] = ()) -> type[ScorerContract]:
    """A class of tests for scorers by name, or their factories; pytest finds it under a name that begins with Test.

    Parameters
    ----------
    refuses
        The networks (keys of `prunetune.testing.networks.CASES`) that these scorers refuse, in one sentence; what
        needs batch norm refuses those without by itself.
    """
    refused = frozenset(refuses)
    if unknown := refused - set(CASES):
        raise InputError(f"refuses names {min(unknown)!r}, which is no network of the suite; known: {', '.join(CASES)}")
    ids = [subject if isinstance(subject, str) else subject.__name__ for subject in subjects]
    made = type("ScorerContract", (ScorerContract,), {"refuses": refused})
    marked: type[ScorerContract] = pytest.mark.parametrize("scorer", subjects, ids=ids)(made)
    return marked


class ScorerContract:
    """The tests, each of the scorer `scorer`; `scorer_contract` makes a class of them for names of one's own."""

    refuses: frozenset[str] = frozenset()

    def test_the_same_seed_gives_the_same_scores(self, scorer: Subject) -> None:
        """Whatever the state of the global random generators."""
        first = pruned(scorer, seed=5)
        torch.manual_seed(99)
        second = pruned(scorer, seed=5)
        assert np.array_equal(first.scores, second.scores)
        assert first.plan == second.plan

    def test_it_leaves_everything_as_it_was(self, scorer: Subject) -> None:
        """Weights, statistics, gradients, flags, hooks, the data, and random states."""
        case = CASES["residual"]
        model, inputs, data = case.model(), case.inputs(), case.data()
        model.get_submodule("norm1").eval()
        next(model.parameters()).requires_grad_(False)
        for index, parameter in enumerate(model.parameters()):
            parameter.grad = torch.full_like(parameter, index) if index % 2 else None
        tensors = [inputs, *(tensor for batch in data for tensor in batch)]
        before, copies = state(model), [tensor.clone() for tensor in tensors]
        expected = numbers_after_seeding()
        drawn = numbers_after_seeding(lambda: prune(model, inputs, scorer=made(scorer), ratio=0.5, data=data))
        assert drawn == expected, "the state of a global random generator has changed"
        assert state(model) == before, "the model has changed"
        assert all(torch.equal(a, b) for a, b in zip(tensors, copies, strict=True)), "the data have changed"

    def test_a_score_a_unit(self, scorer: Subject) -> None:
        """Finite for those that `channel_scores` judges, inf for all others; not all the same."""
        case = CASES["residual"]
        model = case.model()
        graph = DependencyGraph.of(model, case.inputs())
        scores = scored(scorer, case, model, graph)
        assert scores.dtype == np.float64
        assert scores.shape == (graph.unit_count + 1,)
        assert len(np.unique(scores[1:])) > 1, "it gives every unit the same score"
        channels = made(scorer).channel_scores(context(case, graph))
        judged = np.zeros(graph.unit_count + 1, dtype=bool)
        for axis, values in channels.items():
            assert axis in graph.axes, f"{axis} has no channels that can go"
            assert values.shape == (len(graph.unit_of(axis)),), f"{axis} needs one score an index"
            judged[graph.unit_of(axis)] = True
        assert np.array_equal(np.isfinite(scores[1:]), judged[1:])
        assert not np.isnan(scores).any()
        assert not np.isneginf(scores).any()

    def test_higher_is_worth_more(self, scorer: Subject) -> None:
        """Of every group those stay that have the highest scores."""
        result = pruned(scorer)
        gone = np.ones(result.graph.unit_count + 1, dtype=bool)
        for name, tensor in result.plan.tensors.items():
            for dim, kept in tensor.keep.items():
                gone[result.graph.unit_of((name, dim))[list(kept)]] = False
        for group in result.graph.groups:
            units = np.asarray(group.units)
            left, cut = units[~gone[units]], units[gone[units]]
            assert len(left)
            assert not len(cut) or result.scores[left].min() >= result.scores[cut].max()
            assert np.isfinite(result.scores[cut]).all(), "units that are not judged must stay"

    @pytest.mark.parametrize("network", CASES)
    def test_it_works_on_every_kind_of_network(self, scorer: Subject, network: str) -> None:
        """The proxy runs and is smaller; or the scorer says in one sentence that it cannot."""
        case = CASES[network]
        without = Need.BATCH_NORM in made(scorer).needs and not any(True for _ in batch_norms(case.model()))
        if without or network in self.refuses:
            refused(scorer, case)
            return
        result = pruned(scorer, case)
        assert result.model(case.inputs()).shape[0] == len(case.inputs())
        assert result.cost.proxy.parameters < result.cost.base.parameters

    def test_what_it_says_it_needs_is_true(self, scorer: Subject) -> None:
        """Without data it does not look at any; with data declared, their absence is one sentence; so with a loss."""
        needs, calls = made(scorer).needs, [0]

        def loss(outputs: Any, targets: Any) -> Tensor:
            calls[0] += 1
            return nn.functional.cross_entropy(outputs, targets)

        pruned(scorer, loss=loss)
        assert bool(calls[0]) == (Need.LOSS in needs), "Need.LOSS is declared if and only if the loss is called"
        if Need.DATA in needs:
            assert "data" in refused(scorer, CASES["residual"], data=None)
        else:
            without = pruned(scorer, data=None)
            assert np.array_equal(without.scores, pruned(scorer).scores), (
                "data that were not declared make a difference"
            )
        assert Need.DATA in needs or Need.LOSS not in needs, "a loss is of no use without data"

    def test_if_it_only_reads_it_runs_nothing(self, scorer: Subject) -> None:
        """`only_reads` spares a copy of the network; so the scorer gets the user's own."""
        case = CASES["residual"]
        model = case.model()
        graph = DependencyGraph.of(model, case.inputs())
        runs: list[nn.Module] = []
        for module in model.modules():
            module.register_forward_pre_hook(lambda module, inputs: runs.append(module))
        before = state(model)
        scored(scorer, case, model, graph)
        if made(scorer).only_reads:
            assert not runs, "only_reads is declared, and the network is run"
        assert state(model) == before, "the network has changed"

    @pytest.mark.parametrize("device", ["cpu", *(["cuda"] if torch.cuda.is_available() else [])])
    def test_it_works_in_double_precision_and_after_moving(self, scorer: Subject, device: str) -> None:
        """The scores are those of the network in float32 on the CPU, as far as rounding goes; half of all at least."""
        case = CASES["residual"]
        model = case.model().to(device, torch.float64)
        data = [(inputs.double(), targets) for inputs, targets in case.data()]
        double = prune(model, case.inputs().double(), scorer=made(scorer), ratio=0.5, data=data)
        single = pruned(scorer)
        assert {p.dtype for p in double.model.parameters()} == {torch.float64}
        assert {p.device.type for p in double.model.parameters()} == {device}
        assert np.array_equal(np.isfinite(double.scores), np.isfinite(single.scores))
        close = np.isclose(double.scores, single.scores, rtol=1e-3)
        assert close.mean() > 0.5, "scores in float64 have nothing to do with those in float32"

    def test_what_goes_wrong_is_one_sentence(self, scorer: Subject) -> None:
        """Weights that are not finite, data that are none, targets that do not fit."""
        case = CASES["residual"]
        model = case.model()
        with torch.no_grad():
            model.get_parameter("conv1.weight")[0, 0, 0, 0] = torch.nan
        try:
            prune(model, case.inputs(), scorer=made(scorer), ratio=0.5, data=case.data())
        except InputError as error:
            one_sentence(error)
        needs = made(scorer).needs
        if Need.DATA in needs:
            no_batches: tuple[object, ...] = ([], case.inputs(), 3)
            for nothing in no_batches:
                assert "data" in refused(scorer, case, data=nothing)
        if Need.LOSS in needs:
            refused(scorer, case, data=[(case.inputs(), torch.zeros(3, 5, 2))])


def made(scorer: Subject) -> Scorer:
    """A scorer of its own."""
    made = make_scorer(scorer) if isinstance(scorer, str) else scorer()
    assert isinstance(made, Scorer)
    return made


def pruned(scorer: Subject, case: Case = CASES["residual"], **options: Any) -> PruneResult:
    """The network of the case at half of its width."""
    options = {"data": case.data(), **options}
    return prune(case.model(), case.inputs(), scorer=made(scorer), ratio=0.5, **options)


def refused(scorer: Subject, case: Case, **options: Any) -> str:
    """The one sentence with which the scorer refuses."""
    with pytest.raises(InputError) as caught:
        pruned(scorer, case, **options)
    return one_sentence(caught.value)


def one_sentence(error: Exception) -> str:
    """What the error says, in a line of reasonable length."""
    said = str(error)
    assert said
    assert "\n" not in said
    assert len(said) < 500, f"too long for a sentence: {said}"
    return said


def scored(scorer: Subject, case: Case, model: nn.Module, graph: DependencyGraph) -> np.ndarray[Any, Any]:
    """The scores of the scorer."""
    return score(model, case.inputs(), graph, made(scorer), data=case.data(), seed=0)


def context(case: Case, graph: DependencyGraph) -> Context:
    """What `score` gives to a scorer that runs the model."""
    data, generator = tuple(case.data()), torch.Generator().manual_seed(0)
    return Context(case.model().eval(), case.inputs(), graph, generator, data)


def numbers_after_seeding(call: Callable[[], object] = lambda: None) -> tuple[object, ...]:
    """What torch, Python and numpy draw next after `call`, seeded before it."""
    torch.manual_seed(7)
    random.seed(7)
    np.random.seed(7)
    call()
    return torch.rand(3).tolist(), random.random(), np.random.rand()


def state(model: nn.Module) -> dict[str, Any]:
    """All that a scorer could have changed, as values that compare."""
    listed: dict[str, Any] = {name: tensor.tolist() for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        listed[f"{name} gradient"] = None if parameter.grad is None else parameter.grad.tolist()
        listed[f"{name} flags"] = (parameter.requires_grad, parameter.dtype, id(parameter))
    for name, module in model.named_modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
        listed[f"{name} module"] = (module.training, id(module), [len(each) for each in hooks], sorted(vars(module)))
    return listed

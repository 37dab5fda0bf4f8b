"""A bypassed block is its shortcut: the network is the original with zeros for what its branches add.

The oracle sets the last layers of the branches, which are written down here by hand, to zero. Everything is in float64
with random weights and statistics.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from depth_models import MODELS, blocks_of, built, difference, silenced
from test_blocks import BLOCKS, Calls, Of, X
from torch import Tensor, nn

from prunetune.engine import (
    DependencyGraph,
    PruningPlan,
    Shortcut,
    TensorCut,
    apply,
    by_ratio,
    bypass,
    carry_optimizer,
    check_runs,
    cost,
    cut_state_dict,
    fresh_proxy,
    residual_blocks,
)
from prunetune.errors import PlanError
from prunetune.testing.oracle import largest_error, outputs, randomise

# -- real networks -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_the_blocks_are_found(name: str) -> None:
    model, _ = built(name)
    assert [block.name for block in blocks_of(name)] == list(MODELS[name][1])
    for block in blocks_of(name):
        inside = {f"{block.name}.{key}" for key, _ in model.get_submodule(block.name).named_parameters()}
        assert set(block.parameters) == inside
        assert block.inside is None
        assert block.tail == ("relu" if name in ("resnet18", "resnet50", "zoo resnet56") else "identity")


@pytest.mark.parametrize("name", MODELS)
def test_the_bypassed_network_is_the_original_whose_branches_add_nothing(name: str) -> None:
    model, x = built(name)
    blocks = blocks_of(name)
    for chosen in (blocks, blocks[:1], blocks[1::2]):
        smaller = apply(bypass(chosen), model)
        oracle = silenced(model, [block.name for block in chosen], MODELS[name][2])
        assert difference(oracle, smaller, x) < 1e-12
        assert difference(model, smaller, x) > 1e-3
        assert all(isinstance(smaller.get_submodule(block.name), Shortcut) for block in chosen)
        kept = {key for key, _ in model.named_parameters()} - {key for block in chosen for key in block.parameters}
        assert {key for key, _ in smaller.named_parameters()} == kept


@pytest.mark.parametrize("name", ["resnet18", "zoo resnet56", "timm resnetv2", "llama"])
def test_in_training_mode_too(name: str) -> None:
    """Those without random numbers in what is bypassed, which the oracle still draws."""
    model, x = built(name)
    names = [block.name for block in blocks_of(name)]
    smaller = apply(bypass(blocks_of(name)), model).train()
    assert difference(silenced(model, names, MODELS[name][2]).train(), smaller, x) < 1e-12


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "swin", "timm vit"])
def test_bypassed_and_then_cut(name: str) -> None:
    """In one plan, in two, and in either order; the wide network is held against the oracle of widths."""
    model, x = built(name)
    first = bypass(blocks_of(name)[::2])
    half = apply(first, model)
    graph = DependencyGraph.of(half, x)
    second = PruningPlan.of(graph, by_ratio(graph, random_scores(graph), ratio=0.5))
    both = first.then(second)
    smaller, stepwise = apply(both, model), apply(second, half)
    assert difference(stepwise, smaller, x) == 0
    assert sum(p.numel() for p in smaller.parameters()) < 0.6 * sum(p.numel() for p in half.parameters())
    check_runs(smaller, x)
    if name in ("resnet18", "mobilenet_v2"):  # no normalisation across channels: zeros tell
        assert largest_error(half, smaller, second, x) < 1e-10
    assert cost(graph, both).parameters == sum(p.numel() for p in smaller.parameters())


@pytest.mark.parametrize("name", ["resnet18", "swin"])
def test_cut_and_then_bypassed(name: str) -> None:
    model, x = built(name)
    graph = DependencyGraph.of(model, x)
    first = PruningPlan.of(graph, by_ratio(graph, random_scores(graph), ratio=0.5))
    narrow = apply(first, model)
    second = bypass(residual_blocks(narrow, x))
    assert list(second.bypasses) == list(MODELS[name][1])
    both = first.then(second)
    assert not any(key.startswith(f"{path}.") for key in both.tensors for path in second.bypasses)
    assert difference(apply(second, narrow), apply(both, model), x) == 0


def random_scores(graph: DependencyGraph) -> Any:
    return torch.rand(graph.unit_count + 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64).numpy()


# -- what a bypassed network is ---------------------------------------------------------------------------------------


def test_the_original_is_as_it_was() -> None:
    model, x = built("resnet18")
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    modules = [id(module) for module in model.modules()]
    smaller = apply(bypass(residual_blocks(model, x)), model).train()
    smaller(x).sum().backward()
    with torch.no_grad():
        for parameter in smaller.parameters():
            parameter.zero_()
    assert [id(module) for module in model.modules()] == modules
    assert all(torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.training


@pytest.mark.parametrize("name", ["resnet18", "timm vit", "llama"])
def test_pickles_copies_exports_and_trains(name: str) -> None:
    model, x = built(name)
    smaller = apply(bypass(blocks_of(name)[1:]), model)
    file = io.BytesIO()
    torch.save(smaller, file)
    file.seek(0)
    for twin in (torch.load(file, weights_only=False), copy.deepcopy(smaller), pickle.loads(pickle.dumps(smaller))):
        assert difference(smaller, twin, x) == 0
    if name != "llama":  # whose outputs are no plain tensors
        with torch.no_grad():
            exported = torch.export.export(smaller, (x,)).module()
        assert difference(smaller, exported, x) < 1e-12
    sum(t.sum() for t in [outputs_with_gradients(smaller, x)]).backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in stream_parameters(smaller, name))


def outputs_with_gradients(model: nn.Module, x: Any) -> Tensor:
    out = model(x)
    tensor: Tensor = (out if isinstance(out, Tensor) else out.logits).square()
    return tensor


def stream_parameters(model: nn.Module, name: str) -> list[nn.Parameter]:
    """The first layer's: gradients reach them through all shortcuts."""
    first = {"resnet18": "conv1", "timm vit": "patch_embed.proj", "llama": "model.embed_tokens"}[name]
    return [model.get_submodule(first).weight]


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_compiles_and_scripts() -> None:
    model, x = built("zoo resnet56")
    smaller = apply(bypass(blocks_of("zoo resnet56")[2:]), model)
    scripted = torch.jit.script(smaller.get_submodule("stages.0.3"))
    assert torch.equal(scripted(x), x.relu())
    compiled = torch.compile(smaller, backend="eager", fullgraph=True)
    assert difference(smaller, compiled, x) < 1e-12


def test_other_arguments_are_ignored() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(6, 6)

        def forward(self, stream: Tensor, mask: Tensor | None = None, *, scale: float = 1.0) -> Tensor:
            y = self.linear(stream) * scale
            return stream + (y if mask is None else y * mask)

    calls: list[Callable[[Any, Tensor], Tensor]] = [
        lambda m, x: m.block(x),
        lambda m, x: m.block(x, torch.ones(6).to(x), scale=2.0),
        lambda m, x: m.block(mask=torch.ones(6).to(x), stream=x),
    ]
    for call in calls:
        model = Calls(lambda m, x, call=call: m.last(call(m, x)))
        model.block = Attends()
        randomise(model, 0)
        (block,) = residual_blocks(model, X)
        smaller = apply(bypass([block]), model)
        assert difference(silenced(model, ["block"], ["linear"]), smaller, X) < 1e-15


def test_hooks_around_a_block_stay_and_those_inside_go() -> None:
    model = randomise(Of(BLOCKS["relu"][0]), 0)
    seen: list[str] = []
    model.block.register_forward_pre_hook(lambda *_: seen.append("before"))
    model.block.register_forward_hook(lambda module, args, out: seen.append(type(module).__name__) or 2 * out)
    model.block.linear.register_forward_hook(lambda *_: seen.append("inside"))
    smaller = apply(bypass(residual_blocks(model, X)), model)
    seen.clear()
    outputs(smaller, X)
    assert seen == ["before", "Shortcut"]
    assert difference(silenced(model, ["block"], ["linear"]), smaller, X) < 1e-15


# -- the plan ----------------------------------------------------------------------------------------------------------


def test_json_round_trip(tmp_path: Any) -> None:
    plan = PruningPlan({"a.weight": TensorCut((4, 3), {0: (1, 2)})}, {}, {"layer1.0": "relu", "layer2": "identity"})
    assert PruningPlan.from_json(plan.to_json()) == plan
    plan.save(tmp_path / "plan.json")
    assert PruningPlan.load(tmp_path / "plan.json") == plan
    assert "1 tensors cut, 2 blocks bypassed" in str(plan)
    without = '{"format": 1, "tensors": {}, "attributes": {}}'  # as plans were written before there were bypasses
    assert PruningPlan.from_json(without) == PruningPlan({}, {})


@pytest.mark.parametrize(
    ("bypasses", "tensors", "message"),
    [
        ('{"a": "rellu"}', "{}", r"'a' has the unknown tail 'rellu'; known: identity, clone, relu"),
        ('{"a": "relu", "a.b": "relu"}', "{}", "it bypasses a.b, which lies in a, which it bypasses as well"),
        ('["a"]', "{}", "this is not a pruning plan"),
        ('{"a": 1}', "{}", "'a' has the unknown tail '1'"),
        ('{"a": "relu"}', '{"a.w": {"shape": [4], "keep": {"0": [1]}}}', "it cuts a.w, which lies in a"),
    ],
)
def test_bypasses_that_are_none(bypasses: str, tensors: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        PruningPlan.from_json(f'{{"format": 1, "tensors": {tensors}, "attributes": {{}}, "bypasses": {bypasses}}}')


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("layer9.0", "it bypasses 'layer9.0', which ResNet does not have"),
        ("", "it bypasses '', which ResNet does not have"),
        ("layer1.0.conv1.weight", "which ResNet does not have"),
        ("layer1.0.relu", "it bypasses layer1.0.relu, which has no parameters"),
    ],
)
def test_a_plan_for_another_network_is_refused(path: str, message: str) -> None:
    model, _ = built("resnet18")
    with pytest.raises(PlanError, match=message):
        apply(PruningPlan({}, {}, {path: "relu"}), model)


def test_twice_is_refused() -> None:
    model, _ = built("resnet18")
    plan = bypass(blocks_of("resnet18")[:1])
    with pytest.raises(PlanError, match=r"it bypasses layer1.0, which is bypassed already"):
        apply(plan, apply(plan, model))
    with pytest.raises(PlanError, match=r"layer1.0 is gone, layer1.0 is bypassed"):
        plan.then(plan)
    cuts_inside = PruningPlan({"layer1.0.conv1.weight": TensorCut((64, 64, 3, 3), {0: (1, 2)})}, {})
    with pytest.raises(PlanError, match=r"layer1.0.conv1.weight is gone, layer1.0 is bypassed"):
        plan.then(cuts_inside)


def test_costs_are_never_those_of_another_network() -> None:
    model, x = built("resnet18")
    plan = bypass(blocks_of("resnet18"))
    with pytest.raises(PlanError, match=r"the graph still has layer1.0.conv1.weight, and the plan bypasses layer1.0"):
        cost(DependencyGraph.of(model, x), plan)
    smaller = apply(plan, model)
    graph = DependencyGraph.of(smaller, x)
    assert cost(graph, plan) == cost(graph)
    assert cost(graph, plan).parameters == sum(p.numel() for p in smaller.parameters())
    assert plan.kept(graph).all()


# -- what belongs to a network ----------------------------------------------------------------------------------------


def both(name: str) -> PruningPlan:
    """Every second block bypassed, and half of the channels of what remains."""
    model, x = built(name)
    first = bypass(blocks_of(name)[::2])
    graph = DependencyGraph.of(apply(first, model), x)
    return first.then(PruningPlan.of(graph, by_ratio(graph, random_scores(graph), ratio=0.5)))


def test_a_checkpoint_is_cut_along() -> None:
    model, x = built("resnet18")
    plan = both("resnet18")
    other = randomise(torchvision.models.resnet18(), 7)
    smaller = apply(plan, model)
    smaller.load_state_dict(cut_state_dict(plan, other.state_dict()))  # strictly: no key more, none less
    assert difference(apply(plan, other), smaller, x) == 0
    lacking = {key: value for key, value in other.state_dict().items() if not key.startswith("layer1.0.")}
    with pytest.raises(PlanError, match=r"it bypasses layer1.0, which is not there"):
        cut_state_dict(plan, lacking)


@pytest.mark.parametrize("with_names", [False, True])
def test_an_optimizer_is_carried_along(with_names: bool) -> None:
    """The block in the middle has a group of its own, which is left empty."""
    model, x = built("resnet18")
    model = copy.deepcopy(model).train()
    plan = both("resnet18")
    pairs = list(model.named_parameters())
    own = [pair for pair in pairs if pair[0].startswith("layer2.1.")]
    rest = [pair for pair in pairs if not pair[0].startswith("layer2.1.")]
    groups = [{"params": rest[:20]}, {"params": own, "lr": 0.3}, {"params": rest[20:], "lr": 0.2}]
    if not with_names:
        groups = [{**group, "params": [p for _, p in group["params"]]} for group in groups]  # type: ignore[attr-defined]
    optimizer = torch.optim.Adam(groups, lr=0.1)
    model(x).square().sum().backward()
    optimizer.step()
    assert "layer2.1" in plan.bypasses
    smaller = apply(plan, model)
    carried = carry_optimizer(plan, optimizer, model, smaller)
    assert [group["lr"] for group in carried.param_groups] == [0.1, 0.3, 0.2]
    held = [p for group in carried.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in smaller.parameters()}
    assert carried.param_groups[1]["params"] == []
    full = dict(model.named_parameters())
    for key, parameter in smaller.named_parameters():
        expected = optimizer.state[full[key]]["exp_avg"]
        for dim, kept in plan.tensors[key].keep.items() if key in plan.tensors else ():
            expected = expected.index_select(dim, torch.tensor(kept))
        assert torch.equal(carried.state[parameter]["exp_avg"], expected)
        if with_names:
            names = [name for group in carried.param_groups for name in group["param_names"]]
            assert names[[id(p) for p in held].index(id(parameter))] == key
    before = smaller.conv1.weight.clone()
    smaller(x).square().sum().backward()
    carried.step()
    assert not torch.equal(before, smaller.conv1.weight)


def test_fresh_proxies() -> None:
    plan = both("resnet18")
    proxy = fresh_proxy(torchvision.models.resnet18, plan)
    assert isinstance(proxy.get_submodule("layer1.0"), Shortcut)
    shapes = {key: p.shape for key, p in apply(plan, built("resnet18")[0]).named_parameters()}
    assert {key: p.shape for key, p in proxy.named_parameters()} == shapes
    check_runs(proxy, torch.randn(2, 3, 32, 32))

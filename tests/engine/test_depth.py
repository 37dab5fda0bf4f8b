"""A bypassed block is its shortcut: the network is the original with zeros for what its branches add.

The oracle sets the last layers of the branches, which are written down here by hand, to zero. Everything is in float64
with random weights and statistics.
"""

from __future__ import annotations

import copy
import functools
import io
import pickle
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest
import torch
import torchvision
from oracle import largest_error, outputs, randomise
from torch import Tensor, nn
from torch.nn import functional

from prunetune.engine import (
    Block,
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
from prunetune.zoo import models as zoo

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of their own making
    import timm
    import transformers

Names = Sequence[str]


def swin() -> nn.Module:
    return torchvision.models.SwinTransformer(
        [2, 2], 16, [2, 2], [2, 4], [4, 4], stochastic_depth_prob=0.2, num_classes=5
    )


def vit() -> nn.Module:
    return torchvision.models.VisionTransformer(32, 8, 3, 4, 64, 96, num_classes=10)


def convnext() -> nn.Module:
    setting = torchvision.models.convnext.CNBlockConfig
    return torchvision.models.ConvNeXt([setting(16, 32, 2), setting(32, None, 2)], 0.3, num_classes=5)


def llama() -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=64,
    )
    return transformers.LlamaForCausalLM(config)


def named(pattern: str, *numbers: Iterable[int]) -> list[str]:
    """
    >>> named("layer{}.{}", (0, 2), (1,))
    ['layer1.0', 'layer1.2', 'layer2.1']
    """
    return [pattern.format(i, j) for i, js in enumerate(numbers, start=1) for j in js]


def timm_model(name: str, **options: Any) -> Callable[[], nn.Module]:
    return functools.partial(timm.create_model, name, num_classes=5, **options)


# How it is built, its blocks, the layers of a block that make what it adds, and the size of its images.
MODELS: dict[str, tuple[Callable[[], nn.Module], Names, Names, int]] = {
    "resnet18": (torchvision.models.resnet18, named("layer{}.{}", (0, 1), (1,), (1,), (1,)), ["bn2"], 32),
    "resnet50": (
        torchvision.models.resnet50,
        named("layer{}.{}", (1, 2), (1, 2, 3), (1, 2, 3, 4, 5), (1, 2)),
        ["bn3"],
        32,
    ),
    "zoo resnet56": (
        zoo["resnet56"],
        [f"stages.0.{i}" for i in range(9)] + [f"stages.{s}.{i}" for s in (1, 2) for i in range(1, 9)],
        ["bn2"],
        16,
    ),
    "mobilenet_v2": (
        torchvision.models.mobilenet_v2,
        [f"features.{i}" for i in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)],
        ["conv.3"],
        32,
    ),
    "convnext": (convnext, [f"features.{s}.{i}" for s in (1, 3) for i in (0, 1)], ["block.5"], 32),
    "vit": (
        vit,
        [f"encoder.layers.encoder_layer_{i}" for i in range(3)],
        ["self_attention.out_proj", "mlp.3"],
        32,
    ),
    "swin": (swin, [f"features.{s}.{i}" for s in (1, 3) for i in (0, 1)], ["attn.proj", "mlp.3"], 16),
    "timm vit": (
        timm_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2, init_values=0.1, drop_path_rate=0.2),
        ["blocks.0", "blocks.1"],
        ["attn.proj", "mlp.fc2"],
        32,
    ),
    "timm resnetv2": (
        timm_model("resnetv2_50", layers=(2, 2), channels=(16, 32), stem_chs=8),
        ["stages.0.blocks.1", "stages.1.blocks.1"],
        ["conv3"],
        32,
    ),
    "timm swin": (
        timm_model(
            "swin_tiny_patch4_window7_224", img_size=32, window_size=4, embed_dim=16, depths=(2, 2), num_heads=(2, 4)
        ),
        [f"layers.{s}.blocks.{i}" for s in (0, 1) for i in (0, 1)],
        ["attn.proj", "mlp.fc2"],
        32,
    ),
    "llama": (llama, [f"model.layers.{i}" for i in range(3)], ["self_attn.o_proj", "mlp.down_proj"], 0),
}


@functools.cache
def built(name: str) -> tuple[nn.Module, Any]:
    """The model in float64 with random weights, and its input; not to be changed."""
    build, _, _, size = MODELS[name]
    torch.manual_seed(0)
    model = randomise(build(), 0)
    return model, torch.randn(2, 3, size, size, dtype=torch.float64) if size else torch.randint(0, 50, (2, 8))


@functools.cache
def blocks_of(name: str) -> tuple[Block, ...]:
    model, x = built(name)
    return residual_blocks(model, x)


def silenced(model: nn.Module, blocks: Iterable[str], layers: Names) -> nn.Module:
    """The original with zeros for what the branches of these blocks add."""
    original = copy.deepcopy(model)
    with torch.no_grad():
        for block in blocks:
            for layer in layers:
                for parameter in original.get_submodule(f"{block}.{layer}").parameters():
                    parameter.zero_()
    return original


def difference(one: nn.Module, other: nn.Module, x: Any) -> float:
    """The largest, relative to the largest number, which is not zero; both models draw the same random numbers."""
    torch.manual_seed(1)
    expected = outputs(one, x)[0]
    torch.manual_seed(1)
    actual = outputs(other, x)[0]
    assert expected.shape == actual.shape
    assert float(expected.abs().max()) > 0
    return float((expected - actual).abs().max() / expected.abs().max())


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


# -- small networks: what is a block, and what is none ----------------------------------------------------------------


class Of(nn.Module):
    """A network around one module with a weight of its own, which is called by a function."""

    def __init__(self, function: Callable[..., Any], *modules: nn.Module) -> None:
        super().__init__()
        self.first, self.block, self.last = nn.Linear(4, 6), Inner(function, *modules), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Any:
        return self.last(self.block(self.first(x)))


class Inner(nn.Module):
    def __init__(self, function: Callable[..., Any], *modules: nn.Module) -> None:
        super().__init__()
        self.linear, self.function = nn.Linear(6, 6), function
        self.more = nn.ModuleList(modules)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


X = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def added_in_place(m: Any, x: Tensor) -> Tensor:
    y = m.linear(x)
    y += x
    return y


def added_to_the_input(m: Any, x: Tensor) -> Tensor:
    x += m.linear(x)
    return x


def twice(m: Any, x: Tensor) -> Tensor:
    x = torch.add(m.linear(x), x)
    return m.linear(x).relu() * 0.5 + x


def there_and_back(m: Any, x: Tensor) -> Tensor:
    y = x.t()
    return (m.linear(y.t()).t() + y).transpose(0, 1)


BLOCKS: dict[str, tuple[Callable[..., Any], str]] = {
    "x + f": (lambda m, x: x + m.linear(x), "identity"),
    "f += x": (added_in_place, "identity"),
    "x += f": (added_to_the_input, "identity"),
    "torch.add": (lambda m, x: torch.add(m.linear(x), x, alpha=1), "identity"),
    "twice": (twice, "identity"),
    "sum": (lambda m, x: sum([m.linear(x), x]), "identity"),
    "scaled": (lambda m, x: x + 0.1 * m.linear(x), "identity"),
    "dropout that drops nothing": (lambda m, x: functional.dropout(x, 0.0) + m.linear(x), "identity"),
    "a conversion to the same type": (lambda m, x: x.to(x.dtype) + m.linear(x), "identity"),
    "reshaped": (lambda m, x: (x.flatten() + m.linear(x).flatten()).view(x.shape), "identity"),
    "transposed": (there_and_back, "identity"),
    "relu": (lambda m, x: (x + m.linear(x)).relu_(), "relu"),
    "relu twice": (lambda m, x: functional.relu(m.linear(x) + torch.relu(x + m.linear(x))), "relu"),
    "relu6": (lambda m, x: nn.ReLU6()(x + m.linear(x)), "relu6"),
    "tanh": (lambda m, x: torch.tanh(x + m.linear(x)), "tanh"),
    "gelu": (lambda m, x: functional.gelu(x + m.linear(x)), "gelu"),
    "silu": (lambda m, x: functional.silu(x + m.linear(x), inplace=True), "silu"),
    "leaky_relu": (lambda m, x: functional.leaky_relu(x + m.linear(x)), "leaky_relu"),
    "elu": (lambda m, x: nn.ELU()(x + m.linear(x)), "elu"),
    "mish": (lambda m, x: nn.Mish()(x + m.linear(x)), "mish"),
    "hardswish": (lambda m, x: nn.Hardswish()(x + m.linear(x)), "hardswish"),
    "sigmoid": (lambda m, x: (x + m.linear(x)).sigmoid(), "sigmoid"),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_ways_to_write_a_residual_block(name: str) -> None:
    function, tail = BLOCKS[name]
    model = randomise(Of(function), 0)
    (block,) = residual_blocks(model, X)
    assert (block.name, block.tail, block.shape) == ("block", tail, (5, 6))
    assert block.parameters == ("block.linear.weight", "block.linear.bias")
    smaller = apply(bypass([block]), model)
    assert difference(silenced(model, ["block"], ["linear"]), smaller, X) < 1e-15
    assert difference(model, smaller, X) > 1e-3


def input_changed_first(m: Any, x: Tensor) -> Tensor:
    x = functional.relu(x, inplace=True)
    return x + m.linear(x)


def input_changed_between(m: Any, x: Tensor) -> Tensor:
    y = m.linear(x)
    x[:, 0] = 0.0
    return x + y


def view_changed_between(m: Any, x: Tensor) -> Tensor:
    y = m.linear(x)
    x.view(-1).mul_(2.0)
    return x + y


def input_changed_behind(m: Any, x: Tensor) -> Tensor:
    y = x + m.linear(x)
    x.mul_(2.0)
    return y


def changed_and_back(m: Any, x: Tensor) -> Tensor:
    m.kept = m.linear(x)
    return x + m.kept


NONE: dict[str, Callable[..., Any]] = {
    "no sum": lambda m, x: m.linear(x),
    "a difference": lambda m, x: x - m.linear(x),
    "a product": lambda m, x: x * m.linear(x),
    "a concatenation": lambda m, x: torch.cat([x[:, :3], m.linear(x)[:, 3:]], 1),
    "x twice": lambda m, x: x + (x + m.linear(x)),
    "x doubled": lambda m, x: x + x,
    "a part of x": lambda m, x: x[:, :1] + m.linear(x),
    "alpha": lambda m, x: torch.add(m.linear(x), x, alpha=2),
    "a constant": lambda m, x: x + m.linear.bias,
    "a number besides": lambda m, x: x + 1.0 + m.linear(x),
    "scaled": lambda m, x: 2 * x + m.linear(x),
    "activation in front": lambda m, x: x.relu() + m.linear(x),
    "two activations": lambda m, x: torch.tanh(m.linear(x) + torch.relu(x + m.linear(x))),
    "tanh twice": lambda m, x: torch.tanh(m.linear(x) + torch.tanh(x + m.linear(x))),
    "activation with an argument": lambda m, x: functional.leaky_relu(x + m.linear(x), 0.3),
    "activation that is not known": lambda m, x: functional.softplus(x + m.linear(x)),
    "softmax": lambda m, x: (x + m.linear(x)).softmax(1),
    "norm behind": lambda m, x: functional.layer_norm(x + m.linear(x), (6,)),
    "dropout behind": lambda m, x: functional.dropout(x + m.linear(x), 0.5, m.training),
    "flipped": lambda m, x: (x + m.linear(x)).flip(1),
    "in evaluation only": lambda m, x: m.linear(x) if m.training else x + m.linear(x),
    "other tails in training": lambda m, x: (x + m.linear(x)).relu() if m.training else x + m.linear(x),
    "input changed first": input_changed_first,
    "input changed between": input_changed_between,
    "view of the input changed": view_changed_between,
    "input changed behind": input_changed_behind,
    "a tuple": lambda m, x: (x + m.linear(x),),
}


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_residual_block(name: str) -> None:
    model = Of(NONE[name])
    if name == "a tuple":
        model.last = nn.Identity()
    assert residual_blocks(model.double(), X) == ()


def test_a_transposition_that_stays_is_none() -> None:
    """The shape is the same, the places are not."""

    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = Inner(lambda m, x: (x + m.linear(x)).t())

        def forward(self, x: Tensor) -> Tensor:
            return self.block(x)

    assert residual_blocks(Square(), torch.randn(6, 6)) == ()


class Calls(nn.Module):
    """A block in a network whose code is given."""

    def __init__(self, forward: Callable[..., Any], function: Callable[..., Any] = BLOCKS["x + f"][0]) -> None:
        super().__init__()
        self.first, self.block, self.last = nn.Linear(4, 6), Inner(function), nn.Linear(6, 3)
        self.code = forward

    def forward(self, x: Tensor) -> Any:
        return self.code(self, self.first(x))


@pytest.mark.parametrize(
    "code",
    {
        "called twice": lambda m, x: m.last(m.block(m.block(x))),
        "never called": lambda m, x: m.last(x) + m.block.linear.bias[:3],
        "its weight is used outside": lambda m, x: m.last(m.block(x) @ m.block.linear.weight),
        "its inside is read": lambda m, x: m.last(m.block(x) + m.block.kept),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_a_block_that_is_more_to_its_network_is_none(code: tuple[str, Callable[..., Any]]) -> None:
    assert residual_blocks(Calls(code[1], changed_and_back), X.float()) == ()
    plain = Calls(lambda m, x: m.last(m.block(x)), changed_and_back)
    assert [block.name for block in residual_blocks(plain, X.float())] == ["block"]


def test_a_block_that_hands_out_more_than_its_output_is_none() -> None:
    handed_out: list[Tensor] = []

    def hands_out(m: Any, x: Tensor) -> Tensor:
        handed_out.append(m.linear(x))
        return x + handed_out[-1]

    def takes(m: Any, x: Tensor) -> Tensor:
        out = sum(handed_out, m.block(x))
        handed_out.clear()
        return m.last(out)

    assert residual_blocks(Calls(takes, hands_out), X.float()) == ()
    assert len(residual_blocks(Calls(lambda m, x: m.last(m.block(x)), hands_out), X.float())) == 1


def test_a_block_that_writes_into_other_memory_is_none() -> None:
    def writes(m: Any, x: Tensor) -> Tensor:
        y = m.linear(x)
        memory[-1][:1].add_(y[:1])
        return x + y

    memory: list[Tensor] = []

    def code(m: Any, x: Tensor) -> Tensor:
        memory.append(torch.zeros_like(x))
        return m.last(m.block(x) + memory[-1])

    assert residual_blocks(Calls(code, writes), X.float()) == ()
    assert len(residual_blocks(Calls(code, lambda m, x: x + m.linear(x) + memory[-1][:1]), X.float())) == 1


def test_shared_weights_are_none() -> None:
    model = Calls(lambda m, x: m.last(m.more(m.block(x)).relu()))
    model.more = nn.Linear(6, 6)
    assert [block.name for block in residual_blocks(model, X.float())] == ["block"]
    model.more.weight = model.block.linear.weight
    assert residual_blocks(model, X.float()) == ()


def test_down_sampling_and_dense_connections_are_none() -> None:
    names = {block.name for block in blocks_of("resnet18")}
    assert names.isdisjoint({"layer2.0", "layer3.0", "layer4.0"})
    dense = torchvision.models.DenseNet(8, (2, 2), 16, num_classes=5)
    assert residual_blocks(dense, torch.randn(2, 3, 32, 32)) == ()


def written_later(m: Any, x: Tensor) -> Tensor:
    y = m.block(x)
    y.mul_(3.0)
    return m.last(x + y)


def written_before_it_is_used(m: Any, x: Tensor) -> Tensor:
    y = m.block(x)
    x.mul_(3.0)
    return m.last(x + y)


@pytest.mark.parametrize("code", [written_later, written_before_it_is_used])
def test_nobody_sees_that_output_and_input_are_one(code: Callable[..., Any]) -> None:
    model = randomise(Calls(code), 0)
    (block,) = residual_blocks(model, X)
    assert block.tail == "clone"
    oracle = silenced(model, ["block"], ["linear"])
    assert difference(oracle, apply(bypass([block]), model), X) < 1e-15
    aliased = PruningPlan({}, {}, {"block": "identity"})
    assert difference(oracle, apply(aliased, model), X) > 1e-3


@pytest.mark.parametrize("code", [written_later, written_before_it_is_used])
def test_output_and_input_stay_one_where_they_were(code: Callable[..., Any]) -> None:
    model = randomise(Calls(code, added_to_the_input), 0)
    (block,) = residual_blocks(model, X)
    assert block.tail == "identity"
    oracle = silenced(model, ["block"], ["linear"])
    assert difference(oracle, apply(bypass([block]), model), X) < 1e-15
    copied = PruningPlan({}, {}, {"block": "clone"})
    assert difference(oracle, apply(copied, model), X) > 1e-3


def test_nested_blocks_go_with_the_outer_one() -> None:
    def branch(m: Any, x: Tensor) -> Tensor:
        return x + 0.5 * m.more[1](m.more[0](m.linear(x)))

    model = randomise(Of(branch, Inner(BLOCKS["relu"][0]), Inner(BLOCKS["x + f"][0])), 0)
    blocks = residual_blocks(nn.Sequential(model), X)
    assert [(block.name, block.inside, block.tail) for block in blocks] == [
        ("0.block", None, "identity"),
        ("0.block.more.0", "0.block", "relu"),
        ("0.block.more.1", "0.block", "identity"),
    ]
    assert bypass(blocks).bypasses == {"0.block": "identity"}
    assert bypass(blocks[1:]).bypasses == {"0.block.more.0": "relu", "0.block.more.1": "identity"}
    inner, outer = bypass(blocks[1:]), bypass(blocks[:1])
    oracle = silenced(nn.Sequential(model), ["0.block.more.0", "0.block.more.1"], ["linear"])
    assert difference(oracle, apply(inner, nn.Sequential(model)), X) < 1e-15
    assert inner.then(outer) == outer
    with pytest.raises(PlanError, match=r"0.block.more.0 is gone, 0.block is bypassed"):
        outer.then(inner)


def test_a_model_that_reads_its_blocks() -> None:
    """Numbers stay to be read; a block whose submodules are read is not listed."""

    def code(m: Any, x: Tensor) -> Tensor:
        return m.last(m.block(x) * m.block.factor)

    model = randomise(Calls(code), 0)
    model.block.factor = 3
    assert (
        difference(silenced(model, ["block"], ["linear"]), apply(bypass(residual_blocks(model, X)), model), X) < 1e-15
    )
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(8, 2, 16, norm_first=True, batch_first=True), 3, enable_nested_tensor=False
    )  # reads self.layers[0].self_attn
    blocks = residual_blocks(encoder, torch.randn(2, 5, 8))
    assert [block.name for block in blocks] == ["layers.1", "layers.2"]


def test_models_that_ask_for_values() -> None:
    def code(m: Any, x: Tensor) -> Tensor:
        return m.last(m.block(x) if x.sum() < 1e9 else x)

    assert [block.name for block in residual_blocks(Calls(code), X.float())] == ["block"]


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
    assert "layer2" in str(plan)
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

"""What is a residual block, and what is none, in small networks; a block that is bypassed adds zeros."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision
from depth_models import blocks_of, difference, silenced
from torch import Tensor, nn
from torch.nn import functional

from prunetune.engine import (
    PruningPlan,
    apply,
    bypass,
    residual_blocks,
)
from prunetune.errors import PlanError
from prunetune.testing.oracle import randomise


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

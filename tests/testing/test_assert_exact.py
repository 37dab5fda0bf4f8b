"""What authors of rules prove them with: right rules pass, wrong ones do not, and a proof of nothing is none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunetune.engine import RuleContext, rule
from prunetune.engine.rules import rules
from prunetune.errors import InputError
from prunetune.testing import Mismatch, WrongCutError, assert_exact, fuzz, means
from prunetune.testing.fuzzer import OPERATIONS, function, layer
from prunetune.testing.presence.tensors import MEANINGS

INPUTS = torch.randn(4, 5)


@pytest.fixture(autouse=True)
def _tables_as_before() -> Iterator[None]:
    tables: tuple[dict[Any, Any], ...] = (rules, MEANINGS, OPERATIONS)
    before = [dict(table) for table in tables]
    yield
    for table, kept in zip(tables, before, strict=True):
        table.clear()
        table.update(kept)


class Opaque(torch.autograd.Function):
    """Looks at the numbers alone, as a kernel does: it takes off whatever is around them."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return torch.from_numpy(x.detach().numpy() @ weight.detach().numpy())

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, _output: Any) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return gradient @ weight.T, x.flatten(0, -2).T @ gradient.flatten(0, -2)


class Kernel(nn.Module):
    """x (..., I) times the weight (I, O)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return Opaque.apply(x, self.weight)


def right(ctx: RuleContext, x: Any) -> Any:
    weight = ctx.parameter("weight")
    ctx.bind(weight, 0, ctx.vec(x, -1))
    return ctx.result([*ctx.vecs(x)[:-1], ctx.produce(weight, 1)])


def backwards(ctx: RuleContext, x: Any) -> Any:
    """The rows of the weight in the opposite order: the shapes fit."""
    weight = ctx.parameter("weight")
    ctx.bind(weight, 0, ctx.vec(x, -1)[::-1])
    return ctx.result([*ctx.vecs(x)[:-1], ctx.produce(weight, 1)])


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), Kernel(8, 6), nn.ReLU(), nn.Linear(6, 3))


def reference(module: Any, x: Tensor) -> Tensor:
    return x @ module.weight


def kernel(x: Any, out: int) -> nn.Module:
    return Kernel(x.channels, out)


def register(own: Any) -> None:
    rule(Kernel)(own)
    means(Kernel)(reference)
    layer(("vector", "sequence"), lambda dice, x: {"out": dice.width(x.layout)})(kernel)


def test_a_right_rule_passes_and_the_model_is_left_alone() -> None:
    register(right)
    model = net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = assert_exact(model, INPUTS, cuts=4)
    assert (found.networks, found.units) == (4, 4 * 14)  # 8 and 6 channels can go
    assert found.cut > 0
    assert set(found.frozen) == {"output: it is the model's output"}
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert assert_exact(model, {"input": INPUTS}, cuts=2, dtype=torch.float32, tolerance=1e-4).networks == 2


def test_a_wrong_rule_does_not_and_the_note_says_which_cut() -> None:
    register(backwards)
    with pytest.raises(Mismatch, match="matmul") as caught:
        assert_exact(net(), INPUTS, cuts=10)
    (note,) = caught.value.__notes__
    seed = int(note.removeprefix("Found with seed=").partition(",")[0])
    with pytest.raises(Mismatch):
        assert_exact(net(), INPUTS, cuts=1, seed=seed)


def test_random_networks_see_a_wrong_rule_too() -> None:
    register(backwards)
    with pytest.raises(Mismatch, match="matmul") as caught:
        fuzz("kernel", networks=30)
    assert "= kernel(x" in caught.value.__notes__[0]


def test_a_function_and_a_custom_operator() -> None:
    library = torch.library.Library("prunetune_proofs", "DEF")
    library.define("negated(Tensor x) -> Tensor")
    library.impl("negated", lambda x: -x, "CompositeImplicitAutograd")

    @function(("vector", "sequence"), lambda dice, x: {})
    def negated(x: Tensor) -> Tensor:
        return torch.ops.prunetune_proofs.negated(x)

    @means("prunetune_proofs::negated")
    def meaning(called: Any, x: Tensor) -> Tensor:
        return -x

    with pytest.raises(AssertionError, match="negated: no rule for"):
        fuzz("negated", networks=20)
    rule("prunetune_proofs::negated")(lambda ctx, x: ctx.result(ctx.vecs(x)))
    assert fuzz("negated", networks=20).operations["negated"] > 5


def test_values_that_are_wrong() -> None:
    """A meaning that is another operation than the kernel: what is computed is not what should be."""
    rule(Kernel)(right)
    means(Kernel)(lambda module, x: x @ module.weight * 2)
    with pytest.raises(WrongCutError, match="an output is wrong by"):
        assert_exact(net(), INPUTS, cuts=3)


def test_what_the_oracle_does_not_know_is_named() -> None:
    class Erf(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(x)

    rule(torch.special.bessel_j0)(lambda ctx, x: ctx.result(ctx.vecs(x)))
    with pytest.raises(NotImplementedError, match=r"no meaning for special_bessel_j0; prunetune\.testing\.means"):
        assert_exact(nn.Sequential(nn.Linear(5, 8), Erf(), nn.Linear(8, 2)), INPUTS)


def test_a_proof_of_nothing_is_none() -> None:
    with pytest.raises(InputError, match="nothing was cut, so nothing is proved: output: it is the model's output"):
        assert_exact(nn.Sequential(nn.Linear(5, 2)), INPUTS)
    with pytest.raises(InputError, match="does not run in both modes"):
        assert_exact(nn.Sequential(nn.Linear(5, 2), nn.BatchNorm1d(2)), INPUTS[:1])
    with pytest.raises(InputError, match=r"unknown operation 'kernl'"):
        fuzz("kernl")
    layer(("volume",), lambda dice, x: None)(kernel)
    with pytest.raises(InputError, match="no network of 3 has kernel"):
        fuzz("kernel", networks=3)


def test_a_second_meaning_and_a_second_operation_are_errors() -> None:
    register(right)
    with pytest.raises(InputError, match="has a meaning already"):
        means(Kernel)(right)
    with pytest.raises(InputError, match="there is an operation 'kernel' already"):
        layer(("vector",), lambda dice, x: {})(kernel)
    with pytest.raises(InputError, match="torch has no function no_such_function"):
        means("no_such_function")(right)


def test_the_example_of_the_documentation() -> None:
    file = Path(__file__).parents[2] / "examples" / "test_own_operation.py"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", file.name],
        cwd=file.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_who_proves_a_rule_needs_neither_pytest_nor_a_search() -> None:
    code = (
        "import sys; sys.modules['pytest'] = None; from prunetune.testing import assert_exact, fuzz, means; "
        "print({'optuna', 'torchvision', 'hypothesis', 'sklearn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

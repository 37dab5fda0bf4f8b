"""Code that nobody can look into: what it reads stays, by name, and all else is cut; or a sentence says what to do."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from prunetune import prune
from prunetune.engine.tracing.copies import meta_copy
from prunetune.errors import InputError, TraceError
from prunetune.testing.oracle import largest_error, randomise

X = torch.randn(3, 4, dtype=torch.float64)


class Net(nn.Module):
    """Four layers, with something in the middle."""

    def __init__(self, middle: Callable[[Net, Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.c, self.d = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 6), nn.Linear(6, 2)
        self.middle = middle

    def forward(self, x: Tensor) -> Tensor:
        return self.d(self.c(self.middle(self, self.a(x))).relu())


def gradient(net: Net, h: Tensor) -> Tensor:
    with torch.enable_grad():
        h = h.detach().requires_grad_()
        (g,) = torch.autograd.grad(net.b(h).square().sum(), h, create_graph=True)
    return h + g


MIDDLES: dict[str, Callable[[Net, Tensor], Tensor]] = {
    "vmap": lambda net, h: torch.vmap(lambda v: net.b(v))(h),
    "vmap without weights": lambda net, h: net.b(torch.vmap(torch.sin)(h)),
    "jvp": lambda net, h: torch.func.jvp(lambda v: net.b(v).tanh(), (h,), (torch.ones_like(h),))[1],
    "grad of a function": lambda net, h: h + torch.func.grad(lambda v: net.b(v).square().sum())(h),
    "autograd.grad": gradient,
}


@pytest.mark.parametrize("name", MIDDLES)
def test_transforms_of_functions(name: str) -> None:
    """What comes before stays whole; the last but one layer is cut, and exactly."""
    model = randomise(Net(MIDDLES[name]), 0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own first use of these calls what it has given up
        model(X)
    result = prune(model, X, scorer="magnitude", ratio=0.5)
    assert result.model.a.out_features == 8 and result.model.c.out_features == 3
    assert any("hidden from tracing" in f.reason for f in result.frozen)
    assert largest_error(model, result.model, result.plan, X) < 1e-12


@pytest.mark.parametrize("how", ["script", "trace"])
def test_a_scripted_part_is_frozen_by_its_name(how: str) -> None:
    part = nn.Sequential(nn.Linear(8, 8), nn.ReLU()).double()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch gives TorchScript up
        closed = torch.jit.script(part) if how == "script" else torch.jit.trace(part, torch.randn(3, 8).double())
    model = Net(lambda net, h: net.part(h)).double()
    model.part = closed
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    result = prune(model, X, scorer="magnitude", ratio=0.5)
    assert result.model.a.out_features == 8 and result.model.c.out_features == 3
    assert ("part in part", "it is TorchScript, whose code is closed") in [(f.node, f.reason) for f in result.frozen]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    gone = sorted(set(range(6)) - set(result.plan.tensors["d.weight"].keep[1]))
    with torch.no_grad():
        model.d.weight[:, gone] = 0
        assert torch.allclose(result.model.eval()(X), model.eval()(X), atol=1e-12)


def test_what_is_exported_is_refused_in_a_sentence() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    program = torch.export.export(model, (torch.randn(3, 4),))
    with pytest.raises(InputError, match=r"exported \(GraphModule of torch.export\).*give the nn.Module"):
        prune(program.module(), torch.randn(3, 4), scorer="magnitude", ratio=0.5)
    with pytest.raises(InputError, match="got ExportedProgram: give the module that was exported"):
        prune(program, torch.randn(3, 4), scorer="magnitude", ratio=0.5)  # type: ignore[arg-type]


class Detects(nn.Module):
    """Takes its images as a list, as torchvision's detection models do."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, images: list[Tensor], targets: list[Tensor] | None = None) -> Tensor:
        return self.b(self.a(torch.stack([image.flip(2) for image in images])).relu())


def test_a_list_of_images_is_one_argument_in_a_tuple() -> None:
    images = [torch.rand(3, 4, 4), torch.rand(3, 4, 4)]
    assert prune(Detects(), (images,), scorer="magnitude", ratio=0.5).model.a.out_channels == 4
    with pytest.raises(TraceError, match=r"a list is taken as 2 arguments: .* write \(\[…\],\)"):
        prune(Detects(), images, scorer="magnitude", ratio=0.5)


@pytest.mark.parametrize("scorer", ["magnitude", "synflow"])
def test_a_kernel_that_refuses(scorer: str) -> None:
    """`_grouped_mm`, which mixtures of experts call, knows no shapes without values but of bfloat16, and no float64."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.MixtralConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
    )
    model, inputs = transformers.MixtralForCausalLM(config).eval(), {"input_ids": torch.randint(0, 64, (1, 5))}
    with torch.no_grad():
        before = model(**inputs).logits
        result = prune(model, inputs, scorer=scorer, ratio=0.5)
        assert result.model(**inputs).logits.shape == before.shape
        assert torch.equal(model(**inputs).logits, before)
    assert sum(p.numel() for p in result.model.parameters()) < 0.97 * sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("how", ["script", "trace"])
def test_a_copy_of_torchscript_has_no_values_either(how: str) -> None:
    """torch copies it in C++, without the memo: its weights stayed on the CPU, and a run on meta might fail."""
    part = nn.Sequential(nn.Linear(8, 8), nn.ReLU())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch gives TorchScript up
        closed = torch.jit.script(part) if how == "script" else torch.jit.trace(part, torch.randn(3, 8))
    twin = meta_copy(nn.Sequential(nn.Linear(4, 8), closed))
    assert {tensor.device.type for tensor in twin.state_dict().values()} == {"meta"}
    assert {tensor.device.type for tensor in closed.state_dict().values()} == {"cpu"}
    assert twin(torch.zeros(3, 4, device="meta")).shape == (3, 8)

"""What a cut network is still good for, and what of the user's model a cut leaves as it was: everything."""

from __future__ import annotations

import copy
import functools
import gc
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from prunetune import prune
from prunetune.engine import DependencyGraph, PruningPlan, apply, by_ratio
from prunetune.errors import InputError, PlanError, TraceError
from prunetune.plugins.base import ChannelScores, Context, Scorer
from prunetune.pruning import cut as pruning
from prunetune.pruning import fit as shrinking

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own making
    import timm


def vit() -> nn.Module:
    model = torchvision.models.VisionTransformer(32, 8, 2, 4, 64, 96, num_classes=10)
    nn.init.normal_(model.heads.head.weight)  # which are zero, and so would be all outputs
    return model


MODELS: dict[str, tuple[Callable[[], nn.Module], int]] = {  # and the size of its images
    "resnet18": (torchvision.models.resnet18, 32),
    "mobilenet_v3_small": (torchvision.models.mobilenet_v3_small, 32),
    "vit": (vit, 32),
    "convnext_atto": (functools.partial(timm.create_model, "convnext_atto", num_classes=10), 64),
}
TO_COMPILE = ("resnet18", "vit")
"""Compilers take seconds a network, whatever it is."""
TO_EXPORT = ("mobilenet_v3_small", "vit")


def built(name: str) -> tuple[nn.Module, Tensor]:
    build, size = MODELS[name]
    torch.manual_seed(0)
    return build().eval(), torch.randn(2, 3, size, size)


@functools.cache
def analysed(name: str) -> PruningPlan:
    graph = DependencyGraph.of(*built(name))
    return PruningPlan.of(graph, by_ratio(graph, np.random.default_rng(0).random(graph.unit_count + 1), ratio=0.5))


def cut(name: str) -> tuple[nn.Module, Tensor]:
    """The network at half width, and its input."""
    model, x = built(name)
    smaller = apply(analysed(name), model)
    assert sum(p.numel() for p in smaller.parameters()) < 0.5 * sum(p.numel() for p in model.parameters())
    return smaller, x


@torch.no_grad()
def same(one: Tensor, other: Tensor, tolerance: float = 0.0) -> bool:
    """Whether two outputs agree, relative to the largest number in them, which is not zero."""
    scale = float(other.abs().max())
    return one.shape == other.shape and 0 < scale < np.inf and float((one - other).abs().max()) <= tolerance * scale


# -- what a cut network is good for ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_saves_loads_and_copies(name: str) -> None:
    model, x = cut(name)
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)
    for twin in (loaded, copy.deepcopy(model), copy.deepcopy(loaded)):
        assert type(twin) is type(model)
        assert same(twin(x), model(x))
        storages = {t.data_ptr() for t in twin.state_dict().values()}
        assert storages.isdisjoint(t.data_ptr() for t in model.state_dict().values())
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = copy.deepcopy(model)
    for tensor in other.state_dict().values():
        tensor.zero_()
    other.load_state_dict(torch.load(file, weights_only=True))
    assert same(other(x), model(x))


@pytest.mark.parametrize("name", MODELS)
def test_shares_no_memory_with_the_users_model(name: str) -> None:
    model, x = built(name)
    smaller = apply(analysed(name), model)
    before = model(x)
    with torch.no_grad():
        for tensor in (*smaller.parameters(), *smaller.buffers()):
            tensor.zero_()
    assert same(model(x), before)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_keeps_the_data_type(name: str, dtype: torch.dtype) -> None:
    model, x = built(name)
    result = prune(model.to(dtype), x.to(dtype), scorer="magnitude", ratio=0.5)
    assert {p.dtype for p in result.model.parameters()} == {dtype}
    for (key, mine), (_, theirs) in zip(
        result.model.named_buffers(), model.named_buffers(), strict=True
    ):  # counters of batch norm are whole numbers
        assert mine.dtype is theirs.dtype, key
    out = result.model(x.to(dtype))
    assert out.dtype is dtype
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small"])
def test_keeps_the_memory_format(name: str) -> None:
    model, _ = built(name)
    for given in (torch.contiguous_format, torch.channels_last):
        whole = copy.deepcopy(model).to(memory_format=given)
        smaller = apply(analysed(name), whole)
        expected = copy.deepcopy(smaller).to(memory_format=given)
        for (key, mine), (_, theirs) in zip(smaller.named_parameters(), expected.named_parameters(), strict=True):
            assert mine.stride() == theirs.stride(), key


@pytest.mark.parametrize("name", MODELS)
def test_keeps_the_device(name: str) -> None:
    """A machine for tests has one device with values; the other is `meta`."""
    model, x = built(name)
    smaller = apply(analysed(name), model.to("meta"))
    assert {t.device.type for t in smaller.state_dict().values()} == {"meta"}
    assert smaller(x.to("meta")).shape == cut(name)[0](x).shape
    expected = {key: tensor.shape for key, tensor in cut(name)[0].state_dict().items()}
    assert {key: tensor.shape for key, tensor in smaller.state_dict().items()} == expected


@pytest.mark.parametrize("name", MODELS)
def test_keeps_flags_buffers_and_hooks(name: str) -> None:
    model, x = built(name)
    for i, module in enumerate(model.modules()):  # every third trains
        module.training = i % 3 == 0
    for i, parameter in enumerate(model.parameters()):
        parameter.requires_grad_(i % 2 == 0)
    leaf = [module for module in model.modules() if not list(module.children())][-1]
    leaf.register_buffer("steps", torch.tensor(7))
    leaf.register_buffer("scratch", torch.ones(3), persistent=False)
    seen: list[str] = []
    leaf.register_forward_pre_hook(lambda *_: seen.append("before"))
    leaf.register_forward_hook(lambda *_: seen.append("after"))
    leaf.register_full_backward_hook(lambda *_: seen.append("backward"))
    smaller = apply(analysed(name), model)
    assert [(n, m.training) for n, m in smaller.named_modules()] == [(n, m.training) for n, m in model.named_modules()]
    flags = [(n, p.requires_grad, type(p)) for n, p in model.named_parameters()]
    assert [(n, p.requires_grad, type(p)) for n, p in smaller.named_parameters()] == flags
    assert dict(smaller.named_buffers()).keys() == dict(model.named_buffers()).keys()
    assert smaller.state_dict().keys() == model.state_dict().keys()
    twin = [module for module in smaller.modules() if not list(module.children())][-1]
    assert twin is not leaf
    assert twin.steps == 7 and twin.scratch.tolist() == [1, 1, 1]
    smaller.eval()(x).sum().backward()
    assert seen == ["before", "after", "backward"]
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("name", TO_COMPILE)
def test_compiles(name: str) -> None:
    model, x = cut(name)
    torch._dynamo.reset()
    with torch.no_grad():
        compiled = torch.compile(model, backend="aot_eager", fullgraph=True)(x)
        assert same(compiled, model(x), 1e-6)


@pytest.mark.parametrize("name", TO_COMPILE)
def test_a_compiled_network_still_trains(name: str) -> None:
    model, x = cut(name)
    torch._dynamo.reset()
    torch.compile(model, backend="aot_eager", fullgraph=True)(x).square().mean().backward()
    gradients = [p.grad for p in model.parameters()]
    model.zero_grad()
    model(x).square().mean().backward()
    assert all(same(g, p.grad, 1e-4) or not p.grad.any() for g, p in zip(gradients, model.parameters(), strict=True))


def doubled(x: Tensor) -> Tensor:
    return x.relu() * 2


class Doubles(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function
        self.first, self.norm, self.last = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.function(self.norm(self.first(x))))


@torch.no_grad()
@pytest.mark.parametrize("warm", [False, True], ids=["not yet compiled", "compiled"])
@pytest.mark.parametrize("whole", [False, True], ids=["a function", "the model"])
def test_a_compiled_model_is_cut_like_any_other(whole: bool, warm: bool) -> None:
    torch._dynamo.reset()
    x = torch.randn(3, 4)
    plain = Doubles(doubled).eval()
    expected = prune(plain, x, scorer="magnitude", ratio=0.5)
    if whole:
        model = torch.compile(copy.deepcopy(plain), backend="aot_eager")
    else:
        model = copy.deepcopy(plain)
        model.function = torch.compile(doubled, backend="aot_eager")
    if warm:
        model(x)
    for _ in range(2):
        result = prune(model, x, scorer="magnitude", ratio=0.5)
        assert [len(group) for group in result.graph.groups] == [8]
        assert result.scores.tolist() == expected.scores.tolist()
        assert type(result.model) is type(model)
        assert same(result.model(x), expected.model(x), 1e-6)


@pytest.mark.parametrize("name", TO_EXPORT)
def test_exports(name: str) -> None:
    model, x = cut(name)
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(model, (x,), dynamic_shapes=[{0: batch}]).module()
    for images in (x, torch.randn(5, *x.shape[1:])):
        assert same(exported(images), model(images), 1e-6)


@pytest.mark.parametrize("name", TO_EXPORT)
def test_exports_to_onnx(name: str, tmp_path: Path) -> None:
    import onnxruntime as runtime

    model, x = cut(name)
    file = tmp_path / "model.onnx"
    torch.onnx.export(model, (x,), file, dynamo=True, verbose=False, external_data=False)
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert same(torch.from_numpy(out), model(x), 1e-5)


# -- the user's model --------------------------------------------------------------------------------------------------


def snapshot(model: nn.Module) -> dict[str, Any]:
    """All there is to a model: every tensor's identity, place and bytes, every other attribute of every module."""
    found: dict[str, Any] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        found[path] = id(module), type(module)
        for key, value in vars(module).items():
            if isinstance(value, dict):
                found.update({f"{path}:{key}:{k}": _value(v) for k, v in value.items()})
                found[f"{path}:{key}"] = id(value), list(value)
            else:
                found[f"{path}:{key}"] = _value(value)
    return found


def _value(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return id(value) if callable(value) else repr(value)
    content = value.detach().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    gradient = None if value.grad is None else _value(value.grad)
    return (
        id(value),
        value.data_ptr(),
        value._version,
        value.requires_grad,
        value.dtype,
        value.shape,
        value.stride(),
        content,
        gradient,
    )


def surroundings() -> tuple[Any, ...]:
    """What a cut could leave behind outside of the model."""
    return (
        torch.get_rng_state().numpy().tobytes(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_default_device(),
        gc.isenabled(),
        torch._C._len_torch_function_stack(),
        torch.utils._python_dispatch._len_torch_dispatch_stack(),
        str(np.random.get_state()),
        warnings.filters.copy(),
    )


def lived_in(name: str) -> tuple[nn.Module, Tensor]:
    """A model in training, with gradients, hooks and flags of its own."""
    model, x = built(name)
    model.train()(x).square().sum().backward()
    children = [module for module in model.modules() if not list(module.children())]
    children[0].register_forward_hook(lambda *_: None)
    children[-1].register_full_backward_hook(lambda *_: None)
    children[1].eval()
    next(model.parameters()).requires_grad_(False)
    return model, x


class Breaks(Scorer):
    """Does to its copy what it likes, and then raises."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def channel_scores(self, context: Context) -> ChannelScores:
        with torch.no_grad():
            for tensor in (*context.model.parameters(), *context.model.buffers()):
                tensor.zero_()
        context.model.train().half()
        torch.rand(3)
        raise self.error


class NotANumber(Scorer):
    only_reads = True

    def channel_scores(self, context: Context) -> ChannelScores:
        return {axis: torch.full((w.shape[axis[1]],), np.nan) for axis, w in context.weights().items()}


def unfit(*_: Any, **__: Any) -> None:
    raise TraceError("it does not run")


@pytest.mark.parametrize("name", MODELS)
def test_a_cut_leaves_the_users_model_alone(name: str) -> None:
    model, x = lived_in(name)
    before, around = snapshot(model), surroundings()
    results = [prune(model, x, scorer=scorer, ratio=0.5) for scorer in ("synflow", "magnitude", "random")]
    assert surroundings() == around
    for result in results:
        assert result.model.training
        result.model(x).sum().backward()
    assert snapshot(model) == before


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"scorer": Breaks(RuntimeError("half-way"))}, RuntimeError),
        ({"scorer": Breaks(KeyboardInterrupt())}, KeyboardInterrupt),
        ({"scorer": NotANumber()}, InputError),
        ({"scorer": "synflow", "ratio": 1.5}, InputError),
    ],
    ids=["scorer", "Ctrl-C", "not a number", "ratio"],
)
def test_a_cut_that_fails_leaves_the_users_model_alone(
    name: str, options: dict[str, Any], error: type[BaseException]
) -> None:
    model, x = lived_in(name)
    before, around = snapshot(model), surroundings()
    with pytest.raises(error):
        prune(model, x, **{"ratio": 0.5, **options})
    assert snapshot(model) == before
    assert surroundings() == around


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    ("where", "step"), [(pruning, "apply"), (pruning, "check_runs"), (pruning, "cost_of"), (shrinking, "cost")]
)
def test_so_does_one_that_fails_at_the_end(
    name: str, where: ModuleType, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, x = lived_in(name)
    before, around = snapshot(model), surroundings()
    monkeypatch.setattr(where, step, unfit)
    with pytest.raises((TraceError, PlanError), match="it does not run"):
        prune(model, x, scorer="magnitude", ratio=0.5)
    assert snapshot(model) == before
    assert surroundings() == around


class Forgetful(nn.Module):
    """Keeps count of its calls in every way there is, and may stop in the middle."""

    def __init__(self, asks: bool, fails: bool) -> None:
        super().__init__()
        self.asks, self.fails, self.calls, self.sizes = asks, fails, 0, [0]
        self.first, self.norm, self.last = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)
        self.register_buffer("seen", torch.zeros(()))
        self.kept = torch.zeros(4)

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.sizes.append(len(x))
        self.seen += 1
        self.kept[0] = x.mean()
        x = self.norm(self.first(x))
        if self.asks and x.sum().item() > 1e9:
            return x.sum()
        self.kept = x.detach()
        if self.fails:
            raise RuntimeError("half-way")
        return self.last(x.relu())


@pytest.mark.parametrize("asks", [False, True], ids=["shapes", "asks for values"])
@pytest.mark.parametrize("fails", [False, True], ids=["runs", "fails"])
def test_a_model_that_changes_itself_when_it_runs(asks: bool, fails: bool) -> None:
    model = Forgetful(asks, fails).train()
    x = torch.randn(5, 4)
    before, around = snapshot(model), surroundings()
    if fails:
        with pytest.raises(TraceError, match="half-way"):
            prune(model, x, ratio=0.5)
    else:
        smaller = prune(model, x, ratio=0.5).model
        assert isinstance(smaller, Forgetful) and smaller.first.out_features == 4
        assert (smaller.calls, smaller.seen.item(), smaller.sizes) == (0, 0, [0])
    assert snapshot(model) == before
    assert surroundings() == around


class Remembers(nn.Module):
    """Keeps what it has computed, with its history."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        self.features = self.a(x).relu()
        return self.b(self.features)


@pytest.mark.parametrize("scorer", ["magnitude", "synflow"])
def test_a_model_that_keeps_an_activation(scorer: str) -> None:
    model, x = Remembers(), torch.ones(3, 4)
    model(x)
    assert model.features.grad_fn is not None
    result = prune(model, x, scorer=scorer, ratio=0.5)
    assert result.model(x).shape == (3, 2)
    assert result.model.a.out_features == 4


@pytest.mark.parametrize("scorer", ["magnitude", "synflow"])
def test_within_inference_mode(scorer: str) -> None:
    model, x = Remembers(), torch.ones(3, 4)
    with torch.inference_mode():
        result = prune(model, x, scorer=scorer, ratio=0.5)
    result.model(x).sum().backward()
    assert all(p.grad is not None for p in result.model.parameters())

"""A torch function may be called in several ways; each says the same to its rule."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prunetune.engine import DependencyGraph, PruningPlan, apply
from prunetune.engine.rules.table import rules
from prunetune.testing.oracle import largest_error, randomise

SYNONYMS = {
    ("weight", "indices"): "torch.embedding takes the weight first, and its rule knows",
    **dict.fromkeys([("other", name) for name in ("mat2", "vec", "tensor")], "the second factor"),
    **dict.fromkeys([("mat1", name) for name in ("batch1", "mat")], "the first factor"),
    **dict.fromkeys([("mat2", name) for name in ("batch2", "vec")], "the second factor"),
    **dict.fromkeys([("weight", name) for name in ("mat_b", "mat2")], "the matrices of the groups"),
    **dict.fromkeys([("indices_or_sections", n) for n in ("sections", "indices", "tensor_indices_or_sections")], ""),
    **dict.fromkeys([("running_mean", "weight"), ("running_var", "bias")], "torch.batch_norm takes them first"),
    **dict.fromkeys([("weight", "running_mean"), ("bias", "running_var")], "and the statistics then"),
    ("length", "g"): "as its parameter is called",
    ("state", "hx"): "",
    ("ord", "p"): "",
    ("dim", "dimensions"): "",
    ("dim", "idx"): "not of tensors",
}
"""What a rule calls an argument and what torch calls it, where the two are one."""


def signatures(function: Any) -> Iterator[list[str]]:
    """The names of the positional arguments of every form of a function, where they can be had."""
    function = inspect.unwrap(function)
    if inspect.isfunction(function):
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        yield [p.name for p in inspect.signature(function).parameters.values() if p.kind in kinds]
        return
    name = getattr(function, "__name__", "__")
    if name.startswith("__") or isinstance(function, (torch._ops.OpOverload, torch._ops.OpOverloadPacket)):
        return
    for schema in torch._C._jit_get_schemas_for_operator(f"aten::{name}"):
        if not any(argument.is_out for argument in schema.arguments):
            yield [argument.name for argument in schema.arguments if not argument.kwarg_only]


def test_rules_take_their_arguments_in_torchs_order() -> None:
    wrong = []
    for function, rule in rules.items():
        if not callable(function) or inspect.isclass(function) or getattr(function, "__module__", "") == "_operator":
            continue
        positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
        own = [p.name for p in inspect.signature(rule).parameters.values() if p.kind is positional][2:]
        for names in signatures(function):
            for mine, theirs in zip(own, names[1:], strict=False):
                if mine != theirs and "names" not in theirs and (mine, theirs) not in SYNONYMS:
                    wrong.append((getattr(function, "__name__", function), mine, theirs))
    assert not wrong


FORMS: dict[str, tuple[Callable[[Tensor], Any], ...]] = {
    "norm of channels": (
        lambda x: torch.linalg.vector_norm(x, 2, 1),
        lambda x: torch.linalg.vector_norm(x, ord=2, dim=1),
        lambda x: torch.linalg.vector_norm(x, 2, dim=(1,)),
        lambda x: x.norm(2, 1),
        lambda x: torch.norm(x, p=2, dim=1),
        lambda x: torch.linalg.norm(x, 2, 1),
    ),
    "norm of places": (
        lambda x: torch.linalg.vector_norm(x, 2, 2),
        lambda x: torch.linalg.vector_norm(x, 1.0, (2, 3)).unsqueeze(2),
        lambda x: x.norm(dim=2),
    ),
    "the larger": (
        lambda x: torch.max(x, x * 2),
        lambda x: torch.max(x, other=x * 2),
        lambda x: x.maximum(x * 2),
    ),
    "sum of places": (
        lambda x: x.sum(-1),
        lambda x: torch.sum(x, dim=3),
        lambda x: x.amax(dim=(3,)),
        lambda x: torch.max(x, 3)[0],
        lambda x: x.max(dim=-1).values,
    ),
    "halves": (
        lambda x: x.split(4, 1)[0],
        lambda x: x.split(split_size=4, dim=1)[0],
        lambda x: torch.split(x, 4, dim=1)[0],
        lambda x: torch.split(x, split_size_or_sections=4, dim=1)[0],
        lambda x: x.split_with_sizes([4, 4], 1)[0],
        lambda x: torch.split_with_sizes(x, split_sizes=[4, 4], dim=1)[0],
    ),
    "transposed": (
        lambda x: x.transpose(2, 3),
        lambda x: x.transpose(dim0=2, dim1=3),
        lambda x: x.swapaxes(axis0=2, axis1=3),
        lambda x: torch.swapdims(x, 3, 2),
        lambda x: x.mT,
    ),
    "shuffled": (
        lambda x: F.channel_shuffle(x, 2),
        lambda x: F.channel_shuffle(x, groups=2),
    ),
    "shuffled into places": (
        lambda x: F.pixel_shuffle(x, 2),
        lambda x: F.pixel_shuffle(x, upscale_factor=2),
    ),
    "padded": (
        lambda x: F.pad(x, (0, 0, 0, 0, 0, 2)),
        lambda x: F.pad(x, pad=(0, 0, 0, 0, 0, 2), mode="constant", value=1.0),
        lambda x: torch.constant_pad_nd(x, (0, 0, 0, 0, 0, 2), 0.5),
        lambda x: torch.constant_pad_nd(x, pad=(0, 0, 0, 0, 0, 2), value=0.5),
    ),
    "taken along places": (
        lambda x: torch.take_along_dim(x, x.new_zeros(1, 1, 1, 2, dtype=torch.int64), 3),
        lambda x: torch.take_along_dim(x, dim=3, indices=x.new_zeros(1, 1, 1, 2, dtype=torch.int64)),
        lambda x: x.take_along_dim(x.new_zeros(1, 1, 1, 2, dtype=torch.int64), -1),
    ),
    "places written to by their numbers": (
        lambda x: x.index_add(3, torch.tensor([2, 0], device=x.device), x[..., :2]),
        lambda x: torch.index_copy(x, dim=3, index=torch.tensor([2, 0], device=x.device), source=x[..., :2]),
        lambda x: x.index_reduce(3, torch.tensor([2, 0], device=x.device), x[..., :2], "amax"),
        lambda x: torch.index_reduce(
            x, dim=3, index=torch.tensor([2, 2], device=x.device), source=x[..., :2], reduce="mean", include_self=False
        ),
    ),
    "the largest places": (
        lambda x: x.topk(2, 3)[0],
        lambda x: torch.topk(x, k=2, dim=3)[0],
        lambda x: x.topk(k=2, dim=-1).values,
        lambda x: x.sort(3)[0],
        lambda x: torch.sort(x, dim=3, descending=True)[0],
        lambda x: torch.sort(x, 3, True)[0],
        lambda x: x.cumsum(3),
        lambda x: torch.cumsum(x, dim=-1),
    ),
    "root mean square": (
        lambda x: F.rms_norm(x.movedim(1, -1), (x.shape[1],), None, 1e-3).movedim(-1, 1),
        lambda x: F.rms_norm(x.movedim(1, -1), normalized_shape=(x.shape[1],), eps=1e-3).movedim(-1, 1),
    ),
    "counted": (
        lambda x: x + torch.unique(x.round()).sum(),
        lambda x: x + x.round().unique(sorted=True).sum(),
    ),
}


class Formed(nn.Module):
    """A convolution, what is tried, and a convolution."""

    def __init__(self, form: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.form, self.first = form, nn.Conv2d(3, 8, 1)
        with torch.no_grad():
            self.shape = self._formed(torch.randn(2, 3, 4, 4)).shape
        self.second = nn.Conv2d(self.shape[1], 2, 1)

    def _formed(self, x: Tensor) -> Tensor:
        x = self.form(self.first(x))
        return x if x.ndim == 4 else x.unsqueeze(1 if x.shape[1] == 4 else 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self._formed(x))


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_a_call_is_cut_alike(name: str) -> None:
    x = torch.randn(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    units = []
    for form in FORMS[name]:
        model = randomise(Formed(form), 0)
        graph = DependencyGraph.of(model, x)
        assert "no rule" not in str(graph.frozen)
        units.append([graph.unit_of(("first.weight", 0)).tolist(), graph.unit_of(("second.weight", 1)).tolist()])
    assert all(u == units[0] for u in units), units


@pytest.mark.parametrize("weight_first", [False, True])
def test_embeddings_by_both_functions(weight_first: bool) -> None:
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.head = nn.Parameter(torch.randn(7, 6)), nn.Linear(6, 2)

        def forward(self, words: Tensor) -> Tensor:
            return self.head(torch.embedding(self.weight, words) if weight_first else F.embedding(words, self.weight))

    model, words = randomise(Embedded(), 0), torch.tensor([[0, 3, 6]])
    graph = DependencyGraph.of(model, words)
    assert {axis for group in graph.groups for axis in group.axes} == {("weight", 1), ("head.weight", 1)}
    keep = torch.ones(graph.unit_count + 1, dtype=torch.bool).numpy()
    keep[[2, 5]] = False
    plan = PruningPlan.of(graph, keep)
    plan_of_head = PruningPlan({k: v for k, v in plan.tensors.items() if k == "head.weight"}, {})
    assert largest_error(model, apply(plan, model), plan_of_head, words) < 1e-12

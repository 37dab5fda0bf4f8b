"""What each operation of a training step has to do: its kind, and its sizes under any mask. No clock is asked here."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from prunetune.engine.dependency import DependencyGraph
from prunetune.engine.labels import Labelled, LinearForm, Vec, plain, tensors_in
from prunetune.engine.rules.context import Operation, Term
from prunetune.engine.rules.elementwise import elementwise, unary
from prunetune.engine.rules.table import functions, rule_of

Size: TypeAlias = tuple[int, tuple[Vec, ...]]
"""A number, times the units of each vec that stay."""

FORWARD_ONLY = 1 / 3
"""Share of a forward pass, where a backward pass has twice its work."""

CONVOLUTIONS = frozenset(functions(*(f"conv{t}{n}d" for n in (1, 2, 3) for t in ("", "_transpose"))))
TRANSPOSED = frozenset(functions(*(f"conv_transpose{n}d" for n in (1, 2, 3))))

KINDS: Mapping[Any, str] = {
    function: kind
    for kind, names in {
        "batch norm": ("batch_norm", "instance_norm"),
        "layer norm": ("layer_norm", "group_norm", "rms_norm", "normalize"),
        "function": (  # each of them takes several times a multiplication
            *("gelu", "silu", "mish", "elu", "selu", "celu", "softplus", "hardswish", "sigmoid", "logsigmoid", "tanh"),
            *("softmax", "log_softmax", "exp", "log", "erf", "pow", "sqrt", "rsqrt", "sin", "cos", "bernoulli"),
        ),
        "pool": (
            *(f"{kind}_pool{n}d" for kind in ("max", "avg", "adaptive_max", "adaptive_avg") for n in (1, 2, 3)),
            *("interpolate", "sum", "mean", "amax", "var", "std", "logsumexp"),
        ),
        "slice": ("chunk", "split", "tensor_split", "narrow", "select", "unbind"),
        "copy": ("contiguous", "clone", "to", "type", "float", "detach", "cat", "stack", "dropout", "requires_grad_"),
    }.items()
    for function in functions(*names)
} | {torch.Tensor.__getitem__: "slice"}
"""Kinds of functions; of those that are not here, the rule says it."""


@dataclass(frozen=True)
class Work:
    """What one operation does in a training step."""

    kind: str
    share: float
    """Of a forward and two backward passes: where no gradient of the image is wanted, a convolution has two thirds."""
    flops: tuple[Size, ...] = ()
    read: tuple[Size, ...] = ()
    """Elements of the activations that come in."""
    written: tuple[Size, ...] = ()
    """Elements of the results."""
    weights: tuple[Size, ...] = ()
    """Elements of the parameters and buffers."""
    widths: tuple[Size, Size, Size] | None = None
    """Of a convolution: input channels, input channels of a group, output channels; transposed the other way round."""
    taps: int = 1
    """Places that a convolution's kernel looks at."""
    pairs: Size | None = None
    """Of an attention: pairs of a query and a key, in all heads."""


class Count:
    """How large sizes are under a mask of units (bool, shape (unit_count + 1,))."""

    def __init__(self, keep: NDArray[np.bool_]) -> None:
        self.keep = keep
        self.counts: dict[int, int] = {}  # by id: most sizes share their vecs with others

    def __call__(self, size: Size) -> int:
        number, vecs = size
        for vec in vecs:
            if id(vec) not in self.counts:
                self.counts[id(vec)] = int(np.count_nonzero(self.keep[vec]))
            number *= self.counts[id(vec)]
        return number

    def sum(self, sizes: Iterable[Size]) -> int:
        return sum(map(self, sizes))


def work_of(graph: DependencyGraph) -> tuple[Work, ...]:
    """What a training step of the model does, in the order of its operations."""
    return tuple(_Reader(graph).works())


class _Reader:
    """Reads the operations of a graph; sizes are put in terms of its units."""

    def __init__(self, graph: DependencyGraph) -> None:
        self.graph = graph
        self.units: dict[int, Vec] = {}
        self.learns: set[int] = set()
        """Tensors, by id, that a gradient flows back to."""
        self.used: set[int] = set()
        """Those of them that were read already."""

    def works(self) -> Iterator[Work]:
        for op in self.graph.operations:
            inputs = list(tensors_in((*op.args, op.kwargs)))
            weights, data = [t for t in inputs if t.name is not None], [t for t in inputs if t.name is None]
            by_weight = any(t.name in self.graph.parameters for t in weights)
            by_data = any(id(t) in self.learns for t in data)
            if by_weight or by_data:
                self.learns.update(map(id, tensors_in((op.result,))))
            kind = _kind(op)
            if kind is None:
                continue
            yield from self._gradients_added(data)
            flows = by_weight + by_data
            share = (1 + flows) / 3 if op.flops else 1.0 if flows else FORWARD_ONLY
            yield from self._work(op, kind, share, data, weights)

    def _gradients_added(self, data: Sequence[Labelled]) -> Iterator[Work]:
        """A tensor that is read once more has one more gradient, which is added to the others."""
        for tensor in data:
            if id(tensor) in self.used:
                size = self._size(tensor)
                yield Work("pointwise", FORWARD_ONLY, read=(size, size), written=(size,))
            elif id(tensor) in self.learns:
                self.used.add(id(tensor))

    def _work(
        self, op: Operation, kind: str, share: float, data: Sequence[Labelled], weights: Sequence[Labelled]
    ) -> Iterator[Work]:
        flops = tuple(map(self._term, op.flops))
        read, parameters = tuple(map(self._size, data)), tuple(map(self._size, weights))
        written = tuple(map(self._size, tensors_in((op.result,))))
        if op.target is functional.multi_head_attention_forward and len(flops) == 5:
            query, key = op.args[0], op.args[1]
            stream = self._size(query)
            pairs = _times([*self._places(query), self._dim(key, 0), self._number(op.args[4])])
            yield Work("product", share, (*flops[:3], flops[4]), read, written, parameters)
            yield Work("attention", 1.0, flops[3:4], (stream,) * 3, (stream,), pairs=pairs)
        elif op.target is functional.scaled_dot_product_attention:
            query, key = data[:2]
            pairs = _times([*self._places(query), self._dim(key, -2)])
            yield Work("attention", 1.0, flops, read, written, pairs=pairs)
        elif op.target in CONVOLUTIONS and data and weights:
            weight = weights[0]
            image = next(tensors_in((op.result,))) if op.target in TRANSPOSED else data[0]
            widths = (self._dim(image, 1 - weight.ndim), self._dim(weight, 1), self._dim(weight, 0))
            yield Work(kind, share, flops, read, written, parameters, widths, math.prod(weight.shape[2:]))
        else:
            yield Work(kind, share, flops, read, written, parameters)

    def _size(self, tensor: Labelled) -> Size:
        """Elements of a tensor."""
        return _times(self._dim(tensor, dim) for dim in range(tensor.ndim))

    def _dim(self, tensor: Labelled, dim: int) -> Size:
        if tensor.name is None:
            labels = tensor.dims[dim]
            vec = None if labels is None else self._units(labels)
        else:
            vec = self.graph.axes.get((tensor.name, dim % tensor.ndim))
        return (tensor.shape[dim], ()) if vec is None else (1, (vec,))

    def _places(self, query: Labelled) -> list[Size]:
        """All dimensions but the last."""
        return [self._dim(query, dim) for dim in range(query.ndim - 1)]

    def _term(self, term: Term) -> Size:
        return term.constant, tuple(map(self._units, term.vecs))

    def _units(self, vec: Vec) -> Vec:
        """Units of labels; the same array for the same labels, so that they are counted once."""
        if id(vec) not in self.units:
            self.units[id(vec)] = self.graph.labels[vec]
        return self.units[id(vec)]

    def _number(self, form: LinearForm | int) -> Size:
        """A number of the model's code: heads, which may be cut."""
        if isinstance(form, LinearForm) and form.attributes:
            constant, terms = self.graph.attributes.get(form.attributes[0][0], (0, ()))
            if not constant and len(terms) == 1:
                vec, factor = terms[0]
                if factor.denominator == 1:
                    return int(factor), (vec,)
        return plain(form), ()


def _times(sizes: Iterable[Size]) -> Size:
    number = 1
    vecs: list[Vec] = []
    for factor, more in sizes:
        number *= factor
        vecs += more
    return number, tuple(vecs)


def _kind(op: Operation) -> str | None:
    """The kind of an operation; None where it only names what is there."""
    if op.target is operator.getitem or next(tensors_in((op.result,)), None) is None:
        return None
    if op.target in CONVOLUTIONS:
        return "convolution"
    if op.target in KINDS:
        kind = KINDS[op.target]
        return "view" if kind == "copy" and not op.makes_memory else kind
    if op.flops:
        return "product"
    if rule_of(op.target) in (elementwise, unary):
        return "pointwise"
    return "copy" if op.makes_memory else "view"

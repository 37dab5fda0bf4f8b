"""What a rule works with: the tensors' labels, and the ways to tie, bind and freeze them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np
from torch import fx, nn

from prunetune.engine.labels import Axis, Labelled, LabelSpace, LinearForm, Vec, plain, sizes_in
from prunetune.engine.tracing.copies import named_tensors
from prunetune.errors import InputError

Rule: TypeAlias = Callable[..., Any]
"""`rule(context, *args, **kwargs)`, with the arguments of the torch function; returns the labels of its result."""


@dataclass(frozen=True)
class Term:
    """What one node adds to a cost: `constant` times, for every vec, the number of its labels that stay."""

    node: str
    constant: int
    vecs: tuple[Vec, ...]


@dataclass(frozen=True)
class Operation:
    """One node as it was called, with labels in the place of tensors."""

    target: Any
    """The torch function; for a module that has a rule of its own, its path."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any


@dataclass
class RuleContext:
    """The state of one walk through a graph."""

    space: LabelSpace
    node: fx.Node
    shapes: dict[str, tuple[int, ...]]
    """Shape of every parameter and buffer."""
    model: nn.Module
    producers: dict[Axis, None] = field(default_factory=dict)
    """Output axes of weights, in the order of their use."""
    flops: list[Term] = field(default_factory=list)
    activations: list[Term] = field(default_factory=list)
    """Bytes of the tensors that nodes make."""
    called: dict[fx.Node | None, Operation] = field(default_factory=dict)
    """The operations by their nodes."""
    seen: list[Any] = field(default_factory=list)
    """What sees only the channels that are kept (`reductions.Seen`)."""
    otherwise: frozenset[fx.Node] = frozenset()
    """Nodes at which a choice between two ways to cut is not made as usual."""
    choices: dict[fx.Node, list[Vec]] = field(default_factory=dict)
    """Nodes at which there is such a choice, and the labels that can be cut as it was made."""
    _open_choice: bool = False

    @property
    def where(self) -> str:
        """The present operation, for people: `cat in features.denseblock1`; of what is asked of a size, the line."""
        function = str(self.node.meta.get("line") or getattr(self.node.target, "__name__", self.node.target))
        module = self.node.meta.get("module", "")
        return f"{function} in {module}" if module else function

    @property
    def shape(self) -> Any:
        """Shape of the present node's result (for several results a tuple of shapes)."""
        return self.node.meta["shape"]

    # -- reading -----------------------------------------------------------------------------------------------------

    def parameter(self, name: str) -> Labelled | None:
        """A parameter or buffer of the present module, for the rule of a module; None where the module has None."""
        tensor = getattr(self.module, name)
        if tensor is None:
            return None
        found = self.names.get(id(tensor))
        if found is None:
            raise InputError(f"{self.where}: {name} is no parameter or buffer; give the name of one")
        return Labelled(self.shapes[found], (None,) * len(self.shapes[found]), name=found)

    def attribute(self, name: str) -> LinearForm:
        """An integer attribute of the present module, to be set anew: `require(attribute("groups"), vec)`."""
        path = f"{self._path}.{name}" if self._path else name
        value = getattr(self.module, name)
        if type(value) is not int:
            raise InputError(f"{path} is {value!r}; only a plain integer can follow a cut")
        self.space.attribute_values[path] = value
        return LinearForm(value, Fraction(0), (), ((path, Fraction(1)),))

    @property
    def module(self) -> nn.Module:
        """The present module, the innermost that runs: the user's own, to be read and not changed."""
        return self.model.get_submodule(self._path)

    @property
    def _path(self) -> str:
        whole = self.node.op == "call_module"
        return str(self.node.target if whole else self.node.meta.get("module", ""))

    @functools.cached_property
    def names(self) -> dict[int, str]:
        """Names of all parameters and buffers by their id."""
        return {id(tensor): name for name, tensor in named_tensors(self.model).items()}

    def vec(self, tensor: Labelled, dim: int) -> Vec | None:
        """Labels of a dimension; those of a parameter are made now if nothing was known of them yet."""
        dim %= tensor.ndim
        if tensor.shape[dim] == 1:
            return None
        if tensor.name is None:
            return tensor.dims[dim]
        axis = (tensor.name, dim)
        if axis not in self.space.axes:
            self.space.axes[axis] = self.space.fresh(tensor.shape[dim])
            self.space.own[axis] = None
        return self.space.axes[axis]

    def vecs(self, tensor: Labelled) -> list[Vec | None]:
        """Labels of all dimensions."""
        return [self.vec(tensor, d) for d in range(tensor.ndim)]

    # -- tying -------------------------------------------------------------------------------------------------------

    def bind(self, tensor: Labelled | None, dim: int, vec: Vec | None) -> None:
        """Dimension `dim` of `tensor` is cut exactly as `vec` is (not at all where `vec` is None)."""
        if tensor is None:
            return
        dim %= tensor.ndim
        if tensor.shape[dim] == 1 and (vec is None or len(vec) > 1):
            return
        if tensor.name is not None:
            axis = (tensor.name, dim)
            if axis not in self.space.axes:
                fixed = np.zeros(tensor.shape[dim], dtype=np.int64)
                self.space.axes[axis] = fixed if vec is None else vec
                return
        self.tie(self.vec(tensor, dim), vec)

    def tie(self, left: Vec | None, right: Vec | None) -> Vec | None:
        """The two are cut alike; returns the labels of what results."""
        if left is not None and right is not None:
            self.space.tie(left, right)
            return left
        self.freeze(left if right is None else right, "meets a size that is fixed")
        return None

    def freeze(self, vec: Vec | None, reason: str) -> None:
        """None of these labels may be removed."""
        self.space.freeze(vec, self.where, reason)

    def freeze_all(self, tensors: Sequence[Labelled], reason: str) -> None:
        """Nothing of these tensors may be removed."""
        for tensor in tensors:
            for vec in self.vecs(tensor):
                self.freeze(vec, reason)

    def require(self, size: LinearForm | int, vec: Vec | None, length: int | None = None) -> None:
        """`size`, a number of the model's code, must stay the number of labels of `vec` (or `length`)."""
        n = len(vec) if vec is not None else length if length is not None else plain(size)
        self.space.require(size, LinearForm.count(vec, n), self.where)

    def keep_numbers(self, values: Any) -> None:
        """All sizes in these (nested) arguments must stay what they are."""
        for form in sizes_in(values):
            self.require(form, None)

    def across(self, vec: Vec | None, groups: int) -> Vec | None:
        """Tie the same position in each of `groups` equal parts, so that all parts stay equal; returns one part."""
        if vec is None or groups == 1:
            return vec
        parts: Vec = vec.reshape(groups, -1)
        self.space.tie(parts[1:], parts[:1])
        first: Vec = parts[0]
        return first

    # -- choosing ----------------------------------------------------------------------------------------------------

    def choose(self, candidates: Sequence[int]) -> int:
        """The last of these dimensions will be cut; or, in a second try at an analysis, the first."""
        self._open_choice = len(candidates) > 1
        return candidates[0] if self.node in self.otherwise else candidates[-1]

    def chosen(self, vec: Vec) -> None:
        """What the choice just made lets be cut."""
        if self._open_choice:
            self.choices.setdefault(self.node, []).append(vec)
        self._open_choice = False

    # -- weights -----------------------------------------------------------------------------------------------------

    def produce(self, weight: Labelled, dim: int) -> Vec | None:
        """Labels of the output channels of a weight."""
        vec = self.vec(weight, dim)
        if vec is not None:
            self.space.produced.append(vec)
            if weight.name is not None:
                self.producers[weight.name, dim % weight.ndim] = None
        return vec

    def count(self, factor: float, sizes: Sequence[tuple[Vec | None, int]]) -> None:
        """The present node does `factor` times the product of these sizes floating point operations."""
        self.flops.append(self._term(factor, sizes))

    def occupy(self, tensor: Labelled, itemsize: int) -> None:
        """The present node makes this tensor, of so many bytes an element."""
        self.activations.append(self._term(itemsize, list(zip(tensor.dims, tensor.shape, strict=True))))

    def _term(self, factor: float, sizes: Sequence[tuple[Vec | None, int]]) -> Term:
        constant = math.prod(size for vec, size in sizes if vec is None)
        return Term(self.node.name, int(factor * constant), tuple(vec for vec, _ in sizes if vec is not None))

    # -- results -----------------------------------------------------------------------------------------------------

    def result(self, dims: Sequence[Vec | None], shape: tuple[int, ...] | None = None) -> Labelled:
        """A tensor of the present node's shape with these labels; a dimension of size 1 has none."""
        shape = self.shape if shape is None else shape
        if len(dims) != len(shape):
            raise AssertionError(f"{self.where}: {len(dims)} labels for shape {shape}")
        return Labelled(shape, tuple(None if n == 1 else vec for vec, n in zip(dims, shape, strict=True)))

    def fixed(self, shape: Any = None) -> Any:
        """A result (or nested results) whose sizes never change."""
        shape = self.shape if shape is None else shape
        if shape is None:
            return None
        if all(isinstance(n, int) for n in shape):
            return Labelled(shape, (None,) * len(shape))
        return tuple(self.fixed(s) if s is not None else None for s in shape)

    def stretched(self, size: LinearForm | int) -> Vec | None:
        """Labels for a new dimension whose size is computed by the code: it follows the sizes it is computed from."""
        form = LinearForm.of(size)
        if form.fixed or form.value <= 1:
            return None
        vec = self.space.fresh(form.value)
        self.require(form, vec)
        return vec

"""Random networks out of all the operations, as programs that can be read, saved as text and run again.

A program is a list of steps on named tensors, each an operation of `prunetune.testing.fuzzer.operations`:

    x0 = input(layout='image', shape=(2, 3, 4, 4))
    x1 = conv(x0, out=6, kernel=3, stride=1, groups=1)
    x2, x3 = chunk(x1, chunks=2)
    x4 = add(x2, x3)
    return x4

`Network(program)` is a plain module that runs it; the module of a step has the name of its first result.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from prunetune.errors import InputError

CHANNEL = {"image": 1, "line": 1, "volume": 1, "last": 3, "sequence": 2, "vector": 1, "index": 1}
"""Layouts (N,C,H,W), (N,C,L), (N,C,D,H,W), (N,H,W,C), (N,T,C), (N,C) and (N,T), and where their channels are."""
LARGEST, WIDEST = 800, 40
"""Elements of a sample, and channels, that a step may make."""


@dataclass(frozen=True)
class Value:
    """A tensor of a program."""

    name: str
    shape: tuple[int, ...]
    layout: str

    @property
    def channel(self) -> int:
        return CHANNEL[self.layout]

    @property
    def channels(self) -> int:
        return self.shape[self.channel]

    @property
    def places(self) -> tuple[int, ...]:
        return tuple(n for d, n in enumerate(self.shape) if d not in (0, self.channel))


@dataclass(frozen=True)
class Step:
    """One operation: `results = operation(inputs, options)`."""

    results: tuple[str, ...]
    operation: str
    inputs: tuple[str, ...]
    options: Mapping[str, Any]

    def __str__(self) -> str:
        arguments = [*self.inputs, *(f"{k}={v!r}" for k, v in self.options.items())]
        return f"{', '.join(self.results)} = {self.operation}({', '.join(arguments)})"


@dataclass(frozen=True)
class Program:
    """What a network computes."""

    inputs: tuple[Value, ...]
    steps: tuple[Step, ...]
    outputs: tuple[str, ...]

    def __str__(self) -> str:
        inputs = (f"{v.name} = input(layout={v.layout!r}, shape={v.shape})" for v in self.inputs)
        return "\n".join([*inputs, *map(str, self.steps), f"return {', '.join(self.outputs)}"])

    def __repr__(self) -> str:
        return f'Program.parse("""\n{self}\n""")'

    def __deepcopy__(self, memo: Any) -> Program:
        return self

    @staticmethod
    def parse(text: str) -> Program:
        """The program that `str` wrote."""
        inputs, steps = list[Value](), list[Step]()
        outputs: tuple[str, ...] = ()
        for statement in ast.parse(text.strip()).body:
            if isinstance(statement, ast.Return):
                outputs = _names(statement.value)
                continue
            if not (isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Call)):
                raise InputError(f"this is no step of a program: {ast.unparse(statement)}")
            call, results = statement.value, _names(statement.targets[0])
            options = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
            name = ast.unparse(call.func)
            if name == "input":
                inputs.append(Value(results[0], **options))
            else:
                steps.append(Step(results, name, tuple(n for a in call.args for n in _names(a)), options))
        return Program(tuple(inputs), tuple(steps), outputs)


def _names(node: Any) -> tuple[str, ...]:
    return tuple(ast.unparse(e) for e in node.elts) if isinstance(node, ast.Tuple) else (ast.unparse(node),)


C = TypeVar("C")


@dataclass
class Dice:
    """Random choices for the options of a step, and what there is to choose from."""

    random: Random
    pool: list[Value]
    steps: list[Step] = field(default_factory=list)

    def one_of(self, options: Sequence[C]) -> C:
        return options[self.random.randrange(len(options))]

    def chance(self, share: float) -> bool:
        return self.random.randrange(100) < 100 * share

    def width(self, layout: str) -> int:
        """A number of channels, most often one that another tensor has, so that the two can be joined."""
        present = sorted({v.channels for v in self.pool if v.layout == layout and 1 < v.channels <= 12})
        return self.one_of(present) if present and self.chance(0.6) else self.one_of([2, 3, 4, 4, 6, 6, 8, 8, 10, 12])

    def divisor(self, *numbers: int) -> int:
        """A common divisor, 1 half of the time."""
        common = [d for d in range(2, min(numbers) + 1) if all(n % d == 0 for n in numbers)]
        return self.one_of(common) if common and self.chance(0.5) else 1

    def loose(self) -> list[Value]:
        """What no step has taken so far."""
        taken = {name for step in self.steps for name in step.inputs}
        return [v for v in self.pool if v.name not in taken and v.layout != "index"]

    def value(self, candidates: list[Value]) -> Value:
        """Most often a recent one or a loose end."""
        if self.chance(0.4):
            return candidates[-1]
        loose = [v for v in self.loose() if v in candidates]
        return self.one_of(loose if loose and self.chance(0.5) else candidates)


Options = dict[str, Any]


@dataclass(frozen=True)
class StepKind:
    """How to draw one step, and how to make its module."""

    takes: tuple[str, ...]
    """Layouts of its first input."""
    draw: Callable[..., Options | None]
    """`draw(dice, *values)`: the options, or None if it cannot work on these."""
    build: Callable[..., nn.Module]
    """`build(*values, **options)`, and `modules`, those made before, if it `shares`."""
    gives: str | Callable[..., str] | None = None
    """Layout of its results, if not that of its first input; or a function of the values and options."""
    partner: Callable[[Value, Value], bool] | None = None
    """Whether a tensor can be a further input beside the first."""
    partners: tuple[int, ...] = (1,)
    """How many further inputs there may be."""
    shares: bool = False
    has_weights: bool = True


OPERATIONS: dict[str, StepKind] = {}


def register_operation(name: str, operation: StepKind) -> None:
    """Let programs have this operation, too."""
    if name in OPERATIONS:
        raise InputError(f"there is an operation {name!r} already")
    OPERATIONS[name] = operation


class Network(nn.Module):
    """Runs a program."""

    def __init__(self, program: Program) -> None:
        super().__init__()
        self.program = program
        known = {v.name: v for v in program.inputs}
        modules: dict[str, nn.Module] = {}
        for step in program.steps:
            values = [known[name] for name in step.inputs]
            module = build(step, values, modules)
            self.add_module(step.results[0], module)
            modules[step.results[0]] = module
            known.update({v.name: v for v in results_of(step, values, module, known)})

    def forward(self, *inputs: Tensor) -> Any:
        tensors = {v.name: x for v, x in zip(self.program.inputs, inputs, strict=True)}
        for step in self.program.steps:
            out = self.get_submodule(step.results[0])(*(tensors[name] for name in step.inputs))
            tensors.update(zip(step.results, out if isinstance(out, tuple) else (out,), strict=True))
        outputs = {name: tensors[name] for name in self.program.outputs}
        return outputs if len(outputs) > 1 else next(iter(outputs.values()))


def build(step: Step, values: Sequence[Value], modules: Mapping[str, nn.Module]) -> nn.Module:
    operation = OPERATIONS[step.operation]
    return operation.build(*values, **step.options, **({"modules": modules} if operation.shares else {}))


def results_of(step: Step, values: Sequence[Value], module: nn.Module, known: Mapping[str, Value]) -> list[Value]:
    """The values that a step makes, found by running its module for its shapes."""
    gives = OPERATIONS[step.operation].gives
    layout = values[0].layout if gives is None else gives(known, *values, **step.options) if callable(gives) else gives
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    inputs = [example(v).to(device) for v in values]
    with torch.no_grad(), device:
        out = module.eval()(*inputs)
    module.train()
    shapes = [tuple(t.shape) for t in (out if isinstance(out, tuple) else (out,))]
    names = step.results or [""] * len(shapes)
    return [Value(n, s, layout) for n, s in zip(names, shapes, strict=True)]


def example(value: Value, seed: int = 0) -> Tensor:
    """An input of the value's shape."""
    generator = torch.Generator().manual_seed(seed)
    if value.layout == "index":
        return torch.randint(0, 5, value.shape, generator=generator)
    return torch.randn(value.shape, generator=generator, dtype=torch.get_default_dtype())


def example_inputs(program: Program, seed: int = 0) -> tuple[Tensor, ...]:
    """Inputs for a network in float64."""
    made = [example(v, seed + i) for i, v in enumerate(program.inputs)]
    return tuple(x.double() if x.is_floating_point() else x for x in made)

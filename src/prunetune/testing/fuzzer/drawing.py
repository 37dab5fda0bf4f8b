"""Random programs, out of all the operations that are registered."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from torch import nn

from prunetune.testing.fuzzer.programs import (
    LARGEST,
    OPERATIONS,
    WIDEST,
    Dice,
    Options,
    Program,
    Step,
    Value,
    build,
    results_of,
)

LAYOUTS = {
    "image": ((2, 3, 4, 4), (2, 2, 3, 4), (2, 4, 2, 2)),
    "sequence": ((2, 4, 3), (2, 3, 4)),
    "line": ((2, 3, 6),),
    "volume": ((2, 2, 2, 2, 3),),
    "last": ((2, 4, 4, 3),),
    "vector": ((2, 5),),
    "index": ((2, 4),),
}
OFTEN = ("image", "image", "image", "sequence", "sequence", "line", "volume", "last", "vector", "index")


def draw(random: Random, often: Sequence[str] = ()) -> Program:
    """A program of about 3 to 25 steps; a third of them are of the operations `often`, where these fit."""
    maker = _Maker(random, often)
    for _ in range(maker.dice.one_of([1, 1, 1, 2])):
        maker.input()
    for _ in range(maker.dice.one_of(range(2, 20))):
        maker.step()
    return maker.finish()


class _Maker:
    def __init__(self, random: Random, often: Sequence[str]) -> None:
        self.dice, self.often = Dice(random, []), often
        self.inputs: list[Value] = []
        self.known: dict[str, Value] = {}
        self.modules: dict[str, nn.Module] = {}

    def input(self) -> None:
        layout = self.dice.one_of(OFTEN)
        value = Value(f"x{len(self.known)}", self.dice.one_of(LAYOUTS[layout]), layout)
        self.inputs.append(value)
        self._add([value])
        first = {"index": "embedding", "image": "conv", "line": "conv", "volume": "conv"}.get(layout, "linear")
        self._try(first, value)

    def _add(self, values: list[Value]) -> None:
        self.known.update({v.name: v for v in values})
        self.dice.pool.extend(values)

    def step(self) -> None:
        """One more operation; a few tries, as not all operations work on what there is."""
        dice = self.dice
        for _ in range(20):
            name = dice.one_of(self.often) if self.often and dice.chance(1 / 3) else self._operation()
            candidates = [v for v in dice.pool if v.layout in OPERATIONS[name].takes]
            if candidates and self._try(name, dice.value(candidates)):
                return

    def _operation(self) -> str:
        with_weights = self.dice.chance(0.4)
        return str(self.dice.one_of([n for n, o in OPERATIONS.items() if o.has_weights == with_weights]))

    def _try(self, name: str, x: Value) -> bool:
        """Whether a step of this operation, on `x` and random partners, could be added."""
        dice, operation = self.dice, OPERATIONS[name]
        values = [x]
        if operation.partner is not None:
            fitting = [v for v in dice.pool if operation.partner(x, v)]
            if not fitting:
                return False
            values += [dice.one_of(fitting) for _ in range(dice.one_of(operation.partners))]
        options = operation.draw(dice, *values)
        return options is not None and self._append(name, values, options)

    def _append(self, name: str, values: list[Value], options: Options) -> bool:
        """Whether this step runs and makes nothing too large; it belongs to the program then."""
        step = Step((), name, tuple(v.name for v in values), options)
        module = build(step, values, self.modules)
        try:
            results = results_of(step, values, module, self.known)
        except (RuntimeError, ValueError, IndexError):
            return False  # a window larger than the image, for example
        if any(math.prod(r.shape[1:]) > LARGEST or r.channels > WIDEST for r in results):
            return False
        names = tuple(f"x{len(self.known) + i}" for i in range(len(results)))
        named = [Value(n, r.shape, r.layout) for n, r in zip(names, results, strict=True)]
        self.dice.steps.append(Step(names, name, step.inputs, options))
        self.modules[names[0]] = module
        self._add(named)
        return True

    def finish(self) -> Program:
        """One or two outputs that all loose ends meet in: what is computed in vain could hide a wrong cut."""
        dice, ends = self.dice, self.dice.loose()
        outputs = [dice.one_of(ends)] if dice.chance(0.25) else []
        read = [v for v in ends if v not in outputs]
        first = len(read) // 2 if not outputs and dice.chance(0.25) else 0
        for part in (read[:first], read[first:]):
            if part:
                options = {"kind": dice.one_of(["mean", "sum", "amax", "flatten"]), "out": dice.one_of([2, 3, 5])}
                if not self._append("readout", part, options):
                    raise RuntimeError(f"no readout fits {part}")
                outputs.append(dice.pool[-1])
        return Program(tuple(self.inputs), tuple(dice.steps), tuple(v.name for v in outputs))

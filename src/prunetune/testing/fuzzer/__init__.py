"""Random networks out of all the operations, cut at random, and held against the oracle.

`fuzz` does it; `layer` and `function` register a further operation, such as one that has a rule of its own.
"""

from prunetune.testing.fuzzer import operations
from prunetune.testing.fuzzer.checking import Findings, assert_exact, check, check_cut, compare, fuzz
from prunetune.testing.fuzzer.drawing import draw
from prunetune.testing.fuzzer.operations.functions import function
from prunetune.testing.fuzzer.operations.layers import layer
from prunetune.testing.fuzzer.programs import OPERATIONS, Dice, Network, Program, Value, example_inputs
from prunetune.testing.oracle import TOLERANCE, WrongCutError

__all__ = [
    "OPERATIONS",
    "TOLERANCE",
    "Dice",
    "Findings",
    "Network",
    "Program",
    "Value",
    "WrongCutError",
    "assert_exact",
    "check",
    "check_cut",
    "compare",
    "draw",
    "example_inputs",
    "function",
    "fuzz",
    "layer",
    "operations",
]

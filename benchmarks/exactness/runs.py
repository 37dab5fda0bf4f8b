"""One architecture in float64, cut at random and judged by the oracle."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from benchmarks.common.processes import Outcome, Report
from benchmarks.engine.cases import Family
from prunetune import prune
from prunetune.engine import ExampleInputs, PruningPlan
from prunetune.testing import presence
from prunetune.testing.oracle import error_of_architecture, outputs, randomise, relative_error, scale_queries

EXACT = 1e-9
LARGE = 400_000_000
"""Parameters, of which three copies in float64 are too much for a machine with 16 GiB."""
VERDICTS = ("exact", "WRONG", "not judged")
JUDGED = ("classification", "segmentation", "video", "timm", "transformers")


def row(family: str, model: str, verdict: int, values: Mapping[str, Any], reason: str | None) -> dict[str, Any]:
    said = {"family": family, "model": model, "verdict": VERDICTS[verdict], "error": None, "reason": reason}
    return {**said, **values}


def verdict_of(outcome: Outcome) -> int:
    if outcome.failure is not None and outcome.failure.startswith("TooLargeError"):
        return 2
    return int(outcome.failure is not None or not outcome.values["error"] < EXACT)


class TooLargeError(Exception):
    """The model does not fit into memory several times over."""


def judge(family: Family, name: str, report: Report) -> None:
    """Cut one model at random, and report the error of its outputs, relative to the largest."""
    torch.manual_seed(0)
    case = family.build(name)
    if sum(p.numel() for p in case.model.parameters()) > LARGE:
        raise TooLargeError(f"over {LARGE:,} parameters")
    model = randomise(case.model, 0)
    inputs = _smaller(model, pytree.tree_map(_double, case.inputs))
    if hasattr(getattr(model, "config", None), "_experts_implementation"):
        model.config._experts_implementation = "eager"  # the others know no float64
    if isinstance(inputs, dict) and "pixel_values" not in inputs:
        inputs["use_cache"] = False
    inputs = _without_unknown(model, inputs)
    result = prune(model, inputs, scorer="random", ratio=0.5)
    report.add(**_judged(model, result.model, result.plan, inputs))


def _judged(model: nn.Module, pruned: nn.Module, plan: PruningPlan, inputs: ExampleInputs) -> dict[str, Any]:
    """The error and by which oracle: presence, or zeros where that cannot follow the model.

    It has no meaning for an operation, or does not know that a tensor which is made by the width in an attribute has
    gaps, too.
    """
    try:
        with InDouble():
            scaled = copy.deepcopy(model)
            scale_queries(scaled, plan)
            expected = presence.expected(scaled, plan, inputs)
            error = relative_error(expected, outputs(pruned, inputs))
    except (NotImplementedError, presence.Mismatch) as unknown:
        zeros = error_of_architecture(model, pruned, plan, inputs)
        return {"error": zeros, "oracle": "zeros", "why": str(unknown)[:200]}
    return {"error": error, "oracle": "presence"}


class InDouble(TorchFunctionMode):
    """What a model computes in float32 whatever it is given, a norm or rotary positions, it computes in float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.float:
            return args[0].double()
        return func(*map(_doubled, args), **{name: _doubled(each) for name, each in (kwargs or {}).items()})


def _doubled(value: Any) -> Any:
    return torch.float64 if value is torch.float32 else value


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _smaller(model: nn.Module, inputs: Any) -> Any:
    """A crop of the images, if the model takes images of that size; it saves most of the time."""
    if not isinstance(inputs, Tensor) or inputs.ndim != 4:
        return inputs
    crop = inputs[..., :96, :96].contiguous()
    state = copy.deepcopy(model.state_dict())  # with the versions of its modules' formats
    try:
        with torch.no_grad():
            model.train()(crop)
            model.eval()(crop)
    except (RuntimeError, AssertionError, ValueError):
        return inputs
    finally:
        model.load_state_dict(state)  # statistics have moved
        model.eval()
    return crop


def _without_unknown(model: nn.Module, inputs: Any) -> Any:
    """Encoders have no cache to be told about."""
    if isinstance(inputs, dict) and "use_cache" in inputs and not getattr(model.config, "is_decoder", False):
        decoders = ("CausalLM", "LMHead", "ConditionalGeneration")
        if not any(word in type(model).__name__ for word in decoders):
            return {key: value for key, value in inputs.items() if key != "use_cache"}
    return inputs

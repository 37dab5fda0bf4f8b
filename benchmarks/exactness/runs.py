"""One architecture in float64, cut at random and judged by the oracle."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from benchmarks.common.processes import Outcome, Report
from benchmarks.engine.cases import Family
from prunetune import prune
from prunetune.testing.oracle import error_of_architecture, randomise

EXACT = 1e-9
LARGE = 400_000_000
"""Parameters, of which three copies in float64 are too much for a machine with 16 GiB."""
VERDICTS = ("exact", "WRONG", "not judged")
JUDGED = ("classification", "segmentation", "video", "timm", "transformers")
BEYOND_ZEROS = {
    **dict.fromkeys(("davit_tiny", "xcit_nano_12_p16_224", "edgenext_xx_small"), "softmax over channels"),
    "convnextv2_atto": "response normalisation over channels",
    "swinv2_tiny_window8_256": "computes in float32",
}


def row(family: str, model: str, verdict: int, error: float | None, reason: str | None) -> dict[str, Any]:
    return {"family": family, "model": model, "verdict": VERDICTS[verdict], "error": error, "reason": reason}


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
    if isinstance(inputs, dict) and "pixel_values" not in inputs:
        inputs["use_cache"] = False
    inputs = _without_unknown(model, inputs)
    result = prune(model, inputs, scorer="random", ratio=0.5)
    report.add(error=error_of_architecture(model, result.model, result.plan, inputs))


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

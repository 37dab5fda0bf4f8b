"""Whole architectures in float64, cut to half width at random, against the oracle of the tests.

The oracle sets what is removed to zero in the original and lets normalisations across channels see only what stays
(`prunetune.testing.oracle`). What no zeros can express, a softmax or a response normalisation over channels, is marked
so and not judged; `benchmarks.fuzz` judges these operations.
"""

from __future__ import annotations

import argparse
import copy
import fnmatch
import functools
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from benchmarks.common.processes import Outcome, Report, Task, run_all
from benchmarks.engine.cases import FAMILIES, Family
from benchmarks.engine.report import table
from prunetune import prune
from prunetune.record.provenance import machine, versions
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge the models that the command line names; returns 1 if one is not exact."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.exactness", description=__doc__)
    parser.add_argument("--family", nargs="+", choices=JUDGED, default=list(JUDGED), metavar="NAME")
    parser.add_argument("--model", default="*", metavar="GLOB", help="only the models whose names match")
    parser.add_argument("--timeout", type=float, default=300.0, metavar="S", help="seconds a model")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every verdict to this file")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    tasks = [
        Task((name, model), functools.partial(judge, FAMILIES[name], model), options.timeout)
        for name in options.family
        for model in fnmatch.filter(FAMILIES[name].names(), options.model)
        if model not in BEYOND_ZEROS
    ]
    counts = {name: [0, 0, 0] for name in options.family}  # exact, wrong or failed, not judged
    worst = dict.fromkeys(options.family, 0.0)
    found: list[dict[str, Any]] = []
    for task, outcome in run_all(tasks):
        family, model = task.key
        verdict = _verdict(outcome)
        counts[family][verdict] += 1
        error = outcome.values.get("error")
        worst[family] = max(worst[family], error or 0.0)
        said = f"error {error:.1e}" if error is not None else outcome.failure
        print(f"{family:<14} {model:<32} {VERDICTS[verdict]:<10} {said}", flush=True)
        found.append(_row(family, model, verdict, error, outcome.failure))
    for model, reason in BEYOND_ZEROS.items():
        if "timm" in counts and fnmatch.fnmatch(model, options.model):
            counts["timm"][2] += 1
            print(f"{'timm':<14} {model:<32} not judged {reason}")
            found.append(_row("timm", model, 2, None, reason))
    rows = [[name, *counts[name], f"{worst[name]:.1e}"] for name in options.family]
    print(f"\n{table(['family', 'exact', 'wrong', 'not judged', 'largest error'], rows, markdown=False)}")
    if options.json is not None:
        where = {"machine": machine(nn.Linear(1, 1)), "versions": versions(), "seeds": [0]}
        options.json.write_text(json.dumps({"benchmark": "exactness", **where, "models": found}, indent=1) + "\n")
    return int(any(wrong for _, wrong, _ in counts.values()))


def _row(family: str, model: str, verdict: int, error: float | None, reason: str | None) -> dict[str, Any]:
    return {"family": family, "model": model, "verdict": VERDICTS[verdict], "error": error, "reason": reason}


def _verdict(outcome: Outcome) -> int:
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


if __name__ == "__main__":
    sys.exit(main())

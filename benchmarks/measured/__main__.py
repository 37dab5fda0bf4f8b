"""What it costs to measure a rule: `python -m benchmarks.measured`.

Seconds for a quarter of the width, and how many training steps of the full network take as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.common.command import command, provenance, write
from benchmarks.common.tables import table
from benchmarks.gpt.cases import CHARACTERS
from benchmarks.gpt.cases import SCALES as TEXTS
from benchmarks.measured.runs import Batch, factors
from prunetune import prune
from prunetune.engine import fresh_proxy
from prunetune.zoo import models

GPT = TEXTS["cpu"]
EXAMPLES = 32


def _images(source: torch.Generator) -> Batch:
    return torch.randn(EXAMPLES, 3, 32, 32, generator=source), torch.randint(10, (EXAMPLES,), generator=source)


def _pieces(source: torch.Generator) -> Batch:
    found = torch.randint(CHARACTERS, (GPT.batch, GPT.context + 1), generator=source)
    return found[:, :-1], found[:, 1:]


def _sgd(groups: list[dict[str, object]]) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, momentum=0.9, fused=True)


def _adam(groups: list[dict[str, object]]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, fused=True)


class _Flat(nn.Module):
    """A language model whose outputs are classes of single characters."""

    def __init__(self) -> None:
        super().__init__()
        self.model = GPT.build()

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.model(tokens).transpose(1, 2)
        return logits


CASES = {
    "resnet56": (models["resnet56"], _images, _sgd, 0.1),
    "mobilenetv2": (models["mobilenetv2"], _images, _sgd, 0.1),
    "gpt": (_Flat, _pieces, _adam, 2.0**-9),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure each network's rule, and print what it took."""
    options = command("measured", __doc__).parse_args(arguments)
    torch.set_num_threads(1)
    found = {}
    for name, (build, batch, optimizer, rate) in CASES.items():
        inputs, targets = batch(torch.Generator())
        plan = prune(build(), inputs, scorer="uniform", ratio=0.25).plan
        begun = time.process_time()
        factors(build, lambda build=build, plan=plan: fresh_proxy(build, plan), batch, optimizer, rate)
        seconds = time.process_time() - begun
        step = _step_seconds(build, inputs, targets)
        found[name] = {"seconds": seconds, "step_seconds": step, "steps": seconds / step}
    rows = [[name, each["seconds"], 1000 * each["step_seconds"], each["steps"]] for name, each in found.items()]
    head = ("network", "seconds", "step of the full network, ms", "as long as so many steps")
    print(table(head, rows, markdown=options.markdown))
    write(options.json, {"benchmark": "measured", **provenance(load=True), "networks": found})
    return 0


def _step_seconds(build: Callable[[], nn.Module], inputs: torch.Tensor, targets: torch.Tensor, steps: int = 5) -> float:
    """Processor seconds of a training step, the first left out."""
    model = build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    begun = 0.0
    for number in range(steps + 1):
        if number == 1:
            begun = time.process_time()
        optimizer.zero_grad()
        torch.autograd.backward(F.cross_entropy(model(inputs), targets))
        optimizer.step()
    return (time.process_time() - begun) / steps


if __name__ == "__main__":
    raise SystemExit(main())

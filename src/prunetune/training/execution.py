"""How a network is run on its device: number format, memory layout, compilation. What it computes stays the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import torch
from torch import nn

from prunetune.errors import unknown_name

Amp: TypeAlias = Literal["auto", "off", "bf16"]
AMP: Final = ("auto", "off", "bf16")
Forward: TypeAlias = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Execution:
    """How batches go through a network; the defaults are what was measured to be fastest, see decision 18.

    ``amp``: matrix products in bfloat16 (``"bf16"``) or in float32 (``"off"``); ``"auto"`` is bfloat16 on GPUs that
    compute in it, float32 elsewhere. ``channels_last``: convolutions see a pixel's channels side by side. ``compile``:
    training steps run through ``torch.compile``, which takes a minute or more for every architecture and batch size.
    """

    amp: Amp = "auto"
    channels_last: bool = True
    compile: bool = False

    def __post_init__(self) -> None:
        if self.amp not in AMP:
            raise unknown_name("amp", str(self.amp), AMP)

    def bf16(self, device: torch.device) -> bool:
        """Whether matrix products are in bfloat16 on that device."""
        if self.amp == "auto":
            return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return self.amp == "bf16"

    @contextlib.contextmanager
    def prepared(self, model: nn.Module, device: torch.device) -> Iterator[Forward]:
        """The forward pass of ``model`` on ``device``, which gets images and gives logits in float32.

        The model's weights lie as the format asks for as long as this lasts, and in the usual way afterwards.
        """
        model.to(device)
        forward = self.forward(torch.compile(model) if self.compile else model, device)
        if not self.channels_last:
            yield forward
            return
        model.to(memory_format=torch.channels_last)
        try:
            yield forward
        finally:  # also when a trial is stopped: weights are saved and handed on as anybody expects them
            model.to(memory_format=torch.contiguous_format)

    def forward(self, model: Callable[..., torch.Tensor], device: torch.device) -> Forward:
        """The forward pass of ``model``, which is on ``device`` already."""
        layout = torch.channels_last if self.channels_last else torch.contiguous_format

        def run(images: torch.Tensor) -> torch.Tensor:
            with self.autocast(device):
                return model(images.contiguous(memory_format=layout)).to(torch.float32)

        return run

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """The number format of matrix products, for as long as it lasts."""
        if not self.bf16(device):
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=torch.bfloat16)


AS_MEASURED: Final = Execution()


@contextlib.contextmanager
def deterministic(device: torch.device, seed: int) -> Iterator[torch.Generator]:
    """A generator on ``device`` with this seed, while everything else random on it is seeded, too.

    The caller's random numbers go on afterwards as if nothing had been. On a GPU, convolutions use algorithms that
    give the same sums every time.
    """
    devices = [device] if device.type == "cuda" else []
    before = torch.backends.cudnn.deterministic
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)  # for modules that draw random numbers themselves, such as dropout
        torch.backends.cudnn.deterministic = True
        try:
            yield torch.Generator(device).manual_seed(seed)
        finally:
            torch.backends.cudnn.deterministic = before

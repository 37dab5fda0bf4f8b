"""How a device computes is an option; what is computed, and what is left behind, is not."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from prunetune.data import ImageData, datasets
from prunetune.errors import InputError
from prunetune.record.folder import RunFolder, write_weights
from prunetune.training import Execution, ImageClassification
from prunetune.training.execution import deterministic
from prunetune.training.image_classification import accuracy
from prunetune.zoo import models

CPU = torch.device("cpu")
PLAIN = Execution(amp="off", channels_last=False)


class Report:
    """Stands in for the tuner's."""

    resolution = data = 1.0

    def __init__(self, epochs: int = 1, seed: int = 0, *, stop: bool = False) -> None:
        self.epochs, self.seed, self.stop = epochs, seed, stop

    def param_groups(self, model: nn.Module, *, lr: float, weight_decay: float) -> list[dict[str, Any]]:
        return [{"params": list(model.parameters()), "lr": lr, "weight_decay": weight_decay}]

    def __call__(self, score: float, epoch: int) -> None:
        if self.stop:
            raise StopIteration


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return datasets["digits"].load(16, None, 0)


class Watched(nn.Module):
    """A convolution, a batch norm and a linear layer; notes what it is given and how it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Linear(8, 10)
        self.weights_last: list[bool] = []
        self.dtypes: set[tuple[bool, torch.dtype]] = set()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.weights_last.append(self.conv.weight.is_contiguous(memory_format=torch.channels_last))
        features = self.norm(self.conv(images)).relu().mean((2, 3))
        logits: torch.Tensor = self.linear(features)
        self.dtypes.add((self.training, logits.dtype))
        return logits


def colours(images: int = 4) -> torch.Tensor:
    return torch.randn(images, 3, 8, 8)


def test_images_lie_as_the_format_asks_for() -> None:
    def is_last(images: torch.Tensor) -> torch.Tensor:
        return torch.tensor([images.is_contiguous(memory_format=torch.channels_last)])

    assert Execution().forward(is_last, CPU)(colours()).item() == 1
    assert PLAIN.forward(is_last, CPU)(colours()).item() == 0


@pytest.mark.parametrize("stop", [False, True])
def test_weights_are_as_anybody_expects_them_afterwards(digits: ImageData, stop: bool, tmp_path: Path) -> None:
    """Also where a trial was stopped: they can be saved, and the same in bytes as ones that never moved."""
    model = models["resnet8"](10, 1)
    try:
        ImageClassification(digits)(model, {"batch_size": 512}, Report(stop=stop))  # type: ignore[arg-type]
    except StopIteration:
        assert stop
    assert all(parameter.stride() == torch.empty(parameter.shape).stride() for parameter in model.parameters())
    with RunFolder(tmp_path / "run") as folder:
        write_weights(model, folder.trial_weights(0))


@pytest.mark.parametrize("last", [False, True])
def test_weights_lie_as_the_format_asks_for_in_training(digits: ImageData, last: bool) -> None:
    model = Watched()
    job = ImageClassification(digits, execution=Execution(channels_last=last))
    model.conv = nn.Conv2d(1, 8, (3, 2))
    three = nn.Conv2d(3, 8, 3)  # with one input channel both layouts are the same
    model.add_module("three", three)
    layouts: list[bool] = []
    model.register_forward_pre_hook(
        lambda *_: layouts.append(three.weight.is_contiguous(memory_format=torch.channels_last))
    )
    job(model, {"batch_size": 512}, Report())  # type: ignore[arg-type]
    assert set(layouts) == {last}


def test_the_layout_does_not_change_what_is_learned(digits: ImageData) -> None:
    trained = []
    for execution in (PLAIN, Execution()):
        torch.manual_seed(0)
        model = models["resnet8"](10, 1)
        ImageClassification(digits, execution=execution)(model, {"batch_size": 512}, Report())  # type: ignore[arg-type]
        trained.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(trained[0], trained[1], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("amp", "dtype"), [("auto", torch.float32), ("off", torch.float32), ("bf16", torch.bfloat16)])
def test_bf16_is_for_products_and_only_where_it_is_asked_for(digits: ImageData, amp: str, dtype: torch.dtype) -> None:
    """In training as in evaluation; weights, gradients and the loss stay float32."""
    model = Watched()
    execution = Execution(amp=amp)  # type: ignore[arg-type]
    score = ImageClassification(digits, execution=execution)(model, {"batch_size": 128}, Report(2))  # type: ignore[arg-type]
    assert model.dtypes == {(True, dtype), (False, dtype)}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert score == accuracy(model, digits, "val", execution)
    assert execution.forward(model, CPU)(torch.randn(2, 1, 16, 16)).dtype == torch.float32


def test_bf16_learns_as_well() -> None:
    digits, scores = datasets["digits"].load(8, None, 0), []
    for amp in ("off", "bf16"):
        torch.manual_seed(0)
        job = ImageClassification(digits, execution=Execution(amp=amp))  # type: ignore[arg-type]
        scores.append(job(models["resnet8"](10, 1), {"learning_rate": 0.1, "batch_size": 32}, Report(2)))  # type: ignore[arg-type]
    assert min(scores) > 0.5  # a guess has 0.1
    assert abs(scores[0] - scores[1]) < 0.15


def test_auto_takes_bf16_on_gpus_that_compute_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    for able in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, able=able: able)
        assert Execution().bf16(gpu) is able
    assert Execution("bf16").bf16(gpu)
    assert not Execution("off").bf16(gpu)
    assert not Execution().bf16(torch.device("mps"))


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(InputError, match="unknown amp 'fp16' .*known: auto, bf16, off"):
        Execution(amp="fp16")  # type: ignore[arg-type]


def test_training_steps_are_compiled_and_do_the_same(digits: ImageData, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a backend that runs what was traced as it is: what a compiler makes of it is the compiler's business."""
    compiled: list[nn.Module] = []
    compile_ = functools.partial(torch.compile, backend="eager")

    def counted(model: nn.Module) -> object:
        compiled.append(model)
        return compile_(model)

    monkeypatch.setattr(torch, "compile", counted)
    trained = []
    for execution in (Execution(), Execution(compile=True)):
        torch.manual_seed(0)
        model = models["resnet8"](10, 1)
        ImageClassification(digits, execution=execution)(model, {"batch_size": 512}, Report())  # type: ignore[arg-type]
        trained.append(model)
    assert compiled == trained[1:]
    for one, other in zip(trained[0].parameters(), trained[1].parameters(), strict=True):
        torch.testing.assert_close(one, other)
    assert list(trained[1].state_dict()) == list(trained[0].state_dict())  # no _orig_mod


def test_trials_share_the_images(digits: ImageData) -> None:
    """They lie there once, as bytes, and no trial changes them."""
    job = ImageClassification(digits)
    before = digits.train_images.clone()
    for seed in (0, 1):
        job(models["resnet8"](10, 1), {"batch_size": 512}, Report(seed=seed))  # type: ignore[arg-type]
    assert job.data is digits
    assert digits.to("cpu").train_images.data_ptr() == digits.train_images.data_ptr()
    assert digits.train_images.dtype == torch.uint8
    assert torch.equal(digits.train_images, before)


def test_convolutions_are_deterministic_for_as_long_as_it_takes() -> None:
    assert not torch.backends.cudnn.deterministic
    with deterministic(CPU, 3) as generator:
        assert torch.backends.cudnn.deterministic
        drawn = torch.rand(3, generator=generator)
        here = torch.rand(3)
    assert not torch.backends.cudnn.deterministic
    assert torch.equal(drawn, torch.rand(3, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(here, drawn)

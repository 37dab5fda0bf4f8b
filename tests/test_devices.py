"""The same on every device that there is: cut, scored, trained, searched; on a GPU nothing in a step waits for it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import prunetune
from prunetune.data import ImageData, datasets
from prunetune.engine import fresh_proxy, step_time
from prunetune.pruning.isolated_timing import step_timer
from prunetune.training import Hyperparameters, ImageClassification
from prunetune.training.execution import Execution, deterministic
from prunetune.training.image_classification import Training
from prunetune.training.schedules import step
from prunetune.zoo import models

DEVICES = [torch.device("cpu"), *([torch.device("cuda", 0)] if torch.cuda.is_available() else [])]

pytestmark = pytest.mark.parametrize("device", DEVICES, ids=str)


def network(device: torch.device, name: str = "resnet8", channels: int = 1) -> nn.Module:
    torch.manual_seed(0)
    return models[name](10, channels).to(device)


@pytest.fixture(scope="module")
def digits() -> ImageData:
    data = datasets["digits"].load(8, None, 0)
    return replace(data, train_images=data.train_images[:256], train_labels=data.train_labels[:256])


@contextlib.contextmanager
def never_waiting(device: torch.device) -> Iterator[None]:
    """On a GPU, whatever waits for it raises."""
    if device.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("scorer", ["magnitude", "fpgm", "uniform", "merging", "synflow-iterative"])
def test_what_is_cut_does_not_depend_on_the_device(device: torch.device, scorer: str) -> None:
    plans = [
        prunetune.prune(network(d), torch.zeros(2, 1, 16, 16, device=d), scorer=scorer, ratio=0.5).plan
        for d in (torch.device("cpu"), device)
    ]
    assert plans[0].to_json() == plans[1].to_json()


def test_a_cut_network_stays_where_it_was_and_computes_what_it_does_elsewhere(device: torch.device) -> None:
    images = torch.randn(4, 1, 16, 16)
    proxy = prunetune.prune(network(device), images, scorer="magnitude", flops=0.3).model.eval()
    assert {t.device for t in (*proxy.parameters(), *proxy.buffers())} == {device}
    there = proxy.double()(images.double().to(device)).detach().cpu()
    torch.testing.assert_close(there, proxy.cpu()(images.double()), rtol=1e-9, atol=1e-9)


def test_fresh_proxies_begin_on_the_device_of_the_network_that_they_are_of(device: torch.device) -> None:
    plan = prunetune.prune(network(device), torch.zeros(2, 1, 16, 16), scorer="uniform", ratio=0.25).plan
    proxy = fresh_proxy(lambda: network(device), plan)
    assert {p.device for p in proxy.parameters()} == {device}


def test_steps_are_timed_on_the_device(device: torch.device) -> None:
    base = network(device)
    images = torch.zeros(16, 1, 16, 16)
    result = prunetune.prune(base, images, scorer="uniform", ratio=0.5)
    times = step_time({"base": base, "proxy": result.model}, images, seconds=0.1)
    assert all(0 < seconds < 60 for seconds in times.values())
    with step_timer(base, images) as timer:
        assert all(0 < seconds < 60 for seconds in timer(result.model, seconds=0.1))


def test_nothing_in_a_training_step_waits_for_the_device(device: torch.device, digits: ImageData) -> None:
    data = digits.to(device)
    model = network(device).train()
    execution = Execution()
    with execution.prepared(model, device) as forward, deterministic(device, 0) as generator:
        sgd = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)
        for group in sgd.param_groups:
            group["initial_lr"] = group["lr"]
        training = Training(data, forward, sgd, Hyperparameters(), step, generator)
        batch = torch.arange(32, device=device)
        training.step(batch)  # the first one allocates and chooses kernels
        with never_waiting(device):
            losses = [training.step(batch) for _ in range(3)]
    assert all(math.isfinite(loss.item()) for loss in losses)
    assert losses[-1] < losses[0]  # it sees the same images each time


def test_one_seed_gives_one_result(device: torch.device, digits: ImageData) -> None:
    class Report:
        epochs, seed = 2, 3
        resolution = data = 1.0

        def param_groups(self, model: nn.Module, *, lr: float, weight_decay: float) -> list[dict[str, Any]]:
            return [{"params": list(model.parameters()), "lr": lr, "weight_decay": weight_decay}]

        def __call__(self, score: float, epoch: int) -> None:
            pass

    scores = []
    for _ in range(2):
        model = network(device)
        ImageClassification(digits.to(device))(model, {"batch_size": 32}, Report())  # type: ignore[arg-type]
        scores.append(torch.cat([p.detach().flatten() for p in model.parameters()]).cpu())
    assert torch.equal(*scores)


def test_a_whole_search(device: torch.device, digits: ImageData, tmp_path: Path) -> None:
    data = digits.to(device)
    job = ImageClassification(data)
    result = prunetune.tune(
        lambda: network(device),
        job,
        {"learning_rate": prunetune.Float(1e-2, 0.3, log=True), "batch_size": prunetune.Categorical([32, 64])},
        example_inputs=data.normalize(data.train_images[:16]),
        epochs=2,
        run_dir=tmp_path / "run",
        pruning=prunetune.Pruning(scorer="uniform", ratio=0.5),
        search=prunetune.Search(direction="maximize", n_trials=2, confirm=1),
        evaluate=job.evaluate,
    )
    assert 0 <= result.score <= 1
    assert set(result.record["test"]) == {"accuracy"}
    model = network(device)
    result.load_weights(model)
    assert job.evaluate(model)["accuracy"] == result.record["test"]["accuracy"]

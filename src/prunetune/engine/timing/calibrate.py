"""A model of step times, fitted to the device it is asked for."""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor, nn

from prunetune.engine.cost import Clock, training_step
from prunetune.engine.dependency import DependencyGraph
from prunetune.engine.timing.micro_networks import micro_networks
from prunetune.engine.timing.model import Demand, StepTimeModel, demand, fit

LEAST_ROUNDS = 2


def calibrate(
    device: torch.device | str = "cpu",
    *,
    seconds: float = 10.0,
    dtype: torch.dtype = torch.float32,
    clock: Clock = time.perf_counter,
) -> StepTimeModel:
    """How long training steps take on `device`: what a hundred small networks took, fitted.

    Parameters
    ----------
    seconds
        About as long as it takes; each network runs three times at least.
    clock
        Gives seconds. `time.process_time` does not count what other processes do meanwhile.
    """
    device = torch.device(device)
    deadline = time.perf_counter() + seconds
    demands: list[Demand] = []
    networks: list[tuple[nn.Module, Tensor, list[float]]] = []
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
        torch.manual_seed(0)
        for network, shape in micro_networks():
            demands.append(
                demand(DependencyGraph.of(network, torch.empty(shape, device="meta")), itemsize=dtype.itemsize)
            )
            network = network.to(device, dtype).train()
            networks.append((network, torch.randn(shape, device=device, dtype=dtype), []))
            training_step(network, networks[-1][1:2], {}, device, clock)  # warm-up
        # Networks take turns, so that none finds the memory that it has just returned.
        while time.perf_counter() < deadline or len(networks[-1][2]) < LEAST_ROUNDS:
            for network, inputs, times in networks:
                times.append(training_step(network, (inputs,), {}, device, clock))
    medians = [statistics.median(times) for _, _, times in networks]
    return StepTimeModel(fit(demands, medians), str(device), str(dtype).removeprefix("torch."), dtype.itemsize)


__all__ = ["calibrate"]

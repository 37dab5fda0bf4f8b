"""The seconds of a training step of any cut, predicted from what its operations have to do.

A model of a device has, for every kind of operation, seconds a unit of everything that takes time: a call, a floating
point operation, an element read or written. They are fitted to small networks that ran on the device
(`calibration.py`); see `docs/decisions/0012-step-time.md`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from prunetune.engine.dependency import DependencyGraph
from prunetune.engine.timing.work import Count, Work, work_of
from prunetune.errors import InputError

Demand: TypeAlias = Mapping[tuple[str, str], float]
"""How much of everything a network needs: (kind of operation, quantity) → number."""

BLOCK = 8
"""Channels that kernels of convolutions take at once: nine take as long as sixteen."""

LARGE = 32 * 2**20
"""Bytes from which on the C library asks the system for every tensor anew, which then clears its pages."""

ROUNDS = 10
NOISE = 0.03
"""Relative error that a measurement has anyway: below it, errors of a fit are all alike."""


@dataclass(frozen=True)
class StepTimeModel:
    """How long training steps take on a device. Made by `calibrate`.

    >>> model = StepTimeModel({"product": {"flops": 1e-9, "call": 1e-6}}, device="cpu", dtype="float32", itemsize=4)
    >>> model == StepTimeModel.from_dict(model.to_dict())
    True
    """

    seconds: Mapping[str, Mapping[str, float]]
    """For every kind of operation, seconds a unit of each quantity."""
    device: str
    dtype: str
    itemsize: int
    """Bytes an element."""
    scale: float = 1.0
    """What predictions are multiplied by, see `anchored`."""

    def predict(self, graph: DependencyGraph, keep: NDArray[np.bool_] | None = None) -> float:
        """Seconds of a training step (forward and backward) of the network, on the inputs it was analysed with.

        Parameters
        ----------
        keep
            Which units stay, shape (graph.unit_count + 1,); all unless it is given.
        """
        return self.seconds_for(demand(graph, keep, itemsize=self.itemsize))

    def seconds_for(self, needed: Demand) -> float:
        """Seconds for so much work."""
        return self.scale * sum(self.seconds.get(kind, {}).get(name, 0.0) * n for (kind, name), n in needed.items())

    def anchored(self, graph: DependencyGraph, measured: float) -> StepTimeModel:
        """The model that predicts `measured` seconds for the full network, and its cuts in proportion."""
        if not measured > 0:
            raise InputError(f"a step takes more than 0 seconds; got {measured}")
        return replace(self, scale=self.scale * measured / self.predict(graph))

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        seconds = {kind: dict(values) for kind, values in self.seconds.items()}
        return {
            "seconds": seconds, "device": self.device, "dtype": self.dtype, "itemsize": self.itemsize,
            "scale": self.scale,
        }  # fmt: skip

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> StepTimeModel:
        """What `to_dict` made."""
        try:
            return StepTimeModel(**values)
        except TypeError as error:
            raise InputError(f"this is no model of step times: {error}") from error


def demand(graph: DependencyGraph, keep: NDArray[np.bool_] | None = None, *, itemsize: int = 4) -> Demand:
    """How much of everything a training step of a cut needs."""
    stays = np.ones(graph.unit_count + 1, dtype=bool) if keep is None else keep.copy()
    stays[0] = True
    count = Count(stays)
    total: dict[tuple[str, str], float] = defaultdict(float)
    for work in work_of(graph):
        kind, quantities = _needs(work, count, LARGE // itemsize)
        for name, n in quantities.items():
            total[kind, name] += work.share * n
    return total


def _needs(work: Work, count: Count, large: int) -> tuple[str, dict[str, float]]:
    """Kind and quantities of one operation; the kind of a convolution depends on what is left of it."""
    read, written = [count(s) for s in work.read], [count(s) for s in work.written]
    needs: dict[str, float] = {"call": 1, "read": sum(read), "written": sum(written)}
    needs["large"] = sum(n for n in (*read, *written) if n >= large)
    if work.flops:
        needs["flops"] = count.sum(work.flops)
        needs["weights"] = count.sum(work.weights)
    if work.pairs is not None:
        needs["pairs"] = count(work.pairs)
    if work.widths is None:
        return work.kind, needs
    channels, group, out = map(count, work.widths)
    if group == 1 < channels:
        return "depthwise convolution", needs
    of_group = max(1, out * group // channels)
    needs["padded flops"] = needs["flops"] * _padded(group) / group * _padded(of_group) / of_group
    if group < channels:
        return "grouped convolution", needs
    return "pointwise convolution" if work.taps == 1 else "convolution", needs


def _padded(channels: int) -> int:
    return -(-channels // BLOCK) * BLOCK


def fit(demands: Sequence[Demand], seconds: Sequence[float]) -> dict[str, dict[str, float]]:
    """Seconds a unit of every quantity, none negative, for the least sum of relative errors.

    Least squares (Lawson and Hanson's algorithm for coefficients that are not negative), weighted anew in each round so
    that errors count by their size and not by their square: a step that something else interrupted has little say.
    """
    names = sorted({name for needed in demands for name, n in needed.items() if n})
    table = np.array([[needed.get(name, 0.0) for name in names] for needed in demands])
    table /= np.asarray(seconds)[:, None]
    unit = table.max(axis=0)
    table /= unit  # coefficients of one magnitude
    weights = np.ones(len(demands))
    for _ in range(ROUNDS):
        found, _ = nnls(table * weights[:, None], weights)
        weights = 1 / np.sqrt(np.maximum(np.abs(table @ found - 1), NOISE))
    result: dict[str, dict[str, float]] = {}
    for (kind, name), value in zip(names, found / unit, strict=True):
        if value:
            result.setdefault(kind, {})[name] = float(value)
    return result


__all__ = ["StepTimeModel", "demand", "fit"]

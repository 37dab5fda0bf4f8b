"""The seconds of training steps in a process of their own.

How long a step takes on a CPU depends on what its process has allocated before: glibc gives large blocks back to the
system, and faults their pages in again at the next step, unless a process has freed such blocks already, as scoring
and cutting do. What counts is a process that trains, so that is what is measured: one that does nothing else, and that
keeps what is freed, as ours do (`prunetune._utils.malloc`).
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import cloudpickle
import torch
from torch import nn

from prunetune._utils.malloc import keep_freed_memory
from prunetune.engine import ExampleInputs, step_time
from prunetune.engine.cost import Clock
from prunetune.errors import warn_caller


def fresh_step_time(
    models: Mapping[str, nn.Module], inputs: ExampleInputs, *, seconds: float, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """`engine.step_time`, in a process that has done nothing else; on other devices than CPUs in this one.

    Warns, and measures in this process, where the models cannot go to another.
    """
    if any(p.device.type != "cpu" for model in models.values() for p in model.parameters()):
        return step_time(models, inputs, seconds=seconds, clock=clock)  # torch's own allocator keeps what it has
    try:
        return _elsewhere(models, inputs, seconds, clock)
    except _CannotGoError as error:
        warn_caller(f"steps are timed in this process, which can be 15 % off: {error}")
        return step_time(models, inputs, seconds=seconds, clock=clock)


class _CannotGoError(Exception):
    """Why the models were not measured in another process."""


def _elsewhere(
    models: Mapping[str, nn.Module], inputs: ExampleInputs, seconds: float, clock: Clock
) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="prunetune-") as folder:
        order, answer = Path(folder, "order"), Path(folder, "answer")
        try:
            # by value where a class or function is of `__main__`, which the other process does not have
            order.write_bytes(cloudpickle.dumps((dict(models), inputs, seconds, clock, torch.get_num_threads())))
        except Exception as error:  # whatever a user's objects raise
            raise _CannotGoError(f"the model cannot be pickled ({type(error).__name__}: {error})") from error
        command = [sys.executable, "-m", __name__, str(order), str(answer)]
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, encoding="utf-8", errors="replace"
        )
        if done.returncode or not answer.exists():
            last = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            raise _CannotGoError(f"the process that was to time them failed ({last})")
        times: dict[str, float] = pickle.loads(answer.read_bytes())
        return times


def main(order: str, answer: str) -> None:
    """What the other process does."""
    models, inputs, seconds, clock, threads = pickle.loads(Path(order).read_bytes())
    torch.set_num_threads(threads)
    keep_freed_memory()
    Path(answer).write_bytes(pickle.dumps(step_time(models, inputs, seconds=seconds, clock=clock)))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The seconds of training steps of a network and of one candidate after another, in a process of their own.

How long a step takes on a CPU depends on what its process has allocated before: glibc gives large blocks back to the
system, and faults their pages in again at the next step, unless a process has freed such blocks already, as scoring
and cutting do. What counts is a process that trains, so that is what is measured: one that does nothing else, and that
keeps what is freed, as ours do (`prunetune._utils.malloc`). It stays until all candidates are timed.
"""

from __future__ import annotations

import os
import pickle
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import IO, Any, Protocol

import cloudpickle
import torch
from torch import nn

from prunetune._utils.malloc import keep_freed_memory
from prunetune.engine import ExampleInputs
from prunetune.engine.cost import Clock, training_step
from prunetune.engine.surroundings import set_aside
from prunetune.engine.tracing.copies import copy_with
from prunetune.engine.tracing.trace import call_arguments, to_device
from prunetune.errors import warn_caller

STEPS = 2
"""Of a candidate in a turn: it takes a fraction of the full network's time."""
ENOUGH = 2
"""Steps of a full network that takes long."""
RECENT = 5
"""Steps of the full network, of which the median counts."""
MOST_TURNS = 50
"""A median of more is no better."""


class Stepper(Protocol):
    """Runs training steps; the full network's first, then those of the candidate that it was given last."""

    def __call__(
        self, candidate: nn.Module | None, *, beside_base: bool, seconds: float
    ) -> tuple[list[float], list[float]]:
        """Seconds of steps of the full network and of the candidate, in turns for about so long.

        A candidate of None is the last one again; the full network has none unless `beside_base`.
        """


class HereStepper:
    """Runs the steps in this process: of copies, so that weights, buffers and the random state stay as they are."""

    def __init__(self, base: nn.Module, inputs: ExampleInputs, clock: Clock) -> None:
        self._device = next((p.device for p in base.parameters()), torch.device("cpu"))
        self._arguments = call_arguments(to_device(inputs, self._device))
        self._clock = clock
        self._base, self._candidate = copy_with(base, {}).train(), base
        self._warm = False

    def __call__(
        self, candidate: nn.Module | None, *, beside_base: bool, seconds: float
    ) -> tuple[list[float], list[float]]:
        """As `Stepper` says."""
        with ExitStack() as stack:
            stack.enter_context(torch.enable_grad())
            if candidate is not None:
                self._candidate = copy_with(candidate, {}).train()
            for model in (self._base, self._candidate):
                stack.enter_context(set_aside(model))
            if beside_base and not self._warm:
                self._step(self._base)
                self._warm = True
            return self._turns(beside_base, time.perf_counter() + seconds)

    def _turns(self, beside_base: bool, deadline: float) -> tuple[list[float], list[float]]:
        base: list[float] = []
        own: list[float] = []
        while not own or (time.perf_counter() < deadline and len(own) < MOST_TURNS * STEPS):
            if beside_base:
                base.append(self._step(self._base))
            own += [self._step(self._candidate) for _ in range(STEPS)]
        return base, own

    def _step(self, model: nn.Module) -> float:
        args, kwargs = self._arguments
        return training_step(model, args, kwargs, self._device, self._clock)


class ElsewhereStepper:
    """Has a process that does nothing else run the steps."""

    def __init__(
        self, base: nn.Module, inputs: ExampleInputs, process: subprocess.Popen[bytes], errors: IO[bytes]
    ) -> None:
        self._first: tuple[Any, ...] | None = (base, inputs, torch.get_num_threads())
        self._process, self._errors = process, errors

    def __call__(
        self, candidate: nn.Module | None, *, beside_base: bool, seconds: float
    ) -> tuple[list[float], list[float]]:
        """As `Stepper` says. Raises _CannotGoError where the candidate cannot be pickled or the process fails."""
        if self._first is not None:
            self._send(self._first)
            self._first = None
        self._send((candidate, {"beside_base": beside_base, "seconds": seconds}))
        assert self._process.stdout is not None
        try:
            times: tuple[list[float], list[float]] = pickle.load(self._process.stdout)
        except (EOFError, pickle.UnpicklingError) as error:
            raise self._failure() from error
        return times

    def _send(self, message: Any) -> None:
        """Hand over `message`; by value what is of `__main__`, which the other process does not have."""
        assert self._process.stdin is not None
        try:
            packed = cloudpickle.dumps(message)
        except Exception as error:  # whatever a user's objects raise
            raise _CannotGoError(f"the model cannot be pickled ({type(error).__name__}: {error})") from error
        try:
            self._process.stdin.write(packed)
            self._process.stdin.flush()
        except OSError as error:
            raise self._failure() from error

    def _failure(self) -> _CannotGoError:
        status = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return _CannotGoError(f"the process that was to time them failed ({(lines or [f'exit status {status}'])[-1]})")


class _CannotGoError(Exception):
    """Why the models were not measured in another process."""


class StepTimer:
    """Times candidates against the full network, whose steps count for all of them."""

    def __init__(self, base: nn.Module, inputs: ExampleInputs, stepper: Stepper | None) -> None:
        self._base, self._inputs = base, inputs
        self._stepper = stepper or HereStepper(base, inputs, clock_for(base))
        self._seconds: list[float] = []
        self._own: list[float] = []

    def __call__(self, candidate: nn.Module, *, again: bool = False, seconds: float) -> tuple[float, float]:
        """Median seconds of a step of the full network and of `candidate`; `again` adds to what was measured of it.

        The full network is timed beside all candidates where its step takes less than `seconds`, for what else the
        machine does changes; else beside the first, and beside those that are measured again, until it has `ENOUGH`.
        """
        slow = bool(self._seconds) and statistics.median(self._seconds) >= seconds
        beside = len(self._seconds) < (ENOUGH if again else 1) if slow else True
        try:
            base, own = self._stepper(None if again else candidate, beside_base=beside, seconds=seconds)
        except _CannotGoError as error:
            warn_caller(f"steps are timed in this process, which can be 15 % off: {error}")
            self._stepper, self._seconds, again = (
                HereStepper(self._base, self._inputs, clock_for(self._base)),
                [],
                False,
            )
            base, own = self._stepper(candidate, beside_base=True, seconds=seconds)
        self._seconds = [*self._seconds, *base][-RECENT:]
        self._own = [*self._own, *own] if again else own
        return statistics.median(self._seconds), statistics.median(self._own)


@contextmanager
def step_timer(base: nn.Module, inputs: ExampleInputs) -> Iterator[StepTimer]:
    """A timer of training steps on the device that `base` is on; on CPUs in a process that does nothing else.

    It warns, and measures in this process, where the models cannot go to another.
    """
    if any(p.device.type != "cpu" for p in base.parameters()):
        yield StepTimer(base, inputs, None)  # torch's own allocator keeps what it has
        return
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [sys.executable, "-m", __name__],
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        try:
            yield StepTimer(base, inputs, ElsewhereStepper(base, inputs, process, errors))
        finally:
            process.kill()
            assert process.stdin is not None
            with suppress(OSError):  # what it did not read any more
                process.stdin.close()


def clock_for(model: nn.Module) -> Clock:
    """On one thread of a CPU the process's own time, which others that compute do not lengthen; else the wall's."""
    alone = torch.get_num_threads() == 1 and all(p.device.type == "cpu" for p in model.parameters())
    return time.process_time if alone else time.perf_counter


def main() -> None:
    """What the other process does: it answers until it is killed or nobody asks any more."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a model prints is no answer
    keep_freed_memory()
    base, inputs, threads = pickle.load(sys.stdin.buffer)
    torch.set_num_threads(threads)
    stepper = HereStepper(base, inputs, clock_for(base))
    while True:
        try:
            candidate, how = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(stepper(candidate, **how), answers)
        answers.flush()


if __name__ == "__main__":
    main()

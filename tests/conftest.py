"""Threads: as many as there are cores, shared among the processes that run tests."""

from __future__ import annotations

import os

# Before torch is imported: on a busy machine, threads that spin while they wait make training steps much slower.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

import functools
import signal

import pytest
import torch

import prunetune.engine

THREADS = max(1, (os.cpu_count() or 1) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))
torch.set_num_threads(THREADS)
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))  # of the processes that tests start
STEP_TIME = prunetune.engine.step_time


@pytest.fixture(autouse=True)
def _ctrl_c() -> None:
    """As Python has it, for tests of Ctrl-C: background jobs ignore it, and `prunetune.__main__` gives it up."""
    if signal.getsignal(signal.SIGINT) in (signal.SIG_IGN, signal.SIG_DFL):
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _steps_timed_shortly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of runs in this process, whose step times only have to be there; those that are about them call it themselves."""
    if prunetune.engine.step_time is STEP_TIME:  # and no other fixture's
        monkeypatch.setattr(prunetune.engine, "step_time", functools.partial(STEP_TIME, seconds=0.1))

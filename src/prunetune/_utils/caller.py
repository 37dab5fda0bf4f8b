"""What is the caller's: the state of the random generators, and how numpy treats errors of arithmetic."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Final

import numpy as np
import torch

_NUMPYS: Final[dict[str, Any]] = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
_errors: ContextVar[Any] = ContextVar("numpy's error handling, the caller's", default=None)


def seed_all(seed: int) -> None:
    """Seed ``random``, ``numpy.random`` and ``torch``, on all devices.

    Parameters
    ----------
    seed
        For example ``report.seed``, with which a trial's initial weights are drawn.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed % 2**64)


@contextlib.contextmanager
def given_back() -> Iterator[None]:
    """After the block the random generators are as before; in it numpy treats errors as it does by default.

    Optimizers count on the latter: an underflow is nothing to them. See ``as_the_caller``.
    """
    token = _errors.set(np.geterr() if _errors.get() is None else _errors.get())
    try:
        with random_state_kept(), np.errstate(**_NUMPYS):
            yield
    finally:
        _errors.reset(token)


def as_the_caller() -> contextlib.AbstractContextManager[Any]:
    """The block is the caller's own code: numpy treats errors as it did outside of ``given_back``."""
    return np.errstate(**(_errors.get() or np.geterr()))


@contextlib.contextmanager
def random_state_kept() -> Iterator[None]:
    """After the block ``random``, ``numpy.random`` and ``torch`` go on as if it had not been."""
    of_python, of_numpy, of_torch = random.getstate(), np.random.get_state(), torch.get_rng_state()
    seed = torch.initial_seed()
    of_gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None  # type: ignore[no-untyped-call]
    of_mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)
        torch.set_rng_state(of_torch)
        if of_gpus is not None:
            torch.cuda.set_rng_state_all(of_gpus)
        elif not torch.cuda._is_in_bad_fork():
            torch.cuda.manual_seed_all(seed)  # what torch.manual_seed gave them; waits until somebody uses one
        if of_mps is not None:
            torch.mps.set_rng_state(of_mps)

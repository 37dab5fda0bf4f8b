"""Calls in several processes at a time."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

Result = TypeVar("Result")


def processes(jobs: int, prepare: Callable[[], None] | None = None) -> ProcessPoolExecutor:
    """So many fresh processes, each of which calls ``prepare`` first."""
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), prepare)


def as_they_end(
    function: Callable[..., Result],
    calls: Iterable[tuple[Any, ...]],
    jobs: int,
    prepare: Callable[[], None] | None = None,
) -> Iterator[Result]:
    """The results of calling ``function`` with each of these arguments, as they come.

    With one job the calls run one after the other in this process, and arguments are drawn when they are needed. A
    caller that stops asking cancels what has not begun.
    """
    if jobs == 1:
        if prepare is not None:
            prepare()
        yield from (function(*arguments) for arguments in calls)
        return
    with processes(jobs, prepare) as pool:
        try:
            for ended in as_completed([pool.submit(function, *arguments) for arguments in calls]):
                yield ended.result()
        finally:
            pool.shutdown(cancel_futures=True)

"""Who watches a job that was started from Python: the observer that was given, or the terminal."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from prunetune.console import summary
from prunetune.console.display import Terminal
from prunetune.console.progress import show_progress
from prunetune.events import Event, Observer

if TYPE_CHECKING:
    from rich.console import Console


class Watching:
    """The observer of a job, for a ``with`` block around it: ``observer``, or without one the view on the terminal.

    Where there is none (a pipe, a notebook) the view is plain lines, on standard error but in notebooks, where that is
    for errors. Ctrl-C is told in a sentence, and its traceback ends here: what is further in is not the user's code.
    """

    def __init__(self, observer: Observer | None, goes_on: str) -> None:
        self._given = observer
        self._goes_on = goes_on
        self._stack = ExitStack()
        self._console: Console | None = None

    def __enter__(self) -> Self:
        if self._given is None:
            self._console = _console()
            self._observer: Observer = self._stack.enter_context(show_progress(self._console))
        else:
            self._observer = self._given
        return self

    def __call__(self, event: Event) -> None:
        """Pass ``event`` on."""
        self._observer(event)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()
        if isinstance(error, KeyboardInterrupt):
            error.args = (self._goes_on,)
            raise error.with_traceback(None) from None

    def sum_up(self, kind: Literal["summary", "check", "comparison"], run_dir: Path) -> None:
        """Print how it ended, after the block, unless somebody else was to observe."""
        if self._console is not None:
            prints = {
                "summary": summary.print_summary,
                "check": summary.print_check,
                "comparison": summary.print_comparison,
            }
            prints[kind](self._console, run_dir)


def _console() -> Console:
    notebook = "ipykernel" in sys.modules
    on_terminal = sys.stdout is not None and not sys.stdout.closed and sys.stdout.isatty()
    return Terminal(stderr=not notebook and not on_terminal, force_jupyter=False)

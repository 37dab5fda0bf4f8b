"""Between a job and the terminal: trouble there never ends the job, and what others print keeps its lines."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, Protocol, Self, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from prunetune._utils.shown import visible
from prunetune.events import EpochEnded, Event, TrialStarted

STREAMS: Final = ("stdout", "stderr")


class Progress(Protocol):
    """An observer that is shown while a ``with`` block lasts."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...

    def __call__(self, event: Event) -> None: ...


class Terminal(Console):
    """Rich's console, but trouble with it (a reader that has gone, ``| head``) ends what is printed, and no more.

    Control characters in what is printed are written out: names and messages may come from a study of somebody else's.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich's, of visible characters."""
        for each in super().render(renderable, options):
            yield each if each.control else Segment(visible(each.text), each.style)

    def print(self, *objects: Any, **options: Any) -> None:
        """As rich's; from the first failure on nothing is printed."""
        try:
            super().print(*objects, **options)
        except (OSError, ValueError) as error:  # an encoding, a closed file
            self.quiet = True
            _complain(error)

    def on_broken_pipe(self) -> None:
        """Print nothing from now on, and let nothing else that is printed fail."""
        self.quiet = True
        with contextlib.suppress(OSError, ValueError, AttributeError):
            descriptor = self.file.fileno()
            with open(os.devnull, "wb") as devnull:
                os.dup2(devnull.fileno(), descriptor)
        _complain(BrokenPipeError("nobody reads it any more"))


class Display:
    """The observer ``progress`` of a job, which goes on whatever becomes of the terminal.

    What else is printed meanwhile, by a train function say, comes as whole lines between those of ``progress``: of a
    bar that overwrites itself the last state, and half a line when a trial is over.
    """

    def __init__(self, console: Console, progress: Progress, *, live: bool) -> None:
        self.progress = progress
        self._console = console
        self._live = live
        self._broken = False
        self._lines: dict[str, _Lines] = {}

    def __enter__(self) -> Self:
        self._attempt(self.progress.__enter__)
        for name in STREAMS:
            if (stream := getattr(sys, name)) is not None:
                self._lines[name] = _Lines(stream, self._print_above if self._live else None)
                setattr(sys, name, self._lines[name])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for name, lines in self._lines.items():
            lines.close()
            if getattr(sys, name) is lines:  # else somebody else has put his own there
                setattr(sys, name, lines.rich_proxied_file)
        self._attempt(lambda: self.progress.__exit__(kind, error, at))

    def __call__(self, event: Event) -> None:
        """Show ``event``."""
        if not isinstance(event, EpochEnded | TrialStarted):
            for lines in self._lines.values():
                lines.end_line()
        self._attempt(lambda: self.progress(event))

    def _print_above(self, line: str) -> None:
        self._attempt(lambda: self._console.print(Text.from_ansi(line), highlight=False, soft_wrap=True))

    def _attempt(self, show: Callable[[], object]) -> None:
        if self._broken:
            return
        try:
            show()
        except Exception as error:  # an encoding, a closed file, whatever a terminal comes up with
            self._broken = True
            _complain(error)


class _Lines:
    """A stream that passes on whole lines, to ``show`` or to the ``stream`` that it stands for."""

    def __init__(self, stream: TextIO, show: Callable[[str], None] | None) -> None:
        self.rich_proxied_file = stream  # by this name rich's consoles find it, and write past us
        self._show = show
        self._rest = ""
        self._over = False
        self._lock = threading.RLock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)

    def write(self, text: str) -> int:
        """Keep what is no whole line yet."""
        if self._over:
            return self.rich_proxied_file.write(text)
        with self._lock:
            *lines, rest = (self._rest + text).split("\n")
            self._rest = _last_state(rest) + "\r" * rest.endswith("\r")
            for line in lines:
                self._pass_on(_last_state(line))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """As a file's."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """What is no whole line yet is kept."""
        self.rich_proxied_file.flush()

    def end_line(self) -> None:
        """Make what was kept a line."""
        with self._lock:
            rest, self._rest = _last_state(self._rest), ""
            if rest:
                self._pass_on(rest)

    def close(self) -> None:
        """Stand aside: whoever still has this writes to the stream itself."""
        self.end_line()
        self._over = True

    def _pass_on(self, line: str) -> None:
        if self._show is not None:
            self._show(line)
        else:
            self.rich_proxied_file.write(f"{line}\n")


def _last_state(line: str) -> str:
    """What a terminal shows of a line that went back to its beginning."""
    return line.rstrip("\r").rpartition("\r")[2]


def _complain(error: Exception) -> None:
    reason = (str(error).splitlines() or [""])[0]
    with contextlib.suppress(Exception):  # nowhere to say it
        stream = getattr(sys.stderr, "rich_proxied_file", sys.stderr)
        stream.write(
            f"prunetune: nothing more can be shown ({type(error).__name__}: {reason}); "
            "the job goes on without the display\n"
        )

"""The display of a job: trouble with it does not end the job, and what others print keeps its lines."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tqdm import tqdm

from prunetune.console.display import Display, Terminal
from prunetune.console.progress import show_progress
from prunetune.events import Event, PhaseEnded, PhaseStarted, TrialEnded, TrialStarted
from tests.tiny_tune import make_quick, tiny_tune

STARTED = [PhaseStarted("search", total=2), TrialStarted("search", 0, {})]
ENDED = TrialEnded("search", 0, "complete", 0.5, 1.0)


class Broken(io.TextIOBase):
    """A terminal that fails in some way of its own."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def write(self, text: str) -> int:
        raise self.error


def ascii_only() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding="ascii")


def closed() -> io.StringIO:
    file = io.StringIO()
    file.close()
    return file


FILES = [ascii_only, closed, lambda: Broken(OSError(5, "Input/output error")), lambda: Broken(BrokenPipeError())]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("live", [True, False])
def test_trouble_with_the_display_ends_no_run(
    file: Any, live: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_quick(monkeypatch)
    console = Terminal(file=file(), force_terminal=live, width=100)
    with show_progress(console) as progress:
        progress(PhaseEnded("prune", 1.0, "✓ é"))
        result = tiny_tune(tmp_path, observer=progress)
    assert result.record["status"] == "finished"
    said = capsys.readouterr().err
    assert said.count("; the job goes on") == 1, said
    assert len(said.splitlines()) == 1


def test_an_error_of_the_job_is_no_trouble_with_the_display() -> None:
    with pytest.raises(ValueError, match="of the job"), show_progress(Console(file=io.StringIO())):
        raise ValueError("of the job")


def redirected(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Where both streams and the console write to."""
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    monkeypatch.setattr(sys, "stderr", file)
    return file


def prints() -> None:
    """As train functions do."""
    print("no newline", end="")
    for _ in tqdm(range(3), desc="user tqdm", file=sys.stderr, ncols=40):
        pass
    print(" and the rest")
    sys.stdout.write("half")
    sys.stdout.flush()


@pytest.mark.parametrize("live", [True, False])
def test_what_others_print_keeps_its_lines(live: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = redirected(monkeypatch)
    with show_progress(Console(file=shown if live else None, force_terminal=live, width=100)) as progress:
        for event in STARTED:
            progress(event)
        prints()
        progress(ENDED)
        sys.stdout.write("the end")
    plain = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", shown.getvalue())
    kept = [line.rpartition("\r")[2] for line in plain.split("\n")]
    for line in ("no newline and the rest", "half", "the end"):
        assert kept.count(line) == 1, kept
    (bar,) = [line for line in kept if "user tqdm" in line]
    assert "3/3" in bar
    assert bar.startswith("user tqdm")
    assert sys.stdout is shown


def test_whoever_keeps_the_stream_goes_on_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = redirected(monkeypatch)
    with show_progress(Console(file=io.StringIO())):
        kept = sys.stdout
    print("later", end="", file=kept)
    assert shown.getvalue() == "later"


def test_a_stream_that_is_not_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with show_progress(Console(file=io.StringIO())):
        print("nowhere")


def test_a_failing_observer_is_asked_once(capsys: pytest.CaptureFixture[str]) -> None:
    asked: list[Event] = []

    class Failing:
        def __enter__(self) -> Failing:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def __call__(self, event: Event) -> None:
            asked.append(event)
            raise RuntimeError("no")

    with Display(Console(), Failing(), live=False) as display:
        for event in STARTED:
            display(event)
    assert len(asked) == 1
    assert "prunetune: nothing more can be shown (RuntimeError: no); the job goes on without" in capsys.readouterr().err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_is_not_utf_8(encoding: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prunetune", "prune", "torch.nn:é", "-i", "1"]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "80"}
    for args, status in ((command[3:], 2), (["list", "optimizers"], 0)):
        done = subprocess.run([*command[:3], *args], env=environment, capture_output=True, timeout=120, check=False)
        assert done.returncode == status, done.stderr
        assert b"Error" not in done.stderr


def test_a_reader_that_goes_away_ends_what_is_printed_only(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from prunetune.console.display import Terminal\n"
        "from prunetune.events import PhaseEnded\n"
        "from prunetune.console.progress import show_progress\n"
        "with show_progress(Terminal()) as progress:\n"
        "    for number in range(2000):\n"
        "        progress(PhaseEnded('search', 1.0, 'x' * 100))\n"
        "print('to nobody', flush=True)\n"
        "sys.exit(7)\n"
    )
    done = subprocess.run(
        ["bash", "-c", f'"{sys.executable}" -c "$CODE" | head -n 1 > /dev/null; exit "${{PIPESTATUS[0]}}"'],
        env={**os.environ, "CODE": code},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr.count("\n")) == (7, 1), done.stderr
    assert "nobody reads it any more" in done.stderr


def test_a_summary_that_cannot_be_shown_is_no_error_of_the_job(capsys: pytest.CaptureFixture[str]) -> None:
    console = Terminal(file=ascii_only())
    for _ in range(2):
        console.print("✓")
    assert capsys.readouterr().err.count("the job goes on without") == 1

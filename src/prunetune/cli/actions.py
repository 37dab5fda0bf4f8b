"""What the long commands do once their options are read: a job with progress on the terminal, and what came out."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from prunetune.cli.launch import join, launch, launch_check, launch_compare, launch_plan, search_of
from prunetune.console.display import Terminal
from prunetune.console.progress import show_progress
from prunetune.console.summary import print_check, print_comparison, print_plan, print_summary

if TYPE_CHECKING:
    from rich.console import Console

    from prunetune.checking.proxy_check import CheckResult
    from prunetune.cli.tables import Config
    from prunetune.comparison.compare import CompareResult
    from prunetune.tuning.fingerprint import Resume
    from prunetune.tuning.tuner import TuneResult

R = TypeVar("R", "TuneResult", "CheckResult", "CompareResult")


@dataclass(frozen=True)
class Shown:
    """How a command goes on and what it prints, as its options have it."""

    anyway: bool = False
    quiet: bool = False
    as_json: bool = False

    @property
    def resume(self) -> Resume:
        """As ``prunetune.tune`` has it."""
        return "anyway" if self.anyway else "same"


def run(config: Config, shown: Shown, workers: int = 1) -> None:
    """A whole run."""
    result, console = _done(shown, lambda **options: launch(config, workers=workers, **options))
    if not shown.as_json and result.already_finished:
        _say(
            console,
            f"The run in {result.run_dir} is finished already; for more give a larger budget or search.n_trials, for "
            "another run choose another folder.",
        )
    _print(shown, result.run_dir / "result.json", lambda: print_summary(console, result.run_dir))


def check(config: Config, shown: Shown, configurations: int, epochs: int | None) -> None:
    """Whether a proxy is good enough."""
    result, console = _done(
        shown, lambda **options: launch_check(config, configurations=configurations, epochs=epochs, **options)
    )
    _print(shown, result.run_dir / "check.json", lambda: print_check(console, result.run_dir))


def compare(config: Config, shown: Shown) -> None:
    """Ways at equal cost."""
    result, console = _done(shown, lambda **options: launch_compare(config, **options))
    _print(shown, result.run_dir / "compare.json", lambda: print_comparison(console, result.run_dir))


def plan(config: Config, shown: Shown) -> None:
    """The rungs of a run and what they cost."""
    console = Terminal(quiet=shown.as_json)
    made = launch_plan(config, say=lambda sentence: _say(console, sentence)).to_record()
    if shown.as_json:
        typer.echo(json.dumps(made, indent=1))
    else:
        print_plan(console, made)


def worker(source: Path | None, study: str | None, name: str | None, shown: Shown, **options: Any) -> None:
    """One more process of a search; ``options`` are those of ``launch.join``."""
    console = Terminal()
    url, called = search_of(source, study, name)
    with show_progress(console) as progress:
        ran = join(url, called, resume=shown.resume, source=source, observer=progress, **options)
    _say(console, f"There is nothing left to train; {ran} were trained here.")


def _done(shown: Shown, job: Callable[..., R]) -> tuple[R, Console]:
    """The result of a job, whose progress is shown."""
    console = Terminal(quiet=shown.quiet or shown.as_json)
    with show_progress(console) as progress:
        result = job(resume=shown.resume, observer=progress, say=lambda sentence: _say(console, sentence))
    return result, console


def _print(shown: Shown, record: Path, tables: Callable[[], None]) -> None:
    if shown.as_json:
        typer.echo(record.read_text(encoding="utf-8"), nl=False)
    else:
        tables()


def _say(console: Console, sentence: str) -> None:
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)

"""The report of a run: ``write_report`` makes the page, ``prunetune.report.figures`` holds every picture of it.

Importing this package is cheap: plotly, jinja2 and optuna are imported when they are used.

Example
-------
Every picture of the page, as a plotly figure of one's own::

    from prunetune.report import figures, load_run

    run = load_run("runs/demo")
    figures.search_history(run).show()
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prunetune.report.run import Run

__all__ = ["load_run", "write_report"]


def load_run(run_dir: str | Path, *, storage: str | None = None) -> Run:
    """What a run folder holds, as plain values; see ``prunetune.report.run.load_run``."""
    from prunetune.report.run import load_run as load  # loads plotly: only for a page

    return load(run_dir, storage=storage)


def write_report(run_dir: str | Path, *, storage: str | None = None) -> Path:
    """Path of the ``report.html`` written into ``run_dir``: one file that needs no network.

    Parameters
    ----------
    run_dir
        A run folder, finished or not. Nothing in it is trusted, and nothing but ``report.html`` is changed.
    storage
        URL of the Optuna storage, for a run that keeps its studies elsewhere than in the folder's ``study.log``.

    Raises
    ------
    InputError
        The folder has no ``result.json``, or one that prunetune did not write.
    """
    from prunetune.record.folder import whole_path  # loads plotly: only for a page
    from prunetune.report.page import write_page

    return write_page(load_run(run_dir, storage=storage), whole_path("the run folder", run_dir) / "report.html")

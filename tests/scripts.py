"""Scripts run as `python SCRIPT ARGUMENT …` runs them, but in this process, which has the imports behind it."""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
import warnings
from pathlib import Path

import pytest
import torch


def run_script(path: Path, *arguments: object, cwd: Path) -> str:
    """What the script prints, run in the folder `cwd`; what it raises is raised here."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(), torch.random.fork_rng():
        warnings.simplefilter("ignore")
        patch.chdir(cwd)
        patch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        patch.syspath_prepend(path.parent)
        with contextlib.redirect_stdout(printed):
            runpy.run_path(str(path), run_name="__main__")
    return printed.getvalue()

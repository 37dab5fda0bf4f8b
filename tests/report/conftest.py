"""Run folders for the report's tests."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from synthetic_runs import RESULT, write_run


@pytest.fixture
def result() -> dict[str, Any]:
    """A finished run's result, to be changed at will."""
    return copy.deepcopy(RESULT)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """``write_run`` into a new folder."""

    def make(*contents: Any, name: str = "demo") -> Path:
        return write_run(tmp_path / name, *contents)

    return make

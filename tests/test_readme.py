"""The README's code runs as it stands, block after block, those apart that name the reader's own things."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = [block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "MyNet" not in block]


def test_the_blocks_run_one_after_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(BLOCKS) == 7
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), names)
    assert "layer4.1.conv2" in capsys.readouterr().out
    assert (tmp_path / "groups.svg").stat().st_size > 1000
    assert names["cost"](names["graph"], names["plan"]).parameters == sum(
        p.numel() for p in names["again"].parameters()
    )
    both = names["apply"](names["both"], names["model"])
    assert sum(p.numel() for p in both.parameters()) == names["second"].cost.proxy.parameters

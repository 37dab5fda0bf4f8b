"""What ``result.json`` says of how a run was started."""

from __future__ import annotations

import sys

import pytest

from prunetune.record.provenance import command


@pytest.mark.parametrize(
    ("argv", "original", "shown"),
    [
        (
            ["/opt/env/bin/prunetune", "run", "my run.toml"],
            ["/opt/env/bin/python", "/opt/env/bin/prunetune", "run", "my run.toml"],
            "prunetune run 'my run.toml'",
        ),
        (["train.py", "--lr", "1"], ["python3", "train.py", "--lr", "1"], "python train.py --lr 1"),
        (["/a/pkg/tool.py", "x"], ["/usr/bin/python3", "-m", "pkg.tool", "x"], "python -m pkg.tool x"),
        (
            ["t.py", "--db=postgresql://me:p4ss/w0rd@host/db"],
            ["python", "t.py", "--db=postgresql://me:p4ss/w0rd@host/db"],
            "python t.py '--db=postgresql://me:***@host/db'",
        ),
        (["t.py", "sqlite:////a/b.db"], ["python", "t.py", "sqlite:////a/b.db"], "python t.py sqlite:////a/b.db"),
        ([""], ["python"], None),
        (["-c"], ["python", "-c", "import x"], None),
        (["/x/ipykernel_launcher.py", "-f", "k.json"], ["python", "-m", "ipykernel_launcher"], None),
    ],
)
def test_the_command_is_one_to_type_again(
    argv: list[str], original: list[str], shown: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", original)
    assert command() == shown

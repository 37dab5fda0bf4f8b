"""Who trains on which device, without any."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from prunetune.cli.config import parse_config
from prunetune.cli.local_workers import LocalWorkers
from prunetune.errors import InputError
from prunetune.events import PhaseEnded, PhaseStarted, silent
from prunetune.training.devices import choose_device, share_devices


@pytest.mark.parametrize(
    ("name", "processes", "gpus", "expected"),
    [
        ("cuda", 4, 4, ["cuda:0", "cuda:1", "cuda:2", "cuda:3"]),
        ("auto", 4, 2, ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]),
        ("cuda:1,cuda:3", 3, 4, ["cuda:1", "cuda:3", "cuda:1"]),
        ("cuda:1", 2, 4, ["cuda:1", "cuda:1"]),
        ("cpu", 2, 4, ["cpu", "cpu"]),
        ("auto", 2, 0, ["auto", "auto"]),
        ("mps", 2, 0, ["mps", "mps"]),
    ],
)
def test_processes_have_the_gpus_in_turn(name: str, processes: int, gpus: int, expected: list[str]) -> None:
    assert share_devices(name, processes, gpus) == expected


def test_every_device_of_a_list_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1,cuda:0") == torch.device("cuda:1")
    with pytest.raises(InputError, match="run.device is 'cuda:2', but there is no such device here"):
        choose_device("cuda:0,cuda:2")


class Process:
    """A worker that is over at once."""

    returncode = 0

    def wait(self, timeout: float | None = None) -> int:
        return 0

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


def test_workers_of_a_run_are_told_their_gpu_and_the_run_has_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[list[str]] = []

    def start(command: list[str], **options: Any) -> Process:
        started.append(command)
        return Process()

    monkeypatch.setattr(subprocess, "Popen", start)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    config = parse_config(
        {
            "model": {"name": "resnet8"},
            "data": {"name": "digits"},
            "run": {"folder": os.fspath(tmp_path), "device": "cuda"},
        }
    )
    with LocalWorkers(3, config, silent) as crowd:
        crowd(PhaseStarted("search", 10, 0))
        crowd(PhaseEnded("search", 1.0, ""))
    assert [command[command.index("--device") + 1] for command in started] == ["cuda:1", "cuda:2", "cuda:0"]

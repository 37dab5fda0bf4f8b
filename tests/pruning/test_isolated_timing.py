"""Steps timed in a process of their own: the models get there and back unchanged, or it is said why not."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from prunetune.pruning import isolated_timing as fresh
from prunetune.pruning.isolated_timing import fresh_step_time


class Marked(nn.Module):
    """Writes down which process runs it."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        self.file.write_text(f"{os.getpid()} {torch.get_num_threads()}")
        result: Tensor = self.norm(x)
        return result


def test_another_process_measures_with_as_many_threads(tmp_path: Path) -> None:
    model = Marked(tmp_path / "pid").eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    times = fresh_step_time({"base": model, "proxy": nn.Linear(3, 3)}, torch.randn(4, 3), seconds=0.1)
    pid, threads = model.file.read_text().split()
    assert int(pid) != os.getpid() and int(threads) == torch.get_num_threads()
    assert set(times) == {"base", "proxy"} and all(0 < value < 1 for value in times.values())
    assert not model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def stopped() -> float:
    return 7.0


def test_the_clock_goes_along() -> None:
    assert fresh_step_time({"base": nn.Linear(3, 3)}, torch.randn(4, 3), seconds=0.1, clock=stopped) == {"base": 0.0}


def test_a_model_that_cannot_be_pickled_is_measured_here_with_a_warning(tmp_path: Path) -> None:
    model = Marked(tmp_path / "pid")
    model.lock = open(tmp_path / "open", "w")  # type: ignore[assignment]  # noqa: SIM115
    with model.lock, pytest.warns(UserWarning, match=r"timed in this process.* cannot be pickled \(PicklingError: "):
        fresh_step_time({"base": model}, torch.randn(4, 3), seconds=0.1)
    assert model.file.read_text().split()[0] == str(os.getpid())


def test_a_process_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.warns(UserWarning, match=r"the process that was to time them failed \(exit status 1\)"):
        times = fresh_step_time({"base": nn.Linear(3, 3)}, torch.randn(4, 3), seconds=0.1)
    assert times["base"] > 0


def test_models_of_a_script_without_a_guard_or_a_module(tmp_path: Path) -> None:
    """Its classes are in no module that the other process could import, and the script must not run twice."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import warnings
            warnings.simplefilter("error")
            import torch
            from prunetune.pruning.isolated_timing import fresh_step_time
            class Net(torch.nn.Module):
                def __init__(self):
                    super().__init__()
                    self.linear = torch.nn.Linear(3, 3)
                    self.act = lambda x: x.relu()
                def forward(self, x):
                    return self.act(self.linear(x))
            print(sorted(fresh_step_time({"base": Net()}, torch.ones(2, 3), seconds=0.1)))
        """)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "['base']"), done.stderr


def test_other_devices_are_measured_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh, "step_time", lambda models, inputs, seconds, clock: dict.fromkeys(models, 1.0))
    model = nn.Linear(3, 3, device="meta")
    assert fresh_step_time({"base": model}, torch.ones(2, 3), seconds=0.1) == {"base": 1.0}

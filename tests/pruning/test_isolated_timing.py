"""Steps timed in a process of their own: the models get there and back unchanged, or it is said why not."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from prunetune.pruning import isolated_timing
from prunetune.pruning.isolated_timing import STEPS, HereStepper, StepTimer, clock_for, step_timer

X = torch.randn(4, 3)


class Marked(nn.Module):
    """Writes down which process runs it, and prints."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file
        self.norm = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        print("a line of the model's own")
        self.file.write_text(f"{os.getpid()} {torch.get_num_threads()}")
        result: Tensor = self.norm(x)
        return result


def test_one_process_measures_all_with_as_many_threads(tmp_path: Path) -> None:
    model, other = Marked(tmp_path / "pid").eval(), Marked(tmp_path / "other")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with step_timer(model, X) as timer:
        times = [
            *timer(nn.Linear(3, 3), seconds=0.1),
            *timer(other, seconds=0.1),
            *timer(other, again=True, seconds=0.1),
        ]
    (pid, threads), (same, _) = model.file.read_text().split(), other.file.read_text().split()
    assert pid == same and int(pid) != os.getpid() and int(threads) == torch.get_num_threads()
    assert len(times) == 6 and all(0 < value < 1 for value in times)
    assert not model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


class Ticking:
    """A clock by which every step takes as long as the next of ``seconds``."""

    def __init__(self, *seconds: float) -> None:
        self.seconds: Iterator[float] = iter(seconds)
        self.now, self.read = 0.0, 0

    def __call__(self) -> float:
        self.read += 1
        if self.read % 2 == 0:
            self.now += next(self.seconds)
        return self.now


def test_steps_of_a_large_network_count_for_all_candidates() -> None:
    first = [100.0, 8.0, 2.0, 4.0]  # a warm-up; a step of the full network, two of the candidate
    second = [5.0, 1.0]  # of the next candidate
    again = [10.0, 1.0, 1.0]  # a turn of both
    at_last = [1.0, 1.0]  # the full network has been timed often enough
    clock = Ticking(*first, *second, *again, *at_last)
    base = nn.Linear(3, 3)
    timer = StepTimer(base, X, HereStepper(base, X, clock))
    candidate = nn.Linear(3, 3)
    assert timer(nn.Linear(3, 3), seconds=0) == (8.0, 3.0)
    assert timer(candidate, seconds=0) == (8.0, 3.0)
    assert timer(candidate, again=True, seconds=0) == (9.0, 1.0)  # of 8 and 10; of 5, 1, 1, 1
    assert timer(candidate, again=True, seconds=0) == (9.0, 1.0)
    assert STEPS == 2 and clock.read == 2 * (4 + 2 + 3 + 2)


def test_steps_of_a_small_one_are_timed_beside_each_and_the_last_five_count() -> None:
    base = nn.Linear(3, 3)
    beside: list[bool] = []
    steps = iter([0.4, 0.4, 0.4, 0.8, 0.8, 0.8])

    def stepper(candidate: nn.Module | None, *, beside_base: bool, seconds: float) -> tuple[list[float], list[float]]:
        beside.append(beside_base)
        return [next(steps)], [0.1, 0.1, 0.1]

    timer = StepTimer(base, X, stepper)
    found = [timer(nn.Linear(3, 3), seconds=1.0)[0] for _ in range(6)]
    assert found == pytest.approx([0.4, 0.4, 0.4, 0.4, 0.4, 0.8]) and all(beside)


def test_on_one_thread_the_time_of_others_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert clock_for(nn.Linear(3, 3)) is time.process_time
    assert clock_for(nn.Linear(3, 3, device="meta")) is time.perf_counter
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert clock_for(nn.Linear(3, 3)) is time.perf_counter


@pytest.mark.parametrize("which", ["base", "candidate"])
def test_a_model_that_cannot_be_pickled_is_measured_here_with_a_warning(tmp_path: Path, which: str) -> None:
    model = Marked(tmp_path / "pid")
    model.lock = open(tmp_path / "open", "w")  # type: ignore[assignment]  # noqa: SIM115
    base, candidate = (model, nn.Linear(3, 3)) if which == "base" else (nn.Linear(3, 3), model)
    match = r"timed in this process.* cannot be pickled \(PicklingError: "
    with model.lock, step_timer(base, X) as timer, pytest.warns(UserWarning, match=match):
        times = timer(candidate, seconds=0.1)
    assert model.file.read_text().split()[0] == str(os.getpid()) and min(times) > 0


def test_a_process_that_fails_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with (
        step_timer(nn.Linear(3, 3), X) as timer,
        pytest.warns(UserWarning, match=r"the process that was to time them failed \(exit status 1\)"),
    ):
        assert min(timer(nn.Linear(3, 3), seconds=0.1)) > 0


def test_models_of_a_script_without_a_guard_or_a_module(tmp_path: Path) -> None:
    """Its classes are in no module that the other process could import, and the script must not run twice."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
            import warnings
            warnings.simplefilter("error")
            import torch
            from prunetune.pruning.isolated_timing import step_timer
            class Net(torch.nn.Module):
                def __init__(self):
                    super().__init__()
                    self.linear = torch.nn.Linear(3, 3)
                    self.act = lambda x: x.relu()
                def forward(self, x):
                    return self.act(self.linear(x))
            with step_timer(Net(), torch.ones(2, 3)) as timer:
                print(len(timer(Net(), seconds=0.1)))
        """)
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, "2"), done.stderr


def test_other_devices_are_measured_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolated_timing.subprocess, "Popen", None)
    model = nn.Linear(3, 3, device="meta")
    with step_timer(model, torch.ones(2, 3)) as timer:
        assert min(timer(nn.Linear(3, 3, device="meta"), seconds=0.1)) > 0

"""What is freed stays with the process: counted in pages that the system had to clear, not timed."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")

SCRIPT = """
import resource, sys, torch
from prunetune import keep_freed_memory
print(keep_freed_memory() if sys.argv[1] == "keep" else None)
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
def step():
    a = torch.ones(16 * 2**20); b = a + 1; del a; c = b + 1    # 64 MiB each
for _ in range(20): step()    # until freed pieces fit those that come: up to seven were seen
before = faults()
for _ in range(5): step()
print(faults() - before)
"""
PAGES = 5 * 3 * 64 * 2**20 // 4096
"""Of all tensors in five steps."""


def run(how: str, **environment: str) -> list[str]:
    command = [sys.executable, "-c", SCRIPT, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment})
    return done.stdout.split()


def test_pages_are_cleared_once() -> None:
    said, faults = run("keep")
    assert said == "True"
    assert int(faults) < PAGES / 10_000


def test_without_it_they_are_cleared_in_every_step() -> None:
    """Else the test above could not fail. (With huge pages there are fewer faults than pages.)"""
    _, faults = run("leave")
    assert int(faults) > PAGES / 1000


def test_a_setting_of_the_users_is_left_alone() -> None:
    assert run("keep", MALLOC_TRIM_THRESHOLD_="1000000")[0] == "False"

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


GROWTH = """
import ctypes, sys
from prunetune._utils import malloc as allocator
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def training():  # 256 MiB in pieces, of which only every hundredth is freed last
    pieces = [libc.malloc(1 << 16) for _ in range(4096)]
    for piece in pieces:
        ctypes.memset(piece, 1, 1 << 16)
    return pieces
allocator.GIVE_BACK_SECONDS = 0.0 if sys.argv[1] == "bound" else 1e9
begun = resident()
with allocator.freed_memory_kept():
    allocator.give_back()
    for piece in training()[:-1]:
        libc.free(piece)
    allocator.give_back_at_times()
    within = resident() - begun
print(within, resident() - begun, allocator._kept)
"""


@pytest.mark.parametrize(("how", "kept"), [("bound", False), ("leave", True)])
def test_what_is_free_goes_back_between_trainings_and_at_the_end(how: str, kept: bool) -> None:
    done = subprocess.run([sys.executable, "-c", GROWTH, how], capture_output=True, text=True, check=True)
    within, afterwards, keeps = done.stdout.split()
    assert (float(within) > 200) == kept
    assert float(afterwards) < 20
    assert keeps == "False"


def test_who_keeps_it_himself_goes_on_to() -> None:
    code = (
        "from prunetune._utils import malloc as allocator\n"
        "assert allocator.keep_freed_memory()\n"
        "with allocator.freed_memory_kept():\n"
        "    pass\n"
        "assert allocator._kept\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

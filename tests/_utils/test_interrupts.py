"""Signals at the worst moments: where Python or somebody's code drops what a handler raises."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.signal_drill.runs import alive
from prunetune._utils.interrupts import OWNER, Interrupted, answered, check_interrupted, interruptible, uninterrupted
from prunetune.errors import StorageError

LONG = 20.0  # nothing here waits that long unless it is broken


def kill(number: int = signal.SIGINT) -> None:
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # Python calls the handler here


def go_on() -> None:
    """What runs on, as if there had been no signal."""
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        time.sleep(0.01)
    raise AssertionError("the signal was lost")


def interrupted(*what: Callable[[], None]) -> KeyboardInterrupt:
    """What ends the block in which these are done one after the other."""
    with pytest.raises(KeyboardInterrupt) as caught, interruptible(signal.SIGINT):  # noqa: PT012
        for each in what:
            each()
    assert type(caught.value) is KeyboardInterrupt
    return caught.value


class Finalised:
    def __del__(self) -> None:
        kill()


def in_a_finaliser() -> None:
    Finalised()


def in_a_callback_of_a_weak_reference() -> None:
    class Empty:
        pass

    thing = Empty()
    _ = weakref.ref(thing, lambda _: kill())
    del thing


def in_a_callback_from_c() -> None:
    ctypes.CFUNCTYPE(ctypes.c_int)(lambda: kill() or 0)()


def in_an_import_that_swallows() -> None:
    with contextlib.suppress(BaseException):
        kill()


def in_a_train_function_that_stops_early() -> None:
    try:
        kill()
    except KeyboardInterrupt:
        return


def again_and_again() -> None:
    for _ in range(5):
        in_a_finaliser()


MOMENTS = [
    in_a_finaliser,
    in_a_callback_of_a_weak_reference,
    in_a_callback_from_c,
    in_an_import_that_swallows,
    in_a_train_function_that_stops_early,
    again_and_again,
]


@pytest.mark.parametrize("moment", MOMENTS)
def test_what_is_lost_is_raised_again(moment: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    begun = time.monotonic()
    interrupted(moment, go_on)
    assert time.monotonic() - begun < LONG / 2
    assert capsys.readouterr().err == ""  # no "Exception ignored in"


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_block_that_comes_to_its_end_all_the_same_does_not_end_well(moment: Callable[[], None]) -> None:
    interrupted(moment)


def test_what_the_signal_broke_is_not_the_reason() -> None:
    def half_an_import() -> None:
        try:
            kill()
        except KeyboardInterrupt:
            raise ImportError("half of a module") from None

    assert isinstance(interrupted(half_an_import).__cause__, ImportError)


def test_the_next_round_of_a_loop_ends_what_a_library_has_put_aside() -> None:
    kept: list[BaseException] = []  # so that it is not lost, and goes nowhere

    def put_aside() -> None:
        try:
            kill()
        except KeyboardInterrupt as error:
            kept.append(error)

    def one_more_round() -> None:
        raise AssertionError("it went on")

    assert interrupted(put_aside, check_interrupted, one_more_round).__cause__ is None


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_once_answered_it_does_not_come_again(number: int, status: int) -> None:
    with interruptible(number):
        with pytest.raises(KeyboardInterrupt) as caught:
            kill(number)
        assert answered(caught.value) == status
        del caught
        gc.collect()
        time.sleep(0.2)
    time.sleep(0.2)


def test_only_the_outermost_block_gives_it_away_and_sigterm_stays_what_it_is() -> None:
    kinds = []

    def note() -> None:
        try:
            with interruptible(signal.SIGINT):
                kill()
        except KeyboardInterrupt as error:
            kinds.append(type(error))
            raise

    interrupted(note)
    with pytest.raises(Interrupted) as caught, interruptible(signal.SIGTERM):
        kill(signal.SIGTERM)
    assert (kinds, caught.value.number) == ([Interrupted], signal.SIGTERM)


def test_handlers_are_as_before_afterwards_and_somebodys_own_are_left_alone() -> None:
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: came.append(number))
    try:
        with interruptible(signal.SIGINT, signal.SIGTERM):
            assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
            with interruptible(signal.SIGINT):
                kill(signal.SIGTERM)
            with uninterrupted():
                pass
        assert came == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_in_another_thread_there_is_nothing_to_do() -> None:
    done: list[bool] = []

    def run() -> None:
        with interruptible(signal.SIGINT), uninterrupted():
            done.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert done == [True]


def test_a_fork_has_the_signals_that_it_had_without_us() -> None:
    code = (
        "import os, signal, time\n"
        "from prunetune._utils.interrupts import interruptible\n"
        "with interruptible(signal.SIGTERM):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        time.sleep(60)\n"
        "    time.sleep(0.2)\n"
        "    os.kill(child, signal.SIGTERM)\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == (f"{-signal.SIGTERM}\n", "")


@pytest.mark.parametrize("heeds", [True, False])
def test_a_worker_ends_with_its_owner_however_that_died(heeds: bool) -> None:
    worker = (
        "import signal, time\n"
        "from prunetune._utils import interrupts\n"
        "interrupts.GRACE_SECONDS = 0.5\n"
        f"signal.signal(signal.SIGTERM, signal.{'SIG_DFL' if heeds else 'SIG_IGN'})\n"
        "interrupts.end_with_owner()\n"
        "time.sleep(60)\n"
    )
    owner = (
        "import os, subprocess, sys, time\n"
        f"environment = {{**os.environ, {OWNER!r}: str(os.getpid())}}\n"
        f"print(subprocess.Popen([sys.executable, '-c', {worker!r}], env=environment).pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", owner], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        time.sleep(1.0)
        assert alive([pid]) == [pid]
        process.kill()
    deadline = time.monotonic() + LONG
    while alive([pid]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert alive([pid]) == []


def test_a_storage_is_not_waited_for_when_a_signal_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    from prunetune.backends.study import retrying_storage as patient
    from prunetune.events import silent

    class Gone:
        def get_all_studies(self) -> Any:
            raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(patient, "ENDING_SECONDS", 0.5)
    storage = patient.PatientStorage(Gone(), "db", signature={}, observer=silent, patience=600.0)  # type: ignore[arg-type]

    def wait() -> None:
        with uninterrupted():
            threading.Timer(0.3, kill).start()
            storage.get_all_studies()

    ours = interrupted(wait).__context__
    assert isinstance(ours, Interrupted)
    assert isinstance(ours.__context__, StorageError)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_while_torch_is_loaded_the_process_ends_at_once(number: signal.Signals, tmp_path: Path) -> None:
    """An error in a callback of its C++ code would abort the process."""
    (tmp_path / "torch.py").write_text(
        "import os, time\n"
        f"try:\n    os.kill(os.getpid(), {int(number)})\n    time.sleep(20)\n"
        "except BaseException:\n    os.abort()\n"
    )
    code = (
        f"from prunetune._utils.interrupts import interruptible\nwith interruptible({int(number)}):\n    import torch\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (128 + number, "Stopped before anything was begun.\n")

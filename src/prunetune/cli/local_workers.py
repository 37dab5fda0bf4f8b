"""The other processes of ``prunetune run --workers``: they live while several configurations are trained."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from types import TracebackType
from typing import Final, Self

import torch

from prunetune._utils.interrupts import OWNER
from prunetune.cli.tables import Config
from prunetune.errors import InputError
from prunetune.events import Event, Notice, Observer, PhaseStarted
from prunetune.record.folder import study_url, whole_path
from prunetune.training.devices import share_devices
from prunetune.tuning.settings import Search

SHARED: Final = ("search", "climb", "confirm")
"""The phases that workers take part in."""
GRACE_SECONDS: Final = 20.0  # to record the trial that a worker is in


class LocalWorkers:
    """Hands everything on to ``observer``, and has ``count`` workers while several are trained.

    What they print goes to ``worker-1.log``, … in the run folder. The cores are shared among them and this process,
    and so are the GPUs.
    """

    def __init__(self, count: int, config: Config, observer: Observer) -> None:
        if count and config.code and config.source is None:
            raise InputError(
                f"workers run {config.code[0]} only by a configuration file that names it; read the configuration from "
                "one, or search with one process"
            )
        self._count = count
        self._config = config
        self._observer = observer
        self._threads = torch.get_num_threads()
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def __call__(self, event: Event) -> None:
        """Hand ``event`` on, and start or end the workers with what they share."""
        if isinstance(event, PhaseStarted) and self._count:
            if event.phase not in SHARED:
                self._end()
            elif not self._processes and event.done < (event.total or 0):
                self._start()
        self._observer(event)

    def _end(self) -> None:
        """Wait until the workers have seen that there is nothing for them, and take their cores."""
        if not self._processes:
            return
        for number, process in enumerate(self._processes, 1):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
            if process.returncode:
                self._observer(Notice(f"worker {number} ended with status {process.returncode}, see its log"))
        self._stop()
        torch.set_num_threads(self._threads)

    def _start(self) -> None:
        threads = max(1, self._threads // (self._count + 1))
        torch.set_num_threads(threads)
        config = self._config
        folder = whole_path("run.folder", config.run.folder)
        search = Search(storage=config.search.storage, study=config.search.study)
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "PRUNETUNE_STUDY": search.storage or study_url(folder),  # arguments would show a password to all
            OWNER: str(os.getpid()),
        }
        command = [sys.executable, "-m", "prunetune", "worker", "--name", search.study_name(folder)]
        if config.code:  # which no study makes anybody run
            command.append(str(config.source))
        devices = share_devices(config.run.device, self._count + 1, torch.cuda.device_count())  # this process is first
        for number in range(1, self._count + 1):
            with (folder / f"worker-{number}.log").open("ab") as log:
                self._processes.append(
                    subprocess.Popen(
                        [*command, "--device", devices[number]],
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=log,
                        env=environment,
                    )
                )

    def _stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_SECONDS)
            process.kill()
            process.wait()
        self._processes = []

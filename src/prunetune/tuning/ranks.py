"""A training in several processes, as torchrun starts them: the same hyperparameters and the same network in each.

The processes ("ranks") are started once and wait for one training after the other. Where one fails, dies, or does not
hear that the trial was stopped, all are ended and the next training has new ones: nothing waits for a collective
operation that will never come to its end.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, Pipe, wait
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import cloudpickle
import torch
from optuna import TrialPruned
from torch import nn

from prunetune._utils.checks import whole_number
from prunetune._utils.interrupts import OWNER, end_with_owner
from prunetune.backends.study.trial import Ending, Report
from prunetune.events import silent
from prunetune.pruning.checks import check_train
from prunetune.tuning.types import TrainFunction

if TYPE_CHECKING:
    from prunetune.tuning.objective import Objective

GRACE_SECONDS: Final = 5.0  # for the other ranks to hear that the trial was stopped
OTHERS_SECONDS: Final = 1.0  # in which it shows whether a rank failed by itself, or because another has died
DIED: Final = -1.0
"""When a rank has died, as far as can be told: before the others heard of it."""
IDLE_SECONDS: Final = 60.0
"""Ranks that have nothing to train for so long end, and what they hold of a GPU's memory is free."""
HERE: Final = "127.0.0.1"


class RankError(RuntimeError):
    """What one of the ranks raised, or that it has died."""


@dataclass
class Ranks:
    """A train function that runs in so many ``processes`` of this machine at once: ``tune(MyNet, Ranks(train, 8), …)``.

    Each has the environment that torchrun gives (``RANK``, ``LOCAL_RANK``, ``WORLD_SIZE``, ``MASTER_ADDR``, …), so that
    ``torch.distributed.init_process_group``, accelerate and Lightning find each other, and calls ``train(model, params,
    report)`` with the same hyperparameters and the same initial weights. Rank 0 speaks for all: its score, its reports,
    its weights. A trial that is stopped is stopped on all ranks at their next report, or ended there; what one rank
    raises fails the trial, and so does the death of one.

    Example
    -------
    In the train function, with one GPU a rank::

        def train(model, params, report):
            torch.distributed.init_process_group()
            model.to(int(os.environ["LOCAL_RANK"]))
            parallel = torch.nn.parallel.DistributedDataParallel(model)
            ...  # train ``parallel``; sum up the score over all ranks; every rank calls report(score, epoch)
            return score
    """

    train: TrainFunction
    processes: int
    _crew: _Crew | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_train(self.train)
        self.processes = whole_number("processes", self.processes, minimum=1)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_crew": None}  # processes are of the one that started them

    def __call__(self, model: nn.Module, params: dict[str, Any], report: Report) -> float:
        """Train ``model`` in this process alone."""
        return self.train(model, params, report)

    def trained(self, objective: Objective, params: dict[str, Any], report: Report) -> tuple[nn.Module, float]:
        """What ``objective`` makes of these hyperparameters: the model, with rank 0's weights, and its score."""
        sent = replace(objective, train=self.train, observer=silent, keep=None, unasked="")
        report.ask(resolution=objective.resolution, data=objective.data)
        if self._crew is not None and self._crew.may_have_left():
            self._crew.end()
            self._crew = None
        crew = self._crew = self._crew or _Crew(self.processes)
        ended = False
        try:
            state, score = crew.run(
                _Task(sent, params, report.number, report.seed, report.epochs, report.phase), report
            )
            ended = True
        finally:
            if not ended or crew.late:
                crew.end()
                self._crew = None
        model = sent.untrained(params)
        model.load_state_dict(state)
        return model, score


@dataclass(frozen=True)
class _Task:
    """One training, as a rank gets it."""

    objective: Objective
    params: dict[str, Any]
    number: int
    seed: int
    epochs: int
    phase: Any


class _Crew:
    """The processes of this machine's ranks, each at the other end of a pipe."""

    def __init__(self, count: int) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._pipes: list[Connection] = []
        self.late = False
        """Whether some rank had not come to the end of a training when that was over."""
        self._used = time.monotonic()
        threads = max(1, torch.get_num_threads() // count)
        paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
        own = {OWNER: str(os.getpid()), "PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads)}
        for _ in range(count):
            mine, its = Pipe()
            command = [sys.executable, "-m", __name__, str(its.fileno())]
            self._processes.append(
                subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=[its.fileno()], env={**os.environ, **own})
            )
            its.close()
            self._pipes.append(mine)

    def __del__(self) -> None:
        self.end()

    def may_have_left(self) -> bool:
        """Whether the ranks have been idle for so long that they may be on their way out."""
        return time.monotonic() - self._used > IDLE_SECONDS / 2

    def end(self) -> None:
        """End all, whatever they are at."""
        for process in self._processes:
            process.kill()
        for process, pipe in zip(self._processes, self._pipes, strict=True):
            process.wait()
            pipe.close()
        self._processes, self._pipes = [], []

    def run(self, task: _Task, report: Report) -> tuple[dict[str, Any], Any]:
        """Rank 0's weights and score. Raises what ``report`` raises, and RankError for what any rank did."""
        work = cloudpickle.dumps(task)
        count, port = len(self._pipes), _free_port()
        common = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "MASTER_ADDR": HERE, "MASTER_PORT": port}
        for rank, pipe in enumerate(self._pipes):
            environment = {name: str(value) for name, value in {**common, "RANK": rank, "LOCAL_RANK": rank}.items()}
            with contextlib.suppress(OSError):  # of one that has died meanwhile, which shows in a moment
                pipe.send((environment, work))
        result = _Conductor(self, report).conduct()
        self._used = time.monotonic()
        return result

    def messages(self, ranks: set[int], seconds: float | None) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """What these ranks say next, within so many seconds; ``("died", …)`` of one that says nothing any more."""
        for ready in wait([self._pipes[rank] for rank in ranks], seconds):
            rank = self._pipes.index(ready)  # type: ignore[arg-type]
            try:
                yield rank, self._pipes[rank].recv()
            except (EOFError, OSError):
                status = self._processes[rank].wait()
                how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
                yield rank, ("died", f"the process of rank {rank} {how}")

    def tell(self, rank: int, ending: Ending | None) -> None:
        """Answer a report of a rank."""
        with contextlib.suppress(OSError):
            self._pipes[rank].send(ending)


class _Conductor:
    """One training: hands rank 0's reports on, tells all ranks what came of them, and waits for all to end."""

    def __init__(self, crew: _Crew, report: Report) -> None:
        self._crew = crew
        self._report = report
        self._left = set(range(len(crew._pipes)))
        self._decided: set[Any] = set()  # epochs
        self._waiting: dict[int, list[int]] = {}
        self._raised: BaseException | None = None
        self._result: tuple[dict[str, Any], Any] | None = None
        self._failures: list[tuple[float, str, str]] = []  # the first is the cause: when, by this machine's clock

    def conduct(self) -> tuple[dict[str, Any], Any]:
        """See ``_Crew.run``."""
        deadline = None
        while self._left and (deadline is None or time.monotonic() < deadline):
            for rank, said in self._crew.messages(self._left, None if deadline is None else OTHERS_SECONDS / 4):
                getattr(self, f"_{said[0]}")(rank, *said[1:])
            if deadline is None and (self._failures or (self._raised and 0 not in self._left)):
                deadline = time.monotonic() + (OTHERS_SECONDS if self._failures else GRACE_SECONDS)
        self._crew.late = bool(self._left or self._failures)
        if self._raised is not None:
            raise self._raised
        if self._failures:
            _, message, trace = min(self._failures)
            raise RankError(message) from (_RemoteError(trace) if trace else None)
        assert self._result is not None
        return self._result

    def _reported(self, rank: int, score: Any, epoch: Any) -> None:
        if rank == 0:
            try:
                self._report(score, epoch)
            except (TrialPruned, Exception) as error:
                self._raised = error
                if not isinstance(error, TrialPruned):  # a report that was none
                    self._failures.append((time.monotonic(), str(error), ""))
                    return
            self._decided.add(epoch)
            for other in [0, *self._waiting.pop(epoch, ())]:
                self._crew.tell(other, self._report.stopped)
        elif self._report.stopped or epoch in self._decided or 0 not in self._left:
            self._crew.tell(rank, self._report.stopped)
        else:
            self._waiting.setdefault(epoch, []).append(rank)

    def _note(self, rank: int, name: str, value: Any) -> None:
        if rank == 0:
            self._report.note(name, value)

    def _warn(self, rank: int, sentence: str) -> None:
        if rank == 0:
            self._report.warn(sentence)

    def _ended(self, rank: int, read: list[str], asked: bool, score: Any, state: bytes) -> None:
        self._left.discard(rank)
        if rank == 0:
            for name in read:
                getattr(self._report, name)
            if asked:
                self._report.mark_corrected()
            self._raised = None  # the train function has made something else of it
            self._result = (torch.load(io.BytesIO(state), map_location="cpu", weights_only=False), score)
            for other in itertools.chain(*self._waiting.values()):  # in an epoch that rank 0 has not reported
                self._crew.tell(other, self._report.stopped)

    def _stopped(self, rank: int, message: str) -> None:
        self._left.discard(rank)
        if rank == 0 and self._raised is None:
            self._raised = TrialPruned(message)

    def _failed(self, rank: int, message: str, trace: str, when: float) -> None:
        self._left.discard(rank)
        self._failures.append((when, f"rank {rank}: {message}", trace))

    def _died(self, rank: int, message: str) -> None:
        self._left.discard(rank)
        self._failures.append((DIED, message, ""))


class _RemoteError(Exception):
    """The traceback of another process, as text."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class _RankReport(Report):
    """A report in a rank: rank 0's goes to the trial, and all hear what came of that."""

    def __init__(self, task: _Task, pipe: Connection) -> None:
        trial: Any = SimpleNamespace(number=task.number)
        super().__init__(trial, seed=task.seed, epochs=task.epochs, phase=task.phase, observer=silent)
        self._pipe = pipe

    def note(self, name: str, value: Any) -> None:
        self._pipe.send(("note", name, value))

    def warn(self, sentence: str) -> None:
        self._pipe.send(("warn", sentence))

    def __call__(self, score: Any, epoch: Any) -> None:
        """Let rank 0's trial decide what becomes of all ranks."""
        if self._stopped is not None:
            self._stop(self._stopped)
        self._pipe.send(("reported", _plain(score), _plain(epoch)))
        ending: Ending | None = self._pipe.recv()
        if ending is not None:
            self._stop(ending)
        self._epoch, self._score = int(epoch), float(score)
        self._scores.append(self._score)


def _plain(value: Any) -> Any:
    """The number in a tensor or an array; anything else as it is."""
    return value.item() if hasattr(value, "item") else value


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HERE, 0))
        return int(listener.getsockname()[1])


def _train(work: bytes, pipe: Connection) -> tuple[Any, ...]:
    """How a training ended in this rank, as it is said to the process that asked for it."""
    try:
        task: _Task = cloudpickle.loads(work)
        report = _RankReport(task, pipe)
        model, score = task.objective.trained(task.params, report)
        read, state = sorted(report._read), io.BytesIO()
        if os.environ["RANK"] == "0":
            torch.save(model.state_dict(), state)
        return "ended", read, report.asked_groups, _plain(score), state.getvalue()
    except TrialPruned as error:
        return "stopped", str(error)
    except Exception as error:  # the user's code may raise anything
        message = "; ".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])
        return "failed", message, "".join(traceback.format_exception(error)), time.monotonic()


def main(file: str) -> None:
    """What the process of a rank does: one training after the other, until nobody is at the other end of its pipe."""
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # sent to all by terminals and clusters
        signal.signal(number, signal.SIG_IGN)
    end_with_owner()
    with Connection(int(file)) as pipe, contextlib.suppress(EOFError, OSError):
        while pipe.poll(IDLE_SECONDS):
            environment, work = pipe.recv()
            os.environ.update(environment)
            pipe.send(_train(work, pipe))
            if torch.distributed.is_available() and torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()  # the next training makes its own, at another port


if __name__ == "__main__":
    main(*sys.argv[1:])

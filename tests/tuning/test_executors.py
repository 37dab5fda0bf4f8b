"""Workers that an executor runs: all trials are theirs, none is lost with them, and they end with the run."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import pytest
import torch
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial
from torch import nn

import prunetune
from prunetune import Ladder, Rung, Search
from prunetune.backends.study.attributes import OWNER, SUBMITTED, WITHDRAWN
from prunetune.backends.study.heartbeat import Heartbeat, this_process
from prunetune.backends.study.storage import connected
from prunetune.backends.study.study import outcome
from prunetune.errors import InputError
from prunetune.events import Event, Notice, silent
from prunetune.record.folder import study_url
from prunetune.tuning.callables import class_parts
from prunetune.tuning.executors import _join
from prunetune.tuning.submitted import ONE_EACH, Left, Pulse, Submission, serve
from tiny_tune import INPUTS, SPACE, make_quick, net, tiny_tune, train

SPAWN = multiprocessing.get_context("spawn")
LADDER = Ladder(Rung(1 / 2, 1 / 2, trials=8, keep=2), Rung(1 / 2, keep=1), Rung())
SEARCH = Search(direction="maximize", optimizer="random", trial_pruner="none")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def trials(folder: Path) -> list[FrozenTrial]:
    """Those of all rungs of a run."""
    with connected(study_url(folder)) as storage:
        studies = [each._study_id for each in storage.get_all_studies()]
        return [trial for study in studies for trial in storage.get_all_trials(study)]


def owners(every: list[FrozenTrial]) -> set[int]:
    return {trial.system_attrs[OWNER]["pid"] for trial in every}


# With real executors


@contextlib.contextmanager
def processes(folder: Path, count: int = 4) -> Iterator[Any]:
    with ProcessPoolExecutor(count, mp_context=SPAWN) as pool:
        yield pool


@contextlib.contextmanager
def dask(folder: Path) -> Iterator[Any]:
    distributed = pytest.importorskip("dask.distributed")
    with (
        distributed.LocalCluster(
            n_workers=4, threads_per_worker=1, dashboard_address=None, local_directory=folder
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@contextlib.contextmanager
def submitit(folder: Path) -> Iterator[Any]:
    yield pytest.importorskip("submitit").AutoExecutor(folder, cluster="local")


@contextlib.contextmanager
def ray(folder: Path) -> Iterator[Any]:
    library = pytest.importorskip("ray")  # optional: the package is 70 MB
    from prunetune.interop.ray import RayExecutor

    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 is for ever on a busy machine
    before = signal.getsignal(signal.SIGTERM)  # Ray leaves its own
    library.init(num_cpus=4, include_dashboard=False, log_to_driver=False)
    try:
        yield RayExecutor(num_cpus=1)
    finally:
        library.shutdown()
        signal.signal(signal.SIGTERM, before)


def made(meeting: Path) -> tuple[Callable[[], nn.Module], Callable[..., float]]:
    """A network and a train function that go to workers by value; each worker's first training waits for four."""

    def own_net() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))

    def own_train(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        meeting.joinpath(str(os.getpid())).touch()
        latest = time.monotonic() + 120
        while len(list(meeting.iterdir())) < 4 and time.monotonic() < latest:
            time.sleep(0.05)
        assert time.monotonic() < latest, "four did not come to train at the same time"
        score = params["lr"] + next(model.parameters()).shape[0] + 0 * params["steps"]
        for epoch in range(1, report.epochs + 1):
            report(score, epoch)
        with torch.no_grad():
            next(model.parameters()).add_(1.0)
        return float(score)

    return own_net, own_train


@pytest.mark.parametrize("executor", [processes, dask, submitit, ray])
@pytest.mark.filterwarnings("default")  # of other libraries
def test_four_workers_do_all_trainings_at_the_same_time(
    executor: Callable[..., contextlib.AbstractContextManager[Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meeting").mkdir()
    model_fn, train_fn = made(tmp_path / "meeting")
    events: list[Event] = []
    with executor(tmp_path / "executor") as workers:
        result = prunetune.tune(
            model_fn,
            train_fn,
            SPACE,
            example_inputs=INPUTS,
            epochs=2,
            ladder=LADDER,
            search=SEARCH,
            run_dir=tmp_path / "run",
            energy=False,
            observer=events.append,
            workers=workers,
            n_workers=4,
        )
    assert [each.message for each in events if isinstance(each, Notice) and "worker" in each.message] == []
    every = trials(tmp_path / "run")
    counted = [trial for trial in every if trial.user_attrs.get("outcome") != WITHDRAWN]  # a worker came too late
    assert [outcome(trial) for trial in counted] == ["complete"] * (8 + 2 + 1)
    assert len(owners(every)) == 4  # each began its first training before any had ended one
    assert os.getpid() not in owners(every)
    assert result.params["lr"] == max(trial.params["lr"] for trial in every)
    assert result.weights.exists()


def test_a_worker_that_is_killed_breaks_the_pool_and_loses_nothing(tmp_path: Path) -> None:
    def killed_once(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        with contextlib.suppress(FileExistsError):
            (tmp_path / "killed").touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
        return train(model, params, report)

    events: list[Event] = []
    with processes(tmp_path, 1) as pool:
        result = tiny_tune(tmp_path / "run", killed_once, workers=pool, n_workers=1, observer=events.append)
    every = trials(tmp_path / "run")
    assert [outcome(trial) for trial in every].count("complete") == 4 + 2
    assert sorted(trial.params["lr"] for trial in every if outcome(trial) == "interrupted") == [
        every[0].params["lr"],
    ]
    assert every[0].params in [trial.params for trial in every[1:] if outcome(trial) == "complete"]
    assert owners(every) > {os.getpid()}
    said = [each.message for each in events if isinstance(each, Notice)]
    assert any(each.startswith("warning: worker 1 has ended: BrokenProcessPool") for each in said)
    assert result.params["lr"] == max(trial.params["lr"] for trial in every)


# Without: what the run does with those that an executor loses


class Doomed:
    """An executor whose every future has ended already, with that."""

    def __init__(self, end: Left | BaseException) -> None:
        self.end = end
        self.submitted = 0

    def submit(self, function: Any, given: Submission, /) -> Future[Left]:
        self.submitted += 1
        future: Future[Left] = Future()
        if isinstance(self.end, Left):
            future.set_result(self.end)
        else:
            future.set_exception(self.end)
        return future


class Full:
    def submit(self, function: Any, given: Submission, /) -> Future[Left]:
        raise RuntimeError("cannot schedule new futures after shutdown")


def told(folder: Path, executor: Any) -> list[str]:
    events: list[Event] = []
    result = tiny_tune(folder, workers=executor, n_workers=3, observer=events.append)
    assert result.record["search"]["trials"]["complete"] == 4
    assert owners(trials(folder)) == {os.getpid()}
    return [each.message for each in events if isinstance(each, Notice) and "worker" in each.message]


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (Left(why="it cannot load x"), "it cannot load x"),
        (BrokenProcessPool("a process died\nabruptly"), "BrokenProcessPool: a process died"),
    ],
)
def test_where_all_workers_are_lost_the_run_trains_by_itself(
    tmp_path: Path, end: Left | BaseException, why: str
) -> None:
    executor = Doomed(end)
    said = told(tmp_path / "run", executor)
    assert said == [f"warning: worker 1, 2, 3 has ended: {why}; this process trains by itself"]
    assert executor.submitted == 3  # and not again on the next rung


def test_where_workers_end_for_want_of_work_they_are_submitted_again(tmp_path: Path) -> None:
    executor = Doomed(Left(trained=1))
    assert told(tmp_path / "run", executor) == []
    assert executor.submitted == 2 * 3  # for each rung


def test_an_executor_that_takes_nothing_leaves_the_run_to_itself(tmp_path: Path) -> None:
    reason = "RuntimeError: cannot schedule new futures after shutdown"
    assert told(tmp_path / "run", Full()) == [
        f"the executor takes no workers ({reason}); this process trains by itself"
    ]


def test_workers_that_wait_for_their_turn_are_taken_back_at_the_end(tmp_path: Path) -> None:
    class Queue:
        def __init__(self) -> None:
            self.futures: list[Future[Left]] = []

        def submit(self, function: Any, given: Submission, /) -> Future[Left]:
            self.futures.append(Future())
            if len(self.futures) == 2:  # and the first is still waiting
                threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            return self.futures[-1]

    queue = Queue()
    with pytest.raises(KeyboardInterrupt):
        tiny_tune(tmp_path / "run", workers=queue, n_workers=2, observer=silent)
    assert [future.cancelled() for future in queue.futures] == [True, True]
    assert trials(tmp_path / "run") == []  # while any was there the run looked on


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"n_workers": 4}, "n_workers is 4, but there is nothing that could run them; give an executor"),
        ({"workers": 4}, "workers is 4, but it must be an executor, an object with the submit of concurrent.futures"),
        ({"workers": ProcessPoolExecutor, "n_workers": 4}, "but it must be an executor"),
        ({"workers": Full()}, "workers is a Full, and how many workers it is to run is not said; give n_workers=4"),
        ({"workers": Full(), "n_workers": 0}, "n_workers is 0, but it must be a whole number of at least 1"),
        ({"workers": ThreadPoolExecutor(1), "n_workers": 2}, "workers is a ThreadPoolExecutor, and trainings in one"),
        (
            {"workers": ProcessPoolExecutor(1, multiprocessing.get_context("fork")), "n_workers": 2},
            "whose processes are forks of this one, in which neither torch's threads nor CUDA work; make it with",
        ),
        (
            {"workers": Full(), "n_workers": 2, "search": Search(direction="maximize", optimizer=RandomSampler())},
            "search.optimizer is an object RandomSampler, which only this process has; workers need one by its name",
        ),
    ],
)
def test_what_cannot_work_is_refused_before_anything_runs(
    tmp_path: Path, asked: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(InputError) as refused:
        tiny_tune(tmp_path / "run", **asked)
    assert complaint in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_train_function_that_cannot_leave_the_process_is_refused(tmp_path: Path) -> None:
    lock = threading.Lock()

    def locked(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        with lock:
            return 0.0

    with pytest.raises(InputError, match="model_fn and train cannot be sent to workers .*lock.*; build in the train"):
        tiny_tune(tmp_path / "run", locked, workers=Full(), n_workers=2)


# What a worker does


def stopped_run(folder: Path) -> str:
    """A run that was stopped before its first training; the URL of its study, signed for ``TOKEN``."""

    def interrupted(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny_tune(folder, interrupted, observer=silent)
    url = study_url(folder)
    sign(url)
    return url


TOKEN = "of this start"


def sign(url: str, **said: Any) -> None:
    with connected(url) as storage:
        study = storage.get_study_id_from_name("search")
        storage.set_study_user_attr(study, SUBMITTED, {"token": TOKEN, "count": 0, "over": False, **said})


def submission(url: str, train: Callable[..., Any] = train, **changes: Any) -> Submission:
    join = cloudpickle.dumps(partial(_join, net, train, url, "search", "anyway"))
    owner = {**this_process(), "pid": 1}
    given = Submission(1, TOKEN, join, url, "search", owner, workers=2, threads=4, heartbeat=Heartbeat())
    return replace(given, **changes)


def test_a_worker_trains_until_nothing_is_left(tmp_path: Path) -> None:
    url = stopped_run(tmp_path / "run")
    assert serve(submission(url)) == Left(trained=4)


def test_a_worker_shares_the_cores_of_the_runs_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, found = stopped_run(tmp_path / "run"), tmp_path / "threads"

    def counting(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        with found.open("a") as file:
            file.write(f"{torch.get_num_threads()}\n")
        return train(model, params, report)

    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        serve(submission(url, counting))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert found.read_text().split() == ["2"] * 4


def test_sigterm_hands_the_trial_back_and_then_means_what_it_meant(tmp_path: Path) -> None:
    url, heard = stopped_run(tmp_path / "run"), list[int]()

    def preempted(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("a signal is handled at once")

    before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        assert serve(submission(url, preempted)) == Left(why="it was stopped by SIGTERM")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [signal.SIGTERM]
    first, second = trials(tmp_path / "run")
    assert [outcome(first), outcome(second)] == ["interrupted"] * 2
    assert second.params == first.params
    assert serve(submission(url)) == Left(trained=4)


@pytest.mark.parametrize("said", [{"over": True}, {"token": "of another start"}])
def test_a_worker_ends_with_its_run(tmp_path: Path, said: dict[str, Any]) -> None:
    url = stopped_run(tmp_path / "run")

    def long(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        sign(url, **said)
        time.sleep(60)
        raise AssertionError("it was to end within two looks")

    started = time.monotonic()
    assert serve(submission(url, long)) == Left()
    assert time.monotonic() - started < 30
    assert [outcome(trial) for trial in trials(tmp_path / "run")] == ["interrupted"] * 2


def test_a_worker_ends_when_its_run_was_killed(tmp_path: Path) -> None:
    url = stopped_run(tmp_path / "run")

    def long(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        time.sleep(60)
        raise AssertionError("it was to end when nobody signs any more")

    assert serve(submission(url, long, heartbeat=Heartbeat(beat=2.0, stale=2.0))) == Left()


def test_a_worker_in_a_thread_ends_at_its_next_report(tmp_path: Path) -> None:
    """As dask's are."""
    url = stopped_run(tmp_path / "run")

    def ending(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        sign(url, over=True)
        time.sleep(3)
        report(0.5, 1)
        raise AssertionError("the report ends it")

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(serve, submission(url, ending)).result() == Left()
    last = trials(tmp_path / "run")[-1]
    assert (outcome(last), last.intermediate_values) == ("interrupted", {1: 0.5})


def test_two_in_one_process_are_refused(tmp_path: Path) -> None:
    url, begun, refused = stopped_run(tmp_path / "run"), tmp_path / "begun", tmp_path / "refused"

    def waiting(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        begun.touch()
        while not refused.exists():
            time.sleep(0.01)
        return train(model, params, report)

    given = submission(url, waiting)
    assert serve(replace(given, owner=this_process())) == Left(why=ONE_EACH)
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(serve, given)
        while not begun.exists():
            time.sleep(0.01)
        assert serve(replace(given, number=2)) == Left(why=ONE_EACH)
        refused.touch()
        assert first.result() == Left(trained=4)


def test_what_a_worker_cannot_import_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = stopped_run(tmp_path / "run")
    (tmp_path / "only_here.py").write_text("def train(model, params, report):\n    return 0.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    given = submission(url, importlib.import_module("only_here").train)
    monkeypatch.undo()
    del sys.modules["only_here"]
    left = serve(given)
    assert left.why == (
        "it cannot load the network and the train function (ModuleNotFoundError: No module named 'only_here'); install "
        "there, or copy there, what they are made of"
    )


def test_a_run_folder_that_a_worker_does_not_reach_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = serve(submission(f"journal://{tmp_path}/elsewhere/study.log"))
    assert "there is no folder" in left.why
    assert left.why.endswith("or give the search a storage that they reach, Search(storage=…)")
    monkeypatch.setattr("prunetune.tuning.submitted.WAIT_SECONDS", 0.1)
    left = serve(submission(f"journal://{tmp_path}/study.log"))  # a folder of that name, and another one
    assert left.why.startswith(f"the run's study 'search' is not in journal://{tmp_path}/study.log; workers must reach")


def test_a_worker_is_refused_as_everywhere(tmp_path: Path) -> None:
    url = stopped_run(tmp_path / "run")
    join = cloudpickle.dumps(partial(_join, lambda: nn.Linear(6, 2), train, url, "search", "anyway"))
    assert "the plan" in serve(submission(url, join=join)).why


def test_signs_are_missed_by_the_workers_own_clock() -> None:
    """Looks every second; the pause of an hour counts for two beats."""
    times = iter([0.0, 1.0, 2.0, 3.0, 3603.0, 3604.0, 3605.0])
    pulse = Pulse(TOKEN, Heartbeat(beat=1.0, stale=4.0), lambda: next(times))
    signs = [0, 0, 1, 1, 1, 1, 1]
    found = [pulse.is_over({"token": TOKEN, "count": count, "over": False}) for count in signs]
    assert found == [False, False, False, False, False, True, True]  # quiet: 0, 1, 0, 1, 3, 4, 5


def test_a_class_of_the_script_is_known_where_the_script_is_another() -> None:
    """As in a worker of submitit's, where ``__main__`` is in a library; here it is pytest."""
    made: dict[str, Any] = {"__name__": "__main__", "nn": nn}
    exec("class Net(nn.Module):\n    def forward(self, x):\n        return x\n", made)
    assert list(class_parts(made["Net"])) == ["Net"]

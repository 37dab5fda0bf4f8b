"""What a run was started with, and what is another problem: named and refused, or gone on with knowingly."""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import linecache
import os
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import prunetune.record.provenance
import prunetune.tuning.fingerprint
from prunetune.backends.study.trial import Report
from prunetune.checking.proxy_check import check
from prunetune.errors import InputError, SearchError
from prunetune.events import Event, Notice
from prunetune.record.folder import RunFolder
from prunetune.tuning.callables import described
from prunetune.tuning.fingerprint import Fingerprint
from prunetune.tuning.tuner import tune
from prunetune.tuning.worker import work
from tiny_tune import HALF, INPUTS, SMALL, SPACE, interrupt, make_quick, net, read_record, tiny_tune, train

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What other tests are about is left out."""
    make_quick(monkeypatch)


def conv(channels: int = 8, stride: int = 1, act: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, channels, 3, stride=stride), act(), nn.Flatten(), nn.Linear(8, 2))


class Written(nn.Module):
    """Its activation is in the code of ``forward`` only."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.layer(x))


class WrittenGelu(Written):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.gelu(self.layer(x))


def _frozen(model: nn.Sequential) -> nn.Sequential:
    model[0].requires_grad_(False)
    return model


def _clause(before: nn.Module, now: nn.Module) -> str:
    first, second = (Fingerprint.of({"network": each}, {}) for each in (before, now))
    return first.differences(second).get("network", "")


@pytest.mark.parametrize(
    ("before", "now", "clause"),
    [
        (conv(), conv(), ""),
        (conv(8), conv(16), "layer '0' had out_channels 8, now it has 16"),
        (conv(), conv(stride=2), "layer '0' had stride (1, 1), now it has (2, 2)"),
        (conv(), conv(act=nn.GELU), "layer '1' had class ReLU, now it has GELU"),
        (nn.ELU(alpha=1.0), nn.ELU(alpha=0.5), "the whole had alpha 1.0, now it has 0.5"),
        (nn.Linear(3, 3), nn.Linear(3, 3, bias=False), "the whole had bias float32 (3,), now it has none"),
        (nn.Linear(3, 3), nn.Linear(3, 3).double(), "had weight float32 (3, 3), now it has float64 (3, 3)"),
        (conv(), _frozen(conv()), "layer '0' had weight float32 (8, 1, 3, 3), now it has float32 (8, 1, 3, 3) frozen"),
        (nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU(), nn.ReLU()), "layer '1', a ReLU, is new"),
        (Written(), WrittenGelu(), "the whole had class Written, now it has WrittenGelu"),
    ],
)
def test_a_network_is_another_if_any_layer_is(before: nn.Module, now: nn.Module, clause: str) -> None:
    found = _clause(before, now)
    assert clause in found
    assert bool(found) == bool(clause)


def _compiled(text: str, name: str = "train", **world: Any) -> Callable[..., Any]:
    """The function that a file with this text defines; its source can be read as that of any file."""
    file = f"<test {abs(hash(text))}>"
    source = textwrap.dedent(text)
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    space: dict[str, Any] = {"__name__": "users", **world}
    exec(compile(source, file, "exec"), space)
    return space[name]


PLAIN = """
def helper(x):
    return x * SCALE

def train(model, params, report):
    for epoch in range(report.epochs):
        if epoch: continue
        report(helper(epoch), epoch + 1)
    return helper(1.0)
"""
FORMATTED = """
# a comment
def helper(x):
    "A docstring."
    return (x
            * SCALE)


def train(model, params, report):
    '''A docstring.'''
    for epoch in range(report.epochs):
        if epoch:
            continue  # not now
        report( helper(epoch), epoch + 1 )

    return helper(1.0)
"""


def _difference(before: Callable[..., Any], now: Callable[..., Any]) -> str:
    first, second = (Fingerprint.of({}, {"train": each}) for each in (before, now))
    return first.differences(second).get("train", "")


def test_formatting_is_no_difference_and_code_is_one_wherever_it_stands() -> None:
    before = _compiled(PLAIN, SCALE=2.0)
    assert _difference(before, _compiled(FORMATTED, SCALE=2.0)) == ""
    assert _difference(before, _compiled(PLAIN, SCALE=3.0)) == "helper.SCALE in train was 2.0, now it is 3.0"
    assert _difference(before, _compiled(PLAIN.replace("x * SCALE", "x + SCALE"), SCALE=2.0)) == (
        "the code of helper has changed"
    )
    assert _difference(before, _compiled(PLAIN.replace("epoch + 1", "epoch + 2"), SCALE=2.0)) == (
        "the code of train has changed"
    )


def test_under_another_python_the_source_decides_and_without_one_nobody_can_say() -> None:
    """The digests of compiled code are made others, as another Python makes them."""
    given = Fingerprint.of({}, {"train": _compiled(PLAIN, SCALE=2.0), "evaluate": lambda model: 1})
    text = json.dumps(given.to_json())
    for line in (line for part in given.given.values() for line in part[""].values() if line.startswith("#")):
        text = text.replace(line, f"#0000/{line.partition('/')[2]}")
    older = Fingerprint.read({**json.loads(text), "versions": {**given.versions, "python": "3.10.1"}}, "x")
    assert older.differences(given) == {}
    assert older.newer_versions(given) == [f"python {given.versions['python']} (3.10.1 before)"]
    same_python = Fingerprint.read({**json.loads(text), "versions": given.versions}, "x")
    assert same_python.differences(given) == {"evaluate": "the code of evaluate has changed"}


def _adder(amount: Any) -> Callable[..., float]:
    return lambda model, params, report: amount


class Trainer:
    """A callable object with a setting and a counter."""

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.calls = 0
        self.seen: list[int] = []

    def __call__(self, model: Any, params: Any, report: Any) -> float:
        self.calls += 1
        self.seen.append(self.calls)
        return self.decay

    def fit(self, model: Any, params: Any, report: Any) -> float:
        return self(model, params, report)


def _partial(function: Callable[..., Any], **given: Any) -> Callable[..., Any]:
    return functools.partial(function, **given)


@pytest.mark.parametrize(
    ("before", "now", "clause"),
    [
        (_adder(0.1), _adder(0.2), "amount in train was 0.1, now it is 0.2"),
        (_adder(0.1), _adder(0.1), ""),
        (_partial(train, x=1), _partial(train, x=2), "argument x in train was 1, now it is 2"),
        (Trainer(0.5), Trainer(0.25), "decay in train was 0.5, now it is 0.25"),
        (Trainer(0.5).fit, Trainer(0.5).fit, ""),
        (Trainer(0.5).fit, Trainer(0.25).fit, "decay in train was 0.5, now it is 0.25"),
        (Trainer(0.5).fit, Trainer(0.5).__call__, "method in train was fit, now it is __call__"),
        (_adder(nn.CrossEntropyLoss()), _adder(nn.CrossEntropyLoss()), ""),
        (
            _adder(nn.CrossEntropyLoss()),
            _adder(nn.CrossEntropyLoss(label_smoothing=0.1)),
            "amount.label_smoothing in train was 0.0, now it is 0.1",
        ),
        (
            _adder(slice(9)),
            _adder(slice(8)),
            "amount in train was slice(None, 9, None), now it is slice(None, 8, None)",
        ),
        (lambda model, params, report: 1, lambda model, params, report: 2, "the code of train has changed"),
        (lambda model, params, report: 1, lambda model, params, report: 1, ""),
    ],
)
def test_functions_of_every_form(before: Callable[..., Any], now: Callable[..., Any], clause: str) -> None:
    assert _difference(before, now) == clause


def test_what_a_function_writes_to_is_state_and_where_files_lie_is_no_difference(tmp_path: Path) -> None:
    settings = SimpleNamespace(rate=0.1, step=0)
    losses: list[float] = []
    counts: dict[str, int] = {}
    pairs: Counter[tuple[int, int]] = Counter()
    series: dict[str, list[int]] = {}
    calls, trainer, where = 0, Trainer(0.5), tmp_path

    def stateful(model: Any, params: Any, report: Any) -> float:
        nonlocal calls
        calls += 1
        losses.append(1.0)
        counts["x"] = calls
        pairs[calls, 1] += calls
        series.setdefault("a", [])
        series["a"].append(1)
        settings.step += 1
        return trainer(model, params, report) * settings.rate + len(str(where))

    before = Fingerprint.of({}, {"train": stateful})
    stateful(None, None, None)
    where = Path("elsewhere")
    assert before.differences(Fingerprint.of({}, {"train": stateful})) == {}
    settings.rate = 0.2
    assert before.differences(Fingerprint.of({}, {"train": stateful})) == {
        "train": "settings.rate in train was 0.1, now it is 0.2"
    }


@pytest.mark.parametrize("value", ["cuda:1", "/data/images", Path("x"), torch.device("cpu"), iter([1])])
def test_what_differs_from_machine_to_machine_is_no_difference(value: Any) -> None:
    def using(other: Any) -> Callable[..., Any]:
        return lambda model, params, report: other

    assert _difference(using(value), using({"cuda:1": "cpu", "/data/images": "/mnt/x"}.get(str(value), value))) == ""


def test_the_fingerprint_is_the_same_in_every_process(tmp_path: Path) -> None:
    """Sets of text have another order in each: Python's hashes are salted."""
    script = tmp_path / "script.py"
    script.write_text(_SCRIPT)
    command = [sys.executable, str(script)]
    lines = [
        subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": salt}, capture_output=True, text=True, check=True)
        for salt in ("1", "2")
    ]
    first, second = (each.stdout for each in lines)
    assert first == second
    given = json.loads(first)
    assert given["NAMES"] == "{'a', 'b', 'c', 'd'}"
    assert given["helper.DECAY"] == "0.5"
    assert "losses" not in given
    assert all(len(given[name].partition("/")[2]) == 16 for name in ("its code", "helper", "Part"))


_SCRIPT = """
import json
from prunetune.tuning.callables import described

NAMES, DECAY, losses = {"a", "b", "c", "d"}, 0.5, []

class Part:
    def run(self, name):
        return name in {"x", "y", "z"}

def helper(x):
    return x * DECAY

def train(model, params, report):
    losses.append(helper(1.0))
    return float(Part().run("x") and "a" in NAMES)

print(json.dumps(described(train)))
"""


def test_a_value_is_no_state_because_an_attribute_elsewhere_has_its_name() -> None:
    def using(lr: float) -> Callable[..., Any]:
        def scheduled(model: Any, params: Any, report: Any) -> float:
            model.lr = lr
            model.rates["lr"] = lr
            return lr

        return scheduled

    assert _difference(using(0.1), using(0.2)) == "lr in train was 0.1, now it is 0.2"


def test_what_is_written_in_c_is_said_to_be_unreadable() -> None:
    first, second = (Fingerprint.of({}, {"train": each}) for each in (max, min))
    assert described(max) == {"its code": "unreadable"}
    assert first.differences(second) == {}
    assert first.uncomparable(second) == ["train"]


def other_train(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    return train(model, params, report) + 1


def wider() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 20), nn.ReLU(), nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 2))


def smooth() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))


@pytest.mark.parametrize(
    ("model_fn", "function", "sentence"),
    [
        (wider, train, "another network: layer '0' had out_features 16, now it has 20"),
        (smooth, train, "another network: layer '1' had class ReLU, now it has GELU"),
        (net, other_train, "another train function: the code of train has changed"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_problem_in_the_same_folder_is_refused(
    model_fn: Callable[[], nn.Module], function: Callable[..., float], sentence: str, finished: bool, tmp_path: Path
) -> None:
    if finished:
        tiny_tune(tmp_path)
    else:
        _interrupted(tmp_path)
    before = (tmp_path / "fingerprint.json").read_text()
    with pytest.raises(InputError) as caught:
        tune(model_fn, function, SPACE, example_inputs=INPUTS, epochs=2, run_dir=tmp_path, pruning=HALF, search=SMALL)
    assert str(caught.value).startswith(f"the run in {tmp_path} was started with {sentence}; continue it with the same")
    assert "resume='anyway'" in str(caught.value)
    assert (tmp_path / "fingerprint.json").read_text() == before


def _interrupted(folder: Path) -> None:
    """A run that was stopped in its third trial."""

    def once(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        if report.number == 2:
            raise KeyboardInterrupt
        return train(model, params, report)

    with pytest.raises(KeyboardInterrupt):
        tiny_tune(folder, train=once)
    with RunFolder(folder) as own:  # as if it had been ``train`` that was interrupted
        given = json.loads(own.fingerprint.read_text())
        given["given"]["train"] = {"": described(train)}
        own.write_json(own.fingerprint, given)


def test_a_run_goes_on_anyway_and_says_so(tmp_path: Path) -> None:
    _interrupted(tmp_path)
    events: list[Event] = []
    record = tiny_tune(tmp_path, train=other_train, resume="anyway", observer=events.append).record
    sentence = "continued with another train function: the code of train has changed"
    assert record["anyway"] == [sentence]
    assert sentence in record["search"]["notes"]
    assert read_record(tmp_path)["anyway"] == [sentence]
    said = [event.message for event in events if isinstance(event, Notice)]
    assert said[0].startswith(f"warning: the run in {tmp_path} goes on with another train function: the code of train")
    assert tiny_tune(tmp_path, train=other_train).already_finished  # which is that of the run from now on
    with pytest.raises(InputError, match="unknown way to resume 'anyhow' \\(did you mean 'anyway'"):
        tiny_tune(tmp_path, resume="anyhow")


def test_a_train_function_that_never_worked_may_be_mended(tmp_path: Path) -> None:
    def broken(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        raise ValueError("a mistake")

    with pytest.raises(SearchError):
        tiny_tune(tmp_path, train=broken)
    record = tiny_tune(tmp_path, search=replace(SMALL, n_trials=9)).record
    assert "anyway" not in record
    assert record["search"]["trials"]["complete"] == 9  # those that failed, all for one reason, are not counted


def test_other_inputs_are_refused(tmp_path: Path) -> None:
    tiny_tune(tmp_path)
    with pytest.raises(
        InputError, match=r"another batch of inputs: the tensor in example_inputs was float32 \(2, 6\), now it is"
    ):
        tune(
            net, train, SPACE, example_inputs=torch.zeros(4, 6), epochs=2, run_dir=tmp_path, pruning=HALF, search=SMALL
        )


def test_newer_versions_are_told_and_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_tune(tmp_path)
    now = prunetune.record.provenance.versions()
    monkeypatch.setattr(prunetune.record.provenance, "versions", lambda: {**now, "torch": "99.0"})
    events: list[Event] = []
    assert tiny_tune(tmp_path, observer=events.append).already_finished
    said = [event.message for event in events if isinstance(event, Notice)]
    assert said == [f"the run in {tmp_path} goes on with other versions: torch 99.0 ({now['torch']} before)"]


@pytest.mark.parametrize("finished", [True, False])
def test_a_run_of_an_earlier_version_goes_on_and_is_compared_from_then_on(finished: bool, tmp_path: Path) -> None:
    if finished:
        tiny_tune(tmp_path)
    else:
        _interrupted(tmp_path)
    (tmp_path / "fingerprint.json").unlink()
    events: list[Event] = []
    tiny_tune(tmp_path, observer=events.append)
    said = [event.message for event in events if isinstance(event, Notice)]
    assert said[0].startswith(f"nothing is known of what the run in {tmp_path} was started with")
    with pytest.raises(InputError, match="another train function"):
        tiny_tune(tmp_path, train=other_train)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"format": 1}', '{"format": 1, "versions": {}, "given": {"train": 3}}']
)
def test_a_damaged_fingerprint_is_one_sentence(content: str, tmp_path: Path) -> None:
    tiny_tune(tmp_path)
    (tmp_path / "fingerprint.json").write_text(content)
    with pytest.raises(InputError, match=r"fingerprint\.json is damaged"):
        tiny_tune(tmp_path)


def test_another_evaluation_is_done_again_and_refuses_nothing(tmp_path: Path) -> None:
    tiny_tune(tmp_path, evaluate=lambda model: {"a": 1.0})
    again = tiny_tune(tmp_path, evaluate=lambda model: {"a": 2.0})
    assert again.already_finished
    assert read_record(tmp_path)["test"] == {"a": 2.0}
    assert "anyway" not in again.record


def test_a_finished_run_is_evaluated_when_that_is_asked_for_later(tmp_path: Path) -> None:
    tiny_tune(tmp_path)
    tiny_tune(tmp_path, evaluate=lambda model: {"a": 2.0})
    assert read_record(tmp_path)["test"] == {"a": 2.0}


def test_a_check_and_a_run_in_one_folder_are_of_one_problem(tmp_path: Path) -> None:
    options: dict[str, Any] = {"example_inputs": INPUTS, "epochs": 2, "pruning": HALF, "search": SMALL}
    check(net, train, SPACE, run_dir=tmp_path, configurations=4, **options)
    for call in (check, tune):
        with pytest.raises(InputError, match="was started with another train function"):
            call(net, other_train, SPACE, run_dir=tmp_path, **options)
    found = check(net, other_train, SPACE, run_dir=tmp_path, resume="anyway", configurations=4, **options)
    assert "continued with another train function: the code of train has changed" in found.record["notes"]


def test_a_worker_with_another_train_function_is_refused(tmp_path: Path) -> None:
    url = f"journal://{tmp_path}/log"
    search = replace(SMALL, storage=url, study="x")
    with pytest.raises(KeyboardInterrupt):
        tiny_tune(tmp_path / "run", train=interrupt, search=search)
    with pytest.raises(InputError, match="the search 'x' was started with another train function: the code of train"):
        work(net, train, url)
    with pytest.raises(InputError, match="the search 'x' was started with another network: layer '1' had class ReLU"):
        work(smooth, interrupt, url)
    assert work(net, train, url, resume="anyway") == 4


def test_where_in_prunetune_a_train_function_of_its_own_is_counts_for_nothing() -> None:
    """A version that moves it goes on with the runs of one before."""
    from prunetune.training import ImageClassification
    from prunetune.tuning.callables import CODE, described

    trains = object.__new__(ImageClassification)
    assert described(trains)[CODE] == "prunetune.ImageClassification"


def test_a_function_whose_file_has_changed_since_is_described_by_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "edited_since.py"
    path.write_text("def train():\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    train = importlib.import_module("edited_since").train
    path.write_text("def train(\n    # being typed\n")
    linecache.clearcache()
    with pytest.raises(Exception, match="EOF"):
        inspect.getsource(train)
    assert described(train)["its code"].startswith("#")

"""The run folder: one process at a time, whole files or none, every kind of tensor sharing, and clear refusals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn

from prunetune.backends.study.storage import connected
from prunetune.errors import InputError
from prunetune.record.folder import RunFolder, load_weights, save_weights, write_weights

pytestmark = pytest.mark.filterwarnings("error")


def test_a_new_folder_is_made_and_marked(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "a" / "b") as folder:
        assert json.loads((folder.path / "run.json").read_text()) == {"made_by": "prunetune", "format": 1}
        names = [folder.study, folder.plan, folder.best, folder.weights, folder.result, folder.report]
    assert [path.name for path in names] == [
        "study.log",
        "plan.json",
        "best.json",
        "weights.safetensors",
        "result.json",
        "report.html",
    ]


def test_it_opens_again_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as folder:
        folder.write_json(folder.result, {"a": [1, 2.5, None]})
    with RunFolder(str(tmp_path)) as folder:
        assert folder.read_json(folder.result) == {"a": [1, 2.5, None]}
        assert folder.read_json(folder.best) is None


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    for name in ("thesis.tex", "a.txt", "b.txt", "c.txt"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"holds other things than a run \(a.txt, b.txt, c.txt, …\); choose an empty"):
        RunFolder(tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_folder_with_nothing_but_hidden_files_is_empty(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    with RunFolder(tmp_path):
        pass


@pytest.mark.parametrize(
    ("marker", "sentence"),
    [
        ('{"made_by": "prunetune", "format": 2}', "has format 2; this prunetune reads and writes format 1"),
        ('{"made_by": "another"}', "is not a run folder of prunetune"),
        ("[]", "is not a run folder of prunetune"),
        ("{", "run.json is damaged"),
    ],
)
def test_another_format_is_refused_and_the_lock_given_back(marker: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(marker)
    for _ in range(2):
        with pytest.raises(InputError, match=sentence):
            RunFolder(tmp_path)
    (tmp_path / "run.json").unlink()
    with RunFolder(tmp_path):
        pass


def test_a_path_that_cannot_be_a_folder_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(
            InputError, match=r"cannot use the run folder .*file.*: (File exists|Not a directory); choose"
        ):
            RunFolder(path)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that not even root can write to")
def test_a_folder_that_cannot_be_written_to_is_one_sentence() -> None:
    with pytest.raises(InputError, match="cannot use the run folder /proc/run: "):
        RunFolder("/proc/run")


def test_the_same_process_cannot_open_it_twice(tmp_path: Path) -> None:
    with RunFolder(tmp_path), pytest.raises(InputError, match=f"is in use by process {os.getpid()}; wait for it, or"):
        RunFolder(tmp_path)
    with RunFolder(tmp_path):
        pass


_HOLD = """
import sys, time
from prunetune.record.folder import RunFolder
folder = RunFolder(sys.argv[1])
print("open", flush=True)
time.sleep(60)
"""


def test_another_process_is_kept_out_until_it_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(InputError, match=f"in use by process {other.pid}"):
            RunFolder(tmp_path)
        other.send_signal(signal.SIGKILL)
        other.wait()
        with RunFolder(tmp_path):
            pass


_FORK = """
import os, sys, time
from prunetune.record.folder import RunFolder
folder = RunFolder(sys.argv[1])
if os.fork() == 0:  # a data loader's worker, which outlives its killed parent by a moment
    os.close(1)
    time.sleep(1.5)
    os._exit(0)
print("open", flush=True)
time.sleep(60)
"""


def test_a_killed_runs_orphaned_workers_are_waited_for(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _FORK, str(tmp_path)], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        other.send_signal(signal.SIGKILL)
        other.wait()
    started = time.monotonic()
    with RunFolder(tmp_path):
        assert time.monotonic() - started < 10


_CLOSE_BEFORE_WORKER = """
import os, signal, sys, time
from prunetune.record.folder import RunFolder
folder = RunFolder(sys.argv[1])
worker = os.fork()
if worker == 0:
    time.sleep(60)
folder.close()
folder.close()
started = time.monotonic()
with RunFolder(sys.argv[1]):
    print(time.monotonic() - started < 5)
os.kill(worker, signal.SIGKILL)
"""


def test_closing_lets_go_although_a_worker_has_the_lock_file_open(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _CLOSE_BEFORE_WORKER, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.stdout == "True\n", done.stderr


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as folder:
        folder.write_json(folder.result, {"score": 0.5})
        for value in ({"score": float("nan")}, {"score": object()}):
            with pytest.raises((ValueError, TypeError)):
                folder.write_json(folder.result, value)
        assert folder.read_json(folder.result) == {"score": 0.5}
        assert sorted(path.name for path in tmp_path.iterdir()) == ["result.json", "run.json", "run.lock"]


_WRITE_FOREVER = """
import sys
from prunetune.record.folder import RunFolder
folder = RunFolder(sys.argv[1])
print("open", flush=True)
number = 0
while True:
    number += 1
    folder.write_json(folder.result, {"number": number, "filler": "x" * 300_000, "end": number})
"""


def test_a_kill_while_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _WRITE_FOREVER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        while not (tmp_path / "result.json").exists():
            time.sleep(0.01)
        time.sleep(0.05)
        other.send_signal(signal.SIGKILL)
        other.wait()
    with RunFolder(tmp_path) as folder:
        written = folder.read_json(folder.result)
        assert written["number"] == written["end"] >= 1
        assert sorted(path.name for path in tmp_path.iterdir()) == ["result.json", "run.json", "run.lock"]


@pytest.mark.parametrize("text", ['{"a": ', '{"a": NaN}', '{"a": [-Infinity]}', '{"a": 1e999}'])
def test_damaged_json_is_one_sentence(text: str, tmp_path: Path) -> None:
    """What could not be written again is not read either."""
    with RunFolder(tmp_path) as folder:
        folder.result.write_text(text)
        with pytest.raises(InputError, match=r"result.json is damaged \(.*\); delete the run folder or choose another"):
            folder.read_json(folder.result)


def test_the_storage_url_survives_strange_characters(tmp_path: Path) -> None:
    import optuna

    with RunFolder(tmp_path / "a b?c#d%20é@") as folder:
        for earlier in (False, True):
            if earlier:
                (folder.path / "study.db").touch()
            with connected(folder.storage) as storage:
                optuna.create_study(storage=storage)
            assert folder.study.stat().st_size > 0
            assert folder.study.name == ("study.db" if earlier else "study.log")


# Weights


class Tied(nn.Module):
    """A weight used twice, one that is a view of another, and buffers of several types."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.out = nn.Linear(3, 5)
        self.out.weight = self.embed.weight
        self.norm = nn.BatchNorm1d(3)
        flat = torch.arange(6.0)
        self.register_buffer("first", flat[:2])
        self.register_buffer("rest", flat[2:].view(2, 2).t())
        self.register_buffer("low", torch.ones(2, dtype=torch.bfloat16))


def test_shared_and_strided_weights_come_back(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Tied()
    expected = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_weights(model, tmp_path / "w.safetensors")
    torch.manual_seed(1)
    other = Tied()
    assert not torch.equal(other.embed.weight, model.embed.weight)
    load_weights(other, tmp_path / "w.safetensors")
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, expected[name]), name
        assert tensor.dtype == expected[name].dtype
    assert other.out.weight is other.embed.weight
    assert set(load_file(tmp_path / "w.safetensors")) == set(expected)
    assert not other.get_buffer("rest").is_contiguous()


def test_weights_go_into_a_model_that_shares_nothing(tmp_path: Path) -> None:
    model = Tied()
    save_weights(model, tmp_path / "w.safetensors")
    untied = Tied()
    untied.out.weight = nn.Parameter(torch.zeros(5, 3))
    load_weights(untied, tmp_path / "w.safetensors")
    assert torch.equal(untied.out.weight, model.embed.weight)


def test_weights_go_into_modules_that_ask_for_the_version_of_their_format(tmp_path: Path) -> None:
    """As torchvision's MNASNet does, which without one raises ValueError."""
    model, other = (torchvision.models.mnasnet0_5(num_classes=2) for _ in range(2))
    save_weights(model, tmp_path / "w.safetensors")
    load_weights(other, tmp_path / "w.safetensors")
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in other.state_dict().items())


def test_weights_are_replaced_as_a_whole(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as folder:
        write_weights(nn.Linear(2, 2), folder.weights)
        before = folder.weights.read_bytes()
        broken = nn.Linear(2, 2)
        broken.register_buffer("sparse", torch.eye(2).to_sparse())
        with pytest.raises(
            InputError, match=r"the model's state 'sparse' is a torch.sparse_coo cpu; only dense tensors"
        ):
            write_weights(broken, folder.weights)
        assert folder.weights.read_bytes() == before
        assert oct(folder.weights.stat().st_mode) == oct(folder.study.parent.joinpath("run.json").stat().st_mode)


def test_weights_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    save_weights(nn.Linear(2, 2), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="w.safetensors do not fit Linear: size mismatch for weight: [^\n]*$"):
        load_weights(nn.Linear(3, 2), tmp_path / "w.safetensors")
    with pytest.raises(InputError, match="cannot read the weights in"):
        load_weights(nn.Linear(3, 2), tmp_path / "missing.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x04not safetensors")
    with pytest.raises(InputError, match="cannot read the weights in"):
        load_weights(nn.Linear(3, 2), tmp_path / "bad.safetensors")


def test_extra_state_that_is_no_tensor_is_refused(tmp_path: Path) -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"a": 1}

        def set_extra_state(self, state: dict[str, int]) -> None:
            pass

    with pytest.raises(InputError, match="the model's state '_extra_state' is a dict"):
        save_weights(Extra(2, 2), tmp_path / "w.safetensors")

"""A run folder: locked while a run uses it, written so that a kill at any moment leaves whole files, never unpickled.

What is in it: ``run.json`` (which marks the folder as ours), ``run.lock``, ``alive`` (while a run is at work),
``study.log`` (all Optuna studies; ``study.db`` of version 0.1), ``plan.json``, ``plan-*.json`` of the networks of
a ladder, ``recovered-*.safetensors`` of those of a pretrained one, ``fingerprint.json``, ``result.json``,
``best.json``, ``weights.safetensors``, ``report.html``; ``check.json`` if the proxy was checked; ``compare.json``,
``compare.html`` and ``compare-cost.json`` if ways were compared.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from prunetune.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

FORMAT: Final = 1
MARKER: Final = "run.json"
LOCK: Final = "run.lock"
TEMPORARY: Final = ".writing-"
PRIVATE: Final = 0o700
"""Of a new run folder: it holds the study, and whoever writes to that has a say in what is trained."""
ORPHAN_SECONDS: Final = 10.0  # how long workers that a killed process forked may go on holding its lock


class RunFolder:
    """The run folder at ``path``, made if need be and locked until ``close`` or the end of a ``with`` block.

    Raises
    ------
    InputError
        The folder cannot be written to, holds other things, has another format, or is in use by another process.

    Example
    -------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as parent, RunFolder(f"{parent}/run") as folder:
    ...     folder.write_json(folder.best, {"params": {"learning_rate": 0.1}})
    ...     folder.read_json(folder.best)
    {'params': {'learning_rate': 0.1}}
    """

    def __init__(self, path: str | Path) -> None:
        self.path = whole_path("the run folder", path)
        with _clear_errors(self.path):
            self.path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            self._refuse_foreign()
            self._lock = _Lock(self.path / LOCK)
            try:
                self._check_format()
                for leftover in self.path.glob(f"{TEMPORARY}*"):
                    leftover.unlink()
            except BaseException:
                self._lock.release()
                raise

    @property
    def study(self) -> Path:
        """The journal with the studies."""
        return study_file(self.path)

    @property
    def plan(self) -> Path:
        """The pruning plan."""
        return self.path / "plan.json"

    @property
    def config(self) -> Path:
        """The configuration, if the run was started from one."""
        return self.path / "config.json"

    @property
    def best(self) -> Path:
        """The best hyperparameters so far."""
        return self.path / "best.json"

    @property
    def weights(self) -> Path:
        """The winner's trained weights."""
        return self.path / "weights.safetensors"

    @property
    def result(self) -> Path:
        """The machine-readable record of the run."""
        return self.path / "result.json"

    @property
    def alive(self) -> Path:
        """Touched while a run is at work."""
        return self.path / "alive"

    @property
    def fingerprint(self) -> Path:
        """What the user brought: networks, functions, inputs, versions."""
        return self.path / "fingerprint.json"

    @property
    def check(self) -> Path:
        """What a check of the proxy measured, if there was one."""
        return self.path / "check.json"

    @property
    def comparison(self) -> Path:
        """What a comparison came to, if there was one."""
        return self.path / "compare.json"

    @property
    def comparison_page(self) -> Path:
        """The same for people."""
        return self.path / "compare.html"

    @property
    def equal_cost(self) -> Path:
        """What the rivals of a comparison are to cost, fixed when they were first trained."""
        return self.path / "compare-cost.json"

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.path / "report.html"

    def network(self, name: str) -> Path:
        """The pruning plan of a rung's network."""
        return self.path / f"plan-{name}.json"

    def trial_weights(self, number: int) -> Path:
        """Weights of one trial on the full network, while it may still win."""
        return trial_weights(self.path, number)

    def drop_weights(self, numbers: Iterable[int] | None = None) -> None:
        """Delete the files of ``trial_weights`` of these trials, or of all; workers may be writing others."""
        every = self.path.glob("weights-trial-*.safetensors")
        for path in every if numbers is None else map(self.trial_weights, numbers):
            path.unlink(missing_ok=True)

    @property
    def storage(self) -> str:
        """URL of the studies' storage."""
        return study_url(self.path)

    def write_text(self, path: Path, text: str) -> None:
        """Put ``text`` into the file at ``path`` as a whole: after a kill there is the old file or the new one."""
        with _clear_errors(self.path), _replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def write_json(self, path: Path, value: Any) -> None:
        """``write_text`` of ``value`` as JSON. Raises ValueError for NaN and infinity, which are not JSON."""
        self.write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")

    def read_json(self, path: Path) -> Any:
        """What ``write_json`` wrote; None if there is no such file. Raises InputError if it is damaged."""
        return read_json(path)

    def close(self) -> None:
        """Let other processes have the folder."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _refuse_foreign(self) -> None:
        names = sorted(entry.name for entry in self.path.iterdir() if not entry.name.startswith("."))
        others = [name for name in names if name != LOCK]
        if others and MARKER not in others:
            shown = ", ".join(others[:3]) + (", …" if len(others) > 3 else "")
            raise InputError(f"{self.path} holds other things than a run ({shown}); choose an empty or a new folder")

    def _check_format(self) -> None:
        marker = read_json(self.path / MARKER)
        if marker is None:
            self.write_json(self.path / MARKER, {"made_by": "prunetune", "format": FORMAT})
        elif not isinstance(marker, dict) or marker.get("made_by") != "prunetune":
            raise InputError(f"{self.path} is not a run folder of prunetune; choose an empty or a new folder")
        elif marker.get("format") != FORMAT:
            raise InputError(
                f"{self.path} has format {marker.get('format')!r}; this prunetune reads and writes format {FORMAT}"
            )


def trial_weights(folder: Path, number: int) -> Path:
    """Where the weights of one trial on the full network are, in a run folder that others may have locked."""
    return folder / f"weights-trial-{number}.safetensors"


def write_weights(model: nn.Module, path: Path) -> None:
    """``save_weights`` into a run folder as a whole: after a kill there is the old file or the new one."""
    write_tensors(model.state_dict(), path)


def write_tensors(state: Mapping[str, Tensor], path: Path) -> None:
    """The same of tensors by name."""
    with _clear_errors(path.parent), _replacing(path) as temporary:
        temporary.write_bytes(_packed(state))


def whole_path(what: str, path: object) -> Path:
    """``path`` from the root, ``~`` being the home: it stays right when the process changes its folder.

    Raises InputError for what is no path.

    >>> whole_path("the run folder", "")
    Traceback (most recent call last):
        ...
    prunetune.errors.InputError: the run folder is '', but it must be a path, such as 'runs/mine'
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else b""
    if not isinstance(text, str) or not text or "\0" in text:
        raise InputError(f"{what} is {path!r}, but it must be a path, such as 'runs/mine'")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError as error:  # there is no such user
        raise InputError(f"{what} is {text!r}, whose ~ cannot be found: {error}") from None


def study_file(folder: Path) -> Path:
    """Where the Optuna studies of a run folder are: a journal, or the SQLite database that version 0.1 made."""
    earlier = folder / "study.db"
    return earlier if earlier.exists() else folder / "study.log"


def study_url(folder: Path) -> str:
    """The URL of the storage of a run folder's studies."""
    path = study_file(folder).absolute()
    if path.suffix == ".log":
        return f"journal://{path}"
    from sqlalchemy import URL

    return URL.create("sqlite", database=str(path)).render_as_string(hide_password=False)


def save_weights(model: nn.Module, path: Path) -> None:
    """Write ``model.state_dict()`` to a safetensors file, on the CPU, every tensor in full.

    Tensors that share memory (tied weights, views) are written once for each name, so the file needs no knowledge of
    what was shared: ``load_weights`` writes equal values to both, whether the other model shares them or not.
    """
    path.write_bytes(_packed(model.state_dict()))  # not save_file, which leaves files of its own behind when killed


def _packed(state: Mapping[str, Tensor]) -> bytes:
    from safetensors.torch import save

    check_saveable(state)
    seen: set[int] = set()
    own = {}
    for name, tensor in state.items():
        own[name] = tensor.detach().cpu().contiguous()
        memory = own[name].untyped_storage().data_ptr()
        own[name] = own[name].clone() if memory in seen else own[name]
        seen.add(memory)
    return save(own)


def check_saveable(state: Mapping[str, Any]) -> None:
    """Raise InputError if a state dict holds what safetensors cannot: anything but dense tensors with values."""
    import torch

    for name, value in state.items():
        if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_meta:
            kind = type(value).__name__ if not isinstance(value, torch.Tensor) else f"{value.layout} {value.device}"
            raise InputError(f"the model's state {name!r} is a {kind}; only dense tensors can be saved as safetensors")


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Give ``model`` the weights in a safetensors file; they go to the device that each parameter is on.

    Raises InputError if the file is missing or damaged, or does not fit the model.
    """
    state = OrderedDict(read_tensors(path))
    try:
        # the file has no versions of the modules' formats, which some modules ask for: they are those of the network
        state._metadata = getattr(model.state_dict(), "_metadata", None)  # type: ignore[attr-defined]
        model.load_state_dict(state)
    except RuntimeError as error:
        reasons = "; ".join(line.strip() for line in str(error).splitlines()[1:])  # the first names the class
        raise InputError(f"the weights in {path} do not fit {type(model).__name__}: {reasons}") from None


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file. Raises InputError if it is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"cannot read the weights in {path}: {error}") from None


def read_json(path: Path) -> Any:
    """The JSON in a file of a run folder; None if there is no such file. Raises InputError if it is damaged."""
    text = read_text(path)
    try:
        return None if text is None else json.loads(text, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, error) from None


def _finite(text: str) -> float:
    """The number, if it is one that can be written again: NaN and infinity, 1e999 say, are no JSON."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no JSON")
    return number


def read_tables(path: Path) -> dict[str, dict[str, Any]] | None:
    """The configuration in a file of a run folder, its tables by name; None if there is no such file.

    Raises InputError if it is damaged.
    """
    content = read_json(path)
    if content is None:
        return None
    if not isinstance(content, dict) or not all(isinstance(table, dict) for table in content.values()):
        raise _damaged(path, TypeError("it has other things in it than tables"))
    return content


def read_text(path: Path) -> str | None:
    """The text in a file of a run folder; None if there is no such file. Raises InputError if it is damaged."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> InputError:
    reason = error.strerror if isinstance(error, OSError) else error
    return InputError(f"{path} is damaged ({reason}); delete the run folder or choose another")


@contextlib.contextmanager
def _clear_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise InputError(f"cannot use the run folder {folder}: {reason}; choose another folder") from error


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A new file beside ``path`` that takes its place when the block ends well."""
    temporary = path.with_name(f"{TEMPORARY}{path.name}")
    try:
        yield temporary
        _flush(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def _flush(path: Path) -> None:
    """Wait until the file, or the folder's list of names, is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Lock:
    """An exclusive lock on a file, which the system releases when the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            self._acquire(path)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _acquire(self, path: Path) -> None:
        deadline = time.monotonic() + ORPHAN_SECONDS
        while not _try_lock(self._descriptor):
            owner = path.read_text(encoding="ascii", errors="replace").strip()
            if _alive(owner) or time.monotonic() > deadline:
                by = f" by process {owner}" if owner else " by another process"
                raise InputError(f"the run folder {path.parent} is in use{by}; wait for it, or choose another folder")
            time.sleep(0.1)
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        """Give the lock up; a second time does nothing."""
        if self._descriptor >= 0:
            _unlock(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


def _try_lock(descriptor: int) -> bool:
    import fcntl  # not on Windows, where importing this module must work all the same

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(descriptor: int) -> None:
    import fcntl

    fcntl.flock(descriptor, fcntl.LOCK_UN)  # closing is not enough where a forked worker has the file open too


def _alive(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:  # it lives, under another user
        return True
    return True

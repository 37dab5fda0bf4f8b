"""Seeds and names of optimizers; `test_contract.py` has what holds for all, under the seed-by-trial-number wrapper."""

from __future__ import annotations

import subprocess
import sys

import pytest

from prunetune._utils.seeds import derive_seed
from prunetune.backends import full_name, optimizers
from prunetune.backends.samplers.seeded import sampler
from prunetune.errors import InputError

pytestmark = pytest.mark.filterwarnings("error")


def test_seeds_differ_by_seed_stream_and_number() -> None:
    seeds = {
        derive_seed(seed, stream, number) for seed in (0, 1) for stream in ("search", "confirm") for number in range(50)
    }
    assert len(seeds) == 200
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_short_names_are_the_full_ones() -> None:
    assert full_name("tpe") == full_name("optuna:tpe") == "optuna:tpe"
    assert full_name("somebodys-own") == "somebodys-own"
    assert optimizers["tpe"] is optimizers["optuna:tpe"]
    assert optimizers["random"] is optimizers["optuna:random"]


def test_unknown_optimizer_is_named_with_its_neighbour() -> None:
    with pytest.raises(InputError, match=r"unknown optimizer 'tpee' \(did you mean 'tpe'\?\)"):
        sampler("tpee", seed=0)


def test_importing_the_package_imports_neither_optuna_nor_torch() -> None:
    code = "import sys, prunetune.backends; print([m for m in ('optuna', 'torch', 'sqlalchemy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_search_engine_does_not_know_what_a_neural_network_is() -> None:
    code = "import sys, prunetune.backends.study.loop; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"

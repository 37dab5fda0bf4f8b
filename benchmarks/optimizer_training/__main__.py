"""Make the tables of `benchmarks.optimizers`: a small network trained at every point of a grid of hyperparameters.

    OMP_NUM_THREADS=1 python -m benchmarks.optimizer_training digits fashion-mnist

Validation accuracy after every epoch, the mean of a few seeds. All networks of one batch size see the same batches, and
are trained together, as one tensor with an axis more, so that some thousand trainings take minutes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import sklearn
import torch

from benchmarks.common.command import command
from benchmarks.common.curves import FOLDER, GRIDS, NAMES
from benchmarks.optimizer_training.runs import EPOCHS, RECIPES, encode, train_grid


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what the command line names, and write a file for each."""
    parser = command("optimizer_training", __doc__, file=None, markdown=False)
    parser.add_argument("table", nargs="+", choices=RECIPES)
    for name in parser.parse_args(arguments).table:
        started = time.process_time()
        curves = train_grid(RECIPES[name], GRIDS[name])
        made = {
            **asdict(RECIPES[name]),
            "epochs": EPOCHS,
            "networks": "linear layers with ReLU, Kaiming's uniform initial weights, zero biases",
            "training": "SGD with momentum; the learning rate times lr_decay at 1/2 and again at 3/4 of all epochs",
            "split": "prunetune.data with seed 0, the first images of each part; digits are validated on val and test",
            "versions": {"torch": torch.__version__, "numpy": np.__version__, "scikit-learn": sklearn.__version__},
            "cpu_seconds": round(time.process_time() - started),
        }
        np.savez_compressed(
            FOLDER / f"{name}.npz", curves=encode(curves), made=json.dumps(made), **{n: GRIDS[name][n] for n in NAMES}
        )
        print(f"{name}: {made['cpu_seconds']} s", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

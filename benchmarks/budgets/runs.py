"""One search for a budget in a process of its own, which may be killed on the way, and what it took."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.common.tables import table
from prunetune.ladder.budget import read_budget
from prunetune.record.folder import read_json

ALLOWED: Final = 1.1
"""A budget is kept if no more than this share of it was taken."""
RUNGS: Final = ("searching", "climbing", "confirming")
"""What the record of a run says it is at, on the first rung, the ones between, and the last."""
SEARCH: Final = """
import sys
import examples.own_model as own
import prunetune

folder, budget, seed = sys.argv[1:]
search = prunetune.Search(direction="maximize")
budget = budget if budget[-1].isalpha() else float(budget)
prunetune.tune(
    own.MyNet, own.train, own.SPACE, example_inputs=own.IMAGES[:64], epochs=36, steps_per_epoch=19, search=search,
    run_dir=folder, budget=budget, seed=int(seed), observer=prunetune.silent,
)
"""
"""The example with the digits."""
BURNER: Final = "while True: sum(range(1000))"
DELAY: Final = 0.5
"""After so many seconds on a rung it is killed there."""


@dataclass(frozen=True)
class Budget:
    """What is asked for, and what happens to it."""

    budget: str
    burn: int = 0
    kill: bool = False


def started(asked: Budget, seed: int) -> dict[str, Any]:
    """A row: what was asked for, what it took, and whether there is a trained winner."""
    with tempfile.TemporaryDirectory() as name, _burning(asked.burn):
        folder = Path(name) / "run"
        killed, wall, status = _run(folder, asked, seed)
        record = read_json(folder / "result.json") or {}
        winner, weights = record.get("winner") or {}, (folder / "weights.safetensors").exists()
    wanted = read_budget(asked.budget if asked.budget[-1].isalpha() else float(asked.budget))
    seconds = record.get("time", {}).get("total")
    trainings = record.get("ladder", {}).get("total")
    took, allowed = (seconds, wanted.seconds) if wanted.seconds else (trainings, wanted.trainings)
    share = None if took is None or allowed is None else took / allowed
    return {
        **vars(asked),
        "seed": seed,
        "status": status,
        "kills": killed,
        "seconds": seconds,
        "wall_seconds": wall,
        "trainings": trainings,
        "share": share,
        "score": winner.get("score"),
        "trained": [rung["entrants"] for rung in record.get("ladder", {}).get("rungs", ())],
        "kept": status == 0 and weights and share is not None and share <= ALLOWED,
    }


def _run(folder: Path, asked: Budget, seed: int) -> tuple[list[str], float, int]:
    """Start it until it ends by itself: where it was killed, the seconds of all starts, the last exit status."""
    left = [*RUNGS] if asked.kill else []
    killed: list[str] = []
    began = time.perf_counter()
    while True:
        process = subprocess.Popen([sys.executable, "-c", SEARCH, str(folder), asked.budget, str(seed)])
        while process.poll() is None:
            at = _status(folder)
            if at in left:
                time.sleep(DELAY)
                process.kill()
                left.remove(at)
                killed.append(at)
            time.sleep(0.05)
        if process.returncode >= 0:
            return killed, time.perf_counter() - began, process.returncode


def _status(folder: Path) -> str:
    try:
        return str(json.loads((folder / "result.json").read_text(encoding="utf-8")).get("status"))
    except (OSError, ValueError):
        return ""


@contextlib.contextmanager
def _burning(count: int) -> Iterator[None]:
    burners = [subprocess.Popen([sys.executable, "-c", BURNER]) for _ in range(count)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def report(rows: Sequence[dict[str, Any]], *, markdown: bool) -> str:
    """A table with a line for each start."""
    head = ["budget", "beside", "kills", "seed", "seconds", "full trainings", "share", "score", "kept"]
    body = [
        [
            *(row["budget"], row["burn"], len(row["kills"]), row["seed"], row["seconds"], row["trainings"]),
            *(row["share"], row["score"], "yes" if row["kept"] else "NO"),
        ]
        for row in rows
    ]
    return table(head, body, markdown=markdown)

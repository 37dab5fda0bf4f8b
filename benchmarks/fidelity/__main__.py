"""What of a training can be left out? Ways to make a trial cheap, and how well each ranks configurations.

    OMP_NUM_THREADS=1 python -m benchmarks.fidelity --json fidelity.json --markdown fidelity.md

Random configurations, each trained in full with two seeds, and in every cheap way: stopped early in its schedule
(truncated), with a schedule of so many epochs (re-annealed), on smaller images, on fewer images. A way is judged by its
rank correlation with the full training of the *other* seed, the ceiling by that of a full training. Then Hyperband's
first bracket is played with both forms of rungs at equal epochs, thousands of times, on what was trained.

The file is added to: what is in it is not trained again.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.common.command import command, provenance
from benchmarks.fidelity.cases import SCALES, configurations
from benchmarks.fidelity.report import markdown, play, rows
from benchmarks.fidelity.runs import measure


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing, and write the tables."""
    parser = command("fidelity", __doc__, file=None, markdown=False)
    parser.add_argument("--network", choices=SCALES, default="resnet8")
    parser.add_argument("--scale", choices=SCALES["resnet8"], default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args(arguments)
    scale = SCALES[options.network][options.scale]
    asked = {
        "network": options.network,
        "scale": asdict(scale),
        "seed": options.seed,
        "configurations": configurations(scale.configurations, options.seed),
    }
    result: dict[str, Any] = {**asked, **provenance()}
    result["trainings"] = {}
    if options.json is not None and options.json.exists():
        result = json.loads(options.json.read_text())
        if any(result[name] != value for name, value in asked.items()):
            parser.error(f"{options.json} is of another network, scale or seed; name another file")
    measure(result, scale, options.json)
    result["ways"], result["halving"] = rows(result, scale), play(result, scale)
    if options.json is not None:
        options.json.write_text(json.dumps(result))
    if options.markdown is not None:
        options.markdown.write_text(markdown(result))
    print(markdown(result))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""An earlier version of the search, run from its own checkout: prints what `runs.cut` reports, as JSON."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

from benchmarks.speedup.runs import cut


def main(name: str, speedup: str, batch: str, threads: str) -> None:
    """Prune with whatever prunetune is on the path."""
    found: dict[str, Any] = {}
    cut(name, float(speedup), int(batch), int(threads), SimpleNamespace(add=found.update))
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Images a second: our batches on the device beside the usual DataLoader with torchvision's transforms.

Same pictures, augmentation, network and run; three ways to make batches, each alone and under two training loops. See
benchmarks/README.md.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch

from benchmarks.common.command import command, write
from benchmarks.common.images import RECIPES
from benchmarks.pipeline.report import report
from benchmarks.pipeline.runs import run


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit status."""
    parser = command("pipeline", __doc__)
    parser.add_argument("--model", default="resnet56", help="its proxy at p = 85, floor 0.15, is trained")
    parser.add_argument("--recipe", choices=RECIPES, default="cifar")
    parser.add_argument("--images", type=int, default=1280, metavar="N", help="pictures an epoch")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of the DataLoaders")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each, in turns, after one that warms up")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="of torch, in this process")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    torch.set_num_threads(options.threads)
    result = run(options)
    print(report(result, markdown=options.markdown))
    write(options.json, result)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

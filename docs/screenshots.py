"""The pictures of a report that the docs show: `python docs/screenshots.py RUN` with Chromium on the path.

They are looked at before they are committed: what a reader sees is what a run of `make demo` leaves.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import nn

from prunetune.engine import DependencyGraph, draw
from prunetune.report import figures, load_run, write_report

PICTURES = Path(__file__).parent / "pictures"
SIZES = {"phone": (390, 3400), "desktop": (1280, 2400)}
"""Width and height of the window; the page is cut off below."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder")
    folder = parser.parse_args().run
    PICTURES.mkdir(exist_ok=True)
    for name, (width, height) in SIZES.items():
        shoot(write_report(folder).absolute().as_uri(), width, height, f"report-{name}.png")
    run = load_run(folder)
    for name, figure in (("selection", figures.groups_cut(run)), ("study", figures.learning_curves(run))):
        with tempfile.TemporaryDirectory() as place:
            page = Path(place, "figure.html")
            figure.write_html(page, include_plotlyjs=True, config={"displayModeBar": False})
            shoot(page.as_uri(), 760, int(figure.layout.height) + 16, f"{name}.png")
    draw(DependencyGraph.of(Residual(), torch.zeros(1, 3, 8, 8)), PICTURES / "residual.svg")


class Residual(nn.Module):
    """The network of `how/index-algebra.md`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.conv1(images)
        return (x + self.conv2(x)).mean((1, 2, 3))


def shoot(page: str, width: int, height: int, name: str) -> None:
    """A picture of a page in a frame of that size: no window is as narrow as a phone, but a frame in it may be."""
    browser = next(path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name)))
    with tempfile.TemporaryDirectory() as profile:
        frame = Path(profile, "frame.html")
        style = f"border:0;width:{width}px;height:{height}px"
        frame.write_text(f'<body style="margin:0"><iframe src="{page}" style="{style}"></iframe>')
        command = [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--allow-file-access-from-files", "--virtual-time-budget=20000", f"--user-data-dir={profile}",
            f"--window-size={width},{height}", f"--screenshot={PICTURES / name}", frame.as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main()

"""The pictures of a report that the docs show: `python docs/screenshots.py RUN` with Chromium on the path.

They are looked at before they are committed: what a reader sees is what a run of `make demo` leaves.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

from prunetune.report import write_report

PICTURES = Path(__file__).parent / "pictures"
SIZES = {"phone": (390, 3400), "desktop": (1280, 2400)}
"""Width and height of the window; the page is cut off below."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a run folder")
    page = write_report(parser.parse_args().run)
    browser = next(path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name)))
    PICTURES.mkdir(exist_ok=True)
    for name, (width, height) in SIZES.items():
        with tempfile.TemporaryDirectory() as profile:
            frame = Path(profile, "frame.html")  # no window is as narrow as a phone, but a frame in it may be
            style = f"border:0;width:{width}px;height:{height}px"
            frame.write_text(
                f'<body style="margin:0"><iframe src="{page.absolute().as_uri()}" style="{style}"></iframe>'
            )
            command = [
                browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                "--allow-file-access-from-files", "--virtual-time-budget=20000", f"--user-data-dir={profile}",
                f"--window-size={width},{height}", f"--screenshot={PICTURES / f'report-{name}.png'}", frame.as_uri(),
            ]  # fmt: skip
            subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main()

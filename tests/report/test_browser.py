"""The page in a real browser: every figure is drawn, nothing is fetched, nothing fails, on a phone and on a desktop."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from synthetic_runs import RESULT, four_trials, write_run

from prunetune.report import write_report

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium to look at the page with")

SIZES = {"phone": (390, 844), "desktop": (1280, 900)}


def look(page: Path, size: tuple[int, int], *more: str) -> subprocess.CompletedProcess[str]:
    """The page after its scripts have run, as text; what the browser complains about is on the error output."""
    assert CHROMIUM is not None
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
        "--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--virtual-time-budget=20000",
        f"--user-data-dir={page.parent / 'browser'}", f"--window-size={size[0]},{size[1]}", *more, page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_run(tmp_path_factory.mktemp("browser") / "run", RESULT, four_trials()))


@pytest.fixture(scope="module")
def seen(page: Path) -> subprocess.CompletedProcess[str]:
    return look(page, SIZES["phone"], "--dump-dom")


def test_every_figure_is_drawn_and_nothing_fails(seen: subprocess.CompletedProcess[str]) -> None:
    places = re.findall(r'<div class="plot[^>]*>', seen.stdout)
    assert len(places) >= 8
    assert seen.stdout.count('class="main-svg"') >= len(places)
    assert [line for line in seen.stderr.splitlines() if "CONSOLE" in line] == []
    assert "ERR_" not in seen.stderr


def test_the_button_zooms_into_the_dependency_graph_and_no_other_figure_has_it(page: Path, tmp_path: Path) -> None:
    """By a half on each axis, which is plotly's step."""
    probe = tmp_path / "probe.html"
    probe.write_text(
        f'<iframe src="{page.as_uri()}" style="width:800px;height:800px"></iframe><script>'
        "onload = () => setTimeout(() => { const inside = document.querySelector('iframe').contentDocument;"
        "const size = () => Math.abs(inside.getElementById('figure-dependencies')._fullLayout.yaxis.range"
        ".reduce((a, b) => b - a)); const before = size();"
        "const buttons = inside.querySelectorAll('[data-title=\"Zoom in\"]'); buttons[0].click();"
        "setTimeout(() => { document.title = buttons.length + ' ' + size() / before }, 500) }, 3000)</script>"
    )
    found = look(probe, (1400, 1800), "--dump-dom", "--allow-file-access-from-files").stdout
    assert re.findall(r"<title>(.*?)</title>", found)[0] == "1 0.5"


def test_links_within_the_page_lead_somewhere(seen: subprocess.CompletedProcess[str]) -> None:
    targets = set(re.findall(r'href="#([^"]+)"', seen.stdout))
    assert targets
    assert targets <= set(re.findall(r'id="([^"]+)"', seen.stdout))


def test_nothing_is_wider_than_the_screen_of_a_phone_or_a_desktop(page: Path, tmp_path: Path) -> None:
    frames = "".join(
        f'<iframe src="{page.as_uri()}" style="width:{width}px;height:{height}px;border:0"></iframe>'
        for width, height in SIZES.values()
    )
    probe = tmp_path / "probe.html"
    probe.write_text(
        f"{frames}<script>onload = () => setTimeout(() => {{ document.title = [...document.querySelectorAll('iframe')]"
        ".map(f => f.contentDocument.documentElement).map(d => d.scrollWidth + ' of ' + d.clientWidth)"
        ".join(', ') }, 3000)</script>"
    )
    found = look(probe, (1400, 1800), "--dump-dom", "--allow-file-access-from-files").stdout
    widths = re.findall(r"(\d+) of (\d+)", re.findall(r"<title>(.*?)</title>", found)[0])
    assert [int(width) for _, width in widths] == [width for width, _ in SIZES.values()]
    assert all(int(needed) <= int(width) for needed, width in widths)

"""The wheel and the source distribution: what is in them, and that the wheel works where it is installed."""

from __future__ import annotations

import email
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from prunetune import __version__

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "prunetune"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both, built as an installer of the checkout does."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_the_wheel_has_the_package_and_nothing_else(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"prunetune-{__version__}-py3-none-any.whl"
    files = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    mine = {path for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert files == {str(path.relative_to(PACKAGE.parent)) for path in mine}
    assert {"prunetune/py.typed", "prunetune/cli/run.toml", "prunetune/report/templates/report.html.j2"} <= files


def test_the_wheel_says_what_it_is(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    archive = zipfile.ZipFile(wheel)
    info = f"prunetune-{__version__}.dist-info"
    said = email.message_from_bytes(archive.read(f"{info}/METADATA"))
    assert said["Name"] == "prunetune"
    assert said["Version"] == __version__
    assert said["Requires-Python"] == ">=3.11"
    assert said["License-Expression"] == "MIT"
    assert "Typing :: Typed" in said.get_all("Classifier", [])
    assert said.get_payload().startswith("# prunetune")
    assert {"vision", "postgresql", "grpc", "energy"} <= set(said.get_all("Provides-Extra", []))
    assert archive.read(f"{info}/licenses/LICENSE").startswith(b"MIT License")
    assert b"prunetune = prunetune.__main__:main" in archive.read(f"{info}/entry_points.txt")


def test_the_source_can_be_built_and_tested(built: Path) -> None:
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        files = {name.partition("/")[2] for name in archive.getnames()}
    assert {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "SECURITY.md"} <= files
    assert {"src/prunetune/py.typed", "tests/test_distribution.py", "docs/index.md", "examples/run.toml"} <= files
    assert not [name for name in files if re.search(r"__pycache__|\.pyc$|^(runs|build|dist)/", name)]


def test_the_installed_wheel_works(built: Path, tmp_path: Path) -> None:
    """In a folder of its own, before which no other copy of prunetune is found."""
    (wheel,) = built.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(tmp_path / "there"), str(wheel)], check=True, capture_output=True)
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'there')!r})\n"
        "import prunetune; from prunetune.__main__ import main; print(prunetune.__file__)\n"
        "sys.argv = ['prunetune', *sys.argv[1:]]; main()\n"
    )
    for command, wanted in (
        (["--version"], f"prunetune {__version__}"),
        (["list", "scorers"], "synflow"),
        (["init", "mine.toml"], "mine.toml is written"),
    ):
        done = subprocess.run(
            [sys.executable, "-I", "-c", script, *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert str(tmp_path / "there") in done.stdout
        assert wanted in done.stdout


def test_the_citation_names_this_version() -> None:
    assert f"\nversion: {__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")

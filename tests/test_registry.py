"""Registries and the entry points that join them, on distributions that the test lays down."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import pytest

from prunetune.errors import InputError, PluginError
from prunetune.registry import Registry, build

GROUP = "prunetune.test_colours"
Factory: TypeAlias = Callable[[], object]
Install: TypeAlias = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Lay a distribution with one module down where Python finds it: its metadata, and what is in the module."""
    monkeypatch.syspath_prepend(tmp_path)

    def lay_down(name: str, entries: str, module: str = "", version: str = "1.0") -> None:
        info = tmp_path / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(f"[{GROUP}]\n{entries}\n")
        (tmp_path / f"{name}_module.py").write_text(module)
        monkeypatch.delitem(sys.modules, f"{name}_module", raising=False)

    return lay_down


def colours() -> Registry[Factory]:
    registry: Registry[Factory] = Registry("colour", group=GROUP)
    registry.register("red", lambda: "#f00")
    return registry


def sentence(error: pytest.ExceptionInfo[BaseException]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_plugins_name_joins_and_is_imported_when_it_is_asked_for(install: Install) -> None:
    install("paint", "mauve = paint_module:mauve", "def mauve(): return '#e0b0ff'", version="2.5")
    registry = colours()
    assert registry.names() == ["mauve", "red"] == list(registry)
    assert "mauve" in registry
    assert registry.sources("mauve") == ["paint 2.5"]
    assert registry.sources("red") == ["prunetune"]
    assert "paint_module" not in sys.modules
    assert build(registry, "mauve", str) == "#e0b0ff"
    with pytest.raises(InputError, match=r"unknown colour 'mauv' \(did you mean 'mauve'\?\); known: mauve, red"):
        registry["mauv"]


def test_metadata_is_read_once_and_not_before_a_name_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []

    def read(group: str) -> tuple[()]:
        reads.append(group)
        return ()

    monkeypatch.setattr("importlib.metadata.entry_points", read)
    registry = colours()
    registry.register("green", lambda: "#0f0")
    assert reads == []
    assert registry.names() == ["green", "red"]
    assert "blue" not in registry
    assert reads == [GROUP]
    assert Registry[object]("number").names() == []
    assert reads == [GROUP]


@pytest.mark.parametrize(
    ("location", "module", "why"),
    [
        ("paint_module:mauve", "import there_is_no_such_module", "ModuleNotFoundError: No module named 'there_is_no"),
        ("paint_module:mauve", "raise ValueError('two\\nlines')", r"it cannot be imported (ValueError: two); "),
        ("paint_module:mauve", "raise SystemExit(3)", "it cannot be imported (SystemExit: 3)"),
        ("paint_module:mauve", "import warnings; warnings.warn('old')", "it cannot be imported (UserWarning: old)"),
        ("paint_module:mauve", "", "AttributeError: module 'paint_module' has no attribute 'mauve'"),
        ("paint_modul:mauve", "", "No module named 'paint_modul'"),
        ("paint_module:mauve", "mauve = '#e0b0ff'", "it cannot be built (TypeError: 'str' object is not callable)"),
        ("paint_module:mauve", "def mauve(): return 7", "it must make a str, and makes an object of type int"),
        ("paint_module:mauve", "def mauve(shade): return ''", "it cannot be built (TypeError: mauve() missing 1"),
        ("paint_module:mauve", "def mauve(): raise RuntimeError('dry')", "it cannot be built (RuntimeError: dry)"),
    ],
)
def test_a_broken_plugin_names_itself_and_breaks_nothing_else(
    install: Install, location: str, module: str, why: str
) -> None:
    install("paint", f"mauve = {location}", module, version="2.5")
    registry = colours()
    assert registry.names() == ["mauve", "red"]
    with pytest.raises(PluginError) as broken:
        build(registry, "mauve", str)
    said = sentence(broken)
    assert said.startswith(f"the colour 'mauve' of paint 2.5 (entry point '{location}') cannot be used: ")
    assert said.endswith("; uninstall or update that package")
    assert why in said
    assert build(registry, "red", str) == "#f00"


def test_a_name_that_no_configuration_can_say(install: Install) -> None:
    install("paint", "light red = paint_module:mauve", "def mauve(): return ''")
    with pytest.raises(PluginError, match="'light red' of paint 1.0 .* a name has letters, digits and any of"):
        colours()["light red"]


@pytest.mark.parametrize("name", ["red", "mauve"])
def test_a_name_that_two_claim_is_an_error_for_that_name_alone(install: Install, name: str) -> None:
    """Before that no name was listed, and nothing is imported for it."""
    module = "def colour(): return ''"
    install("paint", f"{name} = paint_module:colour\nblue = paint_module:colour", module)
    if name != "red":
        install("chalk", f"{name} = chalk_module:colour", module, version="0.3")
    registry = colours()
    with pytest.raises(PluginError) as taken:
        registry[name]
    claims = "prunetune and by paint 1.0" if name == "red" else "chalk 0.3 and by paint 1.0"
    assert f"the colour {name!r} is claimed by {claims}, and only one can have" in sentence(taken).replace(
        "paint 1.0 and by chalk 0.3", "chalk 0.3 and by paint 1.0"
    )
    with pytest.raises(PluginError):
        registry.check(name)
    assert name in registry.names()
    assert build(registry, "blue", str) == ""
    assert "chalk_module" not in sys.modules


def test_a_factory_of_ones_own_is_not_blamed_on_a_package() -> None:
    registry = colours()
    registry.register("number", lambda: 7)
    with pytest.raises(
        InputError, match="the colour 'number' cannot be used: it must make a str, and makes an object of type int"
    ):
        build(registry, "number", str)
    registry.register("error", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build(registry, "error", str)
    with pytest.raises(InputError, match="colour 'red' is registered already"):
        registry.register("red", lambda: "")


def test_the_first_use_from_several_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_colours.py").write_text("import time\ntime.sleep(0.1)\nRED = '#f00'\n")
    monkeypatch.syspath_prepend(tmp_path)
    colours: Registry[str] = Registry("colour")
    colours.register_lazy("red", "slow_colours:RED")
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(colours.__getitem__, ["red"] * 4)) == ["#f00"] * 4
    assert colours["red"] == "#f00" and colours.names() == ["red"]

"""Energy of a run: with codecarbon's own numbers, told by a stand-in of the same API, and what is said without it."""

from __future__ import annotations

import importlib.machinery
import logging
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

import prunetune.tuning.energy
from prunetune.cli.app import app
from prunetune.cli.config import parse_config
from prunetune.console.summary import print_summary
from prunetune.errors import InputError
from prunetune.record.sentences import energy_sentence
from prunetune.report import write_report
from prunetune.tuning.energy import Meter
from tiny_tune import HALF, INPUTS, SMALL, SPACE, net, train

KNOWN = {"KOR": {"country_name": "South Korea"}}
KWH, CO2 = 0.25, 0.125
CONFIG = {"model": {"name": "resnet8"}, "data": {"name": "digits"}}


class Tracker:
    """As codecarbon's: keywords alone, `start`, `stop`, and the data of the whole afterwards."""

    trackers: list[Tracker] = []  # noqa: RUF012

    def __init__(self, **options: Any) -> None:
        self.options, self.calls = options, list[str]()
        self.trackers.append(self)
        logging.getLogger("codecarbon").critical("a word that nobody asked for")

    def start(self) -> None:
        self.calls.append("start")

    def stop(self) -> float:
        self.calls.append("stop")
        code = self.options.get("country_iso_code")
        self.final_emissions_data = types.SimpleNamespace(
            energy_consumed=KWH, emissions=CO2, duration=2.0, country_iso_code=code or "",
            country_name=KNOWN[code]["country_name"] if code else None,
        )  # fmt: skip
        return CO2


@pytest.fixture
def codecarbon(monkeypatch: pytest.MonkeyPatch) -> list[Tracker]:
    """The trackers that are made, of a codecarbon that is installed from now on."""
    package, input = types.ModuleType("codecarbon"), types.ModuleType("codecarbon.input")
    package.__spec__ = importlib.machinery.ModuleSpec("codecarbon", None)
    source = types.SimpleNamespace(get_global_energy_mix_data=lambda: KNOWN)
    package.OfflineEmissionsTracker, input.DataSource = Tracker, lambda: source  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "codecarbon", package)
    monkeypatch.setitem(sys.modules, "codecarbon.input", input)
    monkeypatch.setattr(prunetune.tuning.energy, "version", lambda distribution: "3.3.2")
    monkeypatch.setattr(Tracker, "trackers", [])
    return Tracker.trackers


@pytest.fixture
def no_codecarbon(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "codecarbon" else find(name))


@pytest.fixture(autouse=True)
def known_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prunetune.engine, "step_time", lambda models, inputs, **_: dict.fromkeys(models, 0.5))


def run(folder: Path, **options: Any) -> dict[str, Any]:
    given = {"example_inputs": INPUTS, "epochs": 2, "run_dir": folder, "pruning": HALF, "search": SMALL}
    return prunetune.tune(net, train, SPACE, **{**given, **options}).record


def test_a_run_is_measured_where_codecarbon_is(
    codecarbon: list[Tracker], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    record = run(tmp_path / "run", country="KOR")
    part = {"kwh": KWH, "co2_kg": CO2, "seconds": 2.0}
    assert record["energy"] == {"by": "codecarbon 3.3.2", "country": "KOR", "search": part, "confirm": part}
    assert [each.calls for each in codecarbon] == [["start", "stop"]] * 2
    assert all(each.options["save_to_file"] is False for each in codecarbon)  # nothing lies about afterwards
    assert not caplog.records
    assert not logging.getLogger("codecarbon").disabled
    console = Console(width=200, record=True, quiet=False, file=open(tmp_path / "out", "w"))  # noqa: SIM115
    with console.file:
        print_summary(console, tmp_path / "run")
    said = "0.5 kWh, 250 g of CO₂ (KOR); search 0.25 kWh, confirm 0.25 kWh"
    assert said in console.export_text()
    assert said in write_report(tmp_path / "run").read_text()
    searches = run(tmp_path / "run", country="KOR", search=prunetune.Search(**{**vars(SMALL), "n_trials": 5}))
    assert searches["energy"]["search"] == {"kwh": 2 * KWH, "co2_kg": 2 * CO2, "seconds": 4.0}


def test_without_a_country_there_is_no_co2(codecarbon: list[Tracker]) -> None:
    record: dict[str, Any] = {}
    with Meter().measured(record, "search"):
        pass
    assert record["energy"]["search"]["co2_kg"] is None and record["energy"]["country"] is None
    assert "country_iso_code" not in codecarbon[0].options  # so that codecarbon's own configuration is asked
    assert energy_sentence(record["energy"]) == "0.25 kWh; search 0.25 kWh"


def test_what_fails_is_measured_too(codecarbon: list[Tracker]) -> None:
    record: dict[str, Any] = {}
    with pytest.raises(KeyError), Meter(country="KOR").measured(record, "search"):
        raise KeyError
    assert record["energy"]["search"]["kwh"] == KWH


def test_a_machine_without_sensors(codecarbon: list[Tracker], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_sensors(self: Tracker) -> None:
        raise OSError("no sensors")

    monkeypatch.setattr(Tracker, "start", no_sensors)
    record: dict[str, Any] = {}
    with Meter().measured(record, "search"):
        pass
    assert not record
    with (
        pytest.raises(InputError, match="codecarbon cannot measure here: no sensors"),
        Meter(True).measured({}, "search"),
    ):
        pass


def test_who_asks_is_told_that_nothing_came(codecarbon: list[Tracker], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tracker, "stop", lambda self: None)  # as it does when it failed somewhere and hid that
    told = pytest.warns(UserWarning, match="codecarbon measured nothing of the phase 'search'")
    with told, Meter(True).measured({}, "search"):
        pass
    with Meter().measured({}, "search"):
        pass


def test_not_where_it_is_not_wanted(codecarbon: list[Tracker], tmp_path: Path) -> None:
    assert "energy" not in run(tmp_path / "run", energy=False)
    assert not codecarbon


def test_a_country_that_codecarbon_does_not_know(codecarbon: list[Tracker]) -> None:
    with pytest.raises(InputError, match=r"country is 'XXQ', which codecarbon does not know; give a three-letter"):
        Meter(country="XXQ")


def test_without_codecarbon_nothing_is_said(no_codecarbon: None, tmp_path: Path) -> None:
    assert "energy" not in run(tmp_path / "run", country="KOR")


def test_without_codecarbon_who_asks_is_told_at_once(no_codecarbon: None, tmp_path: Path) -> None:
    folder, config = tmp_path / "run", tmp_path / "config.toml"
    with pytest.raises(
        InputError, match=r"^energy = true needs prunetune\[energy\], which is not installed: pip install"
    ):
        run(folder, energy=True)
    assert not folder.exists()
    config.write_text(f'[model]\nname = "resnet8"\n[data]\nname = "digits"\n[run]\nfolder = "{folder}"\n')
    ended = CliRunner().invoke(app, ["run", str(config), "--energy"])
    assert ended.exit_code == 2
    assert "prunetune: energy = true needs prunetune[energy]" in ended.output


def test_the_configuration_takes_codes_of_countries() -> None:
    asked = parse_config({**CONFIG, "run": {"folder": "x", "energy": True, "country": "DEU"}})
    assert (asked.run.energy, asked.run.country) == (True, "DEU")
    with pytest.raises(InputError, match="run.country is 'Germany', but it must be a three-letter ISO code"):
        parse_config({**CONFIG, "run": {"folder": "x", "country": "Germany"}})


@pytest.mark.skipif(importlib.util.find_spec("codecarbon") is None, reason="codecarbon is an extra")
def test_codecarbon_itself() -> None:
    record: dict[str, Any] = {}
    with Meter(True, "KOR").measured(record, "search"):
        sum(range(10**6))
    found = record["energy"]["search"]
    assert found["kwh"] > 0 and found["seconds"] > 0 and record["energy"]["country"] == "KOR"
    assert 0.1 < found["co2_kg"] / found["kwh"] < 1  # of a grid that has coal and nuclear power
    with pytest.raises(InputError, match="'XXQ'"):
        Meter(True, "XXQ")

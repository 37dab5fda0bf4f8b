"""Who can make what happen: the claims of ``docs/how/trust.md``, each with what somebody would try."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import stat
import warnings
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cloudpickle
import optuna
import pytest
import torch
from torch import nn

import prunetune
from prunetune import Categorical, Float, Ladder, Rung
from prunetune.backends.study.attributes import OWNER
from prunetune.console.display import Terminal
from prunetune.console.progress import show_progress
from prunetune.engine import PruningPlan, apply
from prunetune.errors import InputError, PlanError
from prunetune.events import Notice
from prunetune.record.folder import load_weights
from prunetune.report import write_report
from prunetune.tuning.order import folder_of
from tiny_tune import touch

INPUTS = torch.randn(4, 6)
LADDER = Ladder(Rung(width=1 / 2, trials=4, keep=1), Rung())
ESCAPES = "\x1b]0;renamed\x07\x1b[2J\x9b31m\u202e"


class Evil:
    """Says that it was there when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return Path.write_text, (self.path, "here")  # type: ignore[return-value]


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))


def train(model: nn.Module, params: dict[str, Any], report: Any) -> float:
    touch(model)
    report(params["lr"], 1)
    return float(params["lr"])


def tune(folder: Path, space: Any = None, train: Any = train, **options: Any) -> prunetune.TuneResult:
    given = {"search": prunetune.Search(direction="maximize"), "ladder": LADDER, "observer": prunetune.silent}
    space = space or {"lr": Float(0.1, 1)}
    return prunetune.tune(build, train, space, example_inputs=INPUTS, epochs=1, run_dir=folder, **{**given, **options})


# -- who writes to the run folder, or to the storage ---------------------------------------------------------------


def test_nothing_in_a_folder_or_a_study_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise AssertionError("something was unpickled")

    def stopped(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        if report.number == 2:
            raise KeyboardInterrupt
        return train(model, params, report)

    url = f"sqlite:///{tmp_path}/study.db"
    for optimizer in ("optuna:cmaes", "tpe", "optuna:gp", "nevergrad:cma"):
        search = prunetune.Search(direction="maximize", optimizer=optimizer, storage=url, study=optimizer)
        folder = tmp_path / optimizer.replace(":", "-")
        with pytest.raises(KeyboardInterrupt):
            tune(folder, search=search, train=stopped)
        study = optuna.load_study(study_name=optimizer, storage=url)
        evil = pickle.dumps(Evil(tmp_path / "was-here")).hex()
        for key in ("cma:optimizer:0", "cma:optimizer", "cma:opt:0"):  # where Optuna's own sampler keeps its pickle
            for trial in study.get_trials(deepcopy=False):
                with pytest.MonkeyPatch.context() as inside:
                    inside.setattr(optuna.storages.RDBStorage, "check_trial_is_updatable", lambda *_: None)
                    study._storage.set_trial_system_attr(trial._trial_id, key, evil)
            study._storage.set_study_system_attr(study._study_id, key, evil)
        with monkeypatch.context() as inside:
            for module, names in {pickle: ("load", "loads"), cloudpickle: ("load", "loads"), torch: ("load",)}.items():
                for name in names:
                    inside.setattr(module, name, refused)
            tune(folder, search=search, resume="anyway")
            write_report(folder)
    assert not (tmp_path / "was-here").exists()


def test_weights_are_no_pickles(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    torch.save({"0.weight": Evil(tmp_path / "was-here")}, path)
    with pytest.raises(InputError, match="cannot read the weights"):
        load_weights(build(), path)
    path.write_bytes(pickle.dumps(Evil(tmp_path / "was-here")))
    with pytest.raises(InputError, match="cannot read the weights"):
        load_weights(build(), path)
    assert not (tmp_path / "was-here").exists()


@pytest.mark.parametrize("name", ["../plan.json", "/etc/hostname", "sub/plan.json"])
def test_a_record_names_no_file_outside_of_its_folder(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run"
    tune(folder)
    record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    record["ladder"]["networks"][0]["file"] = name
    record["status"] = "searching"
    (folder / "result.json").write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(InputError, match=f"names a plan outside of it, '{name}'"):
        tune(folder)


def test_a_study_sends_workers_to_no_folder_but_its_runs(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    tune(tmp_path / "mine", search=prunetune.Search(direction="maximize", storage=url, study="mine"))
    other = tune(tmp_path / "other")
    study = optuna.load_study(study_name="mine", storage=url)
    assert folder_of(study) == tmp_path / "mine"
    for folder in (other.run_dir, tmp_path, Path("/etc")):
        study.set_user_attr(OWNER, {**study.user_attrs[OWNER], "folder": str(folder)})
        assert folder_of(study) is None


def test_a_run_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        folder = tune(tmp_path / "new" / "run").run_dir
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        shared = tmp_path / "shared"
        shared.mkdir(mode=0o755)
        assert stat.S_IMODE(tune(shared).run_dir.stat().st_mode) == 0o755  # somebody has decided otherwise
    finally:
        os.umask(before)


# -- what is shown of it ------------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Counts elements, and keeps all attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _ in attrs)))


def test_a_report_runs_no_script_of_names_and_choices(tmp_path: Path) -> None:
    name, choice = "<img src=x onerror=alert(1)>", "</script><script>alert(2)</script>"

    def reads(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        assert params[name] is not None
        return train(model, params, report)

    def fails(model: nn.Module, params: dict[str, Any], report: Any) -> float:
        if report.number == 1:
            raise ValueError("<svg onload=alert(3)>")
        return reads(model, params, report)

    space = {"lr": Float(0.1, 1), name: Categorical([choice, "b"])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a trial failed
        page = tune(tmp_path / "run", space, fails).report.read_text(encoding="utf-8")
    plain = tune(tmp_path / "plain", {"lr": Float(0.1, 1), "x": Categorical(["a", "b"])}, _reads_x)
    wanted = Tags(plain.report.read_text(encoding="utf-8")).found
    found = Tags(page).found
    for tag in ("script", "img", "svg", "iframe", "object", "embed", "link", "base"):
        names = [each for each, _ in found]
        assert names.count(tag) == [each for each, _ in wanted].count(tag), tag
    assert not any(attribute.startswith("on") for _, attributes in found for attribute in attributes)
    assert "alert(1)" in page  # it is there, as text
    policy = page[page.index("Content-Security-Policy") :][:600]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2].partition(";")[0]


def _reads_x(model: nn.Module, params: dict[str, Any], report: Any) -> float:
    assert params["x"] is not None
    return train(model, params, report)


def test_a_terminal_obeys_nothing_in_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    file = io.StringIO()
    console = Terminal(file=file, force_terminal=True, width=200)
    with show_progress(console) as display:
        display(Notice(f"the study {ESCAPES} [red]is[/red] [/] here"))
    shown = file.getvalue()
    assert "\x1b]" not in shown
    assert "\x1b[2J" not in shown
    assert "\x07" not in shown
    assert "\u202e" not in shown
    assert "\x9b" not in shown
    assert "\\x1b]0;renamed" in shown
    assert "[red]is[/red] [/]" in shown


def test_an_error_on_the_command_line_obeys_nothing_either(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from prunetune.cli.app import app

    (tmp_path / "run.toml").write_text(f"[model]\nname = {json.dumps(ESCAPES[:4])}\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["run", str(tmp_path / "run.toml")])
    assert done.exit_code == 2
    assert "\x1b" not in done.stderr
    assert "\x07" not in done.stderr


# -- who writes a plan ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["__class__", "0.__class__", "0.forward", "0.__dict__", "0._parameters", "0.weight", "nowhere.groups"]
)
def test_a_plan_sets_integers_of_modules_and_nothing_else(path: str) -> None:
    text = PruningPlan({}, {}).to_json()
    plan = json.loads(text)
    plan["attributes"] = {path: [8, 4]}
    model = build()
    with pytest.raises(PlanError):
        apply(PruningPlan.from_json(json.dumps(plan)), model)
    assert type(model) is nn.Sequential


# -- who writes the folder of a model ------------------------------------------------------------------------------


def test_no_code_in_a_models_folder_runs(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from prunetune.zoo.of_transformers import build as build_transformer

    here = tmp_path / "was-here"
    (tmp_path / "evil.py").write_text(f"open({str(here)!r}, 'w')\n", encoding="utf-8")
    for kind in ("bert", "of-my-own"):
        code = {"AutoConfig": "evil.C", "AutoModelForSequenceClassification": "evil.M"}
        config = {"model_type": kind, "auto_map": code, "hidden_size": 12, "num_hidden_layers": 1}
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        with contextlib.suppress(InputError):
            build_transformer("text-classification", str(tmp_path))
    assert not here.exists()

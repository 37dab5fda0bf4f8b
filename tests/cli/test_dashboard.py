"""``prunetune dashboard``: a page by HTTP on the studies of a run, and an end that leaves nothing behind."""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from prunetune.cli.app import app
from prunetune.cli.dashboard import storage_of
from prunetune.errors import InputError
from tiny_tune import make_quick, tiny_tune


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_quick(monkeypatch)
    tiny_tune(tmp_path / "run")
    return tmp_path / "run"


def get(url: str) -> tuple[str, str]:
    with urllib.request.urlopen(url, timeout=60) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def test_it_serves_the_studies_and_ends_cleanly(run: Path) -> None:
    command = [sys.executable, "-m", "prunetune", "dashboard", str(run), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            found = re.search(r"http://127\.0\.0\.1:(\d+)/dashboard/", line)
            assert found, line
            kind, page = get(found[0])
            assert kind.startswith("text/html")
            assert "<title>Optuna Dashboard" in page
            _, text = get(found[0].replace("/dashboard/", "/api/studies"))
            studies = {each["study_name"]: each for each in json.loads(text)["study_summaries"]}
            assert studies.keys() == {"search", "confirm"}
            identity = studies["search"]["study_id"]
            _, text = get(found[0].replace("/dashboard/", f"/api/studies/{identity}?after=0"))
            assert len(json.loads(text)["trials"]) == 4
            shown = {each["key"] for each in json.loads(text)["user_attrs"]}
            assert "prunetune:order" in shown  # what can be read, and no compressed plan
            assert not any(key.startswith(("prunetune:plan", "prunetune:job", "prunetune:given")) for key in shown)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                _, err = process.communicate(timeout=60)
            finally:
                process.kill()  # or one that does not heed it is waited for without end
    assert (process.returncode, err) == (0, "")
    with socket.socket() as again:
        again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        again.bind(("127.0.0.1", int(found[1])))  # the port is free


def ask(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["dashboard", *map(str, arguments)])


def test_a_port_that_is_taken(run: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        done = ask(run, "--port", other.getsockname()[1])
    assert done.exit_code == 2
    assert re.search(r"port \d+ cannot be used \(Address already in use\); choose another with --port", done.stderr)


def test_without_the_package(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "optuna_dashboard" else find(name))
    done = ask(run)
    assert done.exit_code == 2
    assert done.stderr.strip().endswith("needs the package optuna-dashboard: pip install 'prunetune[dashboard]'")


def test_folders_without_a_run(tmp_path: Path) -> None:
    done = ask(tmp_path)
    assert done.exit_code == 2
    assert "is not a run folder; give the folder that `prunetune run` wrote" in done.stderr


def test_where_the_study_is(tmp_path: Path) -> None:
    assert storage_of(tmp_path, "journal:///elsewhere") == "journal:///elsewhere"
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(InputError, match="there is no study in .* yet; give the URL of its storage as --study"):
        storage_of(tmp_path, None)
    kept = {"search": {"storage": "postgresql://me@host/searches"}}
    (tmp_path / "config.json").write_text(json.dumps(kept))
    assert storage_of(tmp_path, None) == "postgresql://me@host/searches"
    kept["search"]["storage"] = "postgresql://me:***@host/searches"
    (tmp_path / "config.json").write_text(json.dumps(kept))
    with pytest.raises(InputError, match="give the URL of its storage as --study"):
        storage_of(tmp_path, None)

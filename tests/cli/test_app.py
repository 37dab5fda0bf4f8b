"""The command line as a person meets it: real processes, exit statuses, what is printed and where."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from prunetune import __version__
from prunetune.cli.app import Kind, app
from prunetune.cli.listing import NamedEntry, print_rows
from prunetune.console.summary import number

CONFIG = """
[model]
name = "resnet8"

[data]
name = "digits"
image_size = 8

[search]
n_trials = 3
epochs = 2
confirm = 2
trial_pruner = "none"

[search.space.learning_rate]
low = 1e-3
high = 0.3
log = true

[search.space.batch_size]
choices = [64, 128]

[run]
folder = "FOLDER"
device = "cpu"
"""


def write_config(folder: Path, old: str = "", new: str = "") -> Path:
    """A configuration that runs in ``folder`` / "run", with ``old`` replaced by ``new``."""
    assert old in CONFIG
    path = folder / "config.toml"
    path.write_text(CONFIG.replace(old, new, 1).replace("FOLDER", str(folder / "run")))
    return path


def prunetune(*args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "prunetune", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a finished run, and what was printed."""
    folder = tmp_path_factory.mktemp("cli")
    done = prunetune("run", write_config(folder))
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_run_shows_its_progress_in_plain_lines(finished: tuple[Path, str]) -> None:
    _, printed = finished
    assert "\x1b" not in printed
    lines = printed.splitlines()
    assert "Cutting and timing" in lines
    assert "Searching: 3 trials; higher is better" in lines
    assert "Training the best on the full network: 2 trials; higher is better" in lines
    assert re.search(r"^  trial \d+ \(3 of 3\): ", printed, re.MULTILINE)
    assert re.search(r"^  training 2 of 2: complete ", printed, re.MULTILINE)


def test_the_printed_table_agrees_with_result_json(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    record = json.loads((folder / "run" / "result.json").read_text())
    share = record["cost"]["proxy"]["step_seconds"] / record["cost"]["base"]["step_seconds"]
    price = record["ladder"]["plan"]["prices"][0]
    steps = math.ceil(1079 / math.sqrt(64 * 128)) * 2  # the images in batches of the middle size, two epochs
    assert price == pytest.approx(share + 0.08 / (steps * record["cost"]["base"]["step_seconds"]))
    assert re.search(rf"^1\. the proxy +3 +{re.escape(f'{price:.3g}')} ", printed, re.MULTILINE)
    assert re.search(r"^2\. the full network +2 +1 ", printed, re.MULTILINE)
    total = f"{record['ladder']['total']:.3g}"
    assert re.search(rf"^cost +{re.escape(total)} full trainings ", printed, re.MULTILINE)
    for name, value in record["winner"]["params"].items():
        assert f"{name} {number(value)}" in printed
    assert re.search(rf"^validation score +{re.escape(number(record['winner']['score']))}", printed, re.MULTILINE)
    assert re.search(rf"^test accuracy +{re.escape(number(record['test']['accuracy']))}", printed, re.MULTILINE)
    assert len(record["confirmation"]) == 2
    for entry in record["confirmation"]:
        assert re.search(rf"^trial {entry['trial']}.* {re.escape(number(entry['base_score']))} ", printed, re.MULTILINE)


def test_the_folder_has_everything(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    names = {path.name for path in (folder / "run").iterdir()}
    assert {
        "best.json",
        "config.json",
        "plan.json",
        "report.html",
        "result.json",
        "study.log",
        "weights.safetensors",
    } <= names
    assert f"Report: {folder / 'run' / 'report.html'}" in printed


def test_a_finished_run_says_so_and_shows_its_tables_again(finished: tuple[Path, str]) -> None:
    folder, printed = finished
    again = CliRunner().invoke(app, ["run", str(write_config(folder))])
    assert again.exit_code == 0
    assert "is finished already" in again.stdout
    assert again.stdout.endswith(printed[printed.index("The ladder") :])


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("resnet8", "resnet14", "was started with model.name = 'resnet8', now it is 'resnet14'"),
        ("image_size = 8", "image_size = 16", "was started with data.image_size = 8, now it is 16"),
        ("[run]", "[train]\nmomentum = 0.5\n[run]", "was started with train.momentum = None, now it is 0.5"),
        ("epochs = 2", "epochs = 3", "was started with epochs = 2, now it is 3"),
        ("high = 0.3", "high = 0.4", "was started with space.learning_rate"),
    ],
)
def test_a_run_goes_on_with_the_same_configuration_only(
    finished: tuple[Path, str], old: str, new: str, complaint: str
) -> None:
    folder, _ = finished
    refused = CliRunner().invoke(app, ["run", str(write_config(folder, old, new))])
    assert refused.exit_code == 2
    assert complaint in refused.stderr


def test_a_run_goes_on_with_another_configuration_anyway(finished: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(finished[0] / "run", tmp_path / "run")
    config = write_config(tmp_path, "[run]", "[train]\nmomentum = 0.5\n[run]")
    done = CliRunner().invoke(app, ["run", str(config), "--anyway"])
    assert done.exit_code == 0, done.output
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    sentence = "continued with another train function: defaults.momentum in train was 0.9, now it is 0.5"
    assert record["anyway"] == [sentence]
    assert json.loads((tmp_path / "run" / "config.json").read_text())["train"]["momentum"] == 0.5


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("epochs = 2", "epoch = 2", "unknown key 'search.epoch' (did you mean 'search.epochs'?)"),
        ("resnet8", "resnet9", "model.name: unknown model 'resnet9'"),
        ("n_trials = 3", "n_trials = 0", "search.n_trials is 0, but it must be a whole number of at least 1"),
        ("low = 1e-3", "low = 0", "search.space.learning_rate has log = true and low = 0"),
        ("low = 1e-3", "low = 1.0", "search.space.learning_rate goes from low = 1 to high = 0.3"),
        ("[64, 128]", "[64, 2000]", "batch_size 2000 is impossible: digits has 1079 training images"),
        (
            "[run]",
            "[[ladder.rung]]\ntrials = 9\ndata = 0.05\nkeep = 1\n[[ladder.rung]]\n[run]",
            "search.space.batch_size: batch_size 64 is impossible on a rung with 0.05 of the 1079 training images, 54",
        ),
        ("device = ", "device = 3 #", "run.device is 3, but it must be text in quotes"),
        ('"cpu"', '"cuda:99"', "run.device is 'cuda:99', but there is no such device here"),
        ('"cpu"', '"cpu', "is not valid TOML"),
        ('"FOLDER"', '"/proc/nowhere"', "cannot use the run folder /proc/nowhere"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    refused = CliRunner().invoke(app, ["run", str(write_config(tmp_path, old, new))])
    assert refused.exit_code == 2
    assert complaint in refused.stderr
    assert refused.stderr.startswith("prunetune: ")
    assert len(refused.stderr.splitlines()) == 1
    assert refused.stdout == ""
    assert not (tmp_path / "run").exists()


def test_bad_input_has_no_traceback_in_a_real_process_either(tmp_path: Path) -> None:
    refused = prunetune("run", write_config(tmp_path, "digits", "digist"))
    assert refused.returncode == 2
    assert "data.name: unknown dataset 'digist' (did you mean 'digits'?)" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["run", str(tmp_path / "no.toml")])
    assert refused.exit_code == 2
    assert refused.stderr == f"prunetune: no configuration file at {str(tmp_path / 'no.toml')!r}\n"


@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_to_go_on_and_does(tmp_path: Path, sent: signal.Signals, status: int) -> None:
    config = write_config(tmp_path, "n_trials = 3\nepochs = 2", "n_trials = 4\nepochs = 1")
    command = [sys.executable, "-u", "-m", "prunetune", "run", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    killer = threading.Timer(240, process.kill)
    killer.start()
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stdout:
        if "(1 of 4)" in line:  # the first trial is over; the second is running or about to
            os.kill(process.pid, sent)
            break
    process.stdout.read()
    complaint = process.stderr.read()
    assert process.wait() == status, complaint
    killer.cancel()
    process.stdout.close()
    process.stderr.close()
    assert complaint.splitlines()[-1] == f"Stopped; what is finished is kept. Go on with: prunetune run {config}"
    assert "Traceback" not in complaint
    resumed = CliRunner().invoke(app, ["run", str(config)])
    assert resumed.exit_code == 0, resumed.stderr
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    counts = record["search"]["trials"]
    assert counts["complete"] + counts["pruned"] + counts["diverged"] == 4
    assert record["status"] == "finished"


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"prunetune {__version__}\n"


@pytest.mark.parametrize(
    "args", [[], ["--help"], ["run", "--help"], ["demo", "--help"], ["list", "--help"], ["worker", "--help"]]
)
def test_help_explains_and_imports_nothing_heavy(args: list[str]) -> None:
    code = (
        "import sys\n"
        "from prunetune.cli.app import app\n"
        f"app({args!r}, standalone_mode=False)\n"
        "print(sorted({'torch', 'optuna', 'numpy', 'plotly', 'sklearn'} & set(sys.modules)))\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "Usage: " in shown.stdout + shown.stderr
    if args:
        assert shown.stdout.splitlines()[-1] == "[]"


def test_every_command_has_an_example() -> None:
    for command in ("run", "demo", "list", "worker"):
        assert f"Example: prunetune {command}" in CliRunner().invoke(app, [command, "--help"]).stdout


@pytest.mark.parametrize("kind", list(Kind))
def test_list_one_kind_a_line_each(kind: Kind) -> None:
    lines = CliRunner().invoke(app, ["list", kind.value]).stdout.splitlines()
    one = [line.split(" ")[0] for line in lines]
    every = CliRunner().invoke(app, ["list"]).stdout.splitlines()
    assert one
    assert f"{kind.value}: {', '.join(one)}" in every


def test_list_says_what_a_scorer_needs_and_is() -> None:
    listed = {line.split()[0]: line for line in CliRunner().invoke(app, ["list", "scorers"]).stdout.splitlines()}
    assert re.search(r"^snip +labelled data, a loss +prunetune +Connection sensitivity \|w \* dL/dw\| ", listed["snip"])
    assert re.search(r"^fpgm +- +prunetune +The distances of a filter to all others of its layer", listed["fpgm"])


def test_list_fits_the_terminal_and_loses_nothing() -> None:
    rows = [
        NamedEntry("apoz", "labelled data", "The share of zeros " * 5, "apoz-scorer 1.2"),
        NamedEntry("b", "", "B.", "prunetune"),
    ]
    console = Console(width=60, force_terminal=True, color_system=None, file=io.StringIO())
    print_rows(console, rows)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert max(map(len, lines)) <= 60
    assert lines[0].split() == ["name", "needs", "what", "it", "is", "from"]
    assert sum(line.count("zeros") for line in lines) == 5
    assert "apoz-scorer 1.2" in lines[1]


def test_list_knows_the_names_that_the_readme_promises() -> None:
    listed = CliRunner().invoke(app, ["list"]).stdout
    for name in ("synflow", "magnitude", "random", "tpe", "hyperband", "vgg16-bn", "digits", "paper"):
        assert name in listed


def test_list_of_nonsense_is_refused() -> None:
    refused = CliRunner().invoke(app, ["list", "scorrers"])
    assert refused.exit_code == 2
    assert "scorrers" in refused.stderr

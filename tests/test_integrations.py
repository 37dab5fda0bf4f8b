"""The examples that meet other tools, each against the real one: short, quick, and better than a guess."""

from __future__ import annotations

import ast
import io
import json
import re
import tokenize
from pathlib import Path

import mlflow
import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from PIL import Image
from safetensors.torch import load_file
from sklearn.datasets import load_digits
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from scripts import run_script

EXAMPLES = Path(__file__).parents[1] / "examples"
INTEGRATIONS = (
    "optuna_study.py",
    "plain_loop.py",
    "lightning_module.py",
    "huggingface_trainer.py",
    "timm_own_images.py",
    "log_elsewhere.py",
)


def run(name: str, *arguments: object, cwd: Path) -> float:
    """The accuracy that an example ends with, which a guess has one in ten of."""
    printed = run_script(EXAMPLES / name, *arguments, cwd=cwd)
    found = re.fullmatch(r"best on the (proxy|full network): \{'.*\}, accuracy (\S+)", printed.splitlines()[-1])
    assert found, printed
    return float(found[2])


def epochs_of_trials(folder: Path) -> set[int]:
    """Those after which some trial of the search reported a score, by Optuna alone."""
    study = optuna.load_study(study_name="search", storage=JournalStorage(JournalFileBackend(f"{folder}/study.log")))
    return {epoch for trial in study.trials for epoch in trial.intermediate_values}


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_an_example_has_25_lines_of_code_at_most(name: str) -> None:
    """Besides the imports, texts and comments."""
    text = (EXAMPLES / name).read_text()
    beside = (ast.Import, ast.ImportFrom)
    skipped = {
        line
        for node in ast.parse(text).body
        if isinstance(node, beside) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    no_code = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = [each for each in tokenize.generate_tokens(io.StringIO(text).readline) if each.type not in no_code]
    lines = {line for each in tokens for line in range(each.start[0], each.end[0] + 1)} - skipped
    assert 0 < len(lines) <= 25


def test_where_somebody_else_searches_two_lines_are_prunetunes() -> None:
    text = (EXAMPLES / "optuna_study.py").read_text().partition("import prunetune\n")[2]
    ours = [line for line in text.splitlines() if "prunetune." in line or "build_proxy" in line]
    assert len(ours) == 2
    assert ours[0].endswith("# the first line")
    assert ours[1].endswith("# the second line: it was build()")


def test_a_plain_loop(tmp_path: Path) -> None:
    assert run("plain_loop.py", tmp_path / "run", cwd=tmp_path) > 0.5
    assert (tmp_path / "run" / "weights.safetensors").exists()


def test_lightning(tmp_path: Path) -> None:
    assert run("lightning_module.py", tmp_path / "run", cwd=tmp_path) > 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert epochs_of_trials(tmp_path / "run") == {1, 2}


def test_huggingfaces_trainer(tmp_path: Path) -> None:
    assert run("huggingface_trainer.py", tmp_path / "run", cwd=tmp_path) > 0.3
    assert epochs_of_trials(tmp_path / "run") == {1, 2, 3, 4}


@pytest.mark.parametrize("name", ["trainer_search.py", "lora.py"])
def test_a_script_for_a_checkpoint_changes_by_25_lines_at_most(name: str) -> None:
    """They are numbered, and nothing of prunetune is on another."""
    lines = (EXAMPLES / name).read_text().partition("import prunetune\n")[2].splitlines()
    numbers = [int(found[1]) for line in lines if (found := re.search(r"  # (\d+)(?=$|:)", line))]
    assert numbers == list(range(1, len(numbers) + 1))
    assert len(numbers) + 1 <= 25  # with the import
    assert not [line for line in lines if re.search(r"prunetune\.|build_proxy|report\b", line) and "  # " not in line]


def test_the_trainers_own_search_on_a_checkpoint(tmp_path: Path) -> None:
    """The full network is fine-tuned with what was found on the proxy, which begins with the checkpoint's weights."""
    assert run("trainer_search.py", tmp_path, cwd=tmp_path) > 0.6  # a guess has 0.2
    assert (tmp_path / "model.safetensors").exists()


def test_lora_of_a_checkpoint(tmp_path: Path) -> None:
    printed = run_script(EXAMPLES / "lora.py", tmp_path / "run", cwd=tmp_path).splitlines()
    before, after = (float(re.search(r"(\S+) nats", line)[1]) for line in printed[-2:])  # type: ignore[index]
    assert after < before - 0.05
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert record["winner"]["params"].keys() == {"rank", "alpha", "learning_rate"}
    assert [each["network"] for each in record["ladder"]["rungs"]] == ["the proxy", "the full network"]
    weights = load_file(tmp_path / "run" / "weights.safetensors")
    assert "model.layers.3.self_attn.q_proj.weight" in weights  # those that the proxy lacks, merged
    assert not [name for name in weights if "lora" in name]


@pytest.mark.parametrize("name", ["plain_loop", "timm_own_images", "own_model", "train_digits"])
def test_learning_rates_are_those_of_the_proxys_width(name: str) -> None:
    """Where prunetune searches: an optimizer on `model.parameters()` would find what is best on the proxy only."""
    text = (EXAMPLES / f"{name}.py").read_text()
    assert "report.param_groups(model, lr=" in text
    assert not re.search(r"parameters\(\), *(lr|params)|from prunetune\.(backends|settings)", text)


@pytest.mark.parametrize("name", ["lightning_module", "huggingface_trainer"])
def test_whoever_makes_the_optimizer_is_corrected(name: str, tmp_path: Path) -> None:
    run(f"{name}.py", tmp_path / "run", cwd=tmp_path)
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert record["search"]["param_groups"] == record["search"]["trials"]["complete"] > 0


def test_timm_on_images_of_ones_own(tmp_path: Path) -> None:
    digits = load_digits()
    for number in range(120):
        folder = tmp_path / "images" / str(digits.target[number])
        folder.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray((digits.images[number] * 15).astype("uint8"))
        picture.resize((32, 32)).save(folder / f"{number}.png")
    score = run("timm_own_images.py", tmp_path / "images", tmp_path / "run", cwd=tmp_path)
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert score == pytest.approx(record["winner"]["score"], abs=5e-4)
    assert score * 24 == pytest.approx(round(score * 24), abs=0.02)  # a share of the 24 images that were held back
    assert load_file(tmp_path / "run" / "weights.safetensors")["fc.weight"].shape[0] == 10


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # MLflow's use of SQLAlchemy
def test_mlflow_and_tensorboard_have_every_epoch(tmp_path: Path) -> None:
    assert run("log_elsewhere.py", tmp_path, cwd=tmp_path) > 0.5
    runs = mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").search_runs(["0"])
    names = sorted(each.info.run_name for each in runs)
    assert names == [*(f"search-{number}" for number in range(6)), "train-0"]
    assert {each.info.status for each in runs} == {"FINISHED"}
    full = next(each for each in runs if each.info.run_name == "train-0")
    assert full.data.params.keys() == {"learning_rate", "momentum", "batch_size"}
    assert full.data.tags["outcome"] == "complete"
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    curve = board.Scalars("train/0")
    assert [point.step for point in curve] == [1, 2]
    assert curve[-1].value == pytest.approx(full.data.metrics["score"])

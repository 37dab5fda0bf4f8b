"""Transformers on texts and timm's networks, from a configuration: whole runs, and what is said of mistakes."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from prunetune.cli.app import Template, app
from prunetune.cli.commands import TEMPLATES
from prunetune.cli.config import parse_config, read_config
from prunetune.cli.job import prepare
from prunetune.cli.launch import _config_of
from prunetune.errors import InputError
from prunetune.zoo.of_transformers import build
from tiny_texts import NUMBERS, WORDS, write_bert, write_csv, write_qwen

RUN = """
[model]
name = "{model}"
[data]
name = "{data}"
root = "{root}"
length = 8
[search]
epochs = 2
n_trials = 2
confirm = 1
space.learning_rate = {{low = 1e-3, high = 1e-2, log = true}}
[train]
batch_size = 8
warmup = 0.1
[run]
folder = "run"
device = "cpu"
"""
BERT = RUN.format(model="bert", data="labelled-text", root="reviews.csv")
QWEN = RUN.format(model="qwen", data="plain-text", root="book.txt")


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_bert(tmp_path / "bert")
    write_qwen(tmp_path / "qwen")
    write_csv(tmp_path / "reviews.csv", 120)
    (tmp_path / "book.txt").write_text(" ".join(WORDS[n % 10] for n in range(2000)))


def changed(text: str, extra: str) -> dict[str, Any]:
    content = tomllib.loads(text)
    for table, given in tomllib.loads(extra).items():
        content.setdefault(table, {}).update(given)
    return content


def run(text: str) -> tuple[int, str, str]:
    Path("job.toml").write_text(text)
    done = CliRunner().invoke(app, ["run", "job.toml"])
    return done.exit_code, done.stdout, done.stderr


def test_text_classification() -> None:
    """Its first word says what a text is, and the network learns that."""
    status, _, err = run(BERT)
    assert status == 0, err
    record = json.loads(Path("run/result.json").read_text())
    assert record["direction"] == "maximize"
    assert record["winner"]["score"] > 0.9  # a guess has 0.5
    assert record["test"]["accuracy"] > 0.9
    assert record["search"]["param_groups"] == record["search"]["trials"]["complete"] > 0
    weights = load_file("run/weights.safetensors")
    build("text-classification", "bert", num_labels=2).load_state_dict(weights)


def test_causal_language_modelling() -> None:
    """Each word of ten is followed by the same one, so that little is left to guess."""
    status, _, err = run(QWEN)
    assert status == 0, err
    record = json.loads(Path("run/result.json").read_text())
    assert record["direction"] == "minimize"
    assert record["winner"]["score"] < 1.5  # a guess has log 10 = 2.3
    assert record["test"]["loss"] < 1.5


def test_a_checkpoint_keeps_its_weights_and_a_configuration_has_none() -> None:
    kept = load_file("bert/model.safetensors")
    model = build("text-classification", "bert", num_labels=3)
    name = "bert.encoder.layer.0.attention.self.query.weight"
    assert torch.equal(model.state_dict()[name], kept[name])
    assert model.state_dict()["classifier.weight"].shape == (3, 32)
    alone = build("text-classification", "bert/config.json", num_labels=2)
    assert not torch.equal(alone.state_dict()[name], kept[name])


def test_a_worker_makes_the_same_job_of_what_is_kept() -> None:
    config = parse_config(tomllib.loads(QWEN))
    kept = config.model_dump(mode="json", exclude={"run"})
    job = prepare(_config_of(kept, "cpu", None))
    assert job.direction == "minimize"
    assert job.example_inputs["input_ids"].shape == (16, 8)
    assert job.steps_per_epoch == 200 // 8  # eight tenths of 2,000 words in pieces of eight


def test_a_network_of_ones_own_on_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine_for_texts.py").write_text(
        "from prunetune.zoo.of_transformers import build\n"
        "def net():\n    return build('text-classification', 'bert', num_labels=2)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    job = prepare(parse_config(changed(BERT, "model.name = 'mine_for_texts:net'\ndata.tokenizer = 'bert'")))
    assert job.model_fn()(**job.example_inputs).logits.shape == (16, 2)


@pytest.mark.parametrize(
    ("text", "extra", "sentence"),
    [
        (BERT, "train.momentum = 0.9", "train.momentum has a part in training on images only, and this is text-classi"),
        (BERT, "train.schedule = 'cosine'", "train.schedule has a part in training on images only"),
        (BERT, "data.image_size = 8", "data.image_size has a part in training on images only"),
        (QWEN, "search.space.momentum = {low = 0.1, high = 0.9}", "unknown hyperparameter 'momentum'; known: batch_s"),
        (QWEN, "search.space = 'paper'", "search.space is 'paper', whose rates are for SGD on images; list what is"),
        (
            QWEN,
            "search.direction = 'maximize'",
            "search.direction is 'maximize', but the built-in training returns a l",
        ),
        (BERT, "search.direction = 'minimize'", "but the built-in training returns an accuracy; drop"),
        (
            BERT,
            "model.name = 'nowhere'",
            "model.name: 'nowhere' is no folder with a checkpoint and no config.json; noth",
        ),
        (BERT, "model.name = '.'", "model.name: the folder '.' has no config.json; give one that save_pretrained of"),
        (BERT, "model.name = 'a:b'", "data.tokenizer is missing: a model of your own brings none"),
        (BERT, "compare.smaller = ['nowhere']", "compare.smaller: 'nowhere' is no folder"),
        (BERT, "ladder.rung = [{resolution = 0.5, trials = 2, keep = 1}, {}]", "resolution is that of images, and te"),
        (BERT, "data.name = 'labeled-text'", "data.name: unknown dataset 'labeled-text' (did you mean 'labelled-text'"),
    ],
)
def test_a_mistake_is_told_before_anything_is_loaded(text: str, extra: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_config(changed(text, extra))
    assert sentence in str(caught.value)


def test_the_folder_of_the_texts_must_be_given() -> None:
    content = tomllib.loads(BERT)
    del content["data"]["root"]
    with pytest.raises(InputError, match=r"data\.root is missing: your own texts with labels"):
        parse_config(content)


def test_keys_of_texts_are_none_of_images() -> None:
    images = {"model": {"name": "resnet8"}, "data": {"name": "digits"}, "run": {"folder": "x"}}
    for table, key in (("train", "warmup"), ("data", "length")):
        given = {**images, table: {**images.get(table, {}), key: 0.5 if key == "warmup" else 8}}
        with pytest.raises(InputError, match=f"{table}.{key} has a part in training on texts only"):
            parse_config(given)


@pytest.mark.parametrize(
    ("text", "extra", "sentence"),
    [
        (BERT, "data.length = 17\ndata.root = 'long.csv'", "texts have 17 tokens, and 'bert' takes 16 at most; lower"),
        (BERT, "model.name = 'small'", "makes the number 11 of a token, and the vocabulary of 'small' has 5; give the"),
        (BERT, "train.batch_size = 97", "train.batch_size: batch_size 97 is impossible: there are 96 training texts"),
        (BERT, "model.name = 'other/config.json'", "there is no tokenizer in 'other/config.json'"),
        (QWEN, "model.name = 'odd'\ndata.tokenizer = 'bert'", "transformers cannot read the configuration in 'odd'"),
    ],
)
def test_what_does_not_fit_is_told_before_anything_is_trained(text: str, extra: str, sentence: str) -> None:
    config = json.loads(Path("bert/config.json").read_text())
    for name, content in (("small", {**config, "vocab_size": 5}), ("odd", {"model_type": "odd"}), ("other", config)):
        Path(name).mkdir()
        Path(name, "config.json").write_text(json.dumps(content))
    for file in Path("bert").glob("tokenizer*"):
        Path("small", file.name).write_bytes(file.read_bytes())
    Path("long.csv").write_text("text,label\n" + "".join(f"{'good ' * 30},{n % 2}\n" for n in range(100)))
    assert max(NUMBERS.values()) == 11
    with pytest.raises(InputError) as caught:
        prepare(parse_config(changed(text, extra)))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(("missing", "name"), [("transformers", "bert"), ("timm", "timm/resnet10t")])
def test_a_library_that_is_missing_is_named(missing: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda each, *_: None if each == missing else real(each))
    content: dict[str, Any] = tomllib.loads(BERT)
    if missing == "timm":
        content = {"model": {"name": name}, "data": {"name": "digits"}, "run": {"folder": "x", "device": "cpu"}}
    with pytest.raises(InputError, match=f"needs {missing}, which is not installed: pip install '{missing}>="):
        prepare(parse_config(content)).model_fn()


def timm(name: str, size: int = 32) -> dict[str, Any]:
    data = {"name": "digits", "image_size": size}
    return {"model": {"name": name}, "data": data, "run": {"folder": "x", "device": "cpu"}}


def test_a_model_of_timm_has_the_classes_and_channels_of_the_data() -> None:
    job = prepare(parse_config(timm("timm/resnet10t")))
    assert job.model_fn().eval()(job.example_inputs[:2]).shape == (2, 10)
    assert job.example_inputs.shape[1] == 1


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("timm/resnet10", r"timm has no model 'resnet10' \(did you mean 'timm/resnet1"),
        ("timm/vit_tiny_patch16_224", "does not run on images of the shape .*; build it for these, or set data.image_"),
    ],
)
def test_a_model_of_timm_that_cannot_be(name: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        prepare(parse_config(timm(name)))


@pytest.mark.parametrize("job", [each.value for each in Template])
def test_init_has_a_valid_configuration_for_every_job(job: str) -> None:
    assert set(TEMPLATES) == {each.value for each in Template}
    done = CliRunner().invoke(app, ["init", "mine.toml", "--job", job])
    assert done.exit_code == 0
    text = Path("mine.toml").read_text()
    for name, there in (
        ("checkpoint", "qwen" if job == "causal-lm" else "bert"),
        ("reviews", "reviews.csv"),
        ("corpus", "book.txt"),
    ):
        text = text.replace(f'= "{name}" ', f'= "{there}" ')
    Path("mine.toml").write_text(text.replace("length = 128", "length = 8"))
    config = read_config(Path("mine.toml"))
    assert config.job == ("image-classification" if job == "timm" else job)
    if job in ("text-classification", "causal-lm"):
        assert len(prepare(config).example_inputs["input_ids"]) == 16

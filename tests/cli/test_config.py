"""A configuration is checked as a whole: whatever is wrong is one sentence with key, what was given, what may be."""

from __future__ import annotations

import re
import tomllib
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from prunetune.backends import Categorical, Float, Int, spaces
from prunetune.cli.config import parse_config, read_config, search_space
from prunetune.cli.config_errors import keys
from prunetune.cli.demo import demo_config
from prunetune.errors import InputError
from prunetune.tuning.settings import Pruning

SMALLEST = """
[model]
name = "resnet8"
[data]
name = "digits"
[run]
folder = "runs/x"
"""
EXAMPLES = Path(__file__).parents[2] / "examples"


def changed(extra: str) -> dict[str, Any]:
    """The smallest configuration, with the tables of ``extra`` merged into it."""
    content = tomllib.loads(SMALLEST)
    for table, given in tomllib.loads(extra).items():
        if isinstance(given, dict):
            content.setdefault(table, {}).update(given)
        else:
            content[table] = given
    return content


def test_a_scorer_may_be_combined_with_parts() -> None:
    config = parse_config({**tomllib.loads(SMALLEST), "pruning": {"scorer": "magnitude+max+lamp"}})
    assert config.pruning.scorer == "magnitude+max+lamp"


def test_what_is_not_given_is_the_papers_but_for_the_search() -> None:
    config = parse_config(tomllib.loads(SMALLEST))
    assert config.pruning.scorer == "synflow"
    assert (config.search.optimizer, config.search.trial_pruner) == ("optuna:cmaes", "asha")
    assert (config.search.n_trials, config.search.epochs, config.search.confirm) == (None, 160, None)
    assert config.train.schedule == "step"
    assert search_space(config) == spaces["paper"]


def test_a_storage_and_the_name_of_the_study_in_it() -> None:
    config = parse_config(changed('search = {storage = "postgresql://me:secret@h/db", study = "digits"}'))
    assert config.search.storage == "postgresql://me:secret@h/db"
    assert "secret" not in repr(config)
    for search, complaint in (
        ('storage = "redis://h"', "search.storage: the storage redis://h is of an unknown kind; write sqlite:///FILE"),
        (
            'study = "digits"',
            "search.study is 'digits', but the study in a run folder has no other name; give a storage",
        ),
    ):
        with pytest.raises(InputError, match=re.escape(complaint)):
            parse_config(changed(f"search = {{{search}}}"))


def test_a_configuration_cannot_be_changed() -> None:
    config = parse_config(tomllib.loads(SMALLEST))
    with pytest.raises(FrozenInstanceError):
        config.search.n_trials = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config.run.folder = "another"


def test_the_tables_of_a_space() -> None:
    config = parse_config(
        changed(
            """
            [search.space.learning_rate]
            low = 1e-4
            high = 1
            log = true
            [search.space.momentum]
            low = 0
            high = 0.99
            [search.space.batch_size]
            low = 16
            high = 64
            [search.space.weight_decay]
            choices = [0, 1e-4]
            """
        )
    )
    assert dict(search_space(config)) == {
        "learning_rate": Float(1e-4, 1.0, log=True),
        "momentum": Float(0.0, 0.99),
        "batch_size": Int(16, 64),
        "weight_decay": Categorical([0.0, 1e-4]),
    }


def test_choices_of_a_batch_size_are_whole_numbers() -> None:
    space = search_space(parse_config(changed("search.space.batch_size.choices = [32, 64]")))
    (choices,) = (each.choices for each in space.values() if isinstance(each, Categorical))
    assert [type(choice) for choice in choices] == [int, int]


@pytest.mark.parametrize(
    ("extra", "sentence"),
    [
        # unknown keys
        (
            "search.n_trails = 9",
            (
                "unknown key 'search.n_trails' (did you mean 'search.n_trials'?); "
                "[search] has: n_trials, confirm, optimizer, trial_pruner, direction, target, patience, storage, "
                "study, epochs, seed, space, first"
            ),
        ),
        ("serach.n_trials = 9", "unknown key 'serach' (did you mean 'search'?); the file has: model, data, "),
        ("n_trials = 9", "unknown key 'n_trials' (did you mean 'search.n_trials'?); the file has: model, data, "),
        ("model.epochs = 9", "unknown key 'model.epochs' (did you mean 'search.epochs'?); [model] has: name"),
        (
            "search.space.momentum = {low = 0.1, hihg = 0.9}",
            (
                "unknown key 'search.space.momentum.hihg' (did you mean 'search.space.momentum.high'?); "
                "[search.space.momentum] has: low, high, log, step, choices"
            ),
        ),
        # unknown names
        (
            "model.name = 'resnet9'",
            "model.name: unknown model 'resnet9' (did you mean 'resnet8'?); known: mobilenetv2, resnet110",
        ),
        ("data.name = 'digit'", "data.name: unknown dataset 'digit' (did you mean 'digits'?); known: "),
        ("pruning.scorer = 'synflw'", "pruning.scorer: unknown scorer 'synflw' (did you mean 'synflow'?); known: "),
        (
            "pruning.scorer = 'magnitude+lam'",
            "pruning.scorer: unknown part of 'magnitude+lam': 'lam' (did you mean 'lamp'",
        ),
        ("search.optimizer = 'tpee'", "search.optimizer: unknown optimizer 'tpee' (did you mean 'tpe'?); known: "),
        ("search.trial_pruner = 'hyper'", "search.trial_pruner: unknown trial pruner 'hyper'"),
        ("search.space = 'papre'", "search.space: unknown search space 'papre' (did you mean 'paper'?); known: paper"),
        (
            "search.space.lr = {low = 0.1, high = 0.2}",
            "search.space.lr: unknown hyperparameter 'lr'; known: batch_size, learning_rate, lr_decay, momentum, ",
        ),
        ("train.schedule = 'linear'", "train.schedule is 'linear', but it must be 'cosine' or 'step'"),
        ("run.device = 'gpu'", "run.device is 'gpu', but it must be 'auto', 'cpu', 'cuda', "),
        # impossible ranges
        ("run.device = 'cuda:0,cpu'", "run.device is 'cuda:0,cpu', but it must be 'auto', 'cpu', 'cuda', "),
        ("search.first = [{lr = 0.1}]", "search.first[0]: unknown hyperparameter 'lr'"),
        ("search.first = [{learning_rate = 7.0}]", "search.first[0]: learning_rate is 7.0, which is not in Float("),
        (
            "search.space.momentum = {low = 0.1, high = 0.9, step = 0.3}",
            "search.space.momentum: Float(low=0.1, high=0.9, log=False, step=0.3): step must be above 0, and lead",
        ),
        ("search.n_trials = 0", "search.n_trials is 0, but it must be a whole number of at least 1"),
        ("search.epochs = -1", "search.epochs is -1, but it must be a whole number of at least 1"),
        ("search.confirm = -1", "search.confirm is -1, but it must be a whole number of at least 0"),
        ("search.patience = 0", "search.patience is 0, but it must be a whole number of at least 1"),
        ("pruning.percentile = 100", "pruning.percentile is 100, but it must be a number above 0 and below 100"),
        ("pruning.floor = 1.5", "pruning.floor is 1.5, but it must be a number above 0 and at most 1"),
        ("pruning.ratio = 0", "pruning.ratio is 0, but it must be a number above 0 and at most 1"),
        (
            "pruning = {ratio = 0.5, percentile = 85}",
            "pruning: give one budget, not 2; got percentile=85.0 and ratio=0.5",
        ),
        (
            "pruning = {ratio = 0.5, floor = 0.1}",
            "pruning.floor is 0.1, but it has no part in ratio=0.5; drop one of them",
        ),
        ("data.image_size = 4", "data.image_size is 4, but it must be at least 8 and at most 1,024"),
        (
            "search.space.learning_rate = {low = 0.5, high = 0.1}",
            "search.space.learning_rate goes from low = 0.5 to high = 0.1, but low must be below high",
        ),
        (
            "search.space.momentum = {low = 0, high = 0.5, log = true}",
            "search.space.momentum has log = true and low = 0, but a logarithmic range must begin above 0",
        ),
        ("search.space.momentum = {low = 0}", "search.space.momentum needs low and high, or choices"),
        ("search.space.momentum = {low = 0, choices = [0.5]}", "search.space.momentum has choices as well as a range"),
        (
            "search.space.momentum.choices = []",
            "search.space.momentum.choices is [], but it must be a table or list with at least one entry",
        ),
        ("search.space.momentum.choices = [0.5, 0.5]", "search.space.momentum has the choice 0.5 twice"),
        (
            "search.space.momentum = {low = 0, high = 1}",
            "search.space.momentum.high is 1, but it must be at least 0 and below 1",
        ),
        (
            "search.space.learning_rate = {low = -1, high = 1}",
            "search.space.learning_rate.low is -1, but it must be above 0",
        ),
        (
            "search.space.batch_size = {low = 1, high = 9}",
            "search.space.batch_size.low is 1, but it must be at least 2",
        ),
        (
            "search.space.batch_size = {low = 2.5, high = 9}",
            "search.space.batch_size.low is 2.5, but it must be a whole number",
        ),
        ("search.space.batch_size.choices = [8, 1]", "search.space.batch_size.choices is 1, but it must be at least 2"),
        (
            "search.space.momentum = {low = 0, high = inf}",
            "search.space.momentum.high is inf, but it must be a finite number",
        ),
        # contradictions
        (
            "train.learning_rate = 0.1",
            "train.learning_rate fixes a hyperparameter that search.space searches; drop one",
        ),
        ("train = {schedule = 'cosine', lr_decay = 0.1}", "train.schedule is 'cosine', in which lr_decay has no part"),
        (
            "train.schedule = 'cosine'\nsearch.space = 'paper-extra'",
            "train.schedule is 'cosine', in which lr_decay has",
        ),
        ("data.root = 'there'", "data.root is 'there', but digits is not read from a folder; drop it"),
        # wrong types, missing keys
        ("search.n_trials = '9'", "search.n_trials is '9', but it must be a whole number"),
        ("search.n_trials = true", "search.n_trials is True, but it must be a whole number"),
        ("search.n_trials = 1.0", "search.n_trials is 1.0, but it must be a whole number"),
        ("search.space.momentum.choices = ['a']", "search.space.momentum.choices is 'a', but it must be a number"),
        ("search.space.low = 1e-4", "search.space.low is 0.0001, but it must be a table"),
        ("search.space = 3", "search.space is 3, but it must be a name or tables such as [search.space.learning_rate]"),
        ("search.space = {}", "search.space is {}, but it must be a table or list with at least one entry"),
        ("search.space.momentum = 0.9", "search.space.momentum is 0.9, but it must be a table"),
        ("model = 'resnet8'", "model is 'resnet8', but it must be a table"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_key(extra: str, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_config(changed(extra))
    message = str(caught.value)
    assert message.startswith(sentence)
    assert "\n" not in message
    assert "pydantic" not in message


@pytest.mark.parametrize(
    ("extra", "key", "instead"),
    [
        ("fidelity.epochs = 0.5", "fidelity", r"write the shares into a rung, \[\[ladder\.rung\]\]"),
        ("search.race = false", "search.race", "one configuration is trained in full, so there is no race"),
        ("search.refine = 3", "search.refine", "let more go up the ladder: a larger ladder.budget"),
        ("search.rungs = 'reannealed'", "search.rungs", "every rung of a ladder finishes its schedule"),
    ],
)
def test_a_key_of_version_0_1_says_what_does_that_now(extra: str, key: str, instead: str) -> None:
    with pytest.raises(InputError, match=rf"^{re.escape(key)} is of version 0\.1; .*{instead}") as caught:
        parse_config(changed(extra))
    assert "unknown" not in str(caught.value)


def test_a_table_of_proxies_is_a_table_of_prunings() -> None:
    config = parse_config(changed("compare.proxies.deep = {flops = 0.1, depth = true}"))
    assert config.compare.proxies == {"deep": Pruning(flops=0.1, depth=True)}
    assert config.model_dump(mode="json")["compare"]["proxies"]["deep"]["flops"] == 0.1
    for keys_of_it, sentence in (
        (
            "flps = 0.1",
            "unknown key 'compare.proxies.deep.flps' (did you mean 'compare.proxies.deep.flops'?); [compare.",
        ),
        ("flops = 2", "compare.proxies.deep.flops is 2, but it must be a number above 0 and at most 1"),
        ("depth = true", "compare.proxies.deep.depth is True, but needs a budget"),
    ):
        with pytest.raises(InputError) as caught:
            parse_config(changed(f"compare.proxies.deep = {{{keys_of_it}}}"))
        assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    "value", ["true", "'3'", "nan", "inf", "[1]", "{}"], ids=["bool", "text", "nan", "inf", "list", "table"]
)
@pytest.mark.parametrize("key", ["pruning.flops", "pruning.multiple_of", "search.epochs", "compare.cost"])
def test_what_is_no_number_is_refused(key: str, value: str) -> None:
    with pytest.raises(InputError, match=rf"^{re.escape(key)} is .*, but it must be a (whole )?number "):
        parse_config(changed(f"{key} = {value}"))


@pytest.mark.parametrize(("table", "key"), [("model", "name"), ("data", "name"), ("run", "folder")])
def test_what_must_be_given_is_named(table: str, key: str) -> None:
    content = tomllib.loads(SMALLEST)
    del content[table][key]
    with pytest.raises(InputError, match=rf"^{table}\.{key} is missing$"):
        parse_config(content)
    del content[table]
    with pytest.raises(
        InputError, match=rf"^{table} is missing: the table \[{table}\] must be given(, or train.function)?$"
    ):
        parse_config(content)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no configuration file at .*none\.toml"):
        read_config(tmp_path / "none.toml")


def test_a_folder_or_a_picture_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "picture.toml").write_bytes(b"\x89PNG\xff")
    for path in (tmp_path, tmp_path / "picture.toml"):
        with pytest.raises(InputError, match="cannot read the configuration file"):
            read_config(path)


def test_a_syntax_error_has_file_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("[model]\nname = resnet8\n")
    with pytest.raises(InputError, match=r"broken\.toml is not valid TOML: .*line 2"):
        read_config(path)


def test_a_mistake_in_a_file_is_told_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(SMALLEST + "[search]\nn_trails = 3\n")
    with pytest.raises(InputError, match=r"mine\.toml: unknown key 'search\.n_trails'"):
        read_config(path)


def test_the_example_is_valid_and_shows_every_key() -> None:
    config = read_config(EXAMPLES / "run.toml")
    text = (EXAMPLES / "run.toml").read_text()
    for table, section in config:
        assert f"[{table}]" in text
        for key in keys(type(section)):
            assert key in text, f"{table}.{key}"


def test_the_demo_is_valid() -> None:
    assert demo_config(Path("somewhere")).run.folder == "somewhere"

"""``prunetune compare``: a small comparison on digits, from a configuration to its page; what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from prunetune.cli.app import app
from prunetune.cli.config import parse_config
from prunetune.errors import InputError

CONFIG = """
[model]
name = "resnet8"
[data]
name = "digits"
image_size = 8
[pruning]
scorer = "uniform"
ratio = 0.25
[search]
epochs = 1
[search.space.learning_rate]
low = 1e-3
high = 0.5
log = true
[train]
batch_size = 256
[compare]
scorers = []
sizes = []
rivals = ["less-data"]
configurations = 4
seeds = 1
truth_seeds = 1
confirm = 1
[run]
folder = "FOLDER"
device = "cpu"
"""


def config(tmp_path: Path, old: str = "", new: str = "") -> Path:
    path = tmp_path / "compare.toml"
    path.write_text(CONFIG.replace("FOLDER", str(tmp_path / "run")).replace(old, new))
    return path


def test_a_comparison_from_a_configuration(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["compare", str(config(tmp_path)), "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    record = json.loads(done.stdout)
    assert [(row["name"], row["kind"]) for row in record["rows"]] == [
        ("the full network", "ceiling"), ("configured", "proxy"), ("less-data", "rival"),
    ]  # fmt: skip
    cost = record["rows"][1]["cost"]
    assert 0 < cost < 1.5  # processor seconds, on a machine that does other things
    assert record["equal_cost"] == {"configured": pytest.approx(min(1.0, cost))}
    truths = [each["truth"] for each in record["configurations"]]
    assert all(0 <= truth <= 1 for truth in truths)
    assert max(truths) - record["random_pick_regret"] == pytest.approx(sum(truths) / 4)
    again = CliRunner().invoke(app, ["compare", str(config(tmp_path))], catch_exceptions=False)
    assert again.exit_code == 0
    for text in ("the full network", "configured", "less-data", "a random pick", "compare.html"):
        assert text in again.stdout


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("scorers = []", 'scorers = ["synflw"]', "compare.scorers: unknown scorer 'synflw'"),
        ("sizes = []", 'sizes = ["huge"]', "compare.sizes is ['huge'], but it must be a list, each entry 'paper' or"),
        ("seeds = 1", "seeds = 0", "compare.seeds is 0, but it must be a whole number of at least 1 and at most 1,024"),
        ("confirm = 1", 'smaller = ["resnet9"]', "compare.smaller: unknown model 'resnet9'"),
        ("confirm = 1", 'confrm = "x"', "unknown key 'compare.confrm' (did you mean 'compare.confirm'?)"),
    ],
)
def test_bad_input_is_one_sentence_and_status_2(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    path = config(tmp_path, old, new)
    refused = CliRunner().invoke(app, ["compare", str(path)])
    assert refused.exit_code == 2
    assert refused.stderr.startswith(f"prunetune: {path}: {complaint}")
    assert len(refused.stderr.splitlines()) == 1


def test_the_defaults_of_the_table_are_those_of_the_call() -> None:
    from prunetune.comparison.settings import Comparison

    found = parse_config({"model": {"name": "resnet8"}, "data": {"name": "digits"}, "run": {"folder": "f"}})
    assert Comparison.part_of(found.compare) == Comparison()
    with pytest.raises(InputError, match=r"compare\.cost is 2\.0, but it must be a number above 0 and at most 1"):
        parse_config({"compare": {"cost": 2.0}, "model": {"name": "resnet8"}, "data": {"name": "digits"}, "run": {"folder": "f"}})  # fmt: skip  # noqa: E501

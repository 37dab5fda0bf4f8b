"""``python -m benchmarks.pipeline``: it runs, says what it measured, and both pipelines do the same to pictures."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks.common.images import RECIPES, pictures
from benchmarks.pipeline.__main__ import main
from benchmarks.pipeline.rivals import LOOPS, Pictures, usual_transform
from prunetune.data import Augmentation


@pytest.mark.parametrize("recipe", RECIPES)
def test_it_measures_every_pipeline_under_every_loop(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pipeline.json"
    options = ["--model", "resnet8", "--images", "70", "--batch", "32", "--rounds", "1", "--workers", "0", "1"]
    assert main([*options, "--recipe", recipe, "--json", str(file)]) == 0
    result = json.loads(file.read_text())
    assert [row["pipeline"] for row in result["images_per_second"]] == [
        "ours, on the device",
        "DataLoader, 0 workers",
        "DataLoader, 1 workers",
    ]
    assert all(row[loop] > 0 for row in result["images_per_second"] for loop in LOOPS)
    ours, theirs = (row[LOOPS[0]] for row in result["images_per_second"][:2])
    assert result["times_faster"]["DataLoader, 0 workers"]["batches"] == pytest.approx(ours / theirs, rel=0.01)
    assert result["machine"]["threads"] == 1
    assert result["seeds"] == [0]
    assert "times as fast" in capsys.readouterr().out


def test_the_rivals_batches_are_ours_where_nothing_is_random() -> None:
    data = pictures(8, 32, Augmentation(), seed=0)
    transform = usual_transform(data)
    theirs = torch.stack([Pictures(data, transform)[index][0] for index in range(8)])
    torch.testing.assert_close(theirs, data.normalize(data.train_images), rtol=1e-5, atol=1e-5)


def test_the_rival_does_what_the_recipe_says() -> None:
    recipe = Augmentation(flip=True, rotation=15, padding=3)
    data = replace(pictures(2, 64, recipe, seed=0))
    names = [type(part).__name__ for part in usual_transform(data).transforms]  # type: ignore[attr-defined]
    assert names == ["RandomHorizontalFlip", "RandomRotation", "RandomCrop", "ToTensor", "Normalize"]
    assert usual_transform(data)(Image.new("RGB", (64, 64))).shape == (3, 64, 64)

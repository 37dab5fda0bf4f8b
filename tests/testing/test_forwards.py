"""Random forward functions: exact or frozen, and nothing else changed. The long run is `benchmarks.fuzz --forwards`."""

from __future__ import annotations

import random

import pytest

from prunetune.testing.fuzzer.forwards import FAMILIES, LAYER, OUTPUTS, check, draw, program

KINDS = {name: kind for family in FAMILIES for name, kind in family.items()}


@pytest.mark.parametrize("seed", range(60))
def test_random_forward_functions(seed: int) -> None:
    drawn = draw(random.Random(seed))
    try:
        check(drawn, seed)
    except Exception as error:
        error.add_note(drawn.source)
        raise


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_between_two_layers(name: str) -> None:
    for seed in range(3):
        steps = [("layer", LAYER), ("relu", KINDS["relu"]), (name, KINDS[name]), ("layer", LAYER), ("layer", LAYER)]
        found = check(program(random.Random(seed), steps), seed)
        assert not found.discarded
        assert found.cut or found.frozen


@pytest.mark.parametrize("output", OUTPUTS)
def test_each_output(output: str) -> None:
    for seed in range(3):
        found = check(program(random.Random(seed), [("layer", LAYER), ("layer", LAYER)], output), seed)
        assert not found.discarded
        assert found.cut or "carry no gradient" in found.frozen


@pytest.mark.parametrize("seed", [20159])
def test_programs_that_failed_once(seed: int) -> None:
    """A parameter made of an array that left torch (20159)."""
    check(draw(random.Random(seed)), seed)

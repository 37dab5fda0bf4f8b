"""Search spaces: what is refused and in which words, the paper's ranges, and trips through JSON and Optuna."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from prunetune.backends import Categorical, Distribution, Float, Int, SearchSpace, resolve_space, spaces
from prunetune.errors import InputError

pytestmark = pytest.mark.filterwarnings("error")


def test_paper_space_has_the_ranges_of_table_2() -> None:
    assert dict(spaces["paper"]) == {
        "learning_rate": Float(0.00001, 0.2, log=True),
        "weight_decay": Float(0.00001, 0.02, log=True),
        "batch_size": Int(32, 1024, log=True),
    }


def test_paper_extra_adds_two_linear_dimensions() -> None:
    extra = dict(spaces["paper-extra"])
    assert {name: extra.pop(name) for name in ("lr_decay", "momentum")} == {
        "lr_decay": Float(0.1, 1.0),
        "momentum": Float(0.1, 0.99),
    }
    assert extra == dict(spaces["paper"])


@pytest.mark.parametrize("name", spaces.names())
def test_named_spaces_survive_json(name: str) -> None:
    space = spaces[name]
    assert SearchSpace.from_json(space.to_json()) == space
    assert list(SearchSpace.from_dict(json.loads(space.to_json()))) == list(space)


def test_every_kind_of_distribution_survives_json() -> None:
    space = SearchSpace(
        {"a": Float(0, 1), "b": Int(1, 9, log=True), "c": Categorical([None, True, 2, 0.5, "x"])},
    )
    assert SearchSpace.from_json(space.to_json()) == space
    assert space.to_dict()["c"] == {"type": "categorical", "choices": [None, True, 2, 0.5, "x"]}


def test_to_optuna_keeps_limits_scale_and_order() -> None:
    space = SearchSpace({"b": Int(1, 9, log=True), "a": Float(0, 1), "c": Categorical(["x", "y"])})
    assert list(space.to_optuna().items()) == [
        ("b", IntDistribution(1, 9, log=True)),
        ("a", FloatDistribution(0.0, 1.0)),
        ("c", CategoricalDistribution(("x", "y"))),
    ]


def test_numpy_numbers_become_plain_ones() -> None:
    space = SearchSpace({"a": Float(np.float32(0.5), np.int64(1)), "b": Int(np.int64(1), np.int8(3))})  # type: ignore[arg-type]
    assert [type(v) for v in (space["a"].low, space["a"].high, space["b"].low)] == [float, float, int]  # type: ignore[union-attr]
    choice = Categorical([np.int64(3), np.bool_(True).item() and "yes"])  # type: ignore[list-item]
    assert [type(v) for v in choice.choices] == [int, str]
    plain = space.plain({"b": np.int64(2), "a": np.float64(0.75)})
    assert plain == {"a": 0.75, "b": 2}
    assert list(plain) == ["a", "b"]
    assert [type(v) for v in plain.values()] == [float, int]
    json.dumps(space.to_dict())


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Float(0.2, 1e-5), "Float(low=0.2, high=1e-05, log=False): low must be below high"),
        (lambda: Float(1.0, 1.0), "Float(low=1.0, high=1.0, log=False): low must be below high"),
        (lambda: Float(0.0, 1.0, log=True), "Float(low=0.0, high=1.0, log=True): a log range must begin above 0"),
        (lambda: Float(-1.0, 1.0, log=True), "a log range must begin above 0"),
        (lambda: Float(math.nan, 1.0), "low must be a finite number"),
        (lambda: Float(0.0, math.inf), "high must be a finite number"),
        (lambda: Float("0", 1.0), "Float(low='0', high=1.0, log=False): low must be a finite number"),  # type: ignore[arg-type]
        (lambda: Float(False, 1.0), "low must be a finite number"),
        (lambda: Float(0.1, 1.0, log="yes"), "log must be True or False"),  # type: ignore[arg-type]
        (lambda: Int(5, 2), "Int(low=5, high=2, log=False): low must be below high"),
        (lambda: Int(0, 2, log=True), "a log range must begin above 0"),
        (lambda: Int(1.5, 2), "Int(low=1.5, high=2, log=False): low must be a whole number"),  # type: ignore[arg-type]
        (lambda: Categorical([]), "give at least one choice"),
        (lambda: Categorical("sgd"), "choices must be a list or tuple"),
        (lambda: Categorical(["a", "a"]), "'a' is there twice"),
        (lambda: Categorical([1, True]), "True is there twice"),
        (lambda: Categorical([math.nan]), "numbers must be finite"),
        (lambda: Categorical([(1, 2)]), "(1, 2) cannot be a choice"),  # type: ignore[list-item]
        (lambda: SearchSpace({}), "the search space is empty"),
        (lambda: SearchSpace({"lr": (1e-5, 0.2)}), "lr: (1e-05, 0.2) is no distribution; use Float(low, high)"),  # type: ignore[dict-item]
        (lambda: SearchSpace({"": Int(1, 2)}), "'' cannot be the name of a hyperparameter"),
        (lambda: SearchSpace([Int(1, 2)]), "is no mapping"),  # type: ignore[arg-type]
        (lambda: resolve_space("papr"), "unknown search space 'papr' (did you mean 'paper'?)"),
        (lambda: SearchSpace.from_json("{"), "is not JSON"),
        (lambda: SearchSpace.from_json("[]"), "is no mapping"),
    ],
)
def test_what_is_impossible_is_one_clear_sentence(make: object, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        make()  # type: ignore[operator]
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("description", "sentence"),
    [
        ({"type": "flaot", "low": 0, "high": 1}, "lr: unknown distribution 'flaot' (did you mean 'float'?)"),
        ({"type": "float", "low": 1, "high": 0}, "lr: Float(low=1.0, high=0.0, log=False): low must be below high"),
        ({"type": "float", "low": 1}, "lr: high is missing"),
        ({"type": "int", "low": 1, "hihg": 2, "high": 2}, "lr: unknown key 'hihg' (did you mean 'high'?)"),
        ({"low": 1, "high": 2}, "lr: {'low': 1, 'high': 2} is no distribution; give type (float, int, categorical)"),
        (3, "lr: 3 is no distribution"),
    ],
)
def test_a_bad_description_is_blamed_on_its_key(description: object, sentence: str) -> None:
    with pytest.raises(InputError) as caught:
        SearchSpace.from_dict({"lr": description})  # type: ignore[dict-item]
    assert sentence in str(caught.value)


def test_a_space_is_a_frozen_mapping() -> None:
    given: dict[str, Distribution] = {"a": Int(1, 2)}
    space = resolve_space(given)
    given["b"] = Int(1, 2)
    assert list(space) == ["a"]
    assert space == resolve_space(space)
    with pytest.raises(TypeError):
        space["b"] = Int(1, 2)  # type: ignore[index]
    with pytest.raises(AttributeError):
        space["a"].low = 0  # type: ignore[misc,union-attr]

"""Numbers worked out by hand, and what the method is there for."""

import optuna
import pytest
import torch
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from prunetune_example.halton import from_unit
from scipy.stats import qmc
from torch import nn

import prunetune
from prunetune.backends.samplers.seeded import sampler


def test_apoz_by_hand():
    net = nn.Sequential(nn.Linear(1, 3, bias=False), nn.ReLU(), nn.Linear(3, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0], [-1.0], [0.0]]))
    # Of the inputs -2, 1, 3 and 4 the first unit is positive for three, the second for one, the third for none.
    inputs = torch.tensor([[-2.0], [1.0], [3.0], [4.0]])
    data = [(inputs[:3], torch.zeros(3)), (inputs[3:], torch.zeros(1))]
    result = prunetune.prune(net, inputs, scorer="apoz", data=data, ratio=0.67)
    assert result.scores[1:].tolist() == [0.75, 0.25, 0.0]
    assert result.plan.tensors["0.weight"].keep == {0: (0, 1)}


def test_a_network_without_relu_is_refused():
    net = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 2))
    with pytest.raises(prunetune.errors.InputError, match="apoz judges no channel of Sequential; take another scorer"):
        prunetune.prune(net, torch.ones(1, 2), scorer="apoz", data=[(torch.ones(1, 2), torch.zeros(1))])


@pytest.mark.parametrize(
    ("distribution", "values"),  # at 0, 0.25, 0.5 and just below 1
    [
        (FloatDistribution(-1, 1), [-1.0, -0.5, 0.0, 1.0]),
        (FloatDistribution(1e-4, 1, log=True), [1e-4, 1e-3, 1e-2, 1.0]),
        (FloatDistribution(0, 1, step=0.25), [0.0, 0.25, 0.5, 1.0]),  # five values: 0.25 * 5 = 1.25, 0.5 * 5 = 2.5
        (IntDistribution(1, 4), [1, 2, 3, 4]),
        (IntDistribution(1, 8, log=True), [1, 1, 2, 8]),  # 0.5 to 8.5: 0.5 * 17 ** 0.25 = 1.02, 0.5 * 17 ** 0.5 = 2.06
        (CategoricalDistribution(["a", "b", "c", "d"]), ["a", "b", "c", "d"]),
    ],
)
def test_values_by_hand(distribution, values):
    given = [from_unit(u, distribution) for u in (0.0, 0.25, 0.5, 1 - 1e-12)]
    assert given == pytest.approx(values) if isinstance(values[0], float) else given == values
    assert [type(value) for value in given] == [type(value) for value in values]


def test_halton_fills_the_space_more_evenly_than_random_points_do():
    ranges = {"a": FloatDistribution(0, 1), "b": FloatDistribution(0, 1)}

    def unevenness(name):
        study = optuna.create_study(sampler=sampler(name, seed=0))
        points = [list(study.ask(ranges).params.values()) for _ in range(64)]
        return qmc.discrepancy(points)

    assert unevenness("halton") < 0.3 * unevenness("random")

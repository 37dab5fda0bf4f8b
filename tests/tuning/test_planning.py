"""``prunetune.plan`` and ``prunetune plan``: the ladder and its price before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import prunetune.engine
from prunetune import Ladder, Pruning, Rung, Search, plan
from prunetune.cli import app
from prunetune.errors import InputError
from prunetune.plugins.base import ChannelScores, Context
from prunetune.plugins.magnitude import Magnitude

INPUTS = torch.zeros(4, 6)
TIMES = {"1.0": 1.0, "0.5": 0.5, "0.25": 1 / 7, "0.125": 1 / 7}


@pytest.fixture(autouse=True)
def times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        prunetune.engine, "step_time", lambda models, inputs, **_: {name: TIMES[name] for name in models}
    )


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))


def test_the_default_is_the_ladder_of_the_decision() -> None:
    made = plan(net, example_inputs=INPUTS, epochs=9)
    assert made.ladder.entrants == (64, 16, 4, 1)
    assert [(rung.width, rung.of_epochs(9)) for rung in made.ladder.rungs] == [(0.25, 1), (0.25, 3), (0.25, 9), (1, 9)]
    assert made.total == pytest.approx(64 / 63 + 16 / 21 + 4 / 7 + 1)  # by hand: a quarter costs a seventh


def test_time_is_that_of_so_many_steps() -> None:
    """A step takes 1 s, so a training of 9 epochs of 10 steps 90 s: 180 s are two."""
    made = plan(net, example_inputs=INPUTS, epochs=9, budget="3m", steps_per_epoch=10)
    same = plan(net, example_inputs=INPUTS, epochs=9, budget=2, steps_per_epoch=10)
    assert made == same and 1 < made.total <= 2
    with pytest.raises(InputError, match="how long a full training takes is not known"):
        plan(net, example_inputs=INPUTS, epochs=9, budget="3m")


def test_where_trainings_take_seconds_the_rest_of_a_trial_counts() -> None:
    """A full training takes 9 x 1 steps of 1 s, a trial .08 s besides its training."""
    made = plan(net, example_inputs=INPUTS, epochs=9, steps_per_epoch=1, budget=10)
    assert made.prices == pytest.approx((1 / 7 + 0.08 / 9, 1))


def test_two_rungs_are_the_ladder_that_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TIMES, "None", 0.1)
    search = Search(n_trials=20, confirm=2)
    made = plan(net, example_inputs=INPUTS, epochs=4, search=search)
    assert made.ladder == Ladder(Rung(None, trials=20, keep=2), Rung())
    assert made.total == pytest.approx(20 * 0.1 + 2)
    small = plan(net, example_inputs=INPUTS, epochs=4, pruning=Pruning(ratio=0.5), search=Search(n_trials=20))
    assert small.ladder == Ladder(Rung(None, trials=20, keep=1), Rung())  # whoever sizes the proxy searches on it


def test_all_widths_are_cut_by_one_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    scored = []
    channel_scores = Magnitude.channel_scores

    def counted(self: Magnitude, context: Context) -> ChannelScores:
        scored.append(context.graph)
        return channel_scores(self, context)

    monkeypatch.setattr(Magnitude, "channel_scores", counted)
    plan(net, example_inputs=INPUTS, epochs=9, pruning=prunetune.Pruning(scorer="magnitude"))
    assert len(scored) == 1


def test_the_command_trains_nothing(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    config.write_text(
        '[model]\nname = "resnet8"\n[data]\nname = "digits"\n[search]\nepochs = 9\n'
        f'[run]\nfolder = "{tmp_path / "run"}"\ndevice = "cpu"\n'
    )
    shown = CliRunner().invoke(app, ["plan", str(config), "--json", "--budget", "2"])
    assert shown.exit_code == 0, shown.output
    record = json.loads(shown.stdout)
    assert record["entrants"][-1] == 1 and record["total"] <= 2
    table = CliRunner().invoke(app, ["plan", str(config)]).stdout
    assert "the full network" in table and "full trainings of the full network" in table
    assert not (tmp_path / "run").exists()

"""What first-time users get wrong, by every way in: the message names the cause."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from torch import nn
from torch.nn.utils import prune as torch_prune
from typer.testing import CliRunner

import prunetune
from prunetune.backends import Float
from prunetune.backends.study.notes import direction_warning
from prunetune.backends.study.trial import Report
from prunetune.cli.app import app
from prunetune.errors import InputError, SearchError
from prunetune.events import Event, Warned
from prunetune.ladder.rung import Ladder, Rung
from prunetune.tuning.problem import build_base
from prunetune.tuning.tuner import Search, TuneResult, tune
from tiny_tune import HALF, INPUTS, make_quick, net, read_record

TARGETS = torch.tensor([0, 1])
SPACE = {"lr": Float(1e-3, 1.0, log=True)}
SEARCH = Search(direction="maximize", n_trials=2, confirm=1, optimizer="random", trial_pruner="none")
ONE_BATCH = torch.randn(2, 6)


def with_norm() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 2))


def step(model: nn.Module, lr: float) -> float:
    sgd = torch.optim.SGD(model.parameters(), lr=lr)
    loss = nn.functional.cross_entropy(model(ONE_BATCH), TARGETS)
    sgd.zero_grad()
    loss.backward()
    sgd.step()
    return loss.item()


def train(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    for epoch in range(1, report.epochs + 1):
        report(-step(model, params["lr"]), epoch)
    return -step(model, params["lr"])


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    make_quick(monkeypatch)


def by_tune(folder: Path, model_fn: Any = net, train: Any = train, **options: Any) -> TuneResult:
    settings = {"example_inputs": INPUTS, "epochs": 2, "run_dir": folder, "pruning": HALF, "search": SEARCH, **options}
    return tune(model_fn, train, SPACE, **settings)


def by_objective(train: Any, model_fn: Any = net) -> None:
    pruning = replace(HALF, transfer="identity")
    objective = prunetune.proxy_objective(
        model_fn, train, SPACE, example_inputs=INPUTS, epochs=2, pruning=pruning, direction="maximize"
    )
    objective.loss({"lr": 0.1})


def lazy() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.LazyLinear(2))


def masked() -> nn.Module:
    model = net()
    torch_prune.l1_unstructured(model[2], "weight", amount=0.5)
    return model


def data_parallel() -> nn.Module:
    return nn.DataParallel(net())


# The network


@pytest.mark.parametrize(
    ("model_fn", "message"),
    [
        (
            data_parallel,
            r"wrapped in DataParallel; give the network inside, model.module, and wrap the model in the train function",
        ),
        (lazy, r"the network's '2' is a LazyLinear that has not seen an input, .*; run the network on one batch"),
        (lambda: torch.jit.trace(net(), INPUTS), r"is TorchScript \(TopLevelTracedModule\).*give the nn.Module it"),
    ],
    ids=["DataParallel", "lazy", "TorchScript"],
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.trace")
def test_networks_that_nobody_can_cut(model_fn: Callable[[], nn.Module], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        prunetune.prune(model_fn(), INPUTS)
    with pytest.raises(InputError, match=message):
        prunetune.proxy_of(model_fn, INPUTS)
    with pytest.raises(InputError, match=message):
        by_tune(tmp_path, model_fn)


def test_a_lazy_network_by_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lazy_net.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    done = CliRunner().invoke(app, ["prune", "lazy_net:make", "--input", "2,6"])
    assert done.exit_code == 2
    assert "LazyLinear that has not seen an input" in done.stderr


def test_lazy_networks_that_have_seen_a_batch_are_like_any_other() -> None:
    model = lazy()
    model(INPUTS)
    assert prunetune.prune(model, INPUTS, scorer="magnitude", ratio=0.5).model[2].in_features == 8


@pytest.mark.parametrize(
    ("model_fn", "message"),
    [
        (
            lambda: torch.compile(net(), backend="eager"),
            r"compiled network \(torch.compile\).*compile the model in the train",
        ),
        (lambda: net().to("meta"), r"a Sequential on the meta device, which has shapes and no values; build it on"),
        (masked, r"pruned already, by torch.nn.utils.prune \(2.weight_mask\).*prune.remove\(model.2, 'weight'\)"),
    ],
    ids=["compiled", "meta", "masked"],
)
def test_networks_that_cannot_begin_every_trial(
    model_fn: Callable[[], nn.Module], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        by_tune(tmp_path, model_fn)
    with pytest.raises(InputError, match=message):
        prunetune.proxy_of(model_fn, INPUTS, HALF)


def test_masks_that_were_made_final_are_no_obstacle(tmp_path: Path) -> None:
    def model_fn() -> nn.Module:
        model = masked()
        torch_prune.remove(model[2], "weight")
        return model

    assert by_tune(tmp_path, model_fn).record["status"] == "finished"


def test_proxies_are_not_cut_again(tmp_path: Path) -> None:
    proxies = prunetune.proxy_of(net, INPUTS, HALF)
    with pytest.raises(InputError, match=r"builds proxies already \(prunetune.proxy_of\).*builds that one"):
        by_tune(tmp_path, proxies)


def test_a_function_that_wants_arguments(tmp_path: Path) -> None:
    def my_net(classes: int) -> nn.Module:
        return nn.Linear(6, classes)

    message = r"called without arguments, but my_net needs some \(missing a required argument: 'classes'\): write"
    with pytest.raises(InputError, match=message):
        by_tune(tmp_path, my_net)
    with pytest.raises(InputError, match=message):
        prunetune.proxy_of(my_net, INPUTS)


# The inputs


def test_inputs_without_values() -> None:
    with pytest.raises(InputError, match=r"the example inputs are on the meta device.*synflow needs them"):
        prunetune.prune(net(), INPUTS.to("meta"))
    with pytest.raises(InputError, match=r"Sequential is on the meta device.*synflow needs them"):
        prunetune.prune(net().to("meta"), INPUTS)


def test_inputs_of_other_kinds() -> None:
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(ONE_BATCH, TARGETS))
    with pytest.raises(InputError, match=r"a DataLoader yields many, with targets; give next\(iter\(loader\)\)\[0\]"):
        prunetune.prune(net(), loader)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"got a numpy array: write torch.from_numpy\(array\)"):
        prunetune.prune(net(), ONE_BATCH.numpy())  # type: ignore[arg-type]


def test_batches_on_another_device(tmp_path: Path) -> None:
    """As far as one device allows: what torch says of two, and the hint that follows it."""

    def two_devices(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        raise RuntimeError("Expected all tensors to be on the same device, but found at least two devices")

    hint = r"same device, .*; the model is on cpu; move each batch there: batch.to\(next\(model.parameters"
    with pytest.raises(SearchError, match=hint):
        by_tune(tmp_path, train=two_devices)


# The train function


def ignores(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    return train(net(), params, report)


def trains_on_nothing(model: nn.Module, params: dict[str, Any], report: Report) -> float:
    dataset = torch.utils.data.TensorDataset(ONE_BATCH, TARGETS)
    for _ in torch.utils.data.DataLoader(dataset, batch_size=64, drop_last=True):
        step(model, params["lr"])
    return 0.5


@pytest.mark.parametrize("mistaken", [ignores, trains_on_nothing])
def test_a_model_that_nobody_trains(mistaken: Any, tmp_path: Path) -> None:
    said: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Warned) and "has not read" not in event.message:
            said.append(event.message)

    by_tune(tmp_path, train=mistaken, observer=listen)
    assert len(said) == 2  # of the search and of the full network, once each
    assert all("left the model that it was given as it was: train that very model" in each for each in said)
    assert all("another one" in each and "drop_last" in each for each in said)
    with pytest.warns(UserWarning, match="left the model that it was given as it was: train that very model"):
        by_objective(mistaken)


def test_a_learning_rate_too_small_to_change_a_bit_is_no_mistake(tmp_path: Path) -> None:
    def tiny(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        return step(model, 1e-30)

    assert by_tune(tmp_path, train=tiny).record["status"] == "finished"


def test_trained_parts_of_a_frozen_network_are_enough(tmp_path: Path) -> None:
    def head_only(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        with torch.no_grad():
            model[4].bias.add_(1.0)
        return 0.5

    assert by_tune(tmp_path, train=head_only).record["status"] == "finished"


def test_a_train_function_of_other_arguments(tmp_path: Path) -> None:
    def two(model: nn.Module, params: dict[str, Any]) -> float:
        return 0.5

    message = r"train is called as train\(model, params, report\), which two cannot be: too many positional arguments"
    with pytest.raises(InputError, match=message):
        by_tune(tmp_path, train=two)
    with pytest.raises(InputError, match=message):
        by_objective(two)
    with pytest.raises(InputError, match=message):
        prunetune.work(net, two, f"journal:///{tmp_path}/study")


def test_a_hyperparameter_that_is_not_searched(tmp_path: Path) -> None:
    def other(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        return params["learning_rate"]

    with pytest.raises(SearchError, match=r"KeyError: 'learning_rate'; params holds what is in the search space: lr"):
        by_tune(tmp_path, train=other)


def test_a_batch_norm_that_is_trained_in_evaluation_mode(tmp_path: Path) -> None:
    def model_fn() -> nn.Module:
        return with_norm().eval()

    said: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Warned) and "has not read" not in event.message:
            said.append(event.message)

    by_tune(tmp_path / "listened", model_fn, observer=listen)
    assert len(said) == 2  # of the search and of the full network, once each
    assert all("batch norms of the model saw no batch in training mode" in each for each in said)
    with pytest.warns(UserWarning, match=r"saw no batch in training mode, though it was trained: call model.train\(\)"):
        by_objective(train, model_fn)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_tune(tmp_path / "right", with_norm)


def test_a_loss_that_is_maximised(tmp_path: Path) -> None:
    def loss(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        now = 0.0
        for epoch in range(1, report.epochs + 1):
            now = step(model, params["lr"] / 10)
            report(now, epoch)
        return now

    many = Search(direction="maximize", n_trials=7, confirm=1, optimizer="random", trial_pruner="none")
    with pytest.warns(UserWarning, match=r"in 6 of 6 trials the scores fall .*returns a loss, .*direction='minimize'"):
        by_tune(tmp_path, train=loss, search=many, observer=prunetune.silent)
    notes = " ".join(read_record(tmp_path)["search"]["notes"])
    assert "in 7 of 7 trials the scores fall from the first report to the last" in notes


def study_of(direction: str, curves: list[list[float]]) -> optuna.Study:
    study = optuna.create_study(direction=direction)
    for curve in curves:
        steps = dict(enumerate(curve, start=1))
        study.add_trial(optuna.trial.create_trial(value=curve[-1], intermediate_values=steps))
    return study


def test_only_what_most_trials_do_says_that_the_direction_is_wrong() -> None:
    falls, rises, short = [0.9, 0.5], [0.1, 0.7], [0.3]
    assert "6 of 6" in direction_warning(study_of("maximize", [falls] * 6 + [short] * 5))
    assert "returns an accuracy, search with direction='maximize'" in direction_warning(
        study_of("minimize", [rises] * 6)
    )
    assert direction_warning(study_of("maximize", [falls] * 5 + [short] * 5)) == ""
    assert direction_warning(study_of("maximize", [falls] * 6 + [rises])) == ""  # 6 of 7 is under nine in ten
    assert direction_warning(study_of("minimize", [falls] * 20)) == ""
    assert direction_warning(study_of("maximize", [[0.9, float("-inf")]] * 6)) == ""


# The space and the batch size


def test_a_log_range_from_zero(tmp_path: Path) -> None:
    message = (
        "a log range must begin above 0, which has no logarithm; give the smallest value worth trying, such as 1e-6"
    )
    with pytest.raises(InputError, match=message):
        prunetune.Float(0, 0.1, log=True)
    config = tmp_path / "run.toml"
    text = '[model]\nname = "resnet20"\n[data]\nname = "digits"\n[run]\nfolder = "run"\n[search]\nepochs = 1\n'
    config.write_text(f"{text}[search.space.learning_rate]\nlow = 0.0\nhigh = 0.1\nlog = true\n")
    done = CliRunner().invoke(app, ["run", str(config)])
    assert done.exit_code == 2
    assert "learning_rate has log = true and low = 0, but a logarithmic range must begin above 0" in done.stderr


def test_batches_larger_than_the_dataset(tmp_path: Path) -> None:
    config = tmp_path / "run.toml"
    text = '[model]\nname = "resnet20"\n[data]\nname = "digits"\n[run]\nfolder = "run"\n[search]\nepochs = 1\n'
    config.write_text(f"{text}[search.space.batch_size]\nlow = 64\nhigh = 100000\n")
    done = CliRunner().invoke(app, ["run", str(config)])
    assert done.exit_code == 2
    assert re.search(r"search.space.batch_size: batch_size 100000 is impossible: digits has \d+ training", done.stderr)


# Pretrained networks


def pretrained() -> nn.Module:
    """The same weights at each call, as from a checkpoint, but for a new head."""
    state = torch.random.get_rng_state()
    torch.manual_seed(3)
    body = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 16), nn.ReLU())
    torch.random.set_rng_state(state)
    return body.append(nn.Linear(16, 2))


def warned(events: list[Event]) -> list[str]:
    return [event.message for event in events if isinstance(event, Warned)]


def test_other_weights_than_those_of_a_pretrained_network_are_told_before_the_search(tmp_path: Path) -> None:
    events: list[Event] = []
    redrawn = replace(HALF, weights="redraw")
    record = by_tune(tmp_path / "run", pretrained, observer=events.append, pruning=redrawn).record
    assert isinstance(events[0], Warned)
    (said,) = [each for each in warned(events) if "pretrained" in each]
    assert "they find what is right for training from scratch" in said
    assert said in record["search"]["notes"]
    events.clear()
    by_check = {"example_inputs": INPUTS, "epochs": 2, "pruning": redrawn, "search": SEARCH, "configurations": 4}
    prunetune.check(pretrained, train, SPACE, run_dir=tmp_path / "check", observer=events.append, **by_check)
    assert sum("pretrained" in each for each in warned(events)) == 1


@pytest.mark.parametrize(
    "asked",
    [
        {"ladder": Ladder(Rung(epochs=0.5, trials=2, keep=1), Rung())},
        {
            "ladder": Ladder(Rung(None, epochs=0.5, trials=2, keep=1), Rung()),
            "pruning": prunetune.Pruning(ratio=1.0, weights="sliced"),
        },
    ],
)
def test_what_it_names_is_possible_and_says_no_more(asked: dict[str, Any], tmp_path: Path) -> None:
    """The full network with its weights, in fewer epochs: as a rung, or as a proxy from which nothing is cut."""
    seen: list[bool] = []

    def tuned(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        seen.append(torch.equal(model[2].weight, pretrained()[2].weight))  # type: ignore[index]
        return train(model, params, report)

    events: list[Event] = []
    search = Search(direction="maximize", optimizer="random", trial_pruner="none")
    options = {"pruning": prunetune.Pruning(), "search": search, "epochs": 4, "observer": events.append, **asked}
    record = by_tune(tmp_path, pretrained, tuned, **options).record
    assert not any("pretrained" in each for each in warned(events))
    assert record["search"]["epochs"] == 2 * 2
    assert record["cost"]["proxy"]["parameters"] == record["cost"]["base"]["parameters"]
    assert all(seen)


def constant() -> nn.Module:
    model = net()
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.5)
    return model


@pytest.mark.parametrize("model_fn", [net, with_norm, constant, lambda: pretrained()[4:].append(nn.Linear(2, 64))])
def test_networks_that_are_drawn_at_each_call_or_constant_are_not_pretrained(model_fn: Any) -> None:
    assert not build_base(model_fn, 0)[1]


def test_a_checkpoint_that_is_loaded_in_the_train_function(tmp_path: Path) -> None:
    def loads(model: nn.Module, params: dict[str, Any], report: Report) -> float:
        model.load_state_dict(net().state_dict())
        return train(model, params, report)

    hint = "size mismatch for .*gets the proxy, which is narrower: load a checkpoint by prunetune.load_cut"
    with pytest.raises(SearchError, match=f"(?s){hint}"):
        by_tune(tmp_path, train=loads)

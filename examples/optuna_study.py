"""An Optuna study of one's own, on the proxy: `python examples/optuna_study.py`. Two lines are prunetune's."""

from __future__ import annotations

import optuna
import torch
import torch.nn.functional as F
from train_digits import IMAGES, LABELS, build

import prunetune

build_proxy = prunetune.proxy_of(build, IMAGES[:64], prunetune.Pruning(optimizers="sgd"))  # the first line


def objective(trial: optuna.Trial) -> float:
    torch.manual_seed(trial.number)
    model = build_proxy()  # the second line: it was build()
    sgd = torch.optim.SGD(
        model.parameters(), lr=trial.suggest_float("learning_rate", 1e-3, 1.0, log=True), momentum=0.9
    )
    accuracy = 0.0
    for epoch in range(1, 4):
        for batch in torch.arange(1400).split(trial.suggest_categorical("batch_size", [64, 128])):
            sgd.zero_grad()
            torch.autograd.backward(F.cross_entropy(model(IMAGES[batch]), LABELS[batch]))
            sgd.step()
        accuracy = (model(IMAGES[1400:]).argmax(1) == LABELS[1400:]).double().mean().item()
        trial.report(accuracy, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned
    return accuracy


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.optimize(objective, n_trials=8)
    print(f"best on the proxy: {study.best_params}, accuracy {study.best_value:.3f}")

"""What the examples share: a network, its training, and what is searched."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

import prunetune

DIGITS = load_digits()
IMAGES = torch.from_numpy(DIGITS.images).float().unsqueeze(1) / 16
LABELS = torch.from_numpy(DIGITS.target)
SPACE = prunetune.SearchSpace(
    {
        "learning_rate": prunetune.Float(1e-3, 1.0, log=True),
        "momentum": prunetune.Float(0.0, 0.95),
        "batch_size": prunetune.Categorical([64, 128]),
    }
)


def build() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1024, 10)
    )


def train(model, params, report) -> float:
    sgd = torch.optim.SGD(report.param_groups(model, lr=params["learning_rate"]), momentum=params["momentum"])
    accuracy = 0.0
    for epoch in range(1, report.epochs + 1):
        for batch in torch.arange(1400).split(params["batch_size"]):
            sgd.zero_grad()
            torch.autograd.backward(F.cross_entropy(model(IMAGES[batch]), LABELS[batch]))
            sgd.step()
        accuracy = (model(IMAGES[1400:]).argmax(1) == LABELS[1400:]).double().mean().item()
        report(accuracy, epoch)
    return accuracy

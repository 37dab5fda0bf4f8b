"""prunetune with a network and a training loop of one's own, on scikit-learn's digits; ends in less than a minute.

Run it again and it says what it found at once; stop it in the middle and it goes on where it was.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

import prunetune

PIXELS, DIGITS = load_digits(return_X_y=True)
IMAGES = torch.tensor(PIXELS, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
LABELS = torch.tensor(DIGITS)
TRAIN, VAL = slice(0, 1200), slice(1200, None)


class MyNet(nn.Module):
    """Any network will do; this one has three convolutions, a residual connection and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.third = nn.Sequential(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.classifier = nn.Linear(64, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.first(images)
        features = F.max_pool2d(features + self.second(features), 2)
        logits: torch.Tensor = self.classifier(self.third(features).mean((2, 3)))
        return logits


def train(model: nn.Module, params: dict[str, Any], report: prunetune.Report) -> float:
    """The usual loop: it trains the model it is given, and reports its accuracy after every epoch."""
    groups = report.param_groups(model, lr=params["learning_rate"], weight_decay=params["weight_decay"])
    sgd = torch.optim.SGD(groups, momentum=0.9)  # on the full network they are model.parameters()
    images, labels = IMAGES[TRAIN], LABELS[TRAIN]
    accuracy = 0.0
    for epoch in range(1, report.epochs + 1):
        model.train()
        for batch in torch.split(torch.randperm(len(labels)), params["batch_size"]):
            sgd.zero_grad()
            torch.autograd.backward(F.cross_entropy(model(images[batch]), labels[batch]))
            sgd.step()
        model.eval()
        with torch.no_grad():
            accuracy = (model(IMAGES[VAL]).argmax(1) == LABELS[VAL]).double().mean().item()
        report(accuracy, epoch)
    return accuracy


SPACE = prunetune.SearchSpace(
    {
        "learning_rate": prunetune.Float(1e-3, 1.0, log=True),
        "weight_decay": prunetune.Float(1e-6, 1e-2, log=True),
        "batch_size": prunetune.Categorical([32, 64, 128]),
    }
)


def main(run_dir: str = "runs/own-model") -> None:
    # These are the five lines.
    search = prunetune.Search(direction="maximize", n_trials=8)  # of an accuracy; "minimize" for a loss
    result = prunetune.tune(MyNet, train, SPACE, example_inputs=IMAGES[:64], epochs=3, search=search, run_dir=run_dir)
    print(f"best: {result.params}, accuracy {result.score:.3f}, report in {result.run_dir / 'report.html'}")
    model = MyNet()
    result.load_weights(model)


if __name__ == "__main__":
    main(*sys.argv[1:])

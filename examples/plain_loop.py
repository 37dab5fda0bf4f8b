"""A plain PyTorch loop, in which only what `report` does is new: `python examples/plain_loop.py [FOLDER]`."""

import sys

import torch
from train_digits import IMAGES, LABELS, build

import prunetune


def train(model, params, report):
    groups = report.param_groups(model, lr=params["learning_rate"])  # it was model.parameters()
    sgd = torch.optim.SGD(groups, momentum=params["momentum"])
    for epoch in range(1, report.epochs + 1):
        for batch in torch.arange(1400).split(64):
            sgd.zero_grad()
            torch.nn.functional.cross_entropy(model(IMAGES[batch]), LABELS[batch]).backward()
            sgd.step()
        accuracy = (model(IMAGES[1400:]).argmax(1) == LABELS[1400:]).double().mean().item()
        report(accuracy, epoch)
    return accuracy


space = {"learning_rate": prunetune.Float(1e-3, 1.0, log=True), "momentum": prunetune.Float(0.0, 0.95)}
search = prunetune.Search(direction="maximize", n_trials=10)
folder = sys.argv[1] if len(sys.argv) > 1 else "runs/plain"
result = prunetune.tune(build, train, space, example_inputs=IMAGES[:64], epochs=2, run_dir=folder, search=search)
print(f"best on the full network: {result.params}, accuracy {result.score:.3f}")

"""A timm model on images of one's own, one folder a class: `python examples/timm_own_images.py IMAGES [FOLDER]`.

`pip install 'prunetune[vision]' timm`.
"""

import sys

import timm
import timm.data
import timm.optim
import torch
from torch.utils.data import DataLoader, random_split
from torchvision.datasets import ImageFolder

import prunetune

SIZE, CPU = 32, torch.Generator().manual_seed(0)
IMAGES = ImageFolder(sys.argv[1], timm.data.create_transform((3, SIZE, SIZE)))
TRAIN, VAL = random_split(IMAGES, [0.8, 0.2], CPU)


def build():
    return timm.create_model("resnet10t", num_classes=len(IMAGES.classes))


def train(model, params, report):
    groups = report.param_groups(model, lr=params["learning_rate"], optimizer="adam")
    optimizer = timm.optim.create_optimizer_v2(groups, "adamw", lr=params["learning_rate"])
    for epoch in range(1, report.epochs + 1):
        model.train()
        for images, labels in DataLoader(TRAIN, batch_size=params["batch_size"], shuffle=True):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = sum((model(images).argmax(1) == labels).sum().item() for images, labels in DataLoader(VAL, 64))
        report(right / len(VAL), epoch)
    return right / len(VAL)


space = {"learning_rate": prunetune.Float(1e-4, 1e-1, log=True), "batch_size": prunetune.Categorical([16, 32])}
search = prunetune.Search(direction="maximize", n_trials=2)
folder = sys.argv[2] if len(sys.argv) > 2 else "runs/timm"
inputs = torch.stack([image for image, _ in list(TRAIN)[:16]])
result = prunetune.tune(build, train, space, example_inputs=inputs, epochs=1, run_dir=folder, search=search)
print(f"best on the full network: {result.params}, accuracy {result.score:.3f}")

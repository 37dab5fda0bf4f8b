"""torch-pruning's importances in prunetune, prunetune's scorers in torch-pruning's pruners.

`pip install 'prunetune[vision,torch-pruning]'`, then `python examples/torch_pruning_both_ways.py`.
"""

from __future__ import annotations

import torch
import torch_pruning
import torchvision

from prunetune import prune
from prunetune.interop.torch_pruning import FromTorchPruning, ToTorchPruning

images = torch.zeros(1, 3, 64, 64)

# Swin, which torch-pruning cannot trace, by one of its importances.
swin = torchvision.models.swin_t()
importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
result = prune(swin, images, scorer=FromTorchPruning(importance), ratio=0.5)
print(f"swin_t: {result.cost.base.flops:,} FLOPs, then {result.cost.proxy.flops:,}")

# ResNet-18 by torch-pruning, with SynFlow.
resnet = torchvision.models.resnet18()
pruner = torch_pruning.pruner.BasePruner(
    resnet,
    images,
    importance=ToTorchPruning("synflow", resnet, images),
    pruning_ratio=0.5,
    ignored_layers=[resnet.fc],
)
pruner.step()
print(f"resnet18: conv1 has {resnet.conv1.out_channels} of 64 channels")

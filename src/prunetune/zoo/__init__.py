"""Networks for small images, by name: the families of the paper and those that are hard to prune.

``models[name]`` is a builder ``(num_classes, in_channels) -> nn.Module``; the module takes images (B, C, H, W) and
returns logits (B, num_classes). All are laid out for 32 x 32 pixels and accept 16 x 16 as well. Another package adds
its own with ``models.register("name", builder)``.

``timm/NAME`` is timm's model of that name, see ``builder``; networks of transformers are in ``of_transformers``.

Needs torch and nothing else; a name is imported when it is first asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

from prunetune.registry import Registry
from prunetune.zoo import of_timm

if TYPE_CHECKING:
    from torch import nn

Builder: TypeAlias = "Callable[[int, int], nn.Module]"

models: Registry[Builder] = Registry("model")

models.register_lazy("vgg11-bn", "prunetune.zoo.vgg:vgg11_bn")
models.register_lazy("vgg16-bn", "prunetune.zoo.vgg:vgg16_bn")
models.register_lazy("vgg19-bn", "prunetune.zoo.vgg:vgg19_bn")
models.register_lazy("resnet8", "prunetune.zoo.resnet:resnet8")
models.register_lazy("resnet14", "prunetune.zoo.resnet:resnet14")
models.register_lazy("resnet20", "prunetune.zoo.resnet:resnet20")
models.register_lazy("resnet32", "prunetune.zoo.resnet:resnet32")
models.register_lazy("resnet56", "prunetune.zoo.resnet:resnet56")
models.register_lazy("resnet110", "prunetune.zoo.resnet:resnet110")
models.register_lazy("mobilenetv2", "prunetune.zoo.mobilenetv2:mobilenetv2")


def builder(name: str) -> Builder:
    """The builder of that name, of the registry or of timm. Raises InputError for an unknown one."""
    return partial(of_timm.build, name) if name.startswith(of_timm.PREFIX) else models[name]

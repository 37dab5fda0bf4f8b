"""The default rule: the maximal update parametrization, with other factors where a norm follows."""

from __future__ import annotations

import math
from typing import Final

from prunetune.transfer.base import Factors, Width
from prunetune.transfer.depth import depth_factor
from prunetune.transfer.kinds import OptimizerKind
from prunetune.transfer.mup import MUP


class NormAware:
    """As ``mup``, but for weights that stand before a norm, for norms, and for the readout's initial weights.

    What a norm follows has no scale, so that a step counts by the angle by which it turns the weight,
    ``lr * |gradient| / |weight|``. With He's initialisation filters have the same length at every width. Where a share
    ``r`` of the channels is left, the gradient of each is ``r ** -0.5`` times as large, if the readout begins with its
    usual weights, and that of a filter, which has ``r`` times the inputs, as large as before: it turns as far at every
    width by itself. ``mup`` begins with a larger readout, and filters turn ``r ** -0.5`` times as far. After a while
    only the product of learning rate and weight decay counts, which stays (van Laarhoven 2017, arXiv 1706.05350; Kosson
    et al. 2023, arXiv 2305.17212). With SGD:

    =========================================  ==============  ======
    ..                                         lr              init
    =========================================  ==============  ======
    before a norm, sees the network's input    1               1
    before a norm, depthwise                   ``sqrt(r)``     1
    before a norm, otherwise                   ``o / i``       1
    gains and biases of norms                  ``sqrt(r)``     1
    readout                                    ``1 / r``       1
    whatever else                              as ``mup``      as ``mup``
    =========================================  ==============  ======

    With Adam, whose steps do not depend on the gradient's size, rates are those of ``mup``; the readout's initial
    weights stay. Where residual blocks are gone, the factors of ``mup`` for depth come in, too.
    """

    name = "norm-aware"
    norms = True

    def scale(self, width: Width, optimizer: OptimizerKind) -> Factors:
        """The factors of the table; weight decay keeps its product with the learning rate."""
        lr = self._sgd(width) if optimizer == "sgd" else MUP.scale(width, optimizer).lr
        return Factors(lr, 1.0 / lr)

    def _sgd(self, width: Width) -> float:
        by_depth = depth_factor(width, "sgd")
        if width.kind == "vector" or (width.normed and width.kind == "depthwise"):
            return by_depth * math.sqrt(width.fan_out)
        if width.normed and width.fan_in == 1.0:
            return by_depth
        return by_depth * width.fan_out / width.fan_in


NORM_AWARE: Final = NormAware()

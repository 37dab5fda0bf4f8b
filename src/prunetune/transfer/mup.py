"""The maximal update parametrization: learning rates that stay right when the width changes."""

from __future__ import annotations

import math
from typing import Final

from prunetune.transfer.base import Factors, Width
from prunetune.transfer.depth import depth_factor
from prunetune.transfer.kinds import OptimizerKind


class Mup:
    """Learning rates and the readout's initial weights follow the width, so that the best learning rate does not.

    Yang & Hu et al. 2021, Tensor Programs V (arXiv 2203.03466), table 3, with the full network as the one that is left
    as it is. For a parameter with shares ``i`` of its fan-in and ``o`` of its fan-out left:

    =========  ==================  ====================  ==============
    ..         input, gain, bias   hidden                readout
    =========  ==================  ====================  ==============
    ``i, o``   ``1, r``            ``i, o``              ``r, 1``
    SGD        ``lr * r``          ``lr * o / i``        ``lr / r``
    Adam       ``lr``              ``lr / i``            ``lr / r``
    init       1                   1                     ``1 / sqrt(r)``
    =========  ==================  ====================  ==============

    which is ``lr * o / i`` for SGD and ``lr / i`` for Adam everywhere. Where a share ``d`` of the residual blocks is
    left, Adam's rates are times ``d ** -0.3`` besides, as best rates of language models are, and those of SGD times
    ``d ** -0.4``, as we found them on a ResNet (decision 41). The initial factor is relative to the usual
    initialisations, whose variance is one over the fan-in. Weight decay is divided by the factor of the learning rate:
    what shrinks a weight in a step is their product. With Adam that holds for decoupled weight decay, AdamW's.
    """

    name = "mup"

    def scale(self, width: Width, optimizer: OptimizerKind) -> Factors:
        """The factors of the table."""
        lr = depth_factor(width, optimizer) * (width.fan_out if optimizer == "sgd" else 1.0) / width.fan_in
        return Factors(lr, 1.0 / lr, 1.0 / math.sqrt(width.fan_in) if width.is_readout else 1.0)


MUP: Final = Mup()

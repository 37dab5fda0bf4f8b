"""Networks of timm for images, by their names, with new weights. Nothing is downloaded."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from prunetune._utils.extras import require
from prunetune.errors import InputError

if TYPE_CHECKING:
    from torch import nn

PREFIX: Final = "timm/"


def build(name: str, num_classes: int, in_channels: int) -> nn.Module:
    """The network ``timm/NAME`` for so many classes and channels. Raises InputError for a name that timm has not."""
    require("timm", "timm>=1.0.11", f"the model {name!r}")
    import timm  # seconds, and only for those who have it

    known = name.removeprefix(PREFIX)
    if not timm.is_model(known):
        near = difflib.get_close_matches(known, timm.list_models(), n=1)
        hint = f" (did you mean {PREFIX + near[0]!r}?)" if near else ""
        raise InputError(f"timm has no model {known!r}{hint}; timm.list_models() has its names")
    model: nn.Module = timm.create_model(known, num_classes=num_classes, in_chans=in_channels)
    return model

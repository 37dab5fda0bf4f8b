"""What the built-in trainings have in common: hyperparameters of which a search sets some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from prunetune.errors import unknown_name


@dataclass(frozen=True)
class Updatable:
    """A class of hyperparameters with defaults."""

    def updated(self, params: Mapping[str, Any]) -> Self:
        """A copy with the values in ``params``. Raises InputError for a name that is none of these."""
        names = [field.name for field in fields(self)]
        for name in params:
            if name not in names:
                raise unknown_name("hyperparameter", name, names)
        return replace(self, **params)

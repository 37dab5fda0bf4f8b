"""The race, and rules that know less."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from optuna.study import Study
from optuna.trial import FrozenTrial

from prunetune.backends.pruners.race import Race, Standing
from prunetune.backends.study.attributes import PROXY_CURVE


class Halving(Race):
    """Stops whatever is worse than the best that has finished, at the same epochs: no margin at all."""

    def standing(self, study: Study, trial: FrozenTrial) -> Standing | None:
        """The same with a margin of 0."""
        found = super().standing(study, trial)
        return None if found is None else replace(found, margin=0.0)


class WithoutProxy(Race):
    """The race, knowing nothing of the proxy's learning curves."""

    def standing(self, study: Study, trial: FrozenTrial) -> Standing | None:
        """The same for a trial without the proxy's curve."""
        trial.user_attrs.pop(PROXY_CURVE, None)
        return super().standing(study, trial)


RULES: Final[Mapping[str, type[Race]]] = {"race": Race, "race, proxy unseen": WithoutProxy, "no margin": Halving}

"""Scorers by name, and the parts they can be combined with. A scorer is registered as a factory without arguments.

Another distribution adds its own with an entry point of the group `prunetune.scorers`, see `examples/plugin`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

from prunetune.errors import InputError, unknown_name
from prunetune.registry import Registry, build

if TYPE_CHECKING:
    from prunetune.plugins.base import Scorer
    from prunetune.plugins.parts import Normaliser, Reduction

ScorerFactory: TypeAlias = "Callable[[], Scorer]"

scorers: Registry[ScorerFactory] = Registry("scorer", group="prunetune.scorers")
scorers.register_lazy("synflow", "prunetune.plugins.synflow:SynFlow")
scorers.register_lazy("synflow-absolute", "prunetune.plugins.synflow:synflow_absolute")
scorers.register_lazy("synflow-iterative", "prunetune.plugins.synflow_iterative:IterativeSynFlow")
scorers.register_lazy("3sp", "prunetune.plugins.three_sp:ThreeSP")
scorers.register_lazy("snip", "prunetune.plugins.snip:Snip")
scorers.register_lazy("grasp", "prunetune.plugins.grasp:Grasp")
scorers.register_lazy("taylor", "prunetune.plugins.taylor:Taylor")
scorers.register_lazy("slimming", "prunetune.plugins.slimming:Slimming")
scorers.register_lazy("merging", "prunetune.plugins.merging:Merging")
scorers.register_lazy("magnitude", "prunetune.plugins.magnitude:Magnitude")
scorers.register_lazy("magnitude-l2", "prunetune.plugins.magnitude:magnitude_l2")
scorers.register_lazy("fpgm", "prunetune.plugins.fpgm:GeometricMedian")
scorers.register_lazy("uniform", "prunetune.plugins.uniform:Uniform")
scorers.register_lazy("random", "prunetune.plugins.random:Random")

reductions: Registry[Reduction] = Registry("reduction")
reductions.register_lazy("mean", "prunetune.plugins.parts:mean_over_members")
reductions.register_lazy("sum", "prunetune.plugins.parts:sum_over_members")
reductions.register_lazy("max", "prunetune.plugins.parts:max_over_members")
reductions.register_lazy("gate", "prunetune.plugins.parts:gate")

normalisers: Registry[Normaliser] = Registry("normaliser")
normalisers.register_lazy("lamp", "prunetune.plugins.parts:lamp")
normalisers.register_lazy("group-mean", "prunetune.plugins.parts:by_group_mean")


def make_scorer(name: str) -> Scorer:
    """A scorer by name, combined with the reductions and normalisers that follow it: `"magnitude+max+lamp"`.

    Raises
    ------
    InputError
        For an unknown name, or two reductions or two normalisers.
    PluginError
        For a name of another distribution that cannot be used.
    """
    from prunetune.plugins.base import Scorer  # loads torch, and names are listed without

    check_scorer(name)
    first, *parts = name.split("+")
    scorer = copy.copy(build(scorers, first, Scorer))
    scorer.name = name
    for part in parts:
        if part in reductions:
            scorer.reduce = reductions[part]
        else:
            scorer.normalise = normalisers[part]
    return scorer


def check_scorer(name: str) -> None:
    """Raise InputError unless `name` is one that `make_scorer` knows; nothing is imported."""
    first, *parts = name.split("+") if isinstance(name, str) else (name,)
    scorers.check(first)
    for part in parts:
        if part not in reductions and part not in normalisers:
            raise unknown_name(f"part of {name!r}:", part, [*reductions.names(), *normalisers.names()])
    for registry in (reductions, normalisers):
        if len(given := [part for part in parts if part in registry]) > 1:
            raise InputError(f"{name!r} has {len(given)} {registry.kind}s, {' and '.join(given)}; name one")


__all__ = ["ScorerFactory", "check_scorer", "make_scorer", "normalisers", "reductions", "scorers"]

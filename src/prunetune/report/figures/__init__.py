"""Every picture of the report, each a function of a run that returns a plotly ``Figure``.

A picture that a run has too little for raises ``NothingToShow`` with the reason as a sentence; the page prints that
sentence in its place. Optuna's own figures are not used: they leave out failed trials or show them as scores, and
neither tell pruned from complete by shape nor fit a phone. Its importances are used as they are.
"""

from prunetune.report.figures.base import NothingToShow
from prunetune.report.figures.confirm import confirmation, confirmation_curves, rank_correlation
from prunetune.report.figures.cost import proxy_cost, time_spent
from prunetune.report.figures.cut import groups_cut, layers_cut
from prunetune.report.figures.dependencies import dependencies
from prunetune.report.figures.ladder import ladder
from prunetune.report.figures.rungs import rungs
from prunetune.report.figures.search import (
    importances,
    learning_curves,
    parallel_coordinates,
    parameter_slice,
    search_history,
)

__all__ = [
    "NothingToShow",
    "confirmation",
    "confirmation_curves",
    "dependencies",
    "groups_cut",
    "importances",
    "ladder",
    "layers_cut",
    "learning_curves",
    "parallel_coordinates",
    "parameter_slice",
    "proxy_cost",
    "rank_correlation",
    "rungs",
    "search_history",
    "time_spent",
]

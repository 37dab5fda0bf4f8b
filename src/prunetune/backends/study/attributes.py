"""The names of all attributes that are written into a study and its trials, beside those that ``loop`` notes of each.

A study outlives the version that made it: what a name means here may not change.
"""

from __future__ import annotations

from typing import Final

# System attributes of a study
FINGERPRINT: Final = "prunetune"
OWNER: Final = "prunetune:owner"
"""The run that the study belongs to; of a trial, the worker that runs it."""
DISCOUNTED: Final = "prunetune:discounted"
ORDER: Final = "prunetune:order"
"""What a worker has to know, with the plan and the job apart, as they are long."""
RUNG_ORDER: Final = "prunetune:rung_order"
"""The same of a rung above the first, which nobody joins by itself."""
PLAN: Final = "prunetune:plan"
JOB: Final = "prunetune:job"
AT_WORK: Final = "prunetune:at_work"
"""Of a first rung's study: the one on which the run is at work now."""
SUBMITTED: Final = "prunetune:submitted"
"""Of a first rung's study: the sign of life of a run to the workers that it has submitted to an executor."""
BEGUN: Final = "prunetune:begun:"
"""With the number of such a worker: the process that it is."""
GIVEN: Final = "prunetune:given"
"""The fingerprint of what the owner brought."""

# System attributes of a trial
BEAT: Final = "prunetune:beat"
"""The last sign of life of its worker."""
DRAW: Final = "prunetune:draw"
"""The draw of a trial that takes the place of another; without it the draw is the trial's number."""
TOKEN: Final = "prunetune:token"
"""Of a trial that is queued: no other has the same."""
FIXED: Final = "fixed_params"
"""Optuna's own, of a trial that was enqueued."""

# User attributes of a trial
GIVEN_UP: Final = "given_up"
"""Its worker died."""
RETRY_OF: Final = "retry_of"
"""The trial whose hyperparameters it repeats, since that one's worker died."""
RETRY: Final = "retry"
"""How often they were tried again."""
INSTEAD_OF: Final = "instead_of"
"""Of one with the next point of a finite space: the trial whose point came twice."""
NOT_READ: Final = "not_read"
"""The hyperparameters that its train function never read."""
UNREAD: Final = "unread"
"""The properties of its report that nothing looked at."""
ASKED: Final = "param_groups"
"""Its objective asked for parameter groups."""
FIRST: Final = "first"
"""The hyperparameters that the user said to begin with."""
SEARCH_TRIAL: Final = "search_trial"
"""Of one above the first rung: the trial there that had its hyperparameters first."""
PROXY_SCORE: Final = "proxy_score"
"""Of one above the first rung: its score on the rung below."""
CONFIGURATION: Final = "configuration"
"""Which of the fixed configurations of a check or a comparison it has."""
COMPARE_SECONDS: Final = "compare_seconds"
TEST: Final = "test"
"""Its score on data that chose nothing."""
QUEUED_WITH: Final = (SEARCH_TRIAL, PROXY_SCORE, CONFIGURATION)
"""What a trial was queued with and the one has too that repeats it."""
WITHDRAWN: Final = "withdrawn"
"""The "outcome" of a trial that was asked for when there were enough."""

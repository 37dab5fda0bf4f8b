"""What holds for every registered scorer: the suite that ships with the package."""

from prunetune.plugins import scorers
from prunetune.testing import scorer_contract

TestScorers = scorer_contract(*scorers.names())

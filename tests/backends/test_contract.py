"""What holds for every registered optimizer: the suite that ships with the package."""

from prunetune.backends import full_name, optimizers
from prunetune.testing import optimizer_contract

TestOptimizers = optimizer_contract(*sorted({full_name(name) for name in optimizers}))

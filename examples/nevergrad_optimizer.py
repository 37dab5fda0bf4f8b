"""Nevergrad, driven by hand, on the proxy: `python examples/nevergrad_optimizer.py`.

`pip install 'prunetune[vision,nevergrad]'`.
"""

from __future__ import annotations

import nevergrad
from train_digits import IMAGES, SPACE, build, train

import prunetune
from prunetune.interop.nevergrad import to_nevergrad

options = {"example_inputs": IMAGES[:64], "epochs": 2, "direction": "maximize"}  # of an accuracy
objective = prunetune.proxy_objective(build, train, SPACE, **options)

if __name__ == "__main__":
    parametrization = to_nevergrad(SPACE)
    parametrization.random_state.seed(0)
    optimizer = nevergrad.optimizers.TwoPointsDE(parametrization, budget=6)
    for _ in range(3):  # ask and tell …
        candidate = optimizer.ask()
        optimizer.tell(candidate, objective.loss(candidate.value))
    best = optimizer.minimize(objective.loss).value  # … or leave the rest of the budget to Nevergrad
    print(f"best on the proxy: {SPACE.named(best)}")

"""scikit-optimize, driven by hand, on the proxy: `python examples/skopt_minimize.py`.

`pip install 'prunetune[vision,skopt]'`.
"""

from __future__ import annotations

import skopt
from train_digits import IMAGES, SPACE, build, train

import prunetune
from prunetune.interop.skopt import to_skopt

options = {"example_inputs": IMAGES[:64], "epochs": 2, "direction": "maximize"}  # of an accuracy
objective = prunetune.proxy_objective(build, train, SPACE, **options)

if __name__ == "__main__":
    optimizer = skopt.Optimizer(to_skopt(SPACE), n_initial_points=2, random_state=0)
    for _ in range(3):  # ask and tell …
        point = optimizer.ask()
        optimizer.tell(point, objective.loss(point))
    known = {"x0": optimizer.Xi, "y0": optimizer.yi}
    found = skopt.gp_minimize(  # … or leave the rest to scikit-optimize
        objective.loss, to_skopt(SPACE), n_calls=3, n_initial_points=0, random_state=0, **known
    )
    print(f"best on the proxy: {SPACE.named(found.x)}, accuracy {-found.fun:.3f}")

"""Ray's tasks as an executor: ``tune(…, workers=RayExecutor(num_gpus=0.25), n_workers=16)``."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from prunetune._utils.extras import require


class RayExecutor:
    """Runs what is submitted as tasks of Ray, on the cluster that ``ray.init`` connected to.

    ``options`` are those of ``ray.remote``: what a task takes (``num_cpus``, ``num_gpus``, ``resources``), its
    ``runtime_env``, and so on. Raises InputError where Ray is not installed.
    """

    def __init__(self, **options: Any) -> None:
        require("ray", "ray", "RayExecutor")
        self._options = options

    def submit(self, function: Callable[..., Any], /, *args: Any) -> Future[Any]:
        """The future of ``function(*args)``."""
        import ray

        remote = ray.remote(**self._options)(function) if self._options else ray.remote(function)
        future: Future[Any] = remote.remote(*args).future()
        return future

"""Modules under the names that they had, as far as a page of the documentation had them: each warns, and forwards."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, Final

MOVED: Final = {
    "prunetune.allocator": "prunetune._utils.malloc",
    "prunetune.backends.seeded": "prunetune.backends.samplers.seeded",
    "prunetune.backends.stateless": "prunetune.backends.samplers.stateless",
    "prunetune.backends.trial": "prunetune.backends.study.trial",
    "prunetune.jobs": "prunetune.training",
    "prunetune.objective": "prunetune.tuning.own_search",
    "prunetune.pruned": "prunetune.pruning.result",
    "prunetune.run": "prunetune.tuning.run",
    "prunetune.runfolder": "prunetune.record.folder",
    "prunetune.settings": "prunetune.tuning.settings",
    "prunetune.tuner": "prunetune.tuning.tuner",
    "prunetune.workers": "prunetune.tuning.worker",
}


class _Moved(MetaPathFinder, Loader):
    """Finds what no file has any more, and loads a module that has all that the new one has."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        now = MOVED[module.__name__]
        warnings.warn(f"{module.__name__} is {now} now", DeprecationWarning, stacklevel=2)

        def forward(name: str) -> Any:
            return getattr(importlib.import_module(now), name)

        module.__getattr__ = forward  # type: ignore[method-assign]


def forward_moved() -> None:
    """Let old names be imported."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())


def renamed(module: str, **now: type) -> Callable[[str], Any]:
    """The ``__getattr__`` of a module whose classes had other names: each still has it, with a warning."""

    def old(name: str) -> Any:
        if name not in now:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warnings.warn(f"{module}.{name} is {now[name].__name__} now", DeprecationWarning, stacklevel=2)
        return now[name]

    return old

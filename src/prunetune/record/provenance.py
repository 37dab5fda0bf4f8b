"""Where a result comes from: versions, the command, the machine; and plain values that JSON can hold."""

from __future__ import annotations

import math
import os
import platform
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from prunetune._version import __version__

if TYPE_CHECKING:
    from torch import nn

Record: TypeAlias = dict[str, Any]


def versions() -> Record:
    """Versions of what a result depends on."""
    import optuna
    import torch

    return {
        "prunetune": __version__,
        "torch": str(torch.__version__),
        "optuna": optuna.__version__,
        "python": platform.python_version(),
    }


def command() -> str | None:
    """How this process was started, for people to do it again; None in a notebook and wherever there is no command.

    What looks like a password in a URL is not shown.
    """
    script = Path(sys.argv[0])
    if not sys.argv[0] or sys.argv[0].startswith("-") or script.name == "ipykernel_launcher.py":
        return None
    words = ["prunetune", *sys.argv[1:]] if script.name == "prunetune" else ["python", *sys.orig_argv[1:]]
    return shlex.join(re.sub(r"(://[^:/@]*):[^@\s]*@", r"\1:***@", word) for word in words)


def machine(model: nn.Module) -> Record:
    """The processor, the number of cores that this process may use, and the device that ``model`` is on."""
    import torch

    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"cpu": _cpu(), "cores": cores, "device": name}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def read_params(record: Mapping[str, Any], params: Mapping[str, Any]) -> Record:
    """Those of ``params`` that the train function of a run reads, by its record."""
    unread = (record.get("search") or {}).get("not_read", ())  # a check has no search
    return {name: value for name, value in params.items() if name not in unread}


def finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """Plain numbers that JSON can hold: NaN and infinity become None."""
    plain = {str(name): float(value) for name, value in values.items()}
    return {name: value if math.isfinite(value) else None for name, value in plain.items()}

"""Which device a process trains on."""

from __future__ import annotations

from itertools import cycle, islice

import torch

from prunetune.errors import InputError


def choose_device(name: str) -> torch.device:
    """The device of that name, of several the first; ``auto`` is a GPU if there is one.

    Raises InputError if any of them is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    devices = [torch.device(each) for each in name.split(",")]
    for device in devices:
        usable = {
            "cpu": True,
            "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
            "mps": torch.backends.mps.is_available(),
        }
        if not usable[device.type]:
            raise InputError(f"run.device is {str(device)!r}, but there is no such device here; take 'auto' or 'cpu'")
    return devices[0]


def share_devices(name: str, processes: int, gpus: int) -> list[str]:
    """A device for each of so many processes of this machine, which has so many ``gpus``.

    "auto" and "cuda" are all GPUs in turn, "cuda:0,cuda:2" these two; where there are fewer than processes, some share.

    >>> share_devices("cuda", 3, gpus=2), share_devices("cuda:0,cuda:2", 3, gpus=4), share_devices("auto", 2, gpus=0)
    (['cuda:0', 'cuda:1', 'cuda:0'], ['cuda:0', 'cuda:2', 'cuda:0'], ['auto', 'auto'])
    """
    names = [f"cuda:{number}" for number in range(gpus)] if name in ("auto", "cuda") and gpus else name.split(",")
    return list(islice(cycle(names), processes))

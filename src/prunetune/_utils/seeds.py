"""Seeds from seeds."""

from __future__ import annotations

import zlib

import numpy as np


def derive_seed(seed: int, stream: str, number: int) -> int:
    """A seed, 0..2**32 - 1, for item ``number`` of ``stream``; different streams and numbers are independent.

    It is numpy's ``SeedSequence`` of the three, ``stream`` as its CRC-32.
    """
    return int(np.random.SeedSequence([seed, zlib.crc32(stream.encode()), number]).generate_state(1)[0])

"""Texts of any length, kept in a study for those who join it and have no folder in common with its owner."""

from __future__ import annotations

import base64
import zlib
from typing import Final

import optuna

PIECE: Final = 32_000  # MySQL keeps 64 KiB of an attribute


def write_text(study: optuna.Study, key: str, text: str) -> None:
    """Store ``text``, compressed and in pieces, as ``key:0``, ``key:1`` …, and how many there are as ``key``.

    As system attributes: nobody can read them, so a dashboard is not to show them.
    """
    packed = base64.b85encode(zlib.compress(text.encode(), 9)).decode("ascii")
    storage = study._storage
    pieces = [packed[at : at + PIECE] for at in range(0, len(packed), PIECE)]
    for number, piece in enumerate(pieces):
        storage.set_study_system_attr(study._study_id, f"{key}:{number}", piece)
    storage.set_study_system_attr(study._study_id, key, len(pieces))  # last: with it the text is there


def read_text(study: optuna.Study, key: str) -> str | None:
    """What ``write_text`` stored; None if there is nothing, or not all of it."""
    kept = study._storage.get_study_system_attrs(study._study_id)
    attributes = kept if key in kept else study.user_attrs  # where version 0.1.0 had them
    try:
        packed = "".join(attributes[f"{key}:{number}"] for number in range(attributes[key]))
        return zlib.decompress(base64.b85decode(packed)).decode()
    except (KeyError, TypeError, ValueError, zlib.error):
        return None

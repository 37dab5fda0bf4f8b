"""Names of what is in a text."""

from __future__ import annotations

import hashlib


def digest(text: str) -> str:
    """The SHA-256 of a text."""
    return hashlib.sha256(text.encode()).hexdigest()

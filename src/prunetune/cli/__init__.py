"""The command ``prunetune``, and the configurations that it reads."""

from __future__ import annotations

from prunetune.cli.app import app, main

__all__ = ["app", "main"]

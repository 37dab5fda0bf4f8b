"""``check``: is a proxy good enough to search on?"""

from __future__ import annotations

from prunetune.checking.proxy_check import CheckResult, check

__all__ = ["CheckResult", "check"]

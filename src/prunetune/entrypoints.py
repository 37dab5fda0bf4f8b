"""Entry points: what installed distributions add to the registries, found without importing any of it."""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass

from prunetune.errors import PluginError

USABLE = re.compile(r"[\w.:-]+")
"""Names that a configuration can say: a plus sign combines a scorer with parts, and tables have spaces."""


@dataclass(frozen=True)
class Plugin:
    """One entry point of one distribution."""

    kind: str
    """What it is to be, in words: "scorer"."""
    name: str
    location: str
    """`package.module:attribute`."""
    source: str
    """The distribution and its version: "apoz-scorer 1.2"."""

    def load(self) -> object:
        """The object at `location`. Raises PluginError, whatever goes wrong there."""
        if not USABLE.fullmatch(self.name):
            raise self.broken("a name has letters, digits and any of . _ : -")
        entry = importlib.metadata.EntryPoint(self.name, self.location, "")
        try:
            return entry.load()
        except (Exception, SystemExit) as error:  # another's module may do anything while it is imported
            raise self.broken(f"it cannot be imported ({in_a_line(error)})") from error

    def broken(self, why: str) -> PluginError:
        """The error that names this plugin and says what is wrong with it."""
        return PluginError(
            f"the {self.kind} {self.name!r} of {self.source} (entry point {self.location!r}) cannot be used: {why}; "
            "uninstall or update that package"
        )


def find_plugins(group: str, kind: str) -> dict[str, list[Plugin]]:
    """The entry points of `group` by name, of all installed distributions; two or more claim a name together."""
    found: dict[str, list[Plugin]] = {}
    for entry in importlib.metadata.entry_points(group=group):
        source = f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution"
        plugin = Plugin(kind, entry.name, entry.value, source)
        if plugin not in (same := found.setdefault(entry.name, [])):
            same.append(plugin)
    return found


def in_a_line(error: BaseException) -> str:
    """The type of an exception and the first line of what it says.

    >>> in_a_line(ImportError("no module 'a'"))
    "ImportError: no module 'a'"
    """
    said = str(error).strip().splitlines()
    return f"{type(error).__name__}: {said[0]}" if said else type(error).__name__

"""Names to objects: the only global state, and a name registered twice is an error."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar, cast

from prunetune.errors import InputError, PluginError, PrunetuneError, unknown_name

T = TypeVar("T")
P = ParamSpec("P")

OWN = "prunetune"
"""The source of what this package brings."""


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


class Registry(Generic[T]):
    """A table of names. An entry is an object, or ``"module:attribute"``, imported when it is first asked for.

    With a `group`, the entry points of that group join it: what they claim is read from the metadata of the installed
    distributions at the first look at a name, and what one names is imported when that one is asked for. One that is
    broken, or whose name is taken, raises PluginError when it is asked for, and bothers nobody else.

    Example
    -------
    >>> colours: Registry[str] = Registry("colour")
    >>> colours.register("red", "#f00")
    >>> colours["red"]
    '#f00'
    >>> colours["rad"]
    Traceback (most recent call last):
        ...
    prunetune.errors.InputError: unknown colour 'rad' (did you mean 'red'?); known: red
    """

    def __init__(self, kind: str, group: str | None = None) -> None:
        self.kind = kind
        self.group = group
        self._entries: dict[str, T] = {}
        self._lazy: dict[str, str] = {}
        self._found: dict[str, list[Plugin]] | None = None

    def register(self, name: str, entry: T) -> None:
        """Add ``entry`` under ``name``. Raises InputError if the name is taken."""
        self._refuse_twice(name)
        self._entries[name] = entry

    def register_lazy(self, name: str, location: str) -> None:
        """Add the object at ``location`` (``"package.module:attribute"``), imported on first use."""
        self._refuse_twice(name)
        self._lazy[name] = location

    def _refuse_twice(self, name: str) -> None:
        if name in self._entries or name in self._lazy:
            raise InputError(f"{self.kind} {name!r} is registered already; choose another name")

    def _plugins(self, name: str) -> list[Plugin]:
        """The entry points that claim ``name``."""
        return self._claimed().get(name, [])

    def _claimed(self) -> dict[str, list[Plugin]]:
        if self._found is None:
            if self.group is None:
                self._found = {}
            else:
                self._found = find_plugins(self.group, self.kind)
        return self._found

    def __getitem__(self, name: str) -> T:
        self.check(name)
        location = self._lazy.get(name)
        if location is not None:  # several threads may be here at once, and all find the same
            module, _, attribute = location.partition(":")
            self._entries[name] = cast(T, getattr(importlib.import_module(module), attribute))
            self._lazy.pop(name, None)
        if name in self._entries:
            return self._entries[name]
        (plugin,) = self._plugins(name)
        return cast(T, plugin.load())  # kept by Python, as every module is

    def check(self, name: str) -> None:
        """Raise InputError unless ``name`` is known, and PluginError if two claim it; nothing is imported."""
        if not isinstance(name, str):
            raise InputError(f"the {self.kind} must be a name; got {type(name).__name__}")
        if name not in self:
            raise unknown_name(self.kind, name, self.names())
        if len(sources := self.sources(name)) > 1:
            raise PluginError(
                f"the {self.kind} {name!r} is claimed by {' and by '.join(sources)}, and only one can have the name; "
                "uninstall one of them, or ask its author for another name"
            )

    def sources(self, name: str) -> list[str]:
        """Who brings ``name``, "prunetune" or a distribution with its version; more than one is an error to use."""
        own = [OWN] if name in self._entries or name in self._lazy else []
        return own + [plugin.source for plugin in self._plugins(name)]

    def broken(self, name: str, why: str) -> PrunetuneError:
        """The error that blames whoever brings ``name``: ``why`` ends "… cannot be used: "."""
        for plugin in self._plugins(name):
            return plugin.broken(why)
        return InputError(f"the {self.kind} {name!r} cannot be used: {why}")

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._lazy or name in self._claimed()

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def names(self) -> list[str]:
        """All names, sorted, without importing anything."""
        return sorted({*self._entries, *self._lazy, *self._claimed()})


def build(registry: Registry[Callable[P, T]], name: str, base: type[object], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the factory `name` makes of the arguments, an instance of `base`.

    Raises
    ------
    InputError
        For an unknown name, and for a factory that makes something else.
    PluginError
        If it comes from another distribution and cannot be imported, or fails, or makes something else.
    """
    factory = registry[name]
    own = OWN in registry.sources(name)
    try:
        made = factory(*args, **kwargs)
    except Exception as error:  # another's code may do anything
        if own:
            raise

        raise registry.broken(name, f"it cannot be built ({in_a_line(error)})") from error
    if not isinstance(made, base):
        raise registry.broken(
            name, f"it must make a {base.__name__}, and makes an object of type {type(made).__name__}"
        )
    return made

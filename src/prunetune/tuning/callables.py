"""What a function of the user's is made of, as plain text: its code, the functions and the plain values that it uses.

Formatting does not count: of a function there are two digests, of its compiled code and of its syntax tree, and it is
the same if either is. Values that a function writes to (a list that it appends to, a counter) are state, and no part of
it. Of tensors the shape counts, of other libraries' objects the class; where a file lies, and which device computes,
counts for nothing.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import enum
import functools
import hashlib
import inspect
import itertools
import os
import re
import sys
import sysconfig
import textwrap
import tokenize
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import is_dataclass
from pathlib import Path, PurePath
from types import CodeType, FunctionType, MethodType, ModuleType, SimpleNamespace
from typing import Any, Final

import numpy as np
import torch
from torch import nn

CODE: Final = "its code"
UNREADABLE: Final = "unreadable"
DEPTH: Final = 4
"""So deep objects within objects are looked at."""
LONGEST: Final = 200
"""Of a longer value the digest is kept."""
_WRITERS: Final = frozenset(vars(list) | vars(dict) | vars(set) | vars(deque)) - {
    "__getitem__", "copy", "count", "difference", "get", "index", "intersection", "isdisjoint", "issubset",
    "issuperset", "items", "keys", "symmetric_difference", "union", "values",
}  # fmt: skip
"""Methods of containers that change them."""
MOST: Final = 1000
"""Of a container with more in it the size counts."""
_DEVICE: Final = re.compile(r"(cpu|mps|cuda|xpu)(:\d+)?")
_PLAIN: Final = (type(None), bool, int, float, complex, str, bytes, range, slice, enum.Enum, torch.dtype)
_OWN: Final = str(Path(__file__).parents[1])
_LIBRARIES: Final = tuple(
    {str(Path(sysconfig.get_paths()[each]).resolve()) for each in ("stdlib", "platstdlib", "purelib", "platlib")}
)


def described(function: Callable[..., Any]) -> dict[str, str]:
    """What ``function`` is made of, a line for each part; its own code, under ``CODE``, may be ``UNREADABLE``.

    >>> described(functools.partial(pow, 2))
    {'its code': 'unreadable', 'argument 1': '2'}
    """
    parts = _Parts()
    parts.add_callable("", function)
    return {CODE: UNREADABLE, **parts.lines()}


def class_parts(kind: type) -> dict[str, str]:
    """As ``described``, of a class, under its name; nothing of a library's."""
    parts = _Parts()
    parts.add_class(kind.__name__, kind)
    return parts.lines()


def same(before: str, now: str) -> bool:
    """Whether two lines of ``described`` or ``class_parts`` say the same: of code, by either digest."""
    if before == now:
        return True
    first, second = (line.removeprefix("#").split("/") if line.startswith("#") else [] for line in (before, now))
    return any(a == b != "-" for a, b in zip(first, second, strict=False))


def value_line(value: Any) -> str | None:
    """A plain value as text, the shape and number format of a tensor, the name of a function; None for anything else.

    >>> value_line((3, 3)), value_line(torch.zeros(2, 3)), value_line(Path("data"))
    ('(3, 3)', 'float32 (2, 3)', None)
    """
    if isinstance(value, torch.Tensor | np.ndarray):
        try:
            shape = tuple(value.shape)
        except RuntimeError:  # nested tensors have none
            shape = ()
        return f"{str(value.dtype).removeprefix('torch.')} {shape}"
    if isinstance(value, str) and (os.path.isabs(value) or _DEVICE.fullmatch(value)):
        return None
    if not _is_plain(value):
        return None
    text = _in_order(value)
    return text if len(text) <= LONGEST else f"{text[:40]}… ({_sha(text)})"


class _Parts:
    """The parts found so far; what was looked at once is not looked at again."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}
        self._seen: dict[int, Any] = {}  # the things themselves, lest an identity be used again
        self._attributes: dict[str, str] = {}  # of objects: the names that they were found under, and their own
        self._written: set[str] = set()  # attributes that any of the functions writes to

    def lines(self) -> dict[str, str]:
        """All that was found and is no state."""
        return {name: line for name, line in self.found.items() if self._attributes.get(name) not in self._written}

    def add_callable(self, name: str, function: Any, depth: int = 0) -> None:
        """Add what ``function`` is made of, its own code as ``name``."""
        if isinstance(function, type):
            self.add_class(name, function, depth)
        elif self._is_known(function):
            return
        elif isinstance(function, functools.partial):
            self.add_callable(name, function.func, depth)
            arguments = [*enumerate(function.args, 1), *function.keywords.items()]
            for key, value in arguments:
                self._add(f"{_under(name)}argument {key}", value, depth)
        elif isinstance(function, FunctionType):
            self._add_function(name, function, depth)
        elif isinstance(function, MethodType):
            self.add_class(name, type(function.__self__), depth)
            self.found[f"{_under(name)}method"] = function.__name__
            self._add_state(name, function.__self__, depth)
        elif isinstance(inspect.getattr_static(type(function), "__call__", None), FunctionType):
            self.add_class(name, type(function), depth)
            self._add_state(name, function, depth)

    def add_class(self, name: str, kind: type, depth: int = 0) -> None:
        """Add the code of the methods that are the user's, those of bases among them, and what they use."""
        if self._is_known(kind):
            return
        functions = [each for base in kind.__mro__ if _is_users(base) for each in _functions(base)]
        if functions:
            self.found[name or CODE] = _joined([_digests(each) for each in functions])
        elif not name:
            self.found[CODE] = _full_name(kind)
        for function in functions:
            self._add_used(name, function, depth)

    def _is_known(self, thing: Any) -> bool:
        known = id(thing) in self._seen
        self._seen[id(thing)] = thing
        return known

    def _add_function(self, name: str, function: FunctionType, depth: int) -> None:
        if _is_users(function):
            self.found[name or CODE] = _digests(function)
        elif not name:
            self.found[CODE] = _full_name(function)
        self._add_used(name, function, depth)

    def _add_used(self, name: str, function: FunctionType, depth: int) -> None:
        """Add the default values, what is closed over, and the names of its module that a user's function reads."""
        self._written |= _written_attributes(function) if _is_users(function) else set()
        for key, value in _used(function).items():
            self._add(f"{_under(name)}{key}", value, depth)

    def _add_state(self, name: str, owner: Any, depth: int) -> None:
        """Add the attributes of an object; of a module, a loss say, the plain ones."""
        closed = isinstance(owner, ModuleType | type) or not (isinstance(owner, nn.Module) or _is_open(owner))
        if closed or depth >= DEPTH:
            return
        for key, value in getattr(owner, "__dict__", {}).items():
            if isinstance(owner, nn.Module) and (key == "training" or value_line(value) is None):
                continue
            if not key.startswith("_"):
                self._attributes[f"{_under(name)}{key}"] = key
                self._add(f"{_under(name)}{key}", value, depth + 1)

    def _add(self, name: str, value: Any, depth: int) -> None:
        line = value_line(value)
        if line is not None:
            self.found[name] = line
        elif isinstance(value, FunctionType | functools.partial | MethodType | type):
            self.add_callable(name, value, depth)
        elif isinstance(value, Mapping | list | tuple | set | frozenset):
            self.found[name] = f"{type(value).__name__} of {len(value)}"
        elif not isinstance(value, ModuleType | str | PurePath | torch.device) and not self._is_known(value):
            self.found[name] = type(value).__name__
            self.add_class(name, type(value), depth)
            self._add_state(name, value, depth)


def _full_name(thing: Any) -> str:
    """The module and name of what a library brings; where in prunetune its own things are counts for nothing."""
    module = "prunetune" if str(thing.__module__).partition(".")[0] == "prunetune" else thing.__module__
    return f"{module}.{thing.__qualname__}"


def _used(function: FunctionType) -> dict[str, Any]:
    """By name, the values from outside that a function reads and does not write to."""
    code, used = function.__code__, {}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not bound yet
            used[name] = cell.cell_contents
    given = function.__defaults__ or ()
    used.update(zip(code.co_varnames[code.co_argcount - len(given) : code.co_argcount], given, strict=True))
    used.update(function.__kwdefaults__ or {})
    used.update(_read_globals(function) if _is_users(function) else {})
    written = _written(function)
    return {name: value for name, value in used.items() if name not in written}


def _under(name: str) -> str:
    return f"{name}." if name else ""


def _digests(function: FunctionType) -> str:
    """Of the compiled code and of the syntax tree, which is there where the source can be read."""
    return f"#{_sha(_code_text(function.__code__))}/{_source_digest(function)}"


def _joined(lines: list[str]) -> str:
    halves = [line.removeprefix("#").split("/") for line in lines]
    source = "-" if any(second == "-" for _, second in halves) else _sha("".join(second for _, second in halves))
    return f"#{_sha(''.join(first for first, _ in halves))}/{source}"


def _code_text(code: CodeType) -> str:
    arguments = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    constants = [_code_text(each) if isinstance(each, CodeType) else _in_order(each) for each in code.co_consts]
    return repr((code.co_code.hex(), code.co_names, arguments, code.co_freevars, constants))


def _source_digest(function: FunctionType) -> str:
    """Of the function without comments, docstrings and layout; "-" where it has no source of its own, as lambdas."""
    tree = _tree(function)
    if tree is None:
        return "-"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and ast.get_docstring(node):
            node.body = node.body[1:] or [ast.Pass()]
    return _sha(ast.unparse(tree))


def _tree(function: FunctionType) -> ast.Module | None:
    """The syntax tree of the function's own source; None if that cannot be read, or is of more than the function."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError, tokenize.TokenError):  # the file may have changed since
        return None
    alone = len(tree.body) == 1 and isinstance(tree.body[0], ast.FunctionDef | ast.AsyncFunctionDef)
    return tree if alone else None


def _functions(kind: type) -> Iterator[FunctionType]:
    """Those that a class defines itself, in the order of their names."""
    for _, member in sorted(vars(kind).items()):
        inner = getattr(member, "__func__", None) or getattr(member, "fget", None) or member
        if isinstance(inner, FunctionType):
            yield inner


def _instructions(code: CodeType) -> list[dis.Instruction]:
    """Those of the code and of all functions in it."""
    inner = [each for constant in code.co_consts if isinstance(constant, CodeType) for each in _instructions(constant)]
    return [*dis.get_instructions(code), *inner]


def _read_globals(function: FunctionType) -> dict[str, Any]:
    """The module's names that the code reads; of a module of the user's the attributes that it reads."""
    found: dict[str, Any] = {}
    instructions = _instructions(function.__code__)
    for place, each in enumerate(instructions):
        if each.opname not in ("LOAD_GLOBAL", "LOAD_NAME") or each.argval not in function.__globals__:
            continue
        name, value = str(each.argval), function.__globals__[each.argval]
        for following in instructions[place + 1 :]:
            if not isinstance(value, ModuleType) or not _is_users(value) or not hasattr(value, str(following.argval)):
                break
            name, value = f"{name}.{following.argval}", getattr(value, following.argval)
        if not isinstance(value, FunctionType | type) or _is_users(value):
            found[name] = value
    return found


def _written(function: FunctionType) -> set[str]:
    """Names from outside that the function writes to: it binds them, stores into them, or calls a method that changes.

    What stores into a place is told by the source, if there is some.
    """
    found: set[str] = set()
    instructions = _instructions(function.__code__)
    for each, following in itertools.pairwise(instructions):
        if each.opname in ("STORE_GLOBAL", "STORE_DEREF"):
            found.add(each.argval)
        elif following.opname in ("LOAD_ATTR", "LOAD_METHOD") and following.argval in _WRITERS:
            found.add(str(each.argval))
    tree = _tree(function)
    for node in () if tree is None else ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            found |= _path(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _WRITERS:
            found |= _path(node.func.value)
    return found - set(function.__code__.co_cellvars)


def _path(node: ast.expr) -> set[str]:
    """The names that lead to a place: ``losses`` and ``own`` of ``own.losses[3]``."""
    found: set[str] = set()
    while isinstance(node, ast.Attribute | ast.Subscript):
        found |= {node.attr} if isinstance(node, ast.Attribute) else set()
        node = node.value
    return found | ({node.id} if isinstance(node, ast.Name) else set())


def _written_attributes(function: FunctionType) -> set[str]:
    if function.__name__ in ("__init__", "__post_init__", "__new__"):
        return set()
    stored = {each.argval for each in _instructions(function.__code__) if each.opname == "STORE_ATTR"}
    return stored | _written(function)


def _is_users(thing: Any) -> bool:
    """Whether a function, class or module is the user's: neither ours, nor Python's, nor an installed library's."""
    if isinstance(thing, FunctionType):
        return _is_users_file(thing.__code__.co_filename)
    module = thing if isinstance(thing, ModuleType) else sys.modules.get(thing.__module__)
    if module is None or (isinstance(thing, type) and thing.__module__ == "__main__"):
        return True  # made by code that is in no module, or of the script, which in a worker is somebody else's
    file = getattr(module, "__file__", None)
    return module.__name__ == "__main__" if file is None else _is_users_file(file)


@functools.cache
def _is_users_file(file: str) -> bool:
    path = str(Path(file).resolve()) if os.path.exists(file) else file
    return not path.startswith(("<frozen", *(f"{folder}{os.sep}" for folder in (*_LIBRARIES, _OWN))))


def _is_open(owner: Any) -> bool:
    """Whether the attributes of an object are looked at: of the user's classes, of namespaces, of dataclasses."""
    return _is_users(type(owner)) or isinstance(owner, Namespace | SimpleNamespace) or is_dataclass(owner)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict | tuple | list | set | frozenset) and len(value) > MOST:
        return False
    if isinstance(value, dict):
        return all(_is_plain(each) for pair in value.items() for each in pair)
    if isinstance(value, tuple | list | set | frozenset):
        return all(_is_plain(each) for each in value)
    return isinstance(value, _PLAIN)


def _in_order(value: Any) -> str:
    """``repr``, with the members of sets sorted: their order differs from one process to the next."""
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(_in_order(each) for each in value))}}}"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_in_order(key)}: {_in_order(each)}' for key, each in value.items())}}}"
    if isinstance(value, tuple | list):
        inner = ", ".join(_in_order(each) for each in value)
        return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' * (len(value) == 1)})"
    return repr(value)


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]

"""Numbers and names as people read them."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from typing import Any

NONE = "-"
_SI = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def duration(seconds: float | None) -> str:
    """A time in the two largest units that matter.

    >>> [duration(s) for s in (0.0042, 3.21, 42.4, 192, 7500, 100_000)]
    ['4.2 ms', '3.2 s', '42 s', '3 min 12 s', '2 h 5 min', '1 d 4 h']
    """
    if seconds is None or not math.isfinite(seconds):
        return NONE
    if seconds < 1:
        return f"{seconds * 1000:.3g} ms" if seconds else "0 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    if round(seconds) < 60:
        return f"{round(seconds)} s"
    if round(seconds) < 3600:
        return _two(round(seconds), 60, "min", "s")
    if round(seconds / 60) < 24 * 60:
        return _two(round(seconds / 60), 60, "h", "min")
    return _two(round(seconds / 3600), 24, "d", "h")


def _two(count: int, size: int, large: str, small: str) -> str:
    whole, rest = divmod(count, size)
    return f"{whole} {large} {rest} {small}" if rest else f"{whole} {large}"


def quantity(value: float | None) -> str:
    """A count with three digits and an SI letter.

    >>> [quantity(n) for n in (972, 5_130, 853_018, 1.26e8)]
    ['972', '5.13 k', '853 k', '126 M']
    """
    if value is None or not math.isfinite(value):
        return NONE
    for size, letter in _SI:
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g} {letter}"
    return f"{value:.4g}"


def number(value: Any) -> str:
    """A value of any kind, floats with four significant digits.

    >>> number(0.031622776), number(64), number("adam"), number(None)
    ('0.03162', '64', 'adam', '-')
    >>> len(number("words " * 100)), len(number("name" * 100))
    (600, 300)
    """
    if value is None:
        return NONE
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if " " in text else clip(text)  # a sentence without its middle says nothing


def percent(share: float | None) -> str:
    """A share of one as percent.

    >>> percent(0.9722), percent(0.034), percent(0.00042)
    ('97.2 %', '3.4 %', '0.042 %')
    """
    if share is None or not math.isfinite(share):
        return NONE
    return f"{share * 100:.1f} %" if abs(share) >= 0.01 or share == 0 else f"{share * 100:.2g} %"


def clip(text: str, length: int = 300) -> str:
    """``text``, with its middle left out where it is longer than ``length``: names differ at both ends.

    >>> clip("features.denseblock4.denselayer16.conv2", 20)
    'features.d…r16.conv2'
    """
    if len(text) <= length:
        return text
    head = length // 2
    return f"{text[:head]}…{text[len(text) - (length - head - 1) :]}"


def short_names(names: Sequence[str], length: int) -> list[str]:
    """Dotted names of modules without what all have in common, leading parts abbreviated until they fit.

    A number is no name, so what it counts stays with it.

    >>> short_names(["features.denseblock1.denselayer1.conv1.weight", "features.stem.conv0.weight"], 18)
    ['den1.den1.conv1', 'stem.conv0']
    >>> short_names(["features.0.weight", "features.3.weight"], 18)
    ['features.0', 'features.3']
    """
    parts = [clip(name).removesuffix(".weight").split(".") for name in names]
    while (
        len(parts) > 1
        and all(len(each) > 1 and not each[1].isdigit() for each in parts)
        and len({each[0] for each in parts}) == 1
    ):
        parts = [each[1:] for each in parts]
    depth = 0  # as many leading parts are abbreviated in all names as the longest name needs
    while max(len(".".join(each)) for each in parts or [[]]) > length and depth < max(map(len, parts)) - 1:
        parts = [[*each[:depth], *map(_abbreviated, each[depth : depth + 1]), *each[depth + 1 :]] for each in parts]
        depth += 1
    return [clip(".".join(each), length) for each in parts]


def _abbreviated(part: str) -> str:
    word = part.rstrip("0123456789")
    return part if len(word) <= 4 else word[:3] + part[len(word) :]


def plot_text(value: Any, length: int = 80) -> str:
    """Any value as text for a figure. Plotly reads a small HTML in every label, so what is not ours is escaped.

    >>> plot_text("<a href=x>")
    '&lt;a href=x&gt;'
    """
    return html.escape(clip(number(value), length), quote=False)

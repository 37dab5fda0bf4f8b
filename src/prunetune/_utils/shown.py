"""Text from elsewhere, as a terminal may be shown it."""

from __future__ import annotations

from typing import Final

_HARMLESS: Final = "\t\n"
_REORDER: Final = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))  # what follows is read in another direction
_CONTROL: Final = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
    for code in (*range(0x20), *range(0x7F, 0xA0), *_REORDER)
    if chr(code) not in _HARMLESS
}


def visible(text: str) -> str:
    r"""``text`` with its control characters written out: what stands in a study is whoever's could write there.

    A terminal obeys such characters: it moves, deletes, renames its window, pastes.

    >>> visible("lr\x1b[2J = 0.1")
    'lr\\x1b[2J = 0.1'
    """
    return text.translate(_CONTROL)

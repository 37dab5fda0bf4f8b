"""Texts as numbers, by a tokenizer of transformers that is on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch

from prunetune._utils.extras import require
from prunetune.data._texts import LabelledTexts, TextParts
from prunetune.errors import InputError
from prunetune.training.text import Tokens

FILES: Final = ("tokenizer*", "vocab*", "*.model")
"""Some of these are in the folder of every tokenizer."""


def load_tokenizer(folder: str) -> Any:
    """The tokenizer that ``save_pretrained`` has written into a folder. Raises InputError."""
    require("transformers", "transformers>=4.48", "a tokenizer")
    from transformers import AutoTokenizer  # seconds, and only for those who have it

    path = Path(folder).expanduser()
    try:
        if not any(any(path.glob(pattern)) for pattern in FILES):  # else it may be an empty one of the model's kind
            raise FileNotFoundError(f"no {' and no '.join(FILES)}")
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # it raises whatever the files make it stumble over
        first = (str(error).strip().splitlines() or [""])[0]
        raise InputError(
            f"there is no tokenizer in {folder!r} ({type(error).__name__}: {first}); give data.tokenizer, a folder "
            "that save_pretrained of a tokenizer has written"
        ) from None


def padding_of(tokenizer: Any) -> int:
    """The token that fills up what is short. Raises InputError where there is none."""
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise InputError("the tokenizer has no padding token and none for an end, so texts cannot be made equally long")


def classified(parts: TextParts[LabelledTexts], tokenizer: Any, length: int) -> TextParts[Tokens]:
    """The texts of every part, cut after ``length`` tokens; those shorter than the longest are filled up."""
    filler = padding_of(tokenizer)
    rows = {part: _encoded(texts.texts, tokenizer, length) for part, texts in vars(parts).items()}
    longest = max(len(row) for row in rows["train"])
    return TextParts(
        **{part: _filled(rows[part], longest, filler, texts.labels) for part, texts in vars(parts).items()}
    )


def modelled(parts: TextParts[str], tokenizer: Any, length: int) -> TextParts[Tokens]:
    """Each part in pieces of ``length`` tokens, one after the other; what is left over at its end is dropped.

    Raises InputError for a part that is shorter.
    """
    return TextParts(**{part: _pieces(part, text, tokenizer, length) for part, text in vars(parts).items()})


def _encoded(texts: list[str], tokenizer: Any, length: int) -> list[list[int]]:
    rows: list[list[int]] = tokenizer(texts, truncation=True, max_length=length)["input_ids"]
    return rows


def _filled(rows: list[list[int]], longest: int, filler: int, labels: torch.Tensor) -> Tokens:
    ids = torch.full((len(rows), longest), filler)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        kept = row[:longest]
        ids[place, : len(kept)] = torch.tensor(kept, dtype=torch.int64)
        mask[place, : len(kept)] = 1
    return Tokens(ids, mask, labels)


def _pieces(part: str, text: str, tokenizer: Any, length: int) -> Tokens:
    ids = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], dtype=torch.int64)
    pieces = len(ids) // length
    if pieces == 0:
        raise InputError(
            f"the text for {part} has {len(ids)} tokens, and a piece has data.length = {length}; lower that"
        )
    return Tokens(ids[: pieces * length].view(pieces, length))

"""A tokenizer of words, small transformers and texts, as files of the true formats."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast, Qwen3Config

WORDS = ["good", "fine", "great", "bad", "poor", "awful", "it", "was", "a", "film"]
NUMBERS = {"[PAD]": 0, "[UNK]": 1} | {word: number for number, word in enumerate(WORDS, 2)}


def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(WordLevel(NUMBERS, unk_token="[UNK]"))
    words.pre_tokenizer = Whitespace()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")


def write_bert(folder: Path) -> Path:
    """A checkpoint with weights, whose head is of two classes."""
    tokenizer().save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(NUMBERS), max_position_embeddings=16, **sizes)
    BertForSequenceClassification(config).save_pretrained(folder)
    return folder


def write_qwen(folder: Path) -> Path:
    """A configuration and a tokenizer, no weights."""
    tokenizer().save_pretrained(folder)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    config = Qwen3Config(vocab_size=len(NUMBERS), num_key_value_heads=2, head_dim=8, **sizes)
    config.save_pretrained(folder)
    return folder


def rows(count: int) -> list[dict[str, str]]:
    """The first word says which label it is."""
    return [{"text": f"{WORDS[n % 6]} film it was a", "label": "pos" if n % 6 < 3 else "neg"} for n in range(count)]


def write_csv(path: Path, count: int) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["text", "label"])
        writer.writeheader()
        writer.writerows(rows(count))
    return path


def write_jsonl(path: Path, count: int) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows(count)), encoding="utf-8")
    return path

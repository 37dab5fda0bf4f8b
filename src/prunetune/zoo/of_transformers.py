"""Networks of transformers, from a folder with a checkpoint or from a configuration. Nothing is downloaded."""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prunetune._utils.extras import require
from prunetune.errors import InputError

if TYPE_CHECKING:
    from torch import nn

CONFIG: Final = "config.json"
HEADS: Final = {"text-classification": "AutoModelForSequenceClassification", "causal-lm": "AutoModelForCausalLM"}
_LOCAL: Final[dict[str, Any]] = {"local_files_only": True, "trust_remote_code": False}
"""A worker may be told of the folder by a study: no code in it runs, and nobody is asked."""
WEIGHTS: Final = ("*.safetensors", "pytorch_model*.bin")
"""Files with a checkpoint's weights."""


def check_source(name: str) -> None:
    """Raise InputError unless ``name`` is a folder with a ``config.json``, or such a file; nothing is loaded."""
    path = Path(name).expanduser()
    if path.is_dir() and not (path / CONFIG).is_file():
        raise InputError(
            f"the folder {name!r} has no {CONFIG}; give one that save_pretrained of transformers has written"
        )
    if not path.is_dir() and not (path.is_file() and path.suffix == ".json"):
        raise InputError(
            f"{name!r} is no folder with a checkpoint and no {CONFIG}; nothing is downloaded, so give the path of "
            "one of the two, or module:function"
        )


def config_of(name: str, **settings: Any) -> Any:
    """The configuration of the network in a folder or file, with these settings changed. Raises InputError."""
    check_source(name)
    require("transformers", "transformers>=4.48", f"the model {name!r}")
    from transformers import AutoConfig  # seconds, and only for those who have it

    try:
        return AutoConfig.from_pretrained(Path(name).expanduser(), **_LOCAL, **settings)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"transformers cannot read the configuration in {name!r} ({_first_line(error)})") from None


def check_fits(config: Any, name: str, *, highest: int, length: int) -> None:
    """Raise InputError unless the network knows the ``highest`` token and takes texts of that ``length``."""
    config = config.get_text_config()
    if highest >= (rows := getattr(config, "vocab_size", math.inf)):
        raise InputError(
            f"the tokenizer makes the number {highest} of a token, and the vocabulary of {name!r} has {rows}; give the "
            "tokenizer that belongs to it, as data.tokenizer"
        )
    if length > (places := getattr(config, "max_position_embeddings", None) or math.inf):
        raise InputError(f"texts have {length} tokens, and {name!r} takes {places} at most; lower data.length")


def build(job: str, name: str, **settings: Any) -> nn.Module:
    """The network for that job, in float32, with the weights of the checkpoint if the folder has some, else new ones.

    A head that the checkpoint lacks, or has for other classes, is new. Raises InputError for what transformers cannot
    build.
    """
    config = config_of(name, **settings)
    import transformers  # loaded already

    head, folder = getattr(transformers, HEADS[job]), Path(name).expanduser()
    try:
        model: nn.Module
        if has_weights(folder):
            with _silence():
                model = head.from_pretrained(folder, config=config, ignore_mismatched_sizes=True, **_LOCAL)
        else:
            model = head.from_config(config, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(f"transformers cannot build a {job} network of {name!r} ({_first_line(error)})") from None
    return model.float()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """No progress bars and no word on new heads, which are meant: a checkpoint is read in every trial."""
    spoken = importlib.import_module("transformers.utils.logging")  # loaded already
    level, bars = spoken.get_verbosity(), spoken.is_progress_bar_enabled()
    spoken.set_verbosity(logging.ERROR)
    spoken.disable_progress_bar()
    try:
        yield
    finally:
        spoken.set_verbosity(level)
        if bars:
            spoken.enable_progress_bar()


def has_weights(folder: Path) -> bool:
    """Whether a folder has a checkpoint's weights besides its configuration."""
    return folder.is_dir() and any(any(folder.glob(pattern)) for pattern in WEIGHTS)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"

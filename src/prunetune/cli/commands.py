"""Commands that need no run: cut a network of one's own, begin a configuration, write a report again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prunetune.cli.own_code import example_input, network
from prunetune.errors import InputError
from prunetune.pruning.cut import prune
from prunetune.transfer import table, transfers
from prunetune.transfer.norms import norms_for

if TYPE_CHECKING:
    from prunetune.pruning.result import PruneResult

TEMPLATES: Final = {
    "image-classification": "run.toml",
    "text-classification": "text-classification.toml",
    "causal-lm": "causal-lm.toml",
    "timm": "timm.toml",
}
"""By job, the file in this package."""


@dataclass(frozen=True)
class Asked:
    """What ``prunetune prune`` was asked for, as the command line has it."""

    model: str
    inputs: tuple[str, ...]
    options: dict[str, Any]
    """Arguments of ``prunetune.prune``; None: not given."""
    transfer: str | None = None
    """The rule whose factors are to be shown."""


def cut(asked: Asked) -> PruneResult:
    """The network cut as asked; raises InputError for what cannot be imported, read or cut."""
    model = network(asked.model)
    inputs = tuple(example_input(text) for text in asked.inputs)
    if not inputs:
        raise InputError("the input is missing: give the shape of one batch, for example --input 1,3,224,224")
    if asked.transfer is not None:
        transfers.check(asked.transfer)
    options = {name: value for name, value in asked.options.items() if value is not None}
    example = inputs if len(inputs) > 1 else inputs[0]
    result = prune(model, example, **options)
    return result if asked.transfer is None else result.with_norms(norms_for(asked.transfer, model, example))


def as_text(result: PruneResult, asked: Asked) -> str:
    """What was cut and what that saves, for people."""
    if asked.transfer is None:
        return result.summary()
    title = f"transfer {asked.transfer!r}: factors of learning rates (SGD, Adam) and of initial weights"
    return "\n".join([result.summary(), "", title, table.as_text(_factors(result, asked.transfer))])


def _factors(result: PruneResult, transfer: str) -> list[dict[str, Any]]:
    return table.factors_by_parameter(result.model, result.plan, transfer)


def as_json(result: PruneResult, asked: Asked) -> str:
    """What was cut and what that saves, for machines."""
    return json.dumps(
        {
            **({} if asked.transfer is None else {"transfer": _factors(result, asked.transfer)}),
            "cost": {"base": asdict(result.cost.base), "proxy": asdict(result.cost.proxy)},
            "layers": [asdict(layer) for layer in result.layers],
            "groups": [asdict(group) for group in result.groups],
            "bypassed": list(result.bypassed),
            "frozen": [{"node": each.node, "reason": each.reason, "channels": each.channels} for each in result.frozen],
            "measurements": [{**asdict(each), "speedup": each.speedup} for each in result.measurements],
            "seconds": result.seconds,
        },
        indent=1,
    )


def write_template(path: Path, job: str) -> None:
    """A configuration for that job. Raises InputError rather than overwrite anything."""
    if path.exists():
        raise InputError(f"{path} exists already; name another file, or remove it first")
    try:
        path.write_text((files("prunetune.cli") / TEMPLATES[job]).read_text(encoding="utf-8"), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error})") from error

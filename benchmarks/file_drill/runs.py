"""Changed configurations given to every command, changed plans to the engine, and what becomes of them."""

from __future__ import annotations

import contextlib
import io
import json
import math
import random
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias
from unittest import mock

import torch
from typer.testing import CliRunner

from benchmarks.file_drill.cases import INPUTS, as_toml, changed, configurations, damaged, network, plans
from prunetune.backends.study.storage import absolute
from prunetune.checking import proxy_check
from prunetune.cli.app import app
from prunetune.cli.config import read_config
from prunetune.comparison import compare
from prunetune.engine import PruningPlan, apply, cut_state_dict, fresh_proxy
from prunetune.errors import PrunetuneError
from prunetune.tuning import planning
from prunetune.tuning.run import TuningRun

COMMANDS: Final = ("run", "plan", "check", "compare")
AS_TEXT: Final = 0.15
"""The share of files that are damaged as text."""


@dataclass(frozen=True)
class Failure:
    """A file of which something was made that does not stand in it, or an error that is no sentence."""

    seed: int
    change: str
    command: str
    error: str


Found: TypeAlias = tuple[list[Failure], Counter[str]]


class AtWorkError(Exception):
    """The command would begin to cut, time and train now."""


def drill_configurations(seeds: Iterable[int]) -> Found:
    """Each changed configuration with one command."""
    failures: list[Failure] = []
    counts: Counter[str] = Counter()
    originals = configurations()
    with tempfile.TemporaryDirectory() as name, _stopped_at_work(), contextlib.chdir(name):
        for seed in seeds:
            rng = random.Random(seed)
            content, said = changed(originals[which := rng.choice(list(originals))], rng)
            text, command = as_toml(content), rng.choice(COMMANDS)
            if rng.random() < AS_TEXT:
                text, said = damaged(text, rng)
            path = Path(f"{seed}.toml")
            path.write_text(text, encoding="utf-8", errors="surrogatepass")
            why = _commanded(command, path)
            counts["refused" if why == "refused" else "accepted"] += 1
            if why not in ("", "refused"):
                failures.append(Failure(seed, f"{which}: {said}", command, why))
    return failures, counts


def _commanded(command: str, path: Path) -> str:
    """What is wrong with what the command made of the file; "refused" if it said in a sentence why not."""
    done = CliRunner().invoke(app, [command, str(path)])
    if isinstance(done.exception, AtWorkError):
        return _other_than_written(path)
    if done.exit_code != 2:
        where = traceback.extract_tb(done.exc_info[2])[-1] if done.exc_info else ""
        return f"status {done.exit_code}: {type(done.exception).__name__}: {str(done.exception)[:300]} at {where}"
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    said = [line for line in lines if line.startswith("prunetune: ")]
    return "refused" if len(said) == 1 and lines[-1] == said[0] else f"more than a sentence: {done.stderr[:500]}"


def _other_than_written(path: Path) -> str:
    """A value that the configuration has and the file has not."""
    import tomllib

    config = read_config(path)
    for where, written in _leaves(tomllib.loads(path.read_text(encoding="utf-8"))):
        with contextlib.suppress(LookupError, AttributeError, TypeError):
            asked = absolute(written) if where == ("search", "storage") else written
            if not _same(read := _at(config, where), asked):
                return f"{'.'.join(map(str, where))} is {written!r}, and was read as {read!r}"
    return ""


def _leaves(content: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    inside = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    if not inside and content != {}:  # an empty table has what it has by default
        yield where, content
    for key, value in inside:
        yield from _leaves(value, (*where, key))


def _at(config: Any, where: Iterable[Any]) -> Any:
    for key in where:
        config = config[key] if isinstance(config, (Mapping, list, tuple)) else getattr(config, str(key))
    return config


def _same(read: Any, written: Any) -> bool:
    """Whether nothing was made of it but a tuple of a list, and a float of a whole number."""
    if isinstance(written, bool) or isinstance(read, bool):
        return read is written
    if isinstance(written, float) and math.isnan(written):
        return isinstance(read, float) and math.isnan(read)
    return bool(list(read) == list(written) if isinstance(written, (list, dict)) else read == written)


@contextlib.contextmanager
def _stopped_at_work() -> Iterator[None]:
    """All is checked, data is loaded and networks are built; then comes `AtWorkError`."""

    def at_work(*_: object, **__: object) -> NoReturn:
        raise AtWorkError

    with contextlib.ExitStack() as stack:
        for owner, name in (
            (TuningRun, "go"),
            (proxy_check._Check, "go"),
            (compare._Comparing, "go"),
            (planning, "survey"),
        ):
            stack.enter_context(mock.patch.object(owner, name, at_work))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        yield


def drill_plans(seeds: Iterable[int]) -> Found:
    """Each changed plan read, applied, and used to cut a checkpoint."""
    failures: list[Failure] = []
    counts: Counter[str] = Counter()
    originals = plans()
    for seed in seeds:
        rng = random.Random(seed)
        content, said = changed(originals[which := rng.choice(list(originals))], rng)
        text = _json(content)
        if rng.random() < AS_TEXT:
            text, said = damaged(text, rng)
        try:
            why = _planned(text)
            counts["accepted"] += 1
        except PrunetuneError as error:
            counts["refused"] += 1
            why = "" if "\n" not in str(error) else f"more than a sentence: {error}"
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            why = f"{type(error).__name__}: {str(error)[:300]} at {Path(at.filename).name}:{at.lineno}"
        if why:
            failures.append(Failure(seed, f"{which}: {said}", "apply", why))
    return failures, counts


def _json(content: Any) -> str:
    try:
        return json.dumps(content)
    except RecursionError:  # it is nested more deeply than Python's writer goes
        return '{"format": 1, "tensors": ' + "[" * 9999


def _planned(text: str) -> str:
    """What the plan did that it does not say; empty if it did what it says."""
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plan = PruningPlan.from_json(text)
    if PruningPlan.from_json(plan.to_json()) != plan:
        return "written and read again it is another"
    smaller = apply(plan, model)
    fresh_proxy(network, plan)
    cut = cut_state_dict(plan, before)
    if any(not torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items()):
        return "the model itself was changed"
    for name, tensor in smaller.state_dict().items():
        expected = before[name]
        for dim, kept in (plan.tensors[name].keep if name in plan.tensors else {}).items():
            expected = expected.index_select(dim, torch.tensor(kept, dtype=torch.int64))
        if not torch.equal(tensor, expected) or not torch.equal(cut[name], expected):
            return f"{name} is not what the plan says"
    with contextlib.suppress(RuntimeError), contextlib.redirect_stderr(io.StringIO()):
        smaller(torch.zeros(INPUTS))  # a plan that contradicts itself says so here at the latest
    return ""


KINDS: Final[dict[str, Callable[[Iterable[int]], Found]]] = {
    "configurations": drill_configurations,
    "plans": drill_plans,
}

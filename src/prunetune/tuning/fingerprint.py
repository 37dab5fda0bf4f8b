"""What the user brought to a run: the network, the functions, the inputs. Kept with it, compared when it goes on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias

import torch
from torch import nn
from torch.utils import _pytree as pytree

from prunetune.backends.study.attributes import GIVEN
from prunetune.backends.study.chunked_attributes import read_text, write_text
from prunetune.backends.study.storage import connected
from prunetune.errors import InputError, unknown_name
from prunetune.events import Notice, Observer
from prunetune.record import provenance
from prunetune.tuning.callables import CODE, UNREADABLE, class_parts, described, same, value_line

if TYPE_CHECKING:
    import optuna

    from prunetune.engine import ExampleInputs
    from prunetune.record.folder import RunFolder

Resume: TypeAlias = Literal["same", "anyway"]
RESUMES: Final = ("same", "anyway")
FINGERPRINT_FORMAT: Final = 1
PYTHON: Final = "python"
CLASSES: Final = "."
"""The code of a network's classes, beside its layers; no layer is called so."""
EVALUATE: Final = "evaluate"
NETWORKS: Final = ("network", "smaller ")
"""With these begin the parts that describe networks."""

Part: TypeAlias = dict[str, dict[str, str]]


@dataclass(frozen=True)
class Fingerprint:
    """What a run was given, as text: parts such as "network" and "train", each a table of tables of lines."""

    given: dict[str, Part]
    versions: dict[str, str]

    @classmethod
    def of(
        cls,
        networks: Mapping[str, nn.Module],
        functions: Mapping[str, Callable[..., Any] | None],
        example_inputs: ExampleInputs | None = None,
    ) -> Self:
        """That of networks, each as it was built, of functions by their names, None for one that was not given."""
        given = {name: network_part(model) for name, model in networks.items()}
        for name, function in functions.items():
            if function is not None:
                given[name] = {"": described(function)}
        if example_inputs is not None:
            leaves = pytree.tree_flatten_with_path(example_inputs)[0]
            lines = {
                pytree.keystr(path) or "the tensor": value_line(leaf) or type(leaf).__name__ for path, leaf in leaves
            }
            given["example_inputs"] = {"": lines}
        return cls(given, provenance.versions())

    @classmethod
    def read(cls, content: Any, where: str) -> Self:
        """What ``to_json`` made. Raises InputError for anything else."""
        try:
            if content["format"] != FINGERPRINT_FORMAT:
                raise InputError(f"{where} is of format {content['format']!r}, not {FINGERPRINT_FORMAT}")
            lines = [line for part in content["given"].values() for table in part.values() for line in table.values()]
            if not all(isinstance(line, str) for line in (*lines, *content["versions"].values())):
                raise TypeError("not text")
            return cls(content["given"], content["versions"])
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{where} is damaged ({error!r}); delete it, and nothing is compared") from None

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {"format": FINGERPRINT_FORMAT, "versions": self.versions, "given": self.given}

    def differences(self, now: Fingerprint) -> dict[str, str]:
        """By part, a clause that says what is different now, "…, which was …, and is …"; what one lacks is the same."""
        found = {}
        for name in self.given.keys() & now.given.keys():
            clause = next(_clauses(name, self.given[name], now.given[name], self._same_python(now)), None)
            if clause is not None:
                found[name] = clause
        return {name: found[name] for name in now.given if name in found}

    def uncomparable(self, now: Fingerprint) -> list[str]:
        """Functions whose code nobody can compare."""
        return [
            name
            for name in now.given.keys() & self.given.keys()
            if not name.startswith(NETWORKS) and UNREADABLE in (now.code(name), self.code(name))
        ]

    def code(self, name: str) -> str:
        """The line of a function's own code; empty for what is no function."""
        return self.given[name].get("", {}).get(CODE, "")

    def newer_versions(self, now: Fingerprint) -> list[str]:
        """What has another version now: "torch 2.4.0 (2.3.1 before)"."""
        both = self.versions.keys() & now.versions.keys()
        pairs = ((name, self.versions[name], now.versions[name]) for name in sorted(both))
        return [f"{name} {after} ({before} before)" for name, before, after in pairs if before != after]

    def _same_python(self, now: Fingerprint) -> bool:
        before, after = (each.versions.get(PYTHON, "").split(".")[:2] for each in (self, now))
        return before == after


def network_part(model: nn.Module) -> Part:
    """For each module its class, its plain attributes, its parameters and buffers; the code of the user's classes."""
    found: Part = {}
    classes: dict[str, str] = {}
    seen: set[type] = set()
    for path, module in model.named_modules():
        kind = type(module)
        lines = {"class": kind.__name__}
        for name, value in vars(module).items():
            if not name.startswith("_") and name != "training" and (line := _attribute_line(value)) is not None:
                lines[name] = line
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                frozen = " frozen" * (isinstance(tensor, nn.Parameter) and not tensor.requires_grad)
                lines[name] = f"{value_line(tensor)}{frozen}"
        found[path] = lines
        if kind not in seen:
            seen.add(kind)
            classes.update(class_parts(kind))
    return {**found, CLASSES: classes}


def _attribute_line(value: Any) -> str | None:
    if isinstance(value, torch.dtype | torch.device) or not callable(value) or isinstance(value, type):
        return value_line(value)
    return described(value)[CODE] if isinstance(value, FunctionType) else getattr(value, "__name__", None)


def check_resume(resume: object) -> None:
    """Raise InputError unless it is a way to go on with a run."""
    if resume not in RESUMES:
        raise unknown_name("way to resume", str(resume), RESUMES)


def continued(
    folder: RunFolder, now: Fingerprint, *, resume: Resume, observer: Observer, known: int = 0, evaluate: bool = False
) -> dict[str, str]:
    """Compare what a folder's run was given with what it is given ``now``, and keep that; returns the differences.

    A difference is refused, unless ``resume`` is "anyway" or nothing in the folder has come to a score: then there is
    nothing to mix, and a train function that always failed may be mended. ``known`` is how many trials with a score
    there are elsewhere. With ``evaluate`` that function may be another one.

    Raises InputError, naming the first difference, and for a damaged file.
    """
    check_resume(resume)
    stored = folder.read_json(folder.fingerprint)
    used = bool(known) or _any_score(folder, observer)
    if stored is None:
        if used:
            observer(
                Notice(
                    f"nothing is known of what the run in {folder.path} was started with, so neither the network nor "
                    "the train function can be compared; from now on they are"
                )
            )
        folder.write_json(folder.fingerprint, now.to_json())
        return {}
    before = Fingerprint.read(stored, str(folder.fingerprint))
    found = before.differences(now)
    if evaluate and EVALUATE in now.given and EVALUATE not in before.given:
        found[EVALUATE] = "it was not there"
    harm = {name: clause for name, clause in found.items() if not (evaluate and name == EVALUATE)}
    if used:
        _judge(f"the run in {folder.path}", before, now, harm, resume, observer, "choose another folder")
    folder.write_json(folder.fingerprint, Fingerprint({**before.given, **now.given}, now.versions).to_json())
    return found if used else {}


def sentences(differences: Mapping[str, str]) -> list[str]:
    """What a record says of differences that a run went on with."""
    return [f"continued with another {_noun(name)}: {clause}" for name, clause in differences.items()]


def _any_score(folder: RunFolder, observer: Observer) -> bool:
    """Whether any trial of the studies in the folder has a score."""
    if not folder.study.exists():
        return False
    from optuna.trial import TrialState

    with connected(folder.storage, observer=observer) as storage:
        every = [trial for study in storage.get_all_studies() for trial in storage.get_all_trials(study._study_id)]
    return any(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in every)


def publish_given(study: optuna.Study, now: Fingerprint) -> None:
    """Leave in a study what workers are to bring, too."""
    text = json.dumps(now.to_json())
    if read_text(study, GIVEN) != text:
        write_text(study, GIVEN, text)


def check_given(study: optuna.Study, now: Fingerprint, *, resume: Resume, observer: Observer) -> None:
    """Compare what a worker brings with what the owner of the study did. Raises InputError."""
    text = read_text(study, GIVEN)
    if text is None:  # the owner is of an earlier version
        return
    before = Fingerprint.read(json.loads(text), f"the fingerprint in the study {study.study_name!r}")
    what = f"the search {study.study_name!r}"
    _judge(what, before, now, before.differences(now), resume, observer, "start another study")


def _judge(
    what: str,
    before: Fingerprint,
    now: Fingerprint,
    harm: Mapping[str, str],
    resume: Resume,
    observer: Observer,
    otherwise: str,
) -> None:
    """Raise InputError for harm, or tell of it; tell of what cannot be compared, and of other versions."""
    for name, clause in harm.items():
        if resume == "same":
            raise InputError(
                f"{what} was started with another {_noun(name)}: {clause}; continue it with the same, {otherwise}, or "
                "go on knowingly with resume='anyway' (on the command line --anyway)"
            )
        observer(Notice(f"warning: {what} goes on with another {_noun(name)}: {clause}"))
    for name in before.uncomparable(now):
        observer(Notice(f"the code of {name} cannot be read, so nobody compared it with that before"))
    if versions := before.newer_versions(now):
        observer(Notice(f"{what} goes on with other versions: {', '.join(versions)}"))


def _noun(part: str) -> str:
    return {"train": "train function", EVALUATE: "evaluate function", "example_inputs": "batch of inputs"}.get(
        part, part if part.startswith("smaller ") else "network"
    )


def _clauses(name: str, before: Part, now: Part, same_python: bool) -> Iterator[str]:
    """What is different in a part, most telling first."""
    if name.startswith(NETWORKS):
        yield from _of_network(before, now, same_python)
    else:
        yield from _of_lines(name, before.get("", {}), now.get("", {}), same_python)


def _of_network(before: Part, now: Part, same_python: bool) -> Iterator[str]:
    paths = [path for path in {**before, **now} if path != CLASSES]
    for path in paths:
        layer = f"layer {path!r}" if path else "the whole"
        old, new = before.get(path), now.get(path)
        if old is None or new is None:
            kind = (old or new or {}).get("class")
            yield f"{layer}, a {kind}, is {'new' if old is None else 'gone'}"
            continue
        for key in {**old, **new}:
            if not same(old.get(key, ""), new.get(key, "")):
                yield f"{layer} had {key} {old.get(key, 'not at all')}, now it has {new.get(key, 'none')}"
    yield from _of_lines("", before.get(CLASSES, {}), now.get(CLASSES, {}), same_python, "class ")


def _of_lines(
    name: str, before: Mapping[str, str], now: Mapping[str, str], same_python: bool, kind: str = ""
) -> Iterator[str]:
    """Values first: that one of them is another says more than that some code is; what is new or gone comes last."""
    where = f" in {name}" * bool(name)
    less: list[str] = []
    for key in {**before, **now}:
        old, new = before.get(key), now.get(key)
        if UNREADABLE in (old, new):
            continue
        if old is None or new is None:
            less.append(f"{kind}{key}{where} is {'new' if old is None else 'gone'}")
        elif not (old.startswith("#") and new.startswith("#")):
            if old != new:
                yield f"{key}{where} was {old}, now it is {new}"
        elif not same(old, new) and (same_python or "/-" not in old + new):  # another Python compiles otherwise
            less.insert(0, f"the code of {name if key == CODE else kind + key} has changed")
    yield from less

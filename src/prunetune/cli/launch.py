"""From a configuration to the whole job: load the data, build the network, and hand both to the tuner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from prunetune.backends.study.storage import without_password
from prunetune.checking.proxy_check import CONFIGURATIONS, CheckResult, check
from prunetune.cli.config import parse_config, read_config, search_space
from prunetune.cli.job import Job, prepare
from prunetune.cli.local_workers import LocalWorkers
from prunetune.cli.tables import Config
from prunetune.comparison.compare import CompareResult, compare
from prunetune.comparison.settings import Comparison
from prunetune.data._files import Say, silently
from prunetune.errors import InputError
from prunetune.events import Observer, silent
from prunetune.ladder.named import PROXY, networks_of
from prunetune.ladder.plan import Plan
from prunetune.ladder.rung import Ladder, Rung
from prunetune.record.folder import RunFolder, read_tables, study_file, study_url, whole_path
from prunetune.tuning.fingerprint import Resume
from prunetune.tuning.planning import plan
from prunetune.tuning.settings import Search
from prunetune.tuning.tuner import TuneResult, tune
from prunetune.tuning.worker import WAIT_SECONDS, joined, work

CONFIGURED: Final = "configured"  # the proxy of [pruning], in a comparison
FREE: Final = {"data.download"}  # what may be different when a run goes on, since it changes no result


def launch(
    config: Config,
    *,
    workers: int = 1,
    resume: Resume = "same",
    observer: Observer = silent,
    say: Say = silently,
) -> TuneResult:
    """Do the whole job that ``config`` describes, or what is left of it, in its run folder.

    With ``workers`` so many processes search, of which this one is the first; they share the cores. ``resume`` is that
    of ``tune``. ``say`` gets a sentence for every file that is downloaded.

    Raises InputError before anything is trained if the data, the device, the batch sizes or the folder do not fit.
    """
    job = prepare(config, say)
    keep_config(config, resume)
    with LocalWorkers(workers - 1, config, observer) as crowd:
        return tune(
            **_problem(config, job),
            resume=resume,
            pruning=config.pruning,
            search=_search(config, job),
            ladder=config.ladder.asked,
            budget=config.ladder.budget,
            steps_per_epoch=job.steps_per_epoch,
            first=config.search.first,
            evaluate=job.evaluate,
            energy=config.run.energy,
            country=config.run.country,
            observer=crowd,
        )


def launch_plan(config: Config, observer: Observer = silent, say: Say = silently) -> Plan:
    """The ladder of the run that ``config`` describes; see ``prunetune.plan``."""
    job = prepare(config, say)
    problem = {name: each for name, each in _problem(config, job).items() if name not in ("train", "space", "run_dir")}
    return plan(
        **problem,
        pruning=config.pruning,
        search=_search(config, job),
        ladder=config.ladder.asked,
        budget=config.ladder.budget,
        steps_per_epoch=job.steps_per_epoch,
        observer=observer,
    )


def launch_check(
    config: Config,
    *,
    configurations: int = CONFIGURATIONS,
    epochs: int | None = None,
    resume: Resume = "same",
    observer: Observer = silent,
    say: Say = silently,
) -> CheckResult:
    """Check the first rung or the proxy of ``config``, in its run folder; see ``prunetune.check`` and ``launch``."""
    job = prepare(config, say)
    keep_config(config, resume)
    return check(
        **_problem(config, job),
        resume=resume,
        pruning=config.pruning,
        search=_search(config, job),
        rung=_checked_rung(config),
        observer=observer,
        configurations=configurations,
        check_epochs=epochs,
    )


def launch_compare(
    config: Config, *, resume: Resume = "same", observer: Observer = silent, say: Say = silently
) -> CompareResult:
    """Compare what the ``[compare]`` of ``config`` says, in its run folder; see ``prunetune.compare`` and ``launch``.

    The proxy of a ``[pruning]`` that was given takes part.
    """
    asked = config.compare
    configured = {CONFIGURED: config.pruning} if "pruning" in config.model_fields_set else {}
    comparison = Comparison.part_of(asked, proxies={**configured, **asked.proxies})
    job = prepare(config, say)
    keep_config(config, resume)
    return compare(
        **_problem(config, job),
        resume=resume,
        comparison=comparison,
        direction=job.direction,
        smaller={name: job.builder(name) for name in asked.smaller},
        evaluate=job.evaluate,
        observer=observer,
    )


def _checked_rung(config: Config) -> Rung | None:
    """The first rung, where the configuration has rungs; by name, what ``check`` takes, or the proxy that it needs."""
    ladder = config.ladder.asked
    if isinstance(ladder, Ladder):
        return replace(ladder.rungs[0], trials=0, keep=None, controls=0)
    return PROXY if ladder is not None and None in networks_of(ladder) else None


def _problem(config: Config, job: Job) -> dict[str, Any]:
    """The arguments that ``tune``, ``check`` and ``compare`` have in common."""
    return {
        "model_fn": job.model_fn,
        "train": job.train,
        "space": search_space(config),
        "example_inputs": job.example_inputs,
        "epochs": config.search.epochs,
        "run_dir": config.run.folder,
        "seed": config.search.seed,
        "data": job.batches,
    }


def _search(config: Config, job: Job) -> Search:
    return Search.part_of(config.search, direction=job.direction)


def join(
    storage: str,
    study: str | None,
    *,
    device: str = "auto",
    root: str | None = None,
    wait: float = WAIT_SECONDS,
    resume: Resume = "same",
    source: Path | None = None,
    observer: Observer = silent,
) -> int:
    """Run trials of the search ``study`` in ``storage``, with the model and the data that its owner has; how many.

    ``device`` and ``root``, the folder of the data, are those of this machine. ``source`` is the configuration file: a
    search of somebody's own code is joined by it only, for what a database says is not to decide what code runs here.
    """
    with joined(storage, study, observer, wait) as (found, _, order):
        name, job = found.study_name, order.job
    if job is None:
        raise InputError(
            f"the search {name!r} was started from Python with its own network and train function; join it with "
            "prunetune.work(model_fn, train, URL)"
        )
    own = ":" in str(job.get("model", {}).get("name"))
    mine = prepare(_own_config(source, name, device) if own else _config_of(job, device, root))
    return work(mine.model_fn, mine.train, storage, study=name, wait=wait, resume=resume, observer=observer)


def _own_config(source: Path | None, study: str, device: str) -> Config:
    """The configuration of somebody's own code, as this machine has it, for that device."""
    if source is None or source.is_dir():
        raise InputError(
            f"the search {study!r} runs code that its configuration names; join it with that configuration: "
            "prunetune worker CONFIG"
        )
    config = read_config(source)
    return config.model_copy(update={"run": config.run.model_copy(update={"device": device})})


def _config_of(job: Mapping[str, Any], device: str, root: str | None) -> Config:
    """The configuration that a run was started from, as far as a worker needs it."""
    parts: dict[str, Any] = {name: dict(job.get(name, {})) for name in ("model", "data", "train", "search")}
    parts["data"].update({} if root is None else {"root": root})
    parts["search"] = {name: parts["search"][name] for name in ("space", "seed") if name in parts["search"]}
    return parse_config({**parts, "run": {"folder": "unused", "device": device}})


def search_of(source: Path | None, storage: str | None, study: str | None) -> tuple[str, str | None]:
    """Where the search is that belongs to a configuration file or a run folder, and what it is called there.

    ``storage`` and ``study`` are what was said besides, and go first. Raises InputError if that does not suffice.
    """
    if source is None:
        if storage is None:
            raise InputError("which search? give a configuration, a run folder, or the URL of the storage with --study")
        return storage, study
    folder, kept = (source, _kept_search(source)) if source.is_dir() else _configured_search(source)
    shared = kept.get("storage")
    if shared is None and (storage is None or source.is_dir()):
        if not study_file(folder).exists():
            raise InputError(f"there is no search in {folder} yet; start it with `prunetune run`")
        return study_url(folder), study
    url = storage or str(shared)
    if "***" in url:
        raise InputError(f"the run in {folder} keeps its search in {url}; give the URL with its password as --study")
    return url, study or kept.get("study") or folder.resolve().name


def _kept_search(folder: Path) -> dict[str, Any]:
    """What the run in ``folder`` was started with, as far as it is known yet."""
    path = folder / "config.json"
    tables = read_tables(path)
    if tables is None:
        raise InputError(f"{folder} is not the folder of a run that was started from a configuration")
    search = tables.get("search", {})
    if not all(isinstance(search.get(key), str | None) for key in ("storage", "study")):
        raise InputError(f"{path} is damaged (no search in it); give the configuration, or the URL with --study")
    return search


def _configured_search(path: Path) -> tuple[Path, dict[str, Any]]:
    config = read_config(path)
    return whole_path("run.folder", config.run.folder), {"storage": config.search.storage, "study": config.search.study}


def keep_config(config: Config, resume: Resume = "same") -> None:
    """Write ``config`` into the run folder as ``config.json``, or check it against the one that is there.

    What the tuner knows of (search, pruning) it compares itself; here it is the job: model, data and training.
    Raises InputError that names the first key that differs, unless ``resume`` is "anyway".
    """
    given = config.model_dump(mode="json", exclude={"run"})
    now = {table: keys for table, keys in given.items() if keys is not None}
    if config.search.storage is not None:
        now["search"]["storage"] = without_password(config.search.storage)
    with RunFolder(config.run.folder) as folder:
        stored = read_tables(folder.config)
        if stored is not None and resume == "same":
            _check_same_job(_flat(stored), _flat(now), config.run.folder)
        if stored is None or resume == "anyway" or not folder.result.exists():
            # after a check, the search may still be another one
            folder.write_json(folder.config, now)


def _check_same_job(before: Mapping[str, Any], now: Mapping[str, Any], folder: str) -> None:
    for key, value in now.items():
        if key.split(".")[0] in {"model", "data", "train"} and key not in FREE and before.get(key) != value:
            raise InputError(
                f"the run in {folder} was started with {key} = {before.get(key)!r}, now it is {value!r}; "
                "continue it with the same configuration, choose another folder, or go on knowingly with --anyway"
            )


def _flat(tables: dict[str, Any]) -> dict[str, Any]:
    return {f"{table}.{key}": value for table, keys in tables.items() for key, value in keys.items()}

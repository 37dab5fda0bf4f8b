"""From a configuration to the whole job: load the data, build the network, and hand both to the tuner."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from prunetune.backends import Categorical, SearchSpace
from prunetune.backends.storage import absolute, without_password
from prunetune.checking import CONFIGURATIONS, CheckResult, check
from prunetune.comparison.compare import CompareResult, compare
from prunetune.comparison.settings import Comparison
from prunetune.config import Config, fidelity_of, parse_config, read_config, search_space
from prunetune.data import ImageData, datasets
from prunetune.data._files import Say, silently
from prunetune.data._reduced import subset_size
from prunetune.errors import InputError
from prunetune.events import Observer, silent
from prunetune.fidelity import FULL
from prunetune.fingerprint import Resume
from prunetune.jobs.devices import choose_device
from prunetune.jobs.execution import Execution
from prunetune.jobs.image_classification import Hyperparameters, ImageClassification, check_batch_size
from prunetune.jobs.local_workers import LocalWorkers
from prunetune.jobs.schedules import SCHEDULES
from prunetune.runfolder import RunFolder, read_tables, sqlite_url, whole_path
from prunetune.settings import Pruning, Search
from prunetune.tuner import TuneResult, tune
from prunetune.workers import WAIT_SECONDS, ModelFunction, joined, work
from prunetune.zoo import models

if TYPE_CHECKING:
    from torch import nn

EXAMPLE_BATCH: Final = 128  # images that FLOPs are counted and a step is timed on
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
    model_fn, job, data = _prepare(config, say)
    keep_config(config, resume)
    with LocalWorkers(workers - 1, config, observer) as crowd:
        return tune(
            model_fn,
            job,
            search_space(config),
            example_inputs=data.normalize(data.train_images[:EXAMPLE_BATCH]),
            epochs=config.search.epochs,
            run_dir=config.run.folder,
            resume=resume,
            pruning=_pruning(config),
            search=_search(config),
            fidelity=fidelity_of(config),
            first=config.search.first,
            seed=config.search.seed,
            evaluate=job.evaluate,
            data=ScoringBatches(data, config.search.seed),
            energy=config.run.energy,
            country=config.run.country,
            observer=crowd,
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
    """Check the proxy that ``config`` describes, in its run folder; see ``prunetune.check`` and ``launch``."""
    model_fn, job, data = _prepare(config, say)
    keep_config(config, resume)
    return check(
        model_fn,
        job,
        search_space(config),
        example_inputs=data.normalize(data.train_images[:EXAMPLE_BATCH]),
        epochs=config.search.epochs,
        run_dir=config.run.folder,
        resume=resume,
        pruning=_pruning(config),
        search=_search(config),
        fidelity=fidelity_of(config),
        seed=config.search.seed,
        data=ScoringBatches(data, config.search.seed),
        observer=observer,
        configurations=configurations,
        check_epochs=epochs,
    )


def launch_compare(
    config: Config, *, resume: Resume = "same", observer: Observer = silent, say: Say = silently
) -> CompareResult:
    """Compare what the ``[compare]`` of ``config`` says, in its run folder; see ``prunetune.compare`` and ``launch``.

    The proxy of a ``[pruning]`` that was given takes part. Raises InputError for a fidelity: of that, rivals are made.
    """
    if fidelity_of(config) != FULL:
        raise InputError("compare trains proxies in full, and makes rivals of what [fidelity] would leave out; drop it")
    asked = config.compare
    proxies = {CONFIGURED: _pruning(config)} if "pruning" in config.model_fields_set else {}
    comparison = Comparison(**asked.settings(), proxies=proxies)
    model_fn, job, data = _prepare(config, say)
    keep_config(config, resume)
    device = choose_device(config.run.device)

    def build(name: str) -> nn.Module:
        return models[name](data.num_classes, data.channels).to(device)

    return compare(
        model_fn,
        job,
        search_space(config),
        example_inputs=data.normalize(data.train_images[:EXAMPLE_BATCH]),
        epochs=config.search.epochs,
        run_dir=config.run.folder,
        resume=resume,
        comparison=comparison,
        direction="maximize",
        smaller={name: partial(build, name) for name in asked.smaller},
        seed=config.search.seed,
        evaluate=job.evaluate,
        data=ScoringBatches(data, config.search.seed),
        observer=observer,
    )


def _pruning(config: Config) -> Pruning:
    return Pruning(**config.pruning.model_dump(exclude_none=True))


def _search(config: Config) -> Search:
    search = config.search
    return Search(
        direction="maximize",  # of an accuracy, which the image loop returns
        n_trials=search.n_trials,
        confirm=search.confirm,
        optimizer=search.optimizer,
        trial_pruner=search.trial_pruner,
        rungs=search.rungs,
        storage=search.storage,
        study=search.study,
        race=search.race,
        refine=search.refine,
    )


def join(
    storage: str,
    study: str | None,
    *,
    device: str = "auto",
    root: str | None = None,
    wait: float = WAIT_SECONDS,
    resume: Resume = "same",
    observer: Observer = silent,
) -> int:
    """Run trials of the search ``study`` in ``storage``, with the model and the data that its owner has; how many.

    ``device`` and ``root``, the folder of the data, are those of this machine.
    """
    with joined(storage, study, observer, wait) as (found, _, order):
        name, job = found.study_name, order.job
    if job is None:
        raise InputError(
            f"the search {name!r} was started with a network and a train function of somebody's own; join it with "
            "prunetune.work(model_fn, train, URL)"
        )
    model_fn, train, _ = _prepare(_config_of(job, device, root))
    return work(model_fn, train, storage, study=name, wait=wait, resume=resume, observer=observer)


def _prepare(config: Config, say: Say = silently) -> tuple[ModelFunction, ImageClassification, ImageData]:
    """How the network is built and trained, and the data, on the device."""
    device = choose_device(config.run.device)
    data = load_data(config, say)
    _check_batch_sizes(config, search_space(config), data, fidelity_of(config).data)
    data = data.to(device)
    train = config.train
    defaults = Hyperparameters().updated(train.fixed())
    execution = Execution(train.amp, train.channels_last, train.compile)
    job = ImageClassification(data, defaults, SCHEDULES[train.schedule], execution, config.search.seed)
    builder = models[config.model.name]

    def model_fn() -> nn.Module:
        return builder(data.num_classes, data.channels).to(device)

    return model_fn, job, data


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
        if not (folder / "study.db").exists():
            raise InputError(f"there is no search in {folder} yet; start it with `prunetune run`")
        return sqlite_url(folder / "study.db"), study
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


@dataclass(frozen=True)
class ScoringBatches:
    """Batches of training images and their labels, drawn without replacement, the same for the same seed."""

    data: ImageData
    seed: int

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        images, labels = self.data.train_images, self.data.train_labels
        order = torch.randperm(len(images), generator=torch.Generator().manual_seed(self.seed)).to(images.device)
        for part in torch.split(order, EXAMPLE_BATCH):
            yield self.data.normalize(images[part]), labels[part]


def keep_config(config: Config, resume: Resume = "same") -> None:
    """Write ``config`` into the run folder as ``config.json``, or check it against the one that is there.

    What the tuner knows of (search, pruning) it compares itself; here it is the job: model, data and training.
    Raises InputError that names the first key that differs, unless ``resume`` is "anyway".
    """
    now = config.model_dump(mode="json", exclude={"run"})
    if config.search.storage is not None:
        now["search"]["storage"] = without_password(absolute(config.search.storage))
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


def load_data(config: Config, say: Say = silently) -> ImageData:
    """The images that ``config`` names, on the CPU, with the augmentation that it asks for. Raises InputError."""
    dataset = datasets[config.data.name]
    root = None if config.data.root is None else whole_path("data.root", config.data.root)
    if config.data.download and dataset.fetch is not None:
        dataset.fetch(root, say)
    data = dataset.load(config.data.image_size, root, config.data.seed)
    return replace(data, augmentation=replace(data.augmentation, **config.train.augmentation()))


def _check_batch_sizes(config: Config, space: SearchSpace, data: ImageData, share: float) -> None:
    """Raise InputError unless every batch size that may be tried fits into that share of the training set."""
    distribution = space.get("batch_size")
    if distribution is None:
        sizes = [("train.batch_size", Hyperparameters().updated(config.train.fixed()).batch_size)]
    else:
        ends = distribution.choices if isinstance(distribution, Categorical) else (distribution.low, distribution.high)
        sizes = [("search.space.batch_size", int(str(end))) for end in ends]
    for key, size in sizes:
        try:
            check_batch_size(size, data)
        except InputError as error:
            raise InputError(f"{key}: {error}") from None
        if size > (kept := subset_size(len(data.train_labels), share)):
            raise InputError(
                f"{key}: batch_size {size} is impossible in trials, for which fidelity.data "
                f"{'= ' if config.fidelity.cost is None else 'may leave '}{share:.3g} of the "
                f"{len(data.train_labels)} training images, {kept}; raise fidelity.data, or lower the batch size"
            )

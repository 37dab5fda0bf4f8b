"""The command ``prunetune``. Whatever is heavy is imported inside the commands, so that ``--help`` is there at once."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from prunetune._utils.interrupts import answered, end_with_owner, interruptible
from prunetune._utils.shown import visible
from prunetune._version import __version__
from prunetune.errors import PrunetuneError
from prunetune.events import Event, Notice

BAD_INPUT = 2

app = typer.Typer(
    name="prunetune",
    help="Prune small, tune fast, train full: find a network's hyperparameters on a small pruned proxy of it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def main() -> None:
    """Run the command line, for scripts that were installed before it began in ``__main__``."""
    from prunetune.__main__ import main as begin  # it minds signals from its import on

    begin()


Quiet: TypeAlias = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
Anyway: TypeAlias = Annotated[
    bool, typer.Option("--anyway", help="Continue even if the network or its training has changed.")
]
Json: TypeAlias = Annotated[
    bool, typer.Option("--json", help="Print nothing but the result, as JSON.", show_default=False)
]


class Kind(StrEnum):
    """What ``prunetune list`` can list."""

    SCORERS = "scorers"
    REDUCTIONS = "reductions"
    NORMALISERS = "normalisers"
    TRANSFERS = "transfers"
    OPTIMIZERS = "optimizers"
    TRIAL_PRUNERS = "trial-pruners"
    SPACES = "spaces"
    LADDERS = "ladders"
    MODELS = "models"
    DATASETS = "datasets"
    TEXTS = "texts"


class Template(StrEnum):
    """What ``prunetune init`` can begin a configuration for."""

    IMAGES = "image-classification"
    TEXT_CLASSIFICATION = "text-classification"
    CAUSAL_LM = "causal-lm"
    TIMM = "timm"


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"prunetune {__version__}")
        raise typer.Exit


@app.callback()
def prunetune(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Prune small, tune fast, train full: find a network's hyperparameters on a small pruned proxy of it."""


@app.command()
def run(
    config: Annotated[Path, typer.Argument(help="A TOML file; examples/run.toml has every key.", show_default=False)],
    workers: Annotated[int, typer.Option(min=1, max=1024, help="Number of processes on this machine that search.")] = 1,
    budget: Annotated[
        str | None,
        typer.Option(help="What all trainings may cost: full trainings (3) or time (2h, 90m).", show_default=False),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download the dataset's files if they are missing.")
    ] = False,
    energy: Annotated[bool, typer.Option("--energy", help="Measure electricity and CO2 (needs codecarbon).")] = False,
    anyway: Anyway = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run the search that CONFIG describes. The same command continues a run that was stopped.

    Example: prunetune run examples/run.toml --workers 2
    """
    with _exit_statuses(
        f"prunetune run {config}"
        + (f" --workers {workers}" if workers > 1 else "")
        + (f" --budget {budget}" if budget is not None else "")
        + " --download" * download
        + " --energy" * energy
        + " --anyway" * anyway
    ):
        from prunetune.cli.config import configured  # loads pydantic: not for --help

        asked = configured(config, budget=budget, download=download, energy=energy)
        from prunetune.cli import actions  # loads torch: only for this command, and after the configuration

        actions.run(asked, actions.Shown(anyway, quiet, as_json), workers)


@app.command()
def plan(
    config: Annotated[Path, typer.Argument(help="The configuration of the run.", show_default=False)],
    budget: Annotated[
        str | None,
        typer.Option(help="What all trainings may cost: full trainings (3) or time (2h, 90m).", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the ladder of CONFIG, and what each rung costs. Nothing is trained.

    Example: prunetune plan examples/run.toml --budget 3
    """
    with _exit_statuses(f"prunetune plan {config}" + (f" --budget {budget}" if budget is not None else "")):
        from prunetune.cli.config import configured  # loads pydantic: not for --help

        asked = configured(config, budget=budget)
        from prunetune.cli import actions  # loads torch: only for this command, and after the configuration

        actions.plan(asked, actions.Shown(as_json=as_json))


@app.command()
def check(
    config: Annotated[Path, typer.Argument(help="The configuration of the run.", show_default=False)],
    configurations: Annotated[
        int, typer.Option(min=4, max=1024, help="How many configurations to train on both networks.")
    ] = 8,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs of each training.", show_default="an eighth of search.epochs")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Download the dataset's files if they are missing.")
    ] = False,
    anyway: Anyway = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Check whether the proxy of CONFIG is good enough to search on, by a few trainings of it and of the full network.

    The run folder keeps what was measured. The same command continues after a stop. With more configurations or
    another proxy it trains only what is new.

    Example: prunetune check examples/run.toml
    """
    again = f"prunetune check {config} --configurations {configurations}"
    with _exit_statuses(
        again + (f" --epochs {epochs}" if epochs else "") + " --download" * download + " --anyway" * anyway
    ):
        from prunetune.cli.config import configured  # loads pydantic: not for --help

        asked = configured(config, download=download)
        from prunetune.cli import actions  # loads torch: only for this command, and after the configuration

        actions.check(asked, actions.Shown(anyway, quiet, as_json), configurations, epochs)


@app.command()
def compare(
    config: Annotated[Path, typer.Argument(help="A configuration with a table [compare].", show_default=False)],
    download: Annotated[
        bool, typer.Option("--download", help="Download the dataset's files if they are missing.")
    ] = False,
    anyway: Anyway = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compare scorers, sizes of proxies, optimizers and rivals at equal cost, on the network and data of CONFIG.

    This takes long: the full network is trained on every configuration with several seeds. The same command continues
    after a stop, and trains only what is new in [compare]. It writes compare.html and compare.json into the run folder.

    Example: prunetune compare examples/run.toml
    """
    with _exit_statuses(f"prunetune compare {config}" + " --download" * download + " --anyway" * anyway):
        from prunetune.cli.config import configured  # loads pydantic: not for --help

        asked = configured(config, download=download)
        from prunetune.cli import actions  # loads torch: only for this command, and after the configuration

        actions.compare(asked, actions.Shown(anyway, quiet, as_json))


@app.command()
def worker(
    source: Annotated[
        Path | None,
        typer.Argument(
            metavar="[CONFIG|FOLDER]",
            help="The run's configuration or folder, if this machine has it.",
            show_default=False,
        ),
    ] = None,
    study: Annotated[
        str | None,
        typer.Option(
            envvar="PRUNETUNE_STUDY",
            show_envvar=True,
            metavar="URL",
            help="Storage of the search: postgresql://USER@HOST/NAME, journal:///FILE, grpc://HOST:PORT …",
            show_default=False,
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the search, if the storage has several.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="Device to train on.")] = "auto",
    root: Annotated[
        str | None, typer.Option(help="Folder of the data, if it is not the run's.", show_default=False)
    ] = None,
    wait: Annotated[float, typer.Option(min=0, help="Seconds to wait for the search to begin.")] = 600.0,
    anyway: Anyway = False,
) -> None:
    """Join a search as one more process, on this or another machine, until there is nothing left to train.

    The worker reads everything but the data from the storage. If a worker dies, its configuration is trained again. A
    winner that is trained alone is trained by the run itself.

    Example: prunetune worker examples/run.toml
    """
    end_with_owner()
    with _exit_statuses("prunetune worker, with the same arguments"):
        from prunetune.cli import actions  # loads torch: only for this command

        actions.worker(source, study, name, actions.Shown(anyway), device=device, root=root, wait=wait)


def _scorers(incomplete: str) -> list[str]:
    """Names for the shell's completion."""
    from prunetune.plugins import scorers  # loads torch: only for this command

    return [name for name in scorers.names() if name.startswith(incomplete)]


@app.command()
def prune(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:FUNCTION", help="The function or class that builds the network.", show_default=False
        ),
    ],
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input",
            "-i",
            metavar="SHAPE",
            help="Shape of one batch: 1,3,224,224, or 2,128:int64 for indices. Repeat it for more arguments.",
            show_default=False,
        ),
    ] = [],  # noqa: B006  # typer copies it
    scorer: Annotated[
        str, typer.Option(help="How channels are scored: prunetune list scorers.", autocompletion=_scorers)
    ] = "synflow",
    percentile: Annotated[
        float | None,
        typer.Option(help="Cut this percentage of all channels, the paper's p. Default without another budget: 85."),
    ] = None,
    ratio: Annotated[float | None, typer.Option(help="Keep this share of every group's channels.")] = None,
    flops: Annotated[float | None, typer.Option(help="Keep at most this share of the FLOPs.")] = None,
    params: Annotated[float | None, typer.Option(help="Keep at most this share of the parameters.")] = None,
    speedup: Annotated[
        float | None, typer.Option(help="Cut until a training step is this many times faster (measured).")
    ] = None,
    floor: Annotated[float | None, typer.Option(help="Keep at least this share of every group. Default: 0.15.")] = None,
    depth: Annotated[bool, typer.Option("--depth", help="Also bypass residual blocks.")] = False,
    protect: Annotated[
        list[str], typer.Option(metavar="LAYER", help="Leave this layer as it is. Can be repeated.", show_default=False)
    ] = [],  # noqa: B006
    multiple_of: Annotated[int, typer.Option(min=1, help="Keep a multiple of this many channels in every layer.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the initial weights, and of scorers that draw at random.")] = 0,
    transfer: Annotated[
        str | None,
        typer.Option(
            metavar="RULE",
            help="Also show what this transfer rule makes of every parameter's learning rate.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write the plan to.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Cut any network that can be imported, and show what is left. The default budget is the paper's percentile, 85.

    Example: prunetune prune torchvision.models:resnet18 --input 1,3,224,224 --flops 0.1 -o plan.json
    """
    with _exit_statuses("prunetune prune, with the same arguments"):
        import torch

        from prunetune.cli import commands  # loads torch: only for this command

        torch.manual_seed(seed)
        options = {
            "scorer": scorer, "percentile": percentile, "ratio": ratio, "flops": flops, "params": params,
            "speedup": speedup, "floor": floor, "depth": depth, "protect": protect, "multiple_of": multiple_of,
            "seed": seed, "observer": None if as_json else _tell,
        }  # fmt: skip
        asked = commands.Asked(model, tuple(inputs), options, transfer)
        result = commands.cut(asked)
        typer.echo(commands.as_json(result, asked) if as_json else commands.as_text(result, asked))
        if output is not None:
            result.plan.save(output)
            if not as_json:
                typer.echo(f"The plan is in {output}: prunetune.engine.apply(PruningPlan.load({str(output)!r}), model)")


@app.command()
def init(
    file: Annotated[Path, typer.Argument(help="The configuration file to write.")] = Path("prunetune.toml"),
    job: Annotated[
        Template, typer.Option(help="What to train; the first has every key with its meaning.")
    ] = Template.IMAGES,
) -> None:
    """Write a configuration that you can change and run.

    Example: prunetune init
    """
    with _exit_statuses("prunetune init"):
        from prunetune.cli.commands import write_template  # loads torch: only for this command

        write_template(file, job.value)
        typer.echo(f"{file} is written; change it, then: prunetune run {file}")


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(help="The folder of a run, finished or not.", show_default=False)],
    study: Annotated[
        str | None, typer.Option(metavar="URL", help="Storage of the run, if it is shared.", show_default=False)
    ] = None,
) -> None:
    """Write the report of a run again, even while the run is still going on.

    Example: prunetune report runs/demo
    """
    with _exit_statuses("prunetune report, with the same arguments"):
        from prunetune.report import write_report  # loads torch: only for this command

        typer.echo(str(write_report(folder, storage=study)))


@app.command()
def dashboard(
    folder: Annotated[Path, typer.Argument(help="The folder of a run, finished or not.", show_default=False)],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port of the page; 0 takes a free one.")] = 8080,
    study: Annotated[
        str | None, typer.Option(metavar="URL", help="Storage of the run, if it is shared.", show_default=False)
    ] = None,
) -> None:
    """Show a run live in optuna-dashboard, on this machine, until Ctrl-C.

    Example: prunetune dashboard runs/demo --port 8080
    """
    with _exit_statuses("prunetune dashboard, with the same arguments"):
        from prunetune.cli.dashboard import Dashboard, check_installed, storage_of  # loads torch: only for this command

        url = storage_of(folder, study)
        check_installed()
        from prunetune.backends.study.storage import connected  # loads torch: only for this command

        with connected(url) as storage:
            board = Dashboard(storage, port)
            typer.echo(f"The dashboard is at {board.url} (Ctrl-C ends it)")
            sys.stdout.flush()
            board.serve()


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="The run folder to write.")] = Path("runs/demo"),
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Tune a VGG-16 on scans of handwritten digits: a few minutes on two CPU cores, nothing to download.

    Example: prunetune demo
    """
    with _exit_statuses("prunetune demo" if folder == Path("runs/demo") else f"prunetune demo --folder {folder}"):
        from prunetune.cli import actions  # loads torch: only for this command
        from prunetune.cli.demo import demo_config  # as does this

        actions.run(demo_config(folder), actions.Shown(quiet=quiet, as_json=as_json))


@app.command(name="list")
def list_names(
    kind: Annotated[
        Kind | None, typer.Argument(help="What to list; without it, everything.", show_default=False)
    ] = None,
) -> None:
    """List the names that a configuration can use. With a KIND: what each needs, what it is, and its package.

    Example: prunetune list scorers
    """
    from prunetune.cli.listing import print_rows, registries, rows  # loads torch: only for this command

    if kind is not None:
        from prunetune.console.display import Terminal  # loads torch: only for this command

        print_rows(Terminal(), rows(kind.value))
        return
    for each, registry in registries().items():
        typer.echo(f"{each}: {', '.join(registry.names())}")


def _tell(event: Event) -> None:
    """Notices on standard error, for standard output is for the result."""
    if isinstance(event, Notice):
        typer.echo(visible(event.message), err=True)


@contextlib.contextmanager
def _exit_statuses(command: str) -> Iterator[None]:
    """Errors on purpose become their sentence and status 2; Ctrl-C and SIGTERM become a hint to go on."""
    try:
        with interruptible(signal.SIGINT, signal.SIGTERM):
            yield
    except PrunetuneError as error:
        typer.echo(f"prunetune: {visible(str(error))}", err=True)
        raise typer.Exit(BAD_INPUT) from None
    except KeyboardInterrupt as interrupt:
        status = answered(interrupt)
        typer.echo(f"\nStopped; what is finished is kept. Go on with: {command}", err=True)
        raise typer.Exit(status) from None

"""The common part of the commands: arguments, reading a run folder, and training with progress and signals."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from fedray.config.layers import Layers
from fedray.config.sections import ClusterSection, WorkerSection
from fedray.core.collector import collector_off
from fedray.core.errors import ConfigError
from fedray.core.stages import stage
from fedray.run.interrupt import NOT_BEGUN, STOPPED, exit_at_once, held, starting
from fedray.rundir.names import SUMMARY, read_object, to_go_on
from fedray.slurm.requeue import belongs_to_job

if TYPE_CHECKING:
    from fedray.experiment.build import Config
    from fedray.experiment.experiment import Experiment
    from fedray.experiment.shell import Ended
    from fedray.rundir.folder import RunFolder

FAILED, WRONG = 1, 2
_LONGEST = 86_400.0

Seen = TypeVar("Seen")

ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The experiment.", show_default=False)]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A run folder.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Change the config, as in local.epochs=2.", show_default=False),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")]


def _round(text: str) -> int | str:
    if text != "best" and not text.isdecimal():
        raise typer.BadParameter(f"{text!r} is no round: give its number, or best")
    return text if text == "best" else int(text)


MadeBy = Annotated[
    str | None,
    typer.Option("--model", metavar="MODULE:NAME", help="What makes the module, of a run from Python."),
]

Round = Annotated[
    Any,
    typer.Option(
        "--round",
        parser=_round,
        metavar="ROUND|best",
        help="A checkpoint's round, or best, by checkpoint.best; default: the newest.",
        show_default=False,
    ),
]


Threshold = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        help="Of two classes: the second is the answer above this probability; default: that of the task, 0.5.",
        show_default=False,
    ),
]


AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= _LONGEST:
        raise typer.BadParameter(f"{text!r} is no number of seconds from 0.1 to {_LONGEST:g}")
    return seconds


Every = Annotated[float, typer.Option("--every", parser=_seconds, metavar="SECONDS", help="Seconds between two looks.")]


def where(layers: Layers) -> tuple[ClusterSection, WorkerSection]:
    """Return where a config wants to run, found without torch: a mistake in its sections is said at once."""
    with held():
        from fedray.config.elsewhere import of_sections, pointed
        from fedray.config.layers import bind_cluster, bind_top
        from fedray.config.registry import bind

    try:
        sections = bind_top(layers[1])
        return bind_cluster(sections), bind(WorkerSection, sections.worker, "worker")
    except ConfigError as error:
        found = pointed(error, of_sections())
        if found is not error or error.unknown is None:
            raise found from None
        with held():
            from fedray.experiment.elsewhere import all_keys  # imports torch, for which there is time now
        raise pointed(error, all_keys(layers[1])) from None


def check_new(layers: Layers) -> None:
    """Check that the run folder that a config names is free and can be written, before anything is started or read."""
    with held():
        from fedray.rundir.folder import RunFolder
        from fedray.rundir.tree import RUNS, check_writable

    section = layers[1].get("run")
    folder = section.get("dir") if isinstance(section, Mapping) else None
    if isinstance(folder, str):
        RunFolder(Path(folder)).check(resume=False)
    else:
        check_writable(RUNS)


@contextmanager
def ray_ahead(cluster: ClusterSection, worker: WorkerSection, quiet: bool = False) -> Iterator[None]:
    """Start Ray on this machine, if it will be wanted, while torch is imported, the config checked, the data read."""
    with held():
        from fedray.cluster.start.head import ahead

    with starting(NOT_BEGUN, again=exit_at_once), ahead(cluster, worker):
        with held(), collector_off(), shown(quiet):
            stage("loading PyTorch")
            import_module("fedray.experiment.build")
        yield


@contextmanager
def shown(quiet: bool) -> Iterator[None]:
    """Show the stages of what is done in the context; signals act as before."""
    if quiet:
        yield
        return
    from fedray.core.waiting import waiting

    with waiting():
        yield


def loaded_from(run_dir: Path, layers: Layers) -> tuple[Config, RunFolder]:
    """Return the config of a run folder, as it was read with changes, and the folder."""
    with held():
        from fedray.experiment.build import Config
        from fedray.rundir.folder import RunFolder

    folder = RunFolder(run_dir)
    folder.config()
    return Config.bind(_name(run_dir), *layers), folder


def _name(run_dir: Path) -> str:
    return str(read_object(run_dir / SUMMARY).get("name", run_dir.name))


def train(experiment: Experiment, quiet: bool) -> None:
    """Run an experiment in sight of the user; signals stop it with a checkpoint and exit status STOPPED.

    Args:
        experiment: the run and its place.
        quiet: show nothing.
    """
    if in_sight(experiment, quiet).stopped:
        folder = experiment.run.folder.path
        # A Slurm job says itself what becomes of it.
        if not belongs_to_job(folder, os.environ):
            typer.echo(f"stopped; go on with: {to_go_on(folder)}", err=True)
        raise typer.Exit(STOPPED)


def in_sight(experiment: Experiment, quiet: bool, alone: bool = True) -> Ended:
    """Run an experiment in sight of the user, and bring the table of its sweep up to date; signals stop it.

    Args:
        experiment: the run and its place.
        quiet: show nothing.
        alone: False: it is one of several runs, and the command says at its end how to look at all.
    """
    from fedray.experiment.shell import run_in_sight

    try:
        return run_in_sight(experiment, quiet=quiet, alone=alone)
    finally:
        _update_table(experiment.run.folder.path.resolve().parent)


def _update_table(folder: Path) -> None:
    """Write the table of the sweep in a folder anew, if there is a sweep.

    Whichever of its runs ends last, wherever, leaves the whole table.
    """
    with held():
        from fedray.sweep import Sweep

    try:
        if sweep := Sweep.at(folder):
            sweep.write_table()
    except ConfigError as error:
        # The run has ended as it has, whatever becomes of the table.
        typer.echo(f"fedray: the table of the sweep: {error}", err=True)


def looks(look: Callable[[], Seen], again: Callable[[Seen], bool], every: float) -> Iterator[Seen]:
    """Look once, and again and again as long as what was seen asks for it, or until the user has seen enough."""
    try:
        while True:
            seen = look()
            yield seen
            if not again(seen):
                return
            time.sleep(every)  # the pace that the user has set, for as long as the run takes
    except KeyboardInterrupt:
        return


def duration(seconds: float) -> str:
    """Return roughly two units of a duration.

    >>> duration(4.4), duration(61), duration(7300), duration(200_000)
    ('4 s', '1 min 1 s', '2 h 1 min', '2 d 7 h')
    """
    whole = round(seconds)
    for unit, size, below, smaller in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // smaller} {below}"
    return f"{whole} s"


def check_joined(option: str, given: Sequence[str], words: Sequence[str]) -> None:
    """Refuse words among ``key=value`` that belong to an option which takes a list, joined by commas.

    Args:
        option: the option.
        given: its values; empty: it was not given, and is not what is meant.
        words: the arguments of the command.

    Raises:
        ConfigError: there is such a word; with the option as it is written.
    """
    loose = [word.strip(",") for word in words if "=" not in word and word.strip(",")]
    if given and loose:
        raise ConfigError(
            f"{loose[0]!r}: expected key=value; the values of {option} are joined by commas, without blanks: "
            f"{option} {','.join([*given, *loose])}"
        )


def split_list(*texts: str) -> list[str]:
    """Return the values of an option that takes a list: joined by commas, or the option given again.

    >>> split_list("fedprox, fedbn", "ditto")
    ['fedprox', 'fedbn', 'ditto']
    """
    return [name for text in texts for one in text.split(",") if (name := one.strip())]

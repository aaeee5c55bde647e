"""Commands that train."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from fedray.cli.common import (
    ConfigArgument,
    Overrides,
    Quiet,
    RunArgument,
    check_new,
    loaded_from,
    ray_ahead,
    shown,
    train,
    where,
)
from fedray.config.layers import load_layers
from fedray.config.sections import ClusterSection, WorkerSection
from fedray.run.interrupt import NOT_BEGUN, exit_at_once, held, starting
from fedray.rundir.lock import check_free
from fedray.rundir.names import config_of, config_path
from fedray.rundir.tree import check_writable

Profiled = Annotated[
    str | None,
    typer.Option(
        "--profile",
        metavar="rounds=3-5",
        help="Write a trace of these rounds, of the driver and of each worker, into the run folder.",
        show_default=False,
    ),
]


def _with(overrides: list[str] | None, profile: str | None) -> list[str]:
    """Return the overrides with what ``--profile`` says."""
    said = [] if profile is None else [f"run.profile={profile.removeprefix('rounds=')}"]
    return [*(overrides or ()), *said]


def run(
    config: ConfigArgument,
    overrides: Overrides = None,
    quiet: Quiet = False,
    profile: Profiled = None,
    tuned: Annotated[
        bool,
        typer.Option("--tuned", help="With what `fedray tune` chooses, measured first where it was not before."),
    ] = False,
) -> None:
    """Train.  The run folder is run.dir=PATH, or runs/<config name>/<time>."""
    changes, note = _with(overrides, profile), ""
    layers = load_layers(config, changes)
    check_new(layers)
    if tuned:
        changes, note = _tuned(config, changes, quiet)
        layers = load_layers(config, changes)
    place = where(layers)
    with ray_ahead(*place, quiet):
        with held():
            from fedray.experiment.build import Config

        with shown(quiet):
            loaded = Config.bind(config.stem, *layers)
            experiment = loaded.experiment(loaded.run_folder())
        if note:
            experiment = replace(experiment, run=replace(experiment.run, notes=(*experiment.run.notes, note)))
        train(experiment, quiet)


def _tuned(config: Path, changes: list[str], quiet: bool) -> tuple[list[str], str]:
    """Return the overrides with what is chosen by measurements, and the words for it."""
    from fedray.cli.tuning import choice, told

    with starting(NOT_BEGUN, again=exit_at_once):
        found = choice(config, changes, quiet=quiet)
    if not quiet:
        typer.echo(told(found))
    return [*changes, *found.changes], told(found)


def resume(run_dir: RunArgument, overrides: Overrides = None, quiet: Quiet = False, profile: Profiled = None) -> None:
    """Go on from the newest good checkpoint, for example with more rounds: fedray resume RUN_DIR rounds=100."""
    config_of(run_dir)
    check_free(run_dir)
    check_writable(run_dir)
    layers = load_layers(config_path(run_dir), _with(overrides, profile))
    with ray_ahead(*where(layers), quiet):
        with shown(quiet):
            loaded, folder = loaded_from(run_dir, layers)
            experiment = loaded.experiment(folder, resume=True)
        train(experiment, quiet)


def quickstart(
    folder: Annotated[Path, typer.Option("--dir", help="Where data and results go.")] = Path("runs/quickstart"),
) -> None:
    """Train one diagnosis model on the tables of five hospitals: writes their CSV files, trains, compares."""
    with ray_ahead(ClusterSection(), WorkerSection()):
        with held():
            from fedray.cli.quickstart import hospitals

        hospitals(folder, lambda experiment: train(experiment, quiet=False))


def new(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The folder to make.", show_default=False)],
) -> None:
    """Write a small project of your own: a config, a model, a data function, a test, a README; it runs at once."""
    with held():
        from fedray.cli.study import FILES, write_study

    write_study(study)
    typer.echo(f"wrote {study}: {', '.join(FILES)}")
    typer.echo(f"  train  cd {shlex.quote(str(study))} && fedray run config.yaml")
    typer.echo("  test   pytest   (there)")

"""The command line.  Exit status: 0 done, 1 the run failed, 2 config or data is wrong, 75 stopped with a checkpoint."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedray.errors import ConfigError, RunFailed

if TYPE_CHECKING:
    from fedray.experiment import Config, Experiment
    from fedray.run import RunFolder

FAILED, WRONG, STOPPED = 1, 2, 75

app = typer.Typer(
    name="fedray",
    help="Federated learning of PyTorch models: one config, from a laptop to a cluster.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG.yaml", help="The experiment.", show_default=False)]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A run folder.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Change the config, as in local.epochs=2.", show_default=False),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show nothing but errors.")]
Round = Annotated[int | None, typer.Option("--round", help="A checkpoint's round; default: the newest.")]


@app.callback(invoke_without_command=True)
def _top(version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False) -> None:
    if version:
        from fedray import __version__

        typer.echo(f"fedray {__version__}")
        raise typer.Exit


@app.command()
def run(config: ConfigArgument, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Train.  The run folder is run.dir=PATH, or runs/<config name>/<time>."""
    from fedray.experiment import Config

    loaded = Config.load(config, overrides or ())
    _train(loaded.experiment(loaded.run_folder()), quiet)


@app.command()
def resume(run_dir: RunArgument, overrides: Overrides = None, quiet: Quiet = False) -> None:
    """Go on from the newest good checkpoint, for example with more rounds: fedray resume RUN_DIR rounds=100."""
    from fedray.checkpoint import replace_durably
    from fedray.run import CONFIG

    loaded, folder = _loaded(run_dir, overrides)
    experiment = loaded.experiment(folder, resume=True)
    replace_durably(folder.path / CONFIG, experiment.run.config.encode())
    _train(experiment, quiet)


@app.command()
def evaluate(
    run_dir: RunArgument,
    overrides: Overrides = None,
    data: Annotated[str | None, typer.Option("--data", help="Another test set: short for data.test=PATH.")] = None,
    round: Round = None,
) -> None:
    """Evaluate a run's model on its test set, or on another one."""
    from fedray.evaluation import evaluate_run

    changes = [*(overrides or ()), *([f"data.test={data}"] if data else ())]
    loaded, folder = _loaded(run_dir, changes)
    for name, value in evaluate_run(loaded, folder, round).items():
        typer.echo(f"{name:>10}  {value:.6g}")


@app.command()
def export(
    run_dir: RunArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="The file to write.", show_default=False)],
    round: Round = None,
) -> None:
    """Write a checkpoint's model for load_state_dict of the plain PyTorch module."""
    from fedray.evaluation import vector_of
    from fedray.run import write_model

    loaded, folder = _loaded(run_dir, None)
    plan = loaded.plan()
    vector = vector_of(plan, folder, round)
    try:
        write_model(plan, vector, out)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be written: {error.strerror or error}") from None
    typer.echo(f"wrote {out}")


@app.command()
def plan(config: ConfigArgument, overrides: Overrides = None) -> None:
    """Say what a run would do and cost, without training: sizes, blocks, bytes, memory, seconds per round."""
    from fedray.experiment import Config
    from fedray.planning import describe

    typer.echo(describe(Config.load(config, overrides or ())))


@app.command(name="list")
def list_parts(
    kind: Annotated[str | None, typer.Argument(help="algorithms, models, data, transforms...; default: all.")] = None,
) -> None:
    """List what can be named in a config, with defaults."""
    from fedray.planning import catalogue

    typer.echo(catalogue(kind))


@app.command(name="config")
def show_config(config: ConfigArgument, overrides: Overrides = None) -> None:
    """Print the resolved config: every layer merged, every default written out."""
    from fedray.experiment import Config

    typer.echo(Config.load(config, overrides or ()).to_yaml(), nl=False)


@app.command()
def quickstart(
    folder: Annotated[Path, typer.Option("--dir", help="Where data and results go.")] = Path("runs/quickstart"),
) -> None:
    """Five hospitals train one diagnosis model: writes their CSV files, trains, compares."""
    from fedray.quickstart import hospitals

    hospitals(folder, lambda experiment: _train(experiment, quiet=False))


def _loaded(run_dir: Path, overrides: list[str] | None) -> tuple[Config, RunFolder]:
    from fedray.experiment import Config
    from fedray.run import CONFIG, RunFolder

    folder = RunFolder(run_dir)
    folder.config()
    loaded = Config.load(run_dir / CONFIG, overrides or ())
    return loaded.named(_name(run_dir)), folder


def _name(run_dir: Path) -> str:
    try:
        return str(json.loads((run_dir / "summary.json").read_text())["name"])
    except (OSError, ValueError, KeyError):
        return run_dir.name


def _train(experiment: Experiment, quiet: bool) -> None:
    from fedray.interrupt import StopSignals
    from fedray.tracking.console import Console

    console = Console(quiet=quiet, tensorboard=experiment.run.tensorboard)
    console.start(experiment.run.info())
    signals = StopSignals(lambda: console.note("stopping: saving a checkpoint (once more to exit at once)"))
    try:
        with signals:
            for record in experiment.records(signals.arm):
                console.round(record)
        if not signals.stopped:
            console.finish(experiment.run.folder.summary())
    except RunFailed as error:
        raise RunFailed(f"{error}\nlog: {experiment.run.folder.log}") from error
    finally:
        console.close()
    if signals.stopped:
        typer.echo(f"stopped; go on with: fedray resume {experiment.run.folder.path}", err=True)
        raise typer.Exit(STOPPED)


def main() -> None:
    """Entry point of the ``fedray`` command."""
    try:
        app()
    except ConfigError as error:
        typer.echo(f"fedray: {error}", err=True)
        sys.exit(WRONG)
    except RunFailed as error:
        typer.echo(f"fedray: the run failed: {error}", err=True)
        sys.exit(FAILED)

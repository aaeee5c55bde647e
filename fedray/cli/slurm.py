"""The command that submits to Slurm."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedray.cli.common import Overrides
from fedray.config.sections import SlurmSection
from fedray.core.errors import ConfigError
from fedray.run.interrupt import held
from fedray.rundir.names import CODE, CONFIG, config_path
from fedray.slurm.batch import SCRIPT, BatchJob, render, submit

if TYPE_CHECKING:
    from fedray.experiment.build import Config
    from fedray.rundir.folder import RunFolder

Target = Annotated[Path, typer.Argument(metavar="CONFIG.yaml|RUN_DIR", help="The experiment, or a run to go on with.")]


@dataclass(frozen=True)
class SlurmOptions:
    """The options of a command that submits; None: as the config's section ``cluster`` says."""

    nodes: Annotated[int | None, typer.Option(help="Slurm nodes.")] = None
    gpus_per_node: Annotated[int | None, typer.Option(help="GPUs on each node.")] = None
    cpus_per_task: Annotated[int | None, typer.Option(help="CPUs on each node.")] = None
    mem: Annotated[str | None, typer.Option(help="Memory on each node, as in 16G.")] = None
    time: Annotated[str | None, typer.Option(help="Longest time of one start, as in 12:00:00.")] = None
    partition: Annotated[str | None, typer.Option(help="Partition.")] = None
    account: Annotated[str | None, typer.Option(help="Account.")] = None
    qos: Annotated[str | None, typer.Option(help="Quality of service.")] = None
    sbatch: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Another option of sbatch.")] = None
    show: Annotated[bool, typer.Option("--print", help="Show the batch script, and submit nothing.")] = False

    def section(self) -> dict[str, Any]:
        """Return the given options as keys of the section."""
        given = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "show"}
        given["sbatch"] = dict(_key_value(text) for text in self.sbatch) if self.sbatch else None
        return {name: value for name, value in given.items() if value is not None}


def with_slurm_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command every field of ``SlurmOptions`` as an option; they come to it as one argument ``options``."""
    own = dict(signature(command, eval_str=True).parameters)
    more = signature(SlurmOptions, eval_str=True).parameters
    del own["options"]

    @wraps(command)
    def call(**given: Any) -> None:
        command(options=SlurmOptions(**{name: given.pop(name) for name in more}), **given)

    call.__signature__ = Signature([*own.values(), *more.values()])  # type: ignore[attr-defined]
    return call


@with_slurm_options
def slurm(target: Target, options: SlurmOptions, overrides: Overrides = None) -> None:
    """Submit a run as a Slurm job: config section cluster: {name: slurm, ...}; the options here win over it."""
    with held():
        from fedray.experiment.capacity import check_gpus_used

    config, folder, fresh = _target(target, overrides or [], options.section())
    path, section = folder.path.resolve(), config.place.cluster
    assert isinstance(section, SlurmSection)
    check_gpus_used(config.place, config.data)
    job = BatchJob(section, f"fedray-{config.name}", sys.executable, path, (path,))
    text = render(job)
    if options.show:
        typer.echo(text, nl=False)
        return
    with _claimed(folder, config, fresh):
        number = submit(job, path)
    count = f"{section.nodes} node{'s' if section.nodes > 1 else ''}"
    typer.echo(f"submitted job {number} ({count}); run folder {folder.path}")
    typer.echo(f"  log     {folder.path / f'slurm-{number}.log'}")
    typer.echo(f"  follow  fedray status {folder.path}")
    typer.echo(f"  stop    fedray stop {folder.path}   (with a checkpoint)")
    typer.echo(f"  cancel  scancel {number}")
    typer.echo(f"  resume  fedray slurm {folder.path}")


def _key_value(text: str) -> tuple[str, str | bool]:
    key, equals, value = text.removeprefix("--").partition("=")
    return key, value if equals else True


def _target(target: Path, overrides: list[str], given: dict[str, Any]) -> tuple[Config, RunFolder, bool]:
    """Return the config with a section for Slurm, its run folder, and True if the run is new."""
    with held():
        from fedray.config.layers import load_layers, on_slurm
        from fedray.experiment.build import Config
        from fedray.experiment.status import slurm_job
        from fedray.rundir.folder import RunFolder

    fresh = not target.is_dir()
    if not fresh:
        RunFolder(target).config()
    raw, resolved = load_layers(target if fresh else config_path(target), overrides)
    name = target.stem if fresh else target.resolve().name
    config = Config.bind(name, on_slurm(raw, given), on_slurm(resolved, given))
    folder = config.run_folder() if fresh else RunFolder(target)
    job = slurm_job(folder.path)
    if job is not None and job.goes_on:
        raise ConfigError(
            f"{folder.path}: its job {job.job} is {job.state}; wait for its end, or stop it: fedray stop {folder.path}"
        )
    return config, folder, fresh


@contextmanager
def _claimed(folder: RunFolder, config: Config, fresh: bool) -> Iterator[None]:
    """Put the config into the folder; of a new run that is not submitted after all, nothing stays."""
    if not fresh:
        folder.keep_config(config.to_yaml())
        yield
        return
    made = not folder.path.exists()
    folder.claim(config.to_yaml(), config.code())
    try:
        yield
    except ConfigError:
        for name in (CONFIG, CODE, SCRIPT):
            (folder.path / name).unlink(missing_ok=True)
        folder.checkpoints.rmdir()
        if made:
            folder.path.rmdir()
        raise

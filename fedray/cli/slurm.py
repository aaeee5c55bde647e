"""The command that submits to Slurm."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedray.cli.common import Overrides
from fedray.errors import ConfigError

if TYPE_CHECKING:
    from fedray.experiment import Config
    from fedray.run import RunFolder

Target = Annotated[Path, typer.Argument(metavar="CONFIG.yaml|RUN_DIR", help="The experiment, or a run to go on with.")]


def slurm(
    target: Target,
    overrides: Overrides = None,
    nodes: Annotated[int | None, typer.Option(help="Slurm nodes.")] = None,
    gpus_per_node: Annotated[int | None, typer.Option(help="GPUs on each node.")] = None,
    cpus_per_task: Annotated[int | None, typer.Option(help="CPUs on each node.")] = None,
    mem: Annotated[str | None, typer.Option(help="Memory on each node, as in 16G.")] = None,
    time: Annotated[str | None, typer.Option(help="Longest time of one start, as in 12:00:00.")] = None,
    partition: Annotated[str | None, typer.Option(help="Partition.")] = None,
    account: Annotated[str | None, typer.Option(help="Account.")] = None,
    qos: Annotated[str | None, typer.Option(help="Quality of service.")] = None,
    sbatch: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Another option of sbatch.")] = None,
    show: Annotated[bool, typer.Option("--print", help="Show the batch script, and submit nothing.")] = False,
) -> None:
    """Submit a run as a Slurm job: config section cluster: {name: slurm, ...}; the options here win over it."""
    from fedray.slurm.batch import BatchJob, render, submit

    given: dict[str, Any] = {
        "nodes": nodes,
        "gpus_per_node": gpus_per_node,
        "cpus_per_task": cpus_per_task,
        "mem": mem,
        "time": time,
        "partition": partition,
        "account": account,
        "qos": qos,
        "sbatch": dict(_key_value(text) for text in sbatch) if sbatch else None,
    }
    config, folder, fresh = _target(target, overrides or [], {k: v for k, v in given.items() if v is not None})
    path = folder.path.resolve()
    job = BatchJob(_section(config), f"fedray-{config.name}", sys.executable, path, (path,))
    text = render(job)
    if show:
        typer.echo(text, nl=False)
        return
    made = not path.exists()
    _claim(folder, config, fresh)
    try:
        number = submit(job, path)
    except ConfigError:
        if made:
            shutil.rmtree(path, ignore_errors=True)
        raise
    shown = folder.path
    typer.echo(f"submitted job {number} ({job.section.nodes} node(s)); run folder {shown}")
    typer.echo(f"  log     {shown / f'slurm-{number}.log'}")
    typer.echo(f"  follow  fedray status {shown}")
    typer.echo(f"  cancel  scancel {number}")
    typer.echo(f"  resume  fedray slurm {shown}")


def _key_value(text: str) -> tuple[str, str | bool]:
    key, equals, value = text.removeprefix("--").partition("=")
    return key, value if equals else True


def _section(config: Config) -> Any:
    return config.place.cluster


def _target(target: Path, overrides: list[str], given: dict[str, Any]) -> tuple[Config, RunFolder, bool]:
    """The config with a section for Slurm, its run folder, and whether the run is new."""
    from fedray.experiment import Config
    from fedray.layers import load_layers, overlay
    from fedray.run import CONFIG, RunFolder

    fresh = not target.is_dir()
    if not fresh:
        RunFolder(target).config()
    raw, resolved = load_layers(target if fresh else target / CONFIG, overrides)

    def on_slurm(content: dict[str, Any]) -> dict[str, Any]:
        # What says how many workers there are, and how they talk, means the same on Slurm.
        return {**content, "cluster": overlay({**(content.get("cluster") or {}), "name": "slurm"}, given)}

    config = Config.bind(target.stem if fresh else target.resolve().name, on_slurm(raw), on_slurm(resolved))
    return config, config.run_folder() if fresh else RunFolder(target), fresh


def _claim(folder: RunFolder, config: Config, fresh: bool) -> None:
    from fedray.checkpoint import replace_durably
    from fedray.run import CONFIG

    if fresh:
        folder.claim(config.to_yaml())
    else:
        replace_durably(folder.path / CONFIG, config.to_yaml().encode())

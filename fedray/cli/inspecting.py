"""Commands that look at configs, parts and runs, and start nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fedray.cli.common import AsJson, ConfigArgument, MadeBy, Overrides, Round, RunArgument, Threshold, loaded_from
from fedray.config.layers import NO_LISTENERS, load_layers
from fedray.core.errors import ConfigError
from fedray.run.interrupt import held
from fedray.rundir.names import config_of, config_path

if TYPE_CHECKING:
    from fedray.core.terminal import Grid
    from fedray.experiment.evaluate_clients import NameOf
    from fedray.metrics.intervals import Interval
    from fedray.rundir.client_table import ClientRows


NodeMemory = Annotated[
    float | None,
    typer.Option("--node-memory", min=0.001, help="Gigabytes of each node, if they are not as this machine."),
]
DeviceMemory = Annotated[
    float | None,
    typer.Option("--device-memory", min=0.001, help="Gigabytes of each GPU, if they are not as this machine's."),
]


def evaluate(
    run_dir: RunArgument,
    overrides: Overrides = None,
    data: Annotated[str | None, typer.Option("--data", help="Another test set: short for data.test=PATH.")] = None,
    round: Round = None,
    threshold: Threshold = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:1.")] = "cpu",
    clients: Annotated[
        bool, typer.Option("--clients", help="Each client's models on its held-out rows, or own test set.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Evaluate a run's model on its test set, or on another one; or its clients, by the models that they would use.

    With --json: the round with the section test of its record, or of its clients, a row for each in each view.

    Of two classes, auc is exact; auroc, as the records of a run have it, is of scores rounded to bfloat16.

    Accuracy, sensitivity and specificity of two classes have Wilson's 95 % interval, AUROC has Newcombe's.
    """
    with held():
        from fedray.core.record import finite
        from fedray.core.terminal import pairs, show, standard_output
        from fedray.experiment.evaluate import checkpoint_of, evaluate_run
        from fedray.experiment.evaluate_clients import (
            MOST_CLASSES,
            each_json,
            each_told,
            evaluate_clients,
            intervals_told,
            matrices_told,
            views_json,
            views_told,
        )
        from fedray.metrics.intervals import ABOUT, to_json
        from fedray.rundir.each_client import MOST_SHOWN, below

    config_of(run_dir)
    changes = [*NO_LISTENERS, *(overrides or ()), *([f"data.test={data}"] if data else ())]
    loaded, folder = loaded_from(run_dir, load_layers(config_path(run_dir), changes))
    if clients and data and getattr(loaded.data, "holdout", None):
        raise ConfigError(
            "--data: with --clients each is evaluated on the rows that data.holdout sets aside; leave it out"
        )
    if clients:
        tables: list[tuple[Grid, list[str]] | None] = []
        matrices: list[tuple[str, Grid | None]] = []
        shares: list[tuple[str, Grid]] = []
        told: list[dict[str, Any]] = []
        chosen = loaded.chosen_metrics()

        def each(rows: list[ClientRows], name_of: NameOf) -> None:
            if as_json:
                told.extend(each_json(rows, name_of, chosen))
                return
            shares.extend(intervals_told(rows, name_of, chosen))
            tables.append(each_told(rows, name_of, standard_output().width))
            matrices.extend(matrices_told(rows, name_of))

        record = evaluate_clients(loaded, folder, round, device, each, threshold=threshold)
        if as_json:
            typer.echo(json.dumps({**views_json(record), "clients": told}))
            return
        show(pairs(views_told(record)))
        for table in tables:
            if table is None:
                typer.echo(
                    f"more than {MOST_SHOWN} clients: evaluate.clients_every keeps each one's numbers in clients/"
                )
            else:
                show(table[0])
                for line in below(*table, "what is piped has all"):
                    typer.echo(line)
        for name, table_of in shares:
            typer.echo(f"{name}, with 95 % intervals:")
            show(table_of)
        if shares:
            typer.echo(ABOUT)
        for name, matrix in matrices:
            if matrix is None:
                typer.echo(f"{name} has more than {MOST_CLASSES} classes: `fedray report` draws that of each client")
            else:
                typer.echo(f"{name} of each client, in examples:")
                show(matrix)
        return
    if as_json:
        round = checkpoint_of(folder, round).round
    found = evaluate_run(loaded, folder, round, device, threshold=threshold)
    if as_json:
        more = {"intervals": to_json(found.intervals)} if found.intervals else {}
        typer.echo(json.dumps({"round": round, "test": finite(found.numbers), **more}))
        return
    show(pairs((name, _with_interval(value, found.intervals.get(name))) for name, value in found.numbers.items()))
    if found.intervals:
        typer.echo(ABOUT)


def _with_interval(value: float, interval: Interval | None) -> str:
    if interval is None:
        return f"{value:.6g}"
    few = f"; {interval.few}" if interval.few else ""
    return f"{value:.6g}  ({interval.low:.3f} to {interval.high:.3f}, of {interval.of:,}{few})"


def export(
    run_dir: RunArgument,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="The file to write, .safetensors, .pt2 or .onnx; or a folder.", show_default=False
        ),
    ],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="safetensors|exported-program|onnx|peft|huggingface",
            help="Tensors, a program without the model's code, adapters, or all with them; default: as OUT is called.",
        ),
    ] = None,
    scaling: Annotated[
        bool, typer.Option("--with-scaling", help="Of a program: scaling of numbers is its first layer.")
    ] = False,
    round: Round = None,
    made_by: MadeBy = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Write a checkpoint's model as tensors for load_state_dict, or as a program; needs no data.

    Beside it, OUT.json says what its inputs and outputs are, and encoding.json how new tables become inputs.
    """
    with held():
        from fedray.experiment.export import lacking
        from fedray.predict.exported import export as write
        from fedray.rundir.folder import RunFolder

    found = write(RunFolder(run_dir), out, to, round=round, scaling=scaling, model=made_by, force=force)
    typer.echo(f"wrote {' and '.join(map(str, found))}")
    if words := lacking(RunFolder(run_dir), round):
        typer.echo(words, err=True)


def plan(
    config: ConfigArgument,
    overrides: Overrides = None,
    sizes: Annotated[
        bool,
        typer.Option(
            "--sizes", help="Count alone: no weights are read, nothing is tried or timed, whatever the model."
        ),
    ] = False,
    node_memory: NodeMemory = None,
    device_memory: DeviceMemory = None,
) -> None:
    """Say what a run would do and cost, without training: sizes, blocks, bytes, memory, seconds per round.

    A run that does not fit the memory of its nodes or GPUs is refused, with the formula.

    With --sizes a folder of transformers needs its config.json alone.
    """
    with held():
        from fedray.core.terminal import show
        from fedray.experiment.build import Config
        from fedray.experiment.estimate import Given, check_room, planned

    told, found = planned(Config.load(config, overrides or ()), sizes, Given(node_memory, device_memory))
    show(told)
    check_room(found)


def list_parts(
    kind: Annotated[str | None, typer.Argument(help="algorithms, models, data, transforms...; default: all.")] = None,
) -> None:
    """List what can be named in a config, with defaults."""
    with held():
        from fedray.core.terminal import show
        from fedray.experiment.estimate import catalogue

    show(catalogue(kind))


def show_config(config: ConfigArgument, overrides: Overrides = None) -> None:
    """Print the resolved config: every layer merged, every default written out."""
    with held():
        from fedray.experiment.build import Config

    typer.echo(Config.load(config, overrides or ()).to_yaml(), nl=False)

"""The command that predicts rows by a run's model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fedray.cli.common import MadeBy, Round
from fedray.core.errors import ConfigError
from fedray.run.interrupt import held


def predict(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="RUN_DIR", help="A run folder, or a model that `fedray export` wrote.", show_default=False
        ),
    ],
    rows: Annotated[
        Path,
        typer.Argument(
            metavar="ROWS.csv",
            help="A table, CSV or Parquet; arrays, .npy, .npz, .parquet or .arrow; text, .jsonl.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write to this .csv, .parquet or .npz; default: CSV on standard output."),
    ] = None,
    client: Annotated[
        str | None, typer.Option("--client", metavar="ID", help="By the personal model of this client.")
    ] = None,
    round: Round = None,
    csv: Annotated[
        list[str] | None,
        typer.Option(
            "--csv",
            metavar="KEY=VALUE",
            help="The way the table is written, where it shows none: decimal=, or dates=%d/%m/%Y; as in data.csv.",
        ),
    ] = None,
    made_by: MadeBy = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:1.")] = "cpu",
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Predict new rows by a run's model: a class with a probability for each, or a number; needs no training data.

    Of text the perplexity of each row is told.

    Rows keep their order, and columns that are no inputs of the model, as the ids of patients, stand first.
    """
    with held():
        from fedray.predict.loaded import load
        from fedray.predict.rows import said_of_data
        from fedray.predict.texts import is_text, scored

    if out is not None and out.exists() and not force:
        raise ConfigError(f"{out}: there already, and would be overwritten; choose another name, or say --force")
    predictor = load(model, round=round, client=client, model=made_by, device=device)
    said = {} if predictor.encoding else said_of_data(model)
    if is_text(rows, said):
        if csv:
            raise ConfigError("--csv: these rows are text, which has no dialect")
        found = scored(predictor, rows, said)
    else:
        found = predictor.predict(rows, dict(map(_pair, csv)) if csv else None)
    if out is None:
        typer.echo(found.to_csv(), nl=False)
        return
    found.write(out)
    typer.echo(f"wrote {out}: {len(found):,} rows, by the model after round {predictor.round}")


def _pair(said: str) -> tuple[str, Any]:
    """Return a key of a dialect and its value, that of ``missing`` a list of words."""
    key, mark, value = said.partition("=")
    if not mark:
        raise ConfigError(f"--csv {said}: a key and a value are needed, as in decimal=,")
    return key, value.split("|") if key == "missing" else value.replace("\\t", "\t")

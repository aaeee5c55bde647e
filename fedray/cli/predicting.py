"""The command that predicts rows by a run's model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from fedray.cli.common import MadeBy, Round, Threshold
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
    threshold: Threshold = None,
    csv: Annotated[
        list[str] | None,
        typer.Option(
            "--csv",
            metavar="KEY=VALUE",
            help="The way the table is written, where it shows none: decimal=, or dates=%d/%m/%Y; as in data.csv.",
        ),
    ] = None,
    generate: Annotated[
        int | None,
        typer.Option(
            "--generate", metavar="TOKENS", help="Go on after each row of prompts, for so many tokens at most.", min=1
        ),
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option("--temperature", help="Draw the tokens, 0.7 or so; default: the likeliest ones.", min=0.0),
    ] = None,
    top_p: Annotated[
        float | None,
        typer.Option("--top-p", help="Draw from the likeliest tokens that together have this share.", min=0.0, max=1.0),
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", metavar="TEXT", help="End before this text; may be given again.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Names what is drawn; default: 0.")] = None,
    made_by: MadeBy = None,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or cuda:1.")] = "cpu",
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
) -> None:
    """Predict new rows by a run's model: a class with a probability for each, or a number; needs no training data.

    Of text a language model tells the perplexity of each row, or, with --generate, what it says after each prompt.

    Rows keep their order, and columns that are no inputs of the model, as the ids of patients, stand first.
    """
    with held():
        from fedray.predict.loaded import load

    if out is not None and out.exists() and not force:
        raise ConfigError(f"{out}: there already, and would be overwritten; choose another name, or say --force")
    predictor = load(model, round=round, client=client, model=made_by, device=device, threshold=threshold)
    if generate is not None:
        if csv:
            raise ConfigError("--csv: prompts are text, which has no dialect; leave it out")
        if seed is not None and not temperature:
            raise ConfigError("--seed: it names what is drawn, and nothing is; say --temperature 0.7, or leave it out")
        share = 1.0 if top_p is None else top_p
        found = predictor.generate(
            rows, generate, temperature=temperature or 0.0, seed=seed or 0, top_p=share, stop=stop or ()
        )
    else:
        if temperature is not None or seed is not None or top_p is not None or stop:
            raise ConfigError(
                "--temperature, --top-p, --stop, --seed: they are for text that is generated; say --generate 40"
            )
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

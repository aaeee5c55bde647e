"""The command that looks at data before a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from fedray.cli.common import WRONG, AsJson, ConfigArgument, Overrides
from fedray.core.errors import ConfigError
from fedray.run.interrupt import held


def data(
    config: ConfigArgument,
    overrides: Overrides = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="DATA.html", help="Also write one page, which needs no network."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Look at the data of a config before a run: rows, labels, missing values, drift between sites, likely mistakes.

    Tables that stay at their sites are asked there: counts, quantiles of many rows, and names come back, no row does.

    Exit status: 2 where a run of the config would be refused.
    """
    with held():
        from fedray.core.terminal import show
        from fedray.experiment.build import Config
        from fedray.report.data_page import data_page, shown
        from fedray.report.of_data import report_on
        from fedray.report.page import check_packages, write_page

    if out is not None:
        if out.suffix != ".html":
            raise ConfigError(f"{out}: a page is written to a file called .html; for programs there is --json")
        check_packages()
    found = report_on(Config.load(config, overrides or ()))
    if as_json:
        typer.echo(json.dumps(found.to_json()))
    else:
        show(shown(found))
    if out is not None:
        write_page(out, data_page(found))
        typer.echo(f"wrote {out}", err=as_json)
    if found.refused:
        raise typer.Exit(WRONG)

"""The command that makes a report of runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from fedray.core.errors import ConfigError
from fedray.run.interrupt import held

_NAME = "report.html"


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run folders, a sweep, or folders that hold runs.", show_default=False),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The page; default: report.html in the folder, of several in the working directory."
        ),
    ] = None,
    figures: Annotated[
        Path | None, typer.Option("--figures", help="A folder for the figures: SVG, PDF, PNG, and CSV for each.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            metavar="METRIC=VALUE",
            help="Also tell the rounds to a target, as in test.accuracy=0.8, with bytes and seconds until then.",
        ),
    ] = None,
    title: Annotated[str, typer.Option("--title", help="The heading of the page; default: the run's name.")] = "",
) -> None:
    """Make one HTML page of runs, for any browser, without a network: results, curves, clients, costs.

    Runs that differ in their seed alone are shown together, with the 95 % confidence interval of their mean; others
    are compared.  Needs fedray[report].
    """
    with held():
        from fedray import __version__
        from fedray.report import check_packages, render, save_figures, write_page
        from fedray.report.runs import charts_in, report_sections
        from fedray.report.target import Target

    check_packages()
    page = out or (runs[0] / _NAME if len(runs) == 1 else Path(_NAME))
    if page.is_dir():
        raise ConfigError(f"--output: {page} is a folder; name a file, such as {page / _NAME}")
    name, lead, sections = report_sections(runs, time.time(), None if target is None else Target.of(target))
    made = time.strftime("%Y-%m-%d %H:%M")
    write_page(page, render(title or name, sections, lead, f"Made by fedray {__version__}, {made}."))
    typer.echo(f"report: {page}")
    if figures is not None:
        written = save_figures(charts_in(sections), figures)
        typer.echo(f"figures: {figures} ({len(written)} files)")

"""Figures of charts: for a page, whose colours they take on, and as files for a paper."""

from __future__ import annotations

import csv
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedray.core.errors import ConfigError
from fedray.report.charts import FAINT, INK, PAPER, SERIES, Chart
from fedray.rundir import durable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FORMATS = ("svg", "pdf", "png")
"""The formats that a figure is written in, beside its numbers as CSV."""

_STYLE: dict[str, Any] = {
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": PAPER,
    "font.family": "DejaVu Sans",  # matplotlib brings it: the same everywhere
    "font.size": 7.5,
    "grid.alpha": 0.35,
    "grid.color": FAINT,
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.3,
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # a name may hold a dollar sign
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "xtick.labelsize": 7,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
    "ytick.labelsize": 7,
}

_NAMES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'

# A name for each colour, which a page gives its own colours.
_NAMED = {INK: "ink", FAINT: "faint", **{colour: f"series{number}" for number, colour in enumerate(SERIES)}}


def for_page(chart: Chart) -> str:
    """Return a chart as SVG to stand in HTML: its colours are those of the page, it is as wide as its place.

    The same chart gives the same text.
    """
    with _drawn(chart) as figure:
        text = _svg(figure, chart, clear=True)
    text = text[text.index("<svg") :]
    # Its style would be that of the whole page, which has it in its own words.
    text = re.sub(r"<(metadata|title|style)\b.*?</\1>", "", text, flags=re.DOTALL)
    # Those of groups would be there once for each figure of the page; those of markers and clips are hashes.
    text = re.sub(
        r' id="(?:figure|axes|patch|matplotlib\.axis|[a-zA-Z]*tick|line2d|text|legend|[A-Z]\w+)_\d+"', "", text
    )
    text = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', rf'<svg {_NAMES} viewBox="\1" aria-hidden="true">', text, count=1
    )
    text = re.sub(r"#[0-9a-f]{6}\b", lambda found: _by_name(found[0]), text)
    return re.sub(r"\s*\n\s*", "\n", text)


def save_figures(charts: Sequence[Chart], folder: Path) -> list[Path]:
    """Write charts for a paper, each as SVG, PDF and PNG (300 dpi) and its numbers as CSV; return the files.

    The same charts give the same bytes.

    Raises:
        ConfigError: the folder cannot be written.
    """
    written = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for chart in charts:
            with _drawn(chart) as figure:
                content = {kind: _file(figure, chart, kind) for kind in FORMATS}
            for kind, data in {**content, "csv": _csv(chart)}.items():
                path = folder / f"{chart.name}.{kind}"
                durable.replace(path, data)
                written.append(path)
    except OSError as error:
        raise ConfigError(f"{folder}: figures cannot be written: {error.strerror or error}") from None
    return written


@contextmanager
def _drawn(chart: Chart) -> Iterator[Figure]:
    # Not pyplot, which keeps figures and looks for a screen.
    import matplotlib as mpl
    from matplotlib.figure import Figure

    style: Any = {**_STYLE, "svg.hashsalt": chart.name}
    with mpl.rc_context(style), warnings.catch_warnings():
        # Such as that its font lacks a letter of a name: of no use to who asked for a report.
        warnings.filterwarnings("ignore", category=UserWarning)
        figure = Figure(figsize=chart.inches, layout="constrained")
        chart.draw(figure.subplots())
        yield figure


def _svg(figure: Figure, chart: Chart, clear: bool) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", transparent=clear, metadata={"Date": None, "Title": chart.caption})
    return out.getvalue()


def _file(figure: Figure, chart: Chart, kind: str) -> bytes:
    if kind == "svg":
        return _svg(figure, chart, clear=False).encode()
    out = io.BytesIO()
    figure.savefig(out, format=kind, metadata={"CreationDate": None} if kind == "pdf" else {"Software": None})
    return out.getvalue()


def _csv(chart: Chart) -> bytes:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(chart.table())
    return out.getvalue().encode()


def _by_name(colour: str) -> str:
    return f"var(--{_NAMED[colour]})" if colour in _NAMED else colour

"""The legend of a chart: in it where names are few and short, else below it, where it takes no room from the chart."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FEW, _SHORT = 4, 18

# Of a font of 7 points: characters that an inch has room for, those of a line and its gap before a name; and inches.
_BY_INCH, _HANDLE, _EDGE = 17.0, 8, 0.04

_MOST_LINES = 2


def add_legend(axes: Axes) -> None:
    """Give a chart its legend; below the chart its figure grows by it, so that the axes keep their size.

    >>> from matplotlib.figure import Figure
    >>> figure = Figure(figsize=(3.5, 2.3))
    >>> axes = figure.subplots()
    >>> _ = axes.plot([1, 2], label="missing_columns=impute, holdout=0.3")
    >>> add_legend(axes)
    >>> float(figure.get_figheight()) > 2.4
    True

    Args:
        axes: with all that has a name.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    handles, names = axes.get_legend_handles_labels()
    if len(names) <= _FEW and all(len(name) <= _SHORT for name in names):
        axes.legend()
        return
    figure = axes.get_figure(root=True)
    assert figure is not None
    room = int(figure.get_figwidth() * _BY_INCH)
    longest = max(map(len, names)) + _HANDLE
    columns = max(1, min(len(names), room // longest))
    shown = [wrapped(name, room - _HANDLE) for name in names]
    legend = figure.legend(handles, shown, loc="outside lower center", ncols=columns, borderaxespad=0.0, borderpad=0.2)
    canvas: Any = FigureCanvasAgg(figure)
    box = legend.get_window_extent(canvas.get_renderer())
    figure.set_figheight(figure.get_figheight() + float(box.height) / figure.dpi + _EDGE)


def wrapped(name: str, width: int) -> str:
    """Return a name on at most two lines; what has no room there is cut.

    >>> wrapped("missing_columns=impute, holdout=0.3", 24)
    'missing_columns=impute,\\nholdout=0.3'
    >>> wrapped("a" * 30, 10)
    'aaaaaaaaaa\\naaaaaaaaa…'

    Args:
        name: the name.
        width: of a line, in characters.
    """
    lines = textwrap.wrap(name, width, break_on_hyphens=False) or [""]
    if len(lines) > _MOST_LINES:
        lines = [*lines[: _MOST_LINES - 1], f"{lines[_MOST_LINES - 1][: width - 1]}…"]
    return "\n".join(lines)

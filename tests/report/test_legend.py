"""Legends, which take no room from a chart whatever its names are."""

from __future__ import annotations

import warnings

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from fedray.report import Bars, Boxes, Chart, Curve, Curves, Points
from fedray.report.figures import for_page

LONG = "holdout=0.3, missing_columns=error, train=['heart/cleveland.csv', 'heart/hungarian.csv']" * 3


def drawn(chart: Chart) -> Figure:
    """Return the figure of a chart, laid out; a warning is an error."""
    figure = Figure(figsize=chart.inches, layout="constrained")
    FigureCanvasAgg(figure)
    chart.draw(figure.subplots())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.canvas.draw()
    return figure


def curves(*names: str) -> Curves:
    return Curves("a", "A.", "round", "accuracy", [Curve(name, [1, 2], [0.1, 0.2]) for name in names])


def height(figure: Figure) -> float:
    (axes,) = figure.axes
    return axes.get_position().height * figure.get_figheight()


@pytest.mark.parametrize(
    "names", [["fedavg", LONG], [f"{n}{LONG}" for n in range(8)], [f"fedprox, mu={n}" for n in range(8)]]
)
def test_axes_keep_their_size_whatever_the_names_are(names: list[str]) -> None:
    plain, figure = drawn(curves("fedavg", "ditto")), drawn(curves(*names))
    assert height(figure) == pytest.approx(height(plain), rel=0.1)
    assert figure.axes[0].get_legend() is None
    (legend,) = figure.legends
    box, axes = legend.get_window_extent(), figure.axes[0].get_tightbbox()
    assert axes is not None
    assert box.y1 <= axes.y0 + 1, "it lies over the chart"
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= figure.bbox.x1, "it is cut off"
    assert len(legend.get_texts()) == len(names)


def test_points_bars_and_boxes_keep_theirs() -> None:
    values = [0.1, 0.5, 0.7]
    for chart in (
        Points("p", "P.", "clients", "auc", [("a", values), (LONG, values)]),
        Bars("b", "B.", ["x"], [(f"{n}{LONG}", [1.0]) for n in range(8)]),
    ):
        assert height(drawn(chart)) > 1.6
    boxes = drawn(Boxes("b", "B.", "auc", [("missing_columns=impute, holdout=0.3", values), (LONG, values)]))
    first, second = (label.get_text() for label in boxes.axes[0].get_yticklabels())
    assert first == "missing_columns=impute,\nholdout=0.3"
    assert second.endswith("…")
    assert boxes.axes[0].get_position().width > 0.4


def test_nothing_that_matplotlib_says_reaches_the_terminal() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "病院" in for_page(curves("病院", "b"))
        for_page(Boxes("b", "B.", "a metric", [("x" * 300, [0.1])] * 9))

"""Charts on axes: what is drawn is what was given."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedray.report import Bars, Boxes, Chart, Curve, Curves, Matrix, Points
from fedray.report.charts import SERIES, Owners


def drawn(chart: Chart) -> Axes:
    axes = Figure(figsize=chart.inches).subplots()
    chart.draw(axes)
    return axes


def test_curves_with_intervals_and_a_legend() -> None:
    one = Curve("fedavg", [1, 2, 3], [0.1, 0.2, math.nan], [0.0, 0.1, math.nan], [0.2, 0.3, math.nan])
    two = Curve("ditto", [1, 3], [0.3, 0.4])
    axes = drawn(Curves("accuracy", "Accuracy.", "round", "accuracy", [one, two]))
    first, second = axes.lines
    assert np.asarray(second.get_xdata()).tolist() == [1, 3]
    np.testing.assert_array_equal(np.asarray(first.get_ydata()), [0.1, 0.2, math.nan])
    (band,) = axes.collections
    assert band.get_datalim(axes.transData).ymax == pytest.approx(0.3)
    # Told apart without their colours, too.
    assert first.get_linestyle() != second.get_linestyle()
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["fedavg", "ditto"]


def test_one_evaluation_is_a_point() -> None:
    axes = drawn(Curves("a", "A.", "round", "accuracy", [Curve("", [30], [0.9])]))
    assert axes.lines[0].get_marker() == "o"
    assert axes.get_legend() is None
    assert [float(tick) for tick in axes.get_xticks() if 29 <= tick <= 31] == [29, 30, 31], "no half rounds"


@pytest.mark.parametrize(("points", "marker"), [(2, "o"), (30, "o"), (31, "None")])
def test_few_evaluations_have_a_mark_each(points: int, marker: str) -> None:
    curve = Curve("", [5 * place for place in range(points)], np.linspace(0.1, 0.9, points).tolist())
    assert drawn(Curves("a", "A.", "round", "accuracy", [curve])).lines[0].get_marker() == marker


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("own.accuracy", "own.accuracy"),
        ("clients_personal.accuracy.worst", "clients_personal.\naccuracy.worst"),
        ("a_long_word_without_any_dot", "a_long_word_without_any_dot"),
    ],
)
def test_a_long_name_of_the_short_axis_is_on_two_lines(name: str, shown: str) -> None:
    chart = Curves("a", "A.", "round", name, [Curve("", [1, 2], [0.1, 0.2])])
    assert drawn(chart).get_ylabel() == shown
    assert next(iter(chart.table()))[2] == name


def test_the_table_of_curves_has_each_point() -> None:
    chart = Curves("a", "A.", "round", "auc", [Curve("x", [1], [0.5], [0.4], [0.6]), Curve("y", [2], [0.7])])
    head = ["curve", "round", "auc", "low", "high"]
    assert list(chart.table()) == [head, ["x", 1, 0.5, 0.4, 0.6], ["y", 2, 0.7, "", ""]]


def test_a_small_matrix_shows_its_numbers() -> None:
    chart = Matrix("m", "M.", ["a", "b"], ["c", "d", "e"], [[1, 2, 3], [4, math.nan, 1000]], x="predicted", y="true")
    axes = drawn(chart)
    assert [text.get_text() for text in axes.texts] == ["1", "2", "3", "4", "nan", "1,000"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["c", "d", "e"]
    shades = np.asarray(axes.images[0].get_array())[..., 3]
    np.testing.assert_allclose(shades, [[0.001, 0.002, 0.003], [0.004, 0, 1]])
    assert list(chart.table()) == [["true", "c", "d", "e"], ["a", 1, 2, 3], ["b", 4, chart.values[1][1], 1000]]


def test_a_large_matrix_names_some_of_its_lines() -> None:
    names = [f"client_{number}_of_a_long_name" for number in range(100)]
    axes = drawn(Matrix("m", "M.", ["0"], names, [[1.0] * 100]))
    assert not axes.texts
    assert len(axes.get_xticks()) == 10
    assert axes.get_xticklabels()[0].get_text() == "client_0_of_a_lon…"
    assert axes.get_xticklabels()[0].get_rotation() == 45


def test_points_are_sorted_and_their_mean_is_a_line() -> None:
    axes = drawn(Points("p", "P.", "clients", "auc", [("global", [0.9, math.nan, 0.5]), ("own", [0.7, 0.8])]))
    assert np.asarray(axes.lines[0].get_ydata()).tolist() == [0.5, 0.9]
    assert np.asarray(axes.lines[1].get_ydata()) == pytest.approx([0.7, 0.7])
    assert axes.lines[0].get_marker() != axes.lines[2].get_marker()


def test_a_box_has_the_quartiles_and_whiskers_the_tenths() -> None:
    values = [*np.linspace(0, 1, 101).tolist(), math.nan]
    chart = Boxes("b", "B.", "auc", [("fedavg", values), ("ditto", [math.nan])], numbers=[3, 1])
    axes = drawn(chart)
    (box,) = [patch for container in axes.containers for patch in container]
    assert (box.get_x(), box.get_x() + box.get_width()) == pytest.approx((0.25, 0.75))
    whisker, median, ends, mean = (np.asarray(line.get_xdata()).tolist() for line in axes.lines)
    assert (whisker, median, ends, mean) == (
        pytest.approx([0.1, 0.9]),
        pytest.approx([0.5, 0.5]),
        [0, 1],
        pytest.approx([0.5]),
    )
    assert axes.lines[0].get_color() == SERIES[3]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["fedavg", "ditto"]
    assert len(list(chart.table())) == 1 + 102 + 1


def test_bars_stand_beside_each_other() -> None:
    chart = Bars("b", "B.", ["x", "y"], [("train", [1, 2]), ("test", [3, math.nan])], x="silo", y="rows")
    axes = drawn(chart)
    bars = [patch for container in axes.containers for patch in container]
    assert [bar.get_height() for bar in bars[:3]] == [1, 2, 3]
    edges = sorted((bar.get_x(), bar.get_x() + bar.get_width()) for bar in bars)
    assert all(left[1] <= right[0] for left, right in itertools.pairwise(edges))
    assert list(chart.table())[:2] == [["silo", "train", "test"], ["x", 1, 3]]


def contrast(one: str, other: str) -> float:
    """The contrast of two colours by WCAG 2."""

    def light(colour: str) -> float:
        parts = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    darker, lighter = sorted((light(one), light(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_series_are_seen_on_white_paper() -> None:
    assert min(contrast(colour, "#ffffff") for colour in SERIES) > 3


def test_a_setting_has_its_colour_in_every_chart_and_a_legend_alone_too() -> None:
    curve = Curve("fedbn", [1, 2], [0.1, 0.2], number=1)
    axes = drawn(Curves("a", "A.", "round", "accuracy", [curve], named=True))
    points = drawn(Points("p", "P.", "client", "accuracy", [("fedbn", [0.1, 0.2])], numbers=[1], named=True))
    for one in (axes, points):
        assert one.lines[0].get_color() == SERIES[1]
        legend = one.get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == ["fedbn"]


def test_no_interval_goes_beyond_what_there_can_be() -> None:
    curve = Curve("", [1, 2], [0.1, 0.9], [-0.4, 0.5], [0.6, 1.3])
    chart = Curves("a", "A.", "round", "accuracy", [curve], limits=(0.0, 1.0))
    (band,) = drawn(chart).collections
    heights = np.asarray(band.get_paths()[0].vertices)[:, 1]
    assert (heights.min(), heights.max()) == (0.0, 1.0)
    assert list(chart.table())[1] == ["", 1, 0.1, -0.4, 0.6]  # the numbers are whole


@pytest.mark.parametrize(
    ("value", "limits", "least", "most"),
    [
        (0.0, (-math.inf, math.inf), 0, 1),
        (3.0, (-math.inf, math.inf), 0, 6),
        (0.25, (0.0, 1.0), 0, 1),
    ],
)
def test_a_flat_line_has_an_axis_from_nothing(value: float, limits: tuple[float, float], least: int, most: int) -> None:
    low, high = drawn(Curves("a", "A.", "round", "y", [Curve("", [1, 2], [value] * 2)], limits=limits)).get_ylim()
    assert (round(low), round(high)) == (least, most)
    assert low <= value <= high


def test_a_few_are_named_in_their_order() -> None:
    series = [("fedavg", [0.9, math.nan, 0.5]), ("fedbn", [0.7, 0.8, 0.6])]
    chart = Points("p", "P.", "client", "auc", series, ["ann", "bob", "cid"])
    axes = drawn(chart)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["ann", "bob", "cid"]
    assert np.round(np.asarray(axes.lines[0].get_xdata(), float)).tolist() == [0, 2]
    assert np.asarray(axes.lines[0].get_ydata()).tolist() == [0.9, 0.5]
    assert list(chart.table())[:2] == [["series", "client", "auc"], ["fedavg", "ann", 0.9]]


def test_a_table_has_the_owner_of_each_value() -> None:
    series, of = (
        [("fedavg", [0.9, 0.5]), ("fedbn", [0.7])],
        Owners(["client", "seed"], [[("a", "1"), ("b", "1")], [("a", "2")]]),
    )
    head = ["series", "client", "seed", "auc"]
    lines = [["fedavg", "a", "1", 0.9], ["fedavg", "b", "1", 0.5], ["fedbn", "a", "2", 0.7]]
    charts: list[Chart] = [
        Points("p", "P.", "clients, sorted", "auc", series, of=of),
        Boxes("b", "B.", "auc", series, of=of),
    ]
    for chart in charts:
        assert list(chart.table()) == [head, *lines]

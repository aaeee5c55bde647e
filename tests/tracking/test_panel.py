"""The picture of a run, read as a browser would."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from fedray.core.record import RoundRecord
from fedray.tracking.panel import curves, panel


def records(count: int) -> list[RoundRecord]:
    spread = {"accuracy": {"mean": 0.5, "p10": 0.1}}
    return [
        RoundRecord(
            number,
            train={"loss": 2.0 / number},
            test={"loss": 1.0, "accuracy": number / count},
            clients_test=spread if number % 2 == 0 else {},
        )
        for number in range(1, count + 1)
    ]


def drawn(html: str) -> dict[str, list[tuple[float, float]]]:
    """The points of each chart by its title."""
    tree = ET.fromstring(f"<all>{html.replace('&nbsp;', ' ')}</all>")
    found = {}
    for svg in tree.iter("svg"):
        (line,) = svg.iter("polyline")
        pairs = [one.split(",") for one in line.attrib["points"].split()]
        found[svg.attrib["aria-label"]] = [(float(x), float(y)) for x, y in pairs]
    return found


def test_a_curve_for_loss_test_set_and_clients() -> None:
    charts = drawn(curves(records(4)))
    assert list(charts) == ["train.loss", "test.accuracy", "clients_test.accuracy"]
    assert [len(points) for points in charts.values()] == [4, 4, 2]
    loss, accuracy = charts["train.loss"], charts["test.accuracy"]
    assert [y for _, y in loss] == sorted(y for _, y in loss)  # less is lower, and SVG counts from the top
    assert [y for _, y in accuracy] == sorted((y for _, y in accuracy), reverse=True)
    assert [x for x, _ in loss] == sorted({x for x, _ in loss})


@pytest.mark.parametrize("count", [1, 2, 401, 5000])
def test_any_number_of_rounds(count: int) -> None:
    points = drawn(curves(records(count)))["train.loss"]
    assert min(count, 2) <= len(points) <= 500
    assert all(0 <= x <= 250 and 0 <= y <= 160 for x, y in points)


def test_what_is_no_number_is_left_out() -> None:
    told = [RoundRecord(1, train={"loss": float("nan")}), RoundRecord(2, train={"loss": 0.0}), RoundRecord(3)]
    assert [len(points) for points in drawn(curves(told)).values()] == [1]
    assert curves([RoundRecord(1)]) == ""


def test_names_and_values_are_no_markup() -> None:
    html = panel("<run>", 1, 2, "a < b", records(1), [("<i>", "&")], ["</div>"])
    tree = ET.fromstring(f"<all>{html.replace('&nbsp;', ' ')}</all>")
    text = "".join(tree.itertext())
    assert all(word in text for word in ("<run>", "round 1 of 2", "a < b", "<i>", "&", "</div>"))
    assert "script" not in html


@pytest.mark.parametrize(("value", "ticks"), [(0.0, ["0", "0.5", "1"]), (0.3, ["0", "0.2", "0.6"])])
def test_what_stays_as_it_is_has_an_axis_from_nothing(value: float, ticks: list[str]) -> None:
    html = curves([RoundRecord(number, train={"loss": value}) for number in (1, 2)])
    shown = [one.text for one in ET.fromstring(f"<all>{html}</all>").iter("text")]
    assert {*ticks} <= {*shown}
    assert not any(text and text.startswith("-") for text in shown)

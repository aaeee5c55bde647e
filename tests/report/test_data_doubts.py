"""Warnings on data, each by what it is said of."""

from __future__ import annotations

import numpy as np

from fedray.data.encoding.overview import LEVELS, Column
from fedray.report.columns import ColumnReport, Drift
from fedray.report.data_doubts import doubts
from fedray.report.of_data import DataReport

PLAIN = Column("numbers", 0, 40, tuple(np.linspace(1, 9, len(LEVELS))))


def numbers(missing: int = 0, different: int = 40, **more: object) -> Column:
    return Column("numbers", missing, different, more.get("quantiles", PLAIN.quantiles))  # type: ignore[arg-type]


def report(*at: Column, **more: object) -> DataReport:
    names = ["a", "b", "c"][: len(at)]
    column = ColumnReport("bmi", at, more.pop("drift", ()))  # type: ignore[arg-type]
    return DataReport("study", names, [100] * len(at), [column], **more)  # type: ignore[arg-type]


def test_nothing_is_said_of_what_is_fine() -> None:
    assert doubts(report(PLAIN, numbers(5), numbers(10))) == []


def test_missing_values() -> None:
    assert doubts(report(PLAIN, numbers(80))) == ["bmi: mostly missing at b 80%, and there elsewhere"]
    assert doubts(report(numbers(60), numbers(70))) == ["bmi: mostly missing (a 60%, b 70%)"]
    empty = Column("empty", 100)
    assert doubts(report(empty, empty)) == ["bmi: there is no value anywhere; leave it out: `ignore: [bmi]`"]
    assert doubts(report(PLAIN, empty, Column("absent", 100))) == [
        "bmi: c lacks this column",
        "bmi: b has no value in it",
    ]


def test_constant_columns() -> None:
    zero = numbers(different=1, quantiles=(0.0,) * len(LEVELS))
    assert doubts(report(zero, zero)) == ["bmi: it has the same value everywhere, and tells nothing"]
    assert doubts(report(PLAIN, zero)) == [
        "bmi: all of b has the value 0, which elsewhere varies: is it a measurement?"
    ]
    assert doubts(report(PLAIN, numbers(90, different=1)))[1:] == []  # ten values are no pattern


def test_text_among_numbers() -> None:
    word = Column("text", 0, 4)
    assert doubts(report(PLAIN, word)) == ["bmi: it is text at b, and numbers elsewhere"]
    assert doubts(report(word, word))[0].startswith("bmi: it holds text, and is not declared")


def test_drift_counts_beyond_chance_alone() -> None:
    small = report(PLAIN, PLAIN, drift=[Drift(0.4, 0.9), Drift(0.4, 0.9)])
    assert doubts(small) == []
    large = report(PLAIN, PLAIN, drift=[Drift(0.4, 0.1), Drift(0.6, 0.1)])
    assert doubts(large) == [
        "distributions that differ much between sites, beyond chance, with the site and its PSI: bmi (b 0.60)"
    ]


def test_targets_and_groups() -> None:
    target = ColumnReport("ill", [Column("text", 3, 2), Column("absent", 100)], target=True)
    counts = np.array([[9, 1], [0, 100]])
    groups = {"clients": ["a", "b"], "sizes": [10, 100], "classes": ["no", "yes"], "counts": counts}
    found = doubts(report(PLAIN, PLAIN, target=target, **groups))
    assert found[:2] == ["ill, the target, is missing in 3 rows of a", "b has no column ill, the target"]
    assert "fewer than 20 rows: a" in found
    assert "one class alone: b" in found
    assert found[-1].startswith("label skew: ")
    assert doubts(report(PLAIN, refused="too few rows"))[0] == "A run of this config is refused: too few rows"

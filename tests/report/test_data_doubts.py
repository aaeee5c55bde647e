"""Warnings on data, each by what it is said of."""

from __future__ import annotations

from dataclasses import replace

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


def test_a_column_that_has_another_name_at_one_site() -> None:
    gone = Column("absent", 100)
    pairs = ("chol", [PLAIN, PLAIN, gone]), ("cholesterol", [gone, gone, PLAIN]), ("cholest", [PLAIN, gone, PLAIN])
    columns = [ColumnReport(name, at) for name, at in pairs]
    assert doubts(DataReport("study", ["a", "b", "c"], [100] * 3, columns)) == [
        "chol: c lacks this column (did you mean 'cholesterol'?)",
        "cholesterol: a and b lack this column (did you mean 'chol'?)".replace("a and b", "a, b"),
        "cholest: b lacks this column",
    ]


def test_what_always_the_same_answer_gives() -> None:
    counts = np.array([[95, 2], [90, 6]])
    (said,) = doubts(report(PLAIN, PLAIN, classes=["no", "yes"], counts=counts))
    assert said.startswith("class yes has 8 of 193 training examples: to answer no always is right in 95.9%")
    done = report(PLAIN, PLAIN, classes=["no", "yes"], counts=counts, metrics=True, weights=True)
    assert doubts(done) == doubts(report(PLAIN, PLAIN, classes=["no", "yes"], counts=counts + 20)) == []


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


def with_extreme(value: float, *at: str, kind: str = "numbers") -> list[Column]:
    """Three sites, some of which have a number far from all others."""
    return [
        Column(kind, 0, 40, PLAIN.quantiles, (value, 12) if site in at else None)  # type: ignore[arg-type]
        for site in "abc"
    ]


def cures(found: DataReport) -> list[str]:
    return [words for words in doubts(found) if " are said by " in words]


def test_a_number_that_may_stand_for_a_missing_one_comes_with_the_words_for_it() -> None:
    target = ColumnReport("ill", [Column("text", 0, 2)] * 3, target=True)
    (cure,) = cures(report(*with_extreme(0.0, "a", "c"), target=target))
    assert cure == (
        "values that do stand for missing ones are said by `missing: {bmi: 0}` under `data`, or behind a command by "
        "'data.missing={bmi: 0}'"
    )
    (cure,) = cures(report(*with_extreme(0.5, "b"), target=target, missing={"bmi": [-9], "age": ["x"]}))
    assert "`missing: {bmi: [-9, 0.5], age: x}`" in cure, "with what the config says already"
    assert cure.endswith(", with those that the config says already")
    assert cures(report(*with_extreme(0.0, "a"), target=target, missing={"bmi": [0]})) == []
    assert cures(report(*with_extreme(9.0, "b", kind="dates"), target=target)) == [], "a date, however it is written"
    assert cures(report(*with_extreme(0.0, "a"))) == [], "arrays, of which a config says nothing of the kind"


def test_so_does_one_number_that_a_site_has_throughout_far_from_all_of_the_others() -> None:
    target = ColumnReport("ill", [Column("text", 0, 2)] * 2, target=True)
    for value, told in ((0.0, 1), (5.0, 0), (99.0, 1)):
        alike = numbers(different=1, quantiles=(value,) * len(LEVELS))
        assert len(cures(report(PLAIN, alike, target=target))) == told, value


def test_whole_numbers_of_few_values_may_be_codes() -> None:
    def codes(different: int, whole: bool = True, **more: object) -> list[str]:
        return doubts(
            report(replace(PLAIN, different=different, whole=whole), replace(PLAIN, different=2, whole=whole), **more)
        )

    (said,) = codes(4)
    assert said == (
        "bmi: it has a few whole numbers; those that are codes, of which 3 is not more than 2, are said by "
        "`categorical: [bmi]` under `data`, or behind a command by 'data.categorical=[bmi]'"
    )
    assert codes(2) == codes(11) == codes(4, whole=False) == []
    assert "`categorical: [sex, bmi]`" in codes(4, categorical=["sex"])[0]
    assert "`categorical: {sex: [f, m], bmi: null}`" in codes(4, categorical={"sex": ["f", "m"]})[0]

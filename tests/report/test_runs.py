"""A report on runs as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.report import Curves, Facts, Figures, Matrix, Section, Table, Verbatim, Words, render
from fedray.report.runs import charts_in, report_sections
from tests.report.folders import NOW, write_run

FAILED = [{"client": "<h1>", "stage": "train", "error": "ValueError: NaN <in> row 3\nmore"}]


def by_title(sections: list[Section]) -> dict[str, Section]:
    return {section.title: section for section in sections}


@pytest.fixture(scope="module")
def seeds(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, list[Section]]:
    """A report on two seeds, one of which failed."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "1", 1, failures=FAILED, attackers=["<h2>"])
    write_run(folder / "2", 2, status="failed")
    return report_sections([folder / "1", folder / "2"], NOW)


def test_it_has_all_its_sections(seeds: tuple[str, str, list[Section]]) -> None:
    title, lead, sections = seeds
    assert (title, lead) == ("heart", "2 runs, 1 finished, 1 failed; 4 rounds")
    assert [one.title for one in sections if one.blocks] == [
        "What was run",
        "Results",
        "Over rounds",
        "Clients",
        "Confusion",
        "Failures",
        "Privacy",
        "Cost",
        "Environment",
        "Config",
    ]


def test_what_was_run_and_what_failed(seeds: tuple[str, str, list[Section]]) -> None:
    facts, words = by_title(seeds[2])["What was run"].blocks
    assert isinstance(facts, Facts)
    assert {"clients": "3", "rounds": "4 of 4", "algorithm": "fedavg", "seeds": "1, 2"}.items() <= dict(
        facts.pairs
    ).items()
    assert isinstance(words, Words)
    assert words.text.endswith("failed: it burst")


def test_results_have_intervals(seeds: tuple[str, str, list[Section]]) -> None:
    (table,) = by_title(seeds[2])["Results"].blocks
    assert isinstance(table, Table)
    line = dict(zip(table.head, table.rows[0], strict=True))
    # Two seeds, 0.41 and 0.42: 12.706 (Student, one degree of freedom) times 0.005.
    assert line["test.accuracy"] == "0.415 ± 0.064"


def test_confusion_is_summed_over_seeds(seeds: tuple[str, str, list[Section]]) -> None:
    (figures,) = by_title(seeds[2])["Confusion"].blocks
    assert isinstance(figures, Figures)
    chart = figures.charts[0]
    assert isinstance(chart, Matrix)
    assert chart.values == [[8, 2], [0, 3]]
    assert chart.shades == [[0.8, 0.2], [0.0, 1.0]]


def test_failures_by_client_and_stage(seeds: tuple[str, str, list[Section]]) -> None:
    facts, table = by_title(seeds[2])["Failures"].blocks
    assert isinstance(facts, Facts)
    assert dict(facts.pairs)["clients that gave no update"] == "4 times"
    assert dict(facts.pairs)["clients whose updates were forged"] == "1: <h2>"
    assert isinstance(table, Table)
    (row,) = table.rows
    assert row[1:] == ["<h1>", "train", 4, 1, 4, "ValueError: NaN <in> row 3"]


def test_the_page_and_its_figures(seeds: tuple[str, str, list[Section]]) -> None:
    names = [chart.name for chart in charts_in(seeds[2])]
    assert len(names) == len(set(names))
    assert {"test-accuracy", "confusion-test", "labels", "spread-global-accuracy"} <= set(names)
    text = render(seeds[0], seeds[2], seeds[1])
    assert "<h1>" not in text.replace("<h1>heart</h1>", "")
    assert "&lt;h1&gt;" in text


def test_one_run_tells_its_best_round(tmp_path: Path) -> None:
    _, lead, sections = report_sections([write_run(tmp_path / "a", status=None)], NOW)
    (table,) = by_title(sections)["Results"].blocks
    assert isinstance(table, Table)
    assert ["test.accuracy", "0.4100", "0.4100", 4] in [list(row) for row in table.rows]
    assert ["test.loss", "0.2500", "0.2500", 4] in [list(row) for row in table.rows]
    words = by_title(sections)["What was run"].blocks[-1]
    assert isinstance(words, Words)
    assert "its numbers are those up to round 4" in words.text
    assert lead == "1 run, interrupted; 4 rounds"


def test_settings_are_compared(tmp_path: Path) -> None:
    for name in ("fedavg", "ditto"):
        write_run(tmp_path / name, 1, name)
    _, lead, sections = report_sections([tmp_path], NOW)
    assert lead == "2 runs of 2 settings, 2 finished; 4 rounds"
    (table,) = by_title(sections)["Results"].blocks
    assert isinstance(table, Table)
    assert [row[0] for row in table.rows] == ["ditto", "fedavg"]
    differs = by_title(sections)["What was run"].blocks[1]
    assert isinstance(differs, Table)
    assert differs.rows == [["ditto", "ditto"], ["fedavg", "fedavg"]]
    assert [one.title for one in by_title(sections)["Config"].blocks if isinstance(one, Verbatim)] == [
        f"config of {tmp_path / name}" for name in ("ditto", "fedavg")
    ]


def test_settings_that_differ_in_whole_lists_are_called_by_their_folders(tmp_path: Path) -> None:
    names = [f"study_{number}" for number in range(10)]
    for name in names:
        files = ", ".join(f"{name}/hospital_{n}.csv" for n in range(4))
        write_run(tmp_path / name, 1, config=f"data: {{train: [{files}], target: ill}}\nmodel: {{name: {name[-1]}}}\n")
    _, _, sections = report_sections([tmp_path], NOW)
    facts, differs, *_ = by_title(sections)["What was run"].blocks
    assert isinstance(facts, Facts)
    assert isinstance(differs, Table)
    assert (differs.head, differs.folded[:10]) == (["setting", "data.train", "model.name"], "The 2 keys")
    page = render("Runs", sections).replace("<wbr>", "")
    assert page.count("study_3/hospital_2.csv") == 1 + 1, "in the table, and in its config"


def test_many_metrics_are_tables_below_each_other(tmp_path: Path) -> None:
    test = {f"m{number}": 0.5 for number in range(7)}
    for name in ("fedavg", "fedprox"):
        write_run(tmp_path / name, 1, name, test=test)
    blocks = by_title(report_sections([tmp_path], NOW)[2])["Results"].blocks
    tables = [one for one in blocks if isinstance(one, Table)]
    assert [{name.partition(".")[0] for name in one.head[2:]} for one in tables] == [
        {"test"},
        {"clients_test"},
        {"clients_personal"},
        {"train"},
    ]
    assert all([row[0] for row in one.rows] == ["fedavg", "fedprox"] for one in tables)
    assert [bool(one.caption) for one in tables] == [False, False, False, True]


def test_what_an_algorithm_has_not_is_told(tmp_path: Path) -> None:
    write_run(tmp_path / "fedavg", 1, "fedavg", clients_personal={})
    write_run(tmp_path / "fedbn", 1, "fedbn", test={})
    sections = by_title(report_sections([tmp_path], NOW)[2])
    (table,) = sections["Results"].blocks
    assert isinstance(table, Table)
    shown = {row[0]: dict(zip(table.head, row, strict=True)) for row in table.rows}
    assert shown["fedbn"]["test.accuracy"] == shown["fedavg"]["clients_personal.accuracy"] == "-"
    assert "-: not measured" in table.caption
    assert {shown[name]["own.accuracy"] for name in shown} == {"0.5"}  # what both have
    assert "own: the model that each client would use" in table.caption
    charts = {one.name: one for one in charts_in([sections["Over rounds"]]) if isinstance(one, Curves)}
    assert [(one.name, one.number) for one in charts["clients-personal-accuracy"].curves] == [("fedbn", 1)]
    assert charts["clients-personal-accuracy"].named


def test_a_run_before_its_first_round(tmp_path: Path) -> None:
    title, _, sections = report_sections([write_run(tmp_path / "a", rounds=0, status=None)], NOW)
    (words,) = by_title(sections)["Over rounds"].blocks
    assert isinstance(words, Words)
    assert words.text == "No round is recorded yet."
    assert title == "a"

"""Dialects of text: what is found is what was written, for any table, and pandas reads the same."""

from __future__ import annotations

import csv
import gzip
import io
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.data.encoding.dialect import Dialect, detect
from fedray.data.encoding.options import Options
from fedray.data.encoding.reading import read_csv
from fedray.data.encoding.table import Reading
from tests.data.reading import Files

WORDS = st.text("abzäöüß ,;.\"'\n|", max_size=6).map(lambda word: f"x{word}x")
ROWS = st.lists(st.tuples(st.floats(-1e6, 1e6), WORDS, st.integers(-9, 9)), min_size=3, max_size=8)


def written(rows: list[tuple[float, str, int]], delimiter: str, decimal: str, encoding: str, ends: str) -> bytes:
    """A file of one dialect, as its writer quotes."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=ends)
    writer.writerow(["größe", "note", "n"])
    for number, word, count in rows:
        writer.writerow([f"{number:.3f}".replace(".", decimal), word, count])
    return out.getvalue().encode(encoding)


@given(
    ROWS,
    st.sampled_from([(",", "."), (";", ","), (";", "."), ("\t", ","), ("\t", "."), ("|", ",")]),
    st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_was_written_is_found_and_is_what_pandas_reads(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[float, str, int]],
    marks: tuple[str, str],
    encoding: str,
    ends: str,
) -> None:
    path = tmp_path_factory.mktemp("dialect") / "a.csv"
    delimiter, decimal = marks
    path.write_bytes(written([(0.5, "", 0), *rows], delimiter, decimal, encoding, ends))
    oracle = pd.read_csv(path, sep=delimiter, decimal=decimal, encoding=encoding, na_values=[""], keep_default_na=False)
    table = read_csv(path)
    assert table.form is not None
    assert table.form.delimiter == delimiter
    assert list(table.columns) == list(oracle.columns) == ["größe", "note", "n"]
    assert table.numbers("größe").tolist() == oracle["größe"].tolist()
    assert table.numbers("n").tolist() == oracle["n"].tolist()
    assert [cell or "" for cell in table.text("note")] == [cell.strip() for cell in oracle["note"].fillna("")]


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("alter;größe, m;y\n40;1,80;ja\n41;1,70;nein\n", ";"),
        ("größe, m;gewicht, kg;y\n1,80;80,5;ja\n1,70;71,5;nein\n", ";"),
        ("time,place\n10:15,a;b\n11:30,c;d\n", ","),
        ("only\n1,5\n2,5\n", ","),
        ("a\tb\n1,5\t2,5\n", "\t"),
        ('a;b\n"x,y\nz";1\n', ";"),
        ("sep=|\na|b;c\n1|2;3\n", "|"),
    ],
)
def test_a_delimiter_cuts_the_rows_as_it_cuts_the_header(write: Files, text: str, delimiter: str) -> None:
    assert detect(write("a.csv", text), Dialect()).delimiter == delimiter


def test_the_sniffer_of_the_standard_library_gives_other_answers() -> None:
    """The reason for an own search: when the oracle learns these, the search can go."""
    for text in ("größe, m;gewicht, kg;y\n1,80;80,5;ja\n1,70;71,5;nein\n", "only\n15\n25\n"):
        try:
            found = csv.Sniffer().sniff(text).delimiter
        except csv.Error:
            found = None
        assert found != ";"


def test_the_encoding_of_a_long_file_is_that_of_its_last_line(write: Files) -> None:
    rows = "name;y\n" + "abc;1\n" * 400_000
    assert detect(write("a.csv", (rows + "Jörg;1\n").encode()), Dialect()).encoding == "utf-8-sig"
    assert detect(write("b.csv", (rows + "Jörg;1\n").encode("cp1252")), Dialect()).encoding == "cp1252"
    assert detect(write("c.csv", (rows + "a\x81b;1\n").encode("latin-1")), Dialect()).encoding == "latin-1"


def test_lines_are_counted_as_an_editor_counts_them(write: Files) -> None:
    text = 'sep=;\r\nu;note;y\r\n1,5;"two\r\nlines";a\r\n\r\nx;;b\r\n'
    with pytest.raises(ConfigError, match=r"a\.csv, line 6, column 'u': 'x' is not a number"):
        read_csv(write("a.csv", text.encode("utf-16"))).numbers("u")


def test_apostrophes_and_packed_files(write: Files, tmp_path: Path) -> None:
    path = write("a.csv", "u,v\n'a,b','1'\n'c','2'\n")
    assert read_csv(path).text("u") == ["a,b", "c"]
    assert read_csv(path, Reading(Dialect(quote="", delimiter=";"))).text("u,v") == ["'a,b','1'", "'c','2'"]
    with gzip.open(tmp_path / "b.csv.gz", "wt", encoding="cp1252") as file:
        file.write("größe;y\n1,5;a\n")
    assert read_csv(tmp_path / "b.csv.gz").numbers("größe").tolist() == [1.5]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"delimiter": ";;"}, r"^csv: delimiter=';;': one character is expected; a tab is written"),
        ({"decimal": ",", "thousands": ","}, r"^csv: decimal=',': thousands is the same character"),
        ({"decimal": "x"}, r"^csv\.decimal|^csv: decimal='x': it must be"),
        ({"encoding": "utf-9"}, r"^csv: encoding=utf-9: unknown; known are utf-8"),
        ({"delimeter": ";"}, r"^csv\.delimeter: unknown key \(did you mean 'delimiter'\?\)"),
        ({"dates": "dd.mm.yyyy"}, r"^csv: dates=dd.mm.yyyy: expected a format such as"),
        ({"missing": "-9"}, r"^csv\.missing: expected a list of words"),
        ({"missing": 9}, r"^csv\.missing: expected a list of words"),
        ({"missing": {"chol": [0]}}, r"^csv\.missing: expected a list of words.*beside csv$"),
        ({"files": {"a": {"sep": ";"}}}, r"^csv\.files\.a\.sep: unknown key"),
        ({"files": ["a"]}, r"^csv\.files: expected"),
        ("semicolon", r"^csv: expected a section"),
    ],
)
def test_a_dialect_that_cannot_be_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Options("y", csv=given)

"""Rows of text from files of every kind, and what is said of those that are wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from fedray.core.errors import ConfigError
from fedray.data.text.files import columns_in, rows_in, text_files

ROWS: list[dict[str, Any]] = [{"text": "one", "who": "ann"}, {"text": "two", "who": "bob"}]


def written(folder: Path, kind: str) -> Path:
    file = folder / f"rows.{kind}"
    table = pa.Table.from_pylist(ROWS)
    if kind == "jsonl":
        file.write_text("\n\n".join(map(json.dumps, ROWS)) + "\n")
    elif kind == "json":
        file.write_text("\n " + json.dumps(ROWS))
    elif kind == "parquet":
        pyarrow.parquet.write_table(table, file)
    elif kind == "feather":
        pyarrow.feather.write_feather(table, file)
    else:  # as data sets of Hugging Face are saved
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    return file


@pytest.mark.parametrize("kind", ["jsonl", "json", "parquet", "feather", "arrow"])
def test_each_kind_has_the_same_rows(tmp_path: Path, kind: str) -> None:
    file = written(tmp_path, kind)
    assert columns_in(file) == ["text", "who"]
    assert list(rows_in(file, None)) == ROWS
    assert list(rows_in(file, ["who"])) == [{"who": "ann"}, {"who": "bob"}]
    with pytest.raises(ConfigError, match=r"column 'texts'.*did you mean 'text'.* has text, who"):
        list(rows_in(file, ["texts"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"text": "a"}\n{"text"\n', "line 2: no JSON"),
        ("3\n", 'line 1: a row is an object, as in {"text": "..."}; this is 3'),
        ('{"text": "a"}\n{"text": null}\n', "row 2: column 'text' is empty"),
        ('{"text": "a"}\n{"other": 1}\n', "row 2: column 'text' is missing; the row has other"),
        ("[1]", "row 1: a row is an object"),
        ("\n", "has no rows"),
        ("", "has no rows"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(text)
    with pytest.raises(ConfigError, match=message):
        list(rows_in(file, ["text"]))


def test_what_is_no_parquet_is_said(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    file.write_text("words")
    with pytest.raises(ConfigError, match=r"a\.parquet cannot be read: "):
        list(rows_in(file, None))


def test_files_are_named_in_several_ways(tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in ("a.jsonl", "b.jsonl", "c.parquet"))
    for file in (a, b, c, tmp_path / "notes.md"):
        file.write_text("")
    assert text_files(str(a), "train") == [a]
    assert text_files([str(b), str(a)], "train") == [b, a]
    assert text_files(str(tmp_path), "train", without=[b]) == [a, c]
    assert text_files(f"{tmp_path}/*.jsonl", "train") == [a, b]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ("none.jsonl", "train: data file .*none.jsonl does not exist"),
        ("notes.md", r"train: .*notes\.md is no file of text that is known; those are \.jsonl"),
        ("*.csv", r"train: .*\*\.csv has no file of text"),
        ("empty", r"train: .*empty has no file of text"),
        (["a.jsonl", "a.jsonl"], "is named twice"),
        ([], "train: a file, a folder, a pattern"),
        ({"a": 1}, "train: a file, a folder, a pattern"),
    ],
)
def test_files_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Any, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("a.jsonl", "notes.md"):
        (tmp_path / name).write_text("")
    with pytest.raises(ConfigError, match=message):
        text_files(said, "train")

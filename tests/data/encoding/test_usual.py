"""A table to be predicted is read as the training tables were, where it does not tell itself, and never silently."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import Any

import pytest

from fedray.core.errors import ConfigError
from fedray.data import FederatedData
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.frames import inputs_of, table_of
from fedray.data.encoding.usual import kept, shared
from tests.data.reading import Files

NORTH = "u;seen;y\n1,5;25/02/2020;p\n2.000;01/03/2020;q\n"


def learnt(write: Files, *texts: str, **options: Any) -> Encoding:
    """The encoding of training tables a.csv, b.csv, as encoding.json has it."""
    files = [write(f"{name}.csv", text) for name, text in zip("ab", texts, strict=False)]
    data = FederatedData.from_csv(files, target="y", standardize=False, **options)
    return Encoding.from_json(json.loads(json.dumps(data.encoding)))


def read(write: Files, encoding: Encoding, text: str, name: str = "new.csv", **csv: Any) -> list[list[float]]:
    found: list[list[float]] = inputs_of(table_of(write(name, text), encoding, csv or None), encoding).tolist()
    return found


def test_what_a_file_leaves_open_is_as_in_the_training_tables(write: Files, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    encoding = learnt(write, NORTH)
    assert encoding.to_json()["format"] == 4
    assert encoding.dialect == {"delimiter": ";", "quote": '"', "decimal": ",", "dates": "%d/%m/%Y"}
    caplog.clear()
    assert read(write, encoding, "u;seen\n1.250;01/02/2020\n") == [[1250.0, 18293.0]]
    assert caplog.messages == [
        f"{write('new.csv', '')}: decimal as in the training tables: comma",
        f"{write('new.csv', '')}: dates as in the training tables: %d/%m/%Y",
    ]
    # What is said stands above it.
    assert read(write, encoding, "u;seen\n1.250;01/02/2020\n", decimal=".", dates="%m/%d/%Y") == [[1.25, 18263.0]]
    assert table_of({"u": ["1.250"], "seen": ["01/02/2020"]}, encoding).numbers("u").tolist() == [1250.0]
    # A comma cuts this header into as many cells as the row, and a semicolon into the names that the model needs.
    note = learnt(write, "a, b, c;u;y\nx;4;p\ny;5;q\n", categorical={"a, b, c": {"hash": 2}})
    assert read(write, note, "a, b, c;u\n1,2,3;4\n")[0][2] == 4.0
    with pytest.raises(ConfigError, match="there is no column 'a, b, c'"):
        read(write, replace(note, dialect={}), "a, b, c;u\n1,2,3;4\n")


def test_a_file_that_is_clearly_of_another_dialect_is_read_by_its_own_with_a_warning(
    write: Files, caplog: pytest.LogCaptureFixture
) -> None:
    encoding = learnt(write, NORTH)
    assert read(write, encoding, "u,seen\n1.5,02/25/2020\n") == [[1.5, 18317.0]]
    (told,) = caplog.messages
    assert told.endswith(
        "new.csv is written otherwise than the training tables: decimal point, not comma; dates %m/%d/%Y, not "
        "%d/%m/%Y; delimiter comma, not semicolon"
    )
    # One column shows the month first, so that the other cannot be taken for the usual order.
    both = learnt(write, "u;v;y\n25/02/2020;26/02/2020;p\n01/03/2020;01/03/2020;q\n")
    with pytest.raises(ConfigError, match="may have the day first or the month"):
        read(write, both, "u;v\n02/25/2020;01/02/2020\n")


def test_silos_agree_or_leave_it_open_and_a_file_of_the_name_of_one_is_read_as_that_one(write: Files) -> None:
    encoding = learnt(write, NORTH, "u;seen;y\n1.5;02/25/2020;p\n2.25;03/01/2020;q\n")
    assert encoding.dialect == {"delimiter": ";", "quote": '"'}
    assert encoding.dialects == {
        "a.csv": {"decimal": ",", "dates": "%d/%m/%Y"},
        "b.csv": {"decimal": ".", "dates": "%m/%d/%Y"},
    }
    row = "u;seen\n1.250;01/02/2020\n"
    with pytest.raises(ConfigError, match="may be a number of thousands"):
        read(write, encoding, row)
    assert read(write, encoding, row, "a.csv") == [[1250.0, 18293.0]]
    assert read(write, encoding, row, "b.csv") == [[1.25, 18263.0]]


def test_an_apostrophe_stays_the_quote_of_a_single_cell(write: Files) -> None:
    encoding = learnt(write, "u,site,y\n1,'a,b',p\n2,'c,d',q\n", categorical=["site"])
    assert encoding.dialect["quote"] == "'"
    assert read(write, encoding, "u,site\n1,'a,b'\n") == [[1.0, 1.0, 0.0]]
    assert read(write, encoding, 'u,site\n1,"a,b"\n') == [[1.0, 1.0, 0.0]]


def test_what_was_given_for_single_files_is_usual_only_where_it_was_given_for_all(write: Files) -> None:
    text = "u,y\n1,p\n-9,q\n"
    one = learnt(write, text, text, csv={"files": {"a": {"missing": ["-9"]}}})
    assert "missing" not in one.dialect
    assert one.dialects["a.csv"] == {"missing": ["-9"]}
    assert shared([{"missing": ["-9"]}] * 2) == {"missing": ["-9"]}
    assert kept(["x/a.csv", "y/a.csv"], [{"decimal": ","}, {"decimal": "."}]) == ({}, {})


def test_an_earlier_encoding_has_no_dialect_and_another_thing_is_refused(write: Files) -> None:
    encoding = learnt(write, "u,y\n1,p\n2,q\n")
    content = encoding.to_json()
    assert content["format"] == 2  # what is kept of it changes nothing that a fedray before would read
    before = Encoding.from_json({key: value for key, value in content.items() if key != "dialect"})
    assert before.dialect == {}
    for wrong in ({"decimal": 7}, {"colour": "red"}):
        with pytest.raises(ConfigError, match="not one of fedray's"):
            Encoding.from_json({**content, "dialect": wrong})

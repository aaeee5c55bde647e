"""An encoding that was saved is enough to read a table, and what is no encoding is refused."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedray.core.errors import ConfigError
from fedray.data import FederatedData
from fedray.data.encoding.options import Options
from fedray.data.encoding.saved import encoded_test, load_encoding
from fedray.rundir import durable
from fedray.rundir.folder import as_json
from tests.data.reading import Files


@pytest.fixture
def files(write: Files) -> list[Path]:
    """Two hospitals."""
    return [write("a.csv", "age,sex,note,y\n30,f,x1,no\n,m,x2,yes\n"), write("b.csv", "age,sex,note,y\n70,,x4,yes\n")]


def read(files: list[Path], **options: Any) -> FederatedData:
    """Their data."""
    return FederatedData.from_csv(files, target="y", categorical=["sex"], ignore=["note"], **options)


def test_a_test_table_needs_nothing_but_the_encoding(files: list[Path], write: Files) -> None:
    test = write("test.csv", "age,sex,note,y\n35,f,x9,yes\n")
    data = read(files, test=test)
    encoding = load_encoding(data.encoding)
    assert encoding is not None
    assert data.test is not None
    for path in files:
        path.unlink()
    alone = encoded_test([test], Options("y", categorical=["sex"], ignore=["note"]), encoding)
    assert alone.x.tolist() == data.test.x.tolist()
    assert alone.y.tolist() == data.test.y.tolist() == [1]
    test.write_text("age,note,y\n35,x,yes\n")
    with pytest.raises(ConfigError, match="no column 'sex', but the table that the model was trained on has"):
        encoded_test([test], Options("y", categorical=["sex"], ignore=["note"]), encoding)


@pytest.mark.parametrize("content", ["no json", "[1]", '{"format": 9}', '{"format": 1, "columns": [{"name": "a"}]}'])
def test_what_is_no_encoding_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "encoding.json"
    with pytest.raises(ConfigError, match=r"encoding: .*cannot be read"):
        load_encoding(path)
    path.write_text(content)
    with pytest.raises(ConfigError, match="encoding"):
        load_encoding(path)


@pytest.mark.slow
def test_it_is_utf_8_in_every_locale(tmp_path: Path, write: Files) -> None:
    data = FederatedData.from_csv(write("a.csv", "größe,y\n30,no\n40,yes\n"), target="y")
    assert data.encoding is not None
    path = tmp_path / "encoding.json"
    durable.replace(path, as_json(data.encoding))
    code = f"from fedray.data.encoding.saved import load_encoding; print(ascii(load_encoding({str(path)!r}).order))"
    ascii_alone = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    read = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **ascii_alone}, capture_output=True, text=True, check=False
    )
    assert read.stdout == "['gr\\xf6\\xdfe']\n", read.stderr

"""Sources of tables read with pyarrow, and no other source waits for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedray.config.registry import bind_part
from fedray.core.errors import ConfigError
from fedray.data.encoding.reading import read_csv
from fedray.data.registry import data_sources
from fedray.data.sources.tables import by_column


@pytest.mark.slow
def test_a_source_without_tables_does_without_pyarrow() -> None:
    script = """if True:
        import sys
        from fedray.data.registry import data_sources
        data_sources["digits"]().load(1)
        assert list(data_sources) and "pyarrow" not in sys.modules
        import fedray.data.silos.survey
        assert "pyarrow" in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_rows_that_a_column_assigns_are_a_table_for_each_client(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("who,x,y\nann,1,no\nbob,2,yes\nann,3,no\n")
    (tmp_path / "b.csv").write_text("who,x,y\ncid,4,no\n")
    tables = [read_csv(tmp_path / "a.csv"), read_csv(tmp_path / "b.csv")]
    names, cut = by_column(tables, "who")
    assert names == ["ann", "bob", "cid"]
    assert [table.text("x") for table in cut] == [["1", "3"], ["2"], ["4"]]
    assert [table.rows for table in cut] == [2, 1, 1]
    with pytest.raises(ConfigError, match="has no column 'client'"):
        by_column(tables, "client")
    with pytest.raises(ConfigError, match=r"rows of 'ann' are in .*, too; join the two files"):
        by_column([tables[0], tables[0]], "who")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"missing": {"age": {"a": 0}}}, r"data\.missing\.age: expected a list of values"),
        ({"missing": {"agee": 0}}, r"data\.missing: 'agee' is no column of .*\(did you mean 'age'\?\)"),
        ({"ignore": ["agee"]}, r"data\.ignore: 'agee' is a column of no file"),
        ({"csv": {"files": {"b": {"delimiter": ";"}}}}, r"data\.csv\.files: 'b' is none of the files"),
        ({"target": "sick"}, r".*a\.csv has no target column 'sick'"),
    ],
)
def test_what_is_wrong_in_an_option_is_said_with_its_whole_key(
    said: dict[str, Any], words: str, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("age,y\n1,no\n2,yes\n3,no\n")
    options = {"name": "csv", "train": [str(tmp_path / "a.csv")], "target": "y", **said}
    with pytest.raises(ConfigError, match=f"^{words}"):
        bind_part(data_sources, options, "data").load(1)


def test_one_value_stands_for_a_list_of_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("age,y\n0,no\n2,yes\n4,no\n")
    options = {"name": "csv", "train": [str(tmp_path / "a.csv")], "target": "y"}
    one, many = (bind_part(data_sources, {**options, "missing": {"age": v}}, "data").load(1) for v in (0, [0]))
    assert one.encoding == many.encoding
    assert one.encoding["missing"] == {"age": [0]}
    assert one.encoding["columns"][0]["mean"] == 3.0

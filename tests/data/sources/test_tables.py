"""Sources of tables read with pyarrow, and no other source waits for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.data.encoding.reading import read_csv
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

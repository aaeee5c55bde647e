"""Tables, one for each client, or split over clients by a partitioner."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedray.core.stages import along
from fedray.data.columns.arrays import Columns
from fedray.data.encoding.clients import TestTables, read_tables
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.options import Options
from fedray.data.encoding.reading import read_table
from fedray.data.files.own_tests import TestFiles, own_files
from fedray.data.partition import Partitioner


def read_csvs(
    paths: Sequence[str | Path],
    options: Options,
    test: TestFiles,
    ids: Sequence[str] | None,
    partitioner: Partitioner | None,
    seed: int,
    holdout: float,
    encoding: Encoding | None,
) -> Columns:
    """Read files, text or Excel or Parquet by their names; see ``FederatedData.from_csv``."""
    tables = [read_table(path, options.reading(path)) for path in along(paths, "reading tables")]
    names = None if partitioner is not None else ids or [table.path.stem for table in tables]
    own = own_files(test, names)
    if own is None:
        tests = TestTables([] if test is None else [read_table(test, options.reading(test))])  # type: ignore[arg-type]
    else:
        tests = TestTables([read_table(file, options.reading(file)) for file, _ in own], [number for _, number in own])
    options.check_files([table.path for table in (*tables, *tests.tables)])
    return read_tables(
        tables, tests, options, ids=ids, partitioner=partitioner, seed=seed, holdout=holdout, encoding=encoding
    )

"""Sheets of Excel workbooks, through the extra ``fedray[excel]``."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from fedray.core.errors import ConfigError, listed

EXCEL = (".xlsx", ".xlsm")


def read_sheet(path: Path, sheet: str | None) -> tuple[list[str], list[pa.ChunkedArray]]:
    """Return the names and cells of the columns of a sheet; of a formula, the value that Excel has kept.

    Args:
        path: the workbook.
        sheet: its name; by default the first.

    Raises:
        ConfigError: openpyxl is not installed, the file cannot be read, it has no such sheet, or the sheet is empty.
    """
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError:
        raise ConfigError(
            f"{path}: Excel workbooks need the package `openpyxl`; install it: pip install 'fedray[excel]', or save "
            "the sheet as CSV"
        ) from None
    try:
        workbook = load_workbook(path, read_only=True, data_only=True)
    except (InvalidFileException, zipfile.BadZipFile, KeyError, OSError) as error:
        raise ConfigError(f"{path} cannot be read as an Excel workbook: {error}") from None
    try:
        if sheet is not None and sheet not in workbook.sheetnames:
            raise ConfigError(f"{path} has no sheet {sheet!r}; its sheets: {listed(workbook.sheetnames)}")
        rows = [list(row) for row in workbook[sheet or workbook.sheetnames[0]].iter_rows(values_only=True)]
    finally:
        workbook.close()
    while rows and all(cell is None for cell in rows[-1]):
        rows.pop()
    if not rows:
        raise ConfigError(f"{path} is empty; a first row that names the columns is required")
    width = max((place + 1 for row in rows for place, cell in enumerate(row) if cell is not None), default=0)
    names = ["" if cell is None else str(cell).strip() for cell in [*rows[0], *[None] * width][:width]]
    columns = [[row[place] if place < len(row) else None for row in rows[1:]] for place in range(width)]
    return names, [_column(cells) for cells in columns]


def _column(cells: Sequence[Any]) -> pa.ChunkedArray:
    """Return cells as booleans, numbers or dates if all are, else as text."""
    present = [cell for cell in cells if cell is not None]
    if present and all(isinstance(cell, bool) for cell in present):
        return pa.chunked_array([pa.array(cells, pa.bool_())])
    if present and all(isinstance(cell, int | float) and not isinstance(cell, bool) for cell in present):
        return pa.chunked_array([pa.array([None if cell is None else float(cell) for cell in cells], pa.float64())])
    if present and all(isinstance(cell, date) for cell in present):
        return pa.chunked_array([pa.array([_moment(cell) for cell in cells], pa.timestamp("us"))])
    return pa.chunked_array([pa.array([_word(cell) for cell in cells], pa.string())])


def _moment(cell: date | None) -> datetime | None:
    return cell if cell is None or isinstance(cell, datetime) else datetime(cell.year, cell.month, cell.day)


def _word(cell: Any) -> str | None:
    if isinstance(cell, datetime):
        return cell.isoformat(" ")
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return None if cell is None else str(cell)

"""Numbers of rows to be predicted that are far from all that a model was trained on."""

from __future__ import annotations

import logging

import numpy as np

from fedray.core.errors import counted
from fedray.data.encoding.encoding import Encoding, column_values
from fedray.data.encoding.table import Table

FAR = 10.0
"""Standard deviations from the mean of the training rows beyond which a number is told of."""

_SHOWN = 5

_log = logging.getLogger("fedray")


def warn_of_far(table: Table, encoding: Encoding) -> None:
    """Warn, once, of numbers that are far from the mean of the training rows."""
    if words := far_numbers(table, encoding):
        _log.warning("%s: %s", table.path, words)


def far_numbers(table: Table, encoding: Encoding) -> str:
    """Return in words which numbers are far from the mean of the training rows; nothing if none is.

    It knows the means where the encoding scales by them.  Inputs of 0 and 1 may be as rare as they like.

    >>> from pathlib import Path
    >>> import pyarrow as pa
    >>> from fedray.data.encoding.options import Options
    >>> encoding = Encoding(Options("ill"), {"crp": (12.0, 20.0, 12.0)}, {}, ["crp"], None)
    >>> far_numbers(Table(Path("the rows"), {"crp": pa.chunked_array([[8.5, -810.0]])}, 2), encoding).partition(":")[0]
    '1 number further than 10 standard deviations from the mean of the training rows'

    Args:
        table: the rows, which the encoding can read.
        encoding: of the model.
    """
    found: list[tuple[int, str]] = []
    for name in _measured(encoding) if encoding.options.standardize else ():
        if name in table.columns:
            mean, deviation, _ = encoding.numeric[name]
            far = np.abs(column_values(table, name, encoding.options) - mean) > FAR * deviation
            found += [(row, name) for row in np.flatnonzero(far).tolist()]
    if not found:
        return ""
    shown = []
    for row, name in sorted(found)[:_SHOWN]:
        value = table.columns[name][row].as_py()
        shown.append(f"{table.place(row)}, column {name!r}: {value} (mean {encoding.numeric[name][0]:.4g})")
    more = f" and {len(found) - _SHOWN:,} more" if len(found) > _SHOWN else ""
    return (
        f"{counted(len(found), 'number')} further than {FAR:g} standard deviations from the mean of the training rows: "
        f"{'; '.join(shown)}{more}; correct them if they are mistakes, or leave the cells empty"
    )


def _measured(encoding: Encoding) -> list[str]:
    """Return the columns of numbers that are measured: none of two values alone, as 0 and 1 are."""
    names = []
    for name in encoding.measured("numbers"):
        mean, deviation, _ = encoding.numeric[name]
        if not (0.0 < mean < 1.0 and np.isclose(deviation**2, mean * (1.0 - mean))):
            names.append(name)
    return names

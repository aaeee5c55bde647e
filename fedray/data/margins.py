"""Tables of whole numbers with given sums of rows and columns, near wanted proportions."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_LEAST = 1e-12
_STEPS = 300


def fitted(wanted: NDArray[np.float64], rows: NDArray[np.int64], columns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return whole numbers ``[R, C]`` with these sums of rows and columns, in about the wanted proportions.

    Iterative proportional fitting (Deming and Stephan, 1940) scales rows and columns in turn; then each cell takes its
    whole part, the largest fractions one more, and what is then left goes where there is room.

    >>> fitted(np.array([[0.9, 0.1], [0.1, 0.9]]), rows=np.array([5, 5]), columns=np.array([5, 5]))
    array([[5, 0],
           [0, 5]])

    Args:
        wanted: proportions, at least 0, ``[R, C]``.
        rows: sums of the rows ``[R]``, at least 1.
        columns: sums of the columns ``[C]``, at least 1, of the same total.
    """
    table = np.maximum(wanted, _LEAST)  # so that there is such a table
    for _ in range(_STEPS):
        table *= (rows / table.sum(axis=1))[:, None]
        table *= columns / table.sum(axis=0)
        if np.abs(table.sum(axis=1) - rows).max(initial=0.0) < 1e-3:
            break
    row_left, column_left = rows.copy(), columns.copy()
    found = np.zeros(table.shape, dtype=np.int64)
    whole = np.floor(table + 1e-6).astype(np.int64)
    for amount, order in ((whole, -table), (np.ones_like(whole), -(table - whole)), (None, -table)):
        for cell in np.argsort(order, axis=None, kind="stable"):
            row, column = divmod(int(cell), table.shape[1])
            room = min(int(row_left[row]), int(column_left[column]))
            take = room if amount is None else min(room, int(amount[row, column]))
            found[row, column] += take
            row_left[row] -= take
            column_left[column] -= take
        if not row_left.any():
            break
    return found

"""Columns of arrays, as a report on data tells them: one number of each row, what it is, and how clients differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedray.data.columns.base import ClientData
from fedray.data.columns.inputs import InputColumns
from fedray.data.columns.ragged import Ragged
from fedray.data.encoding.encoding import Encoding
from fedray.data.encoding.overview import FEWEST, LEVELS, Column, far_apart
from fedray.report.columns import ColumnReport, drifts, edges_of

MOST_SITES = 12
"""The most clients that stand side by side; more are told together."""

TOGETHER = "all clients"


@dataclass(frozen=True)
class Arrays:
    """The training rows of clients.

    Args:
        sites: the names of clients, or :data:`TOGETHER`.
        rows: of each.
        columns: the inputs.
        target: the target, where it is one number; None: it is not.
    """

    sites: Sequence[str]
    rows: Sequence[int]
    columns: Sequence[ColumnReport]
    target: ColumnReport | None = None


def of_arrays(data: ClientData) -> Arrays | None:
    """Return what is told of arrays; None: they do not lie in this process.

    A column of one number a row is told as it is, sequences by their lengths, and all else by the mean of a row.
    Columns that are encoded are told as they stand in the files, but that missing numbers are filled in.
    """
    x = data.stored()
    if x is None:
        return None
    taken = data.taken or {}
    named = x.columns if isinstance(x, InputColumns) else {(taken.get("columns") or ["inputs"])[0]: x}
    parts = np.split(np.arange(int(data.sizes.sum())), np.cumsum(data.sizes)[:-1])
    sites, rows = [data.client_id(client) for client in range(len(data))], data.sizes.tolist()
    if len(parts) > MOST_SITES:
        parts, sites, rows = [np.concatenate(parts)], [TOGETHER], [sum(rows)]
    own = {name: one for name, one in named.items() if not (isinstance(one, Ragged) and one.values is None)}
    pictures = taken.get("pictures") or {}
    encoding = None if data.encoding is None else Encoding.from_json(data.encoding)
    columns = [
        _encoded(name, one, parts, encoding)
        if encoding is not None and encoding.beside and name in (*encoding.numeric, *encoding.categories)
        else _report(name, one, parts, name in pictures)
        for name, one in own.items()
    ]
    if data.spec.task != "regression" or data.spec.target_shape != (1,):
        return Arrays(sites, rows, columns)
    y = torch.cat([data.targets(client) for client in range(len(data))])
    target = replace(_report(taken.get("target") or "y", y, parts, False), target=True)
    return Arrays(sites, rows, columns, target)


def _report(name: str, column: Any, parts: Sequence[NDArray[np.int64]], picture: bool) -> ColumnReport:
    values = _numbers(column)
    single = not isinstance(column, Ragged) and values.size == column.numel()
    return _of_numbers(name, [values[rows] for rows in parts], single, _words(column, picture))


def _of_numbers(name: str, values: Sequence[NDArray[np.float64]], single: bool, words: str) -> ColumnReport:
    """Return what is told of one number of each row, of the rows of each site."""
    at = [_outline(own, single) for own in values]
    edges = edges_of(at)
    counts = [np.bincount(np.searchsorted(edges, own), minlength=len(edges) + 1) for own in values]
    drift = drifts(np.stack(counts)) if edges and len(values) > 1 else ()
    return ColumnReport(name, at, drift, words=words)


def _encoded(name: str, column: torch.Tensor, parts: Sequence[NDArray[np.int64]], encoding: Encoding) -> ColumnReport:
    """Return what is told of a column that was encoded as a table's: in its own units, or its categories."""
    block = column.double().cpu().numpy()
    if name in encoding.categories:
        counts = np.stack([block[rows].sum(axis=0) for rows in parts]).astype(np.int64)
        missing = [len(rows) - int(own.sum()) for rows, own in zip(parts, counts, strict=True)]
        at = [Column("text", gone, int((own > 0).sum())) for gone, own in zip(missing, counts, strict=True)]
        every = np.concatenate([counts, np.zeros((len(parts), 1), np.int64)], axis=1)
        drift = drifts(every) if len(parts) > 1 else ()
        return ColumnReport(name, at, drift, encoding.categories[name], every)
    mean, deviation, fill = encoding.numeric[name]
    values = block[:, 0] * deviation + mean
    gone = block[:, 1] > 0 if name in encoding.indicated else np.zeros(len(block), dtype=bool)
    words = f"numbers, {fill:.4g} where missing" + (", which is told" if name in encoding.indicated else "")
    found = _of_numbers(name, [values[rows][~gone[rows]] for rows in parts], True, words)
    at = [replace(own, missing=int(gone[rows].sum())) for own, rows in zip(found.at, parts, strict=True)]
    return replace(found, at=at)


def _numbers(column: Any) -> NDArray[np.float64]:
    """Return one number of each row."""
    if isinstance(column, Ragged):
        return np.asarray(column.counts(), dtype=np.float64)
    rows = column.reshape(len(column), -1)
    found: NDArray[np.float64] = rows.double().mean(dim=1).cpu().numpy() if rows.shape[1] else np.zeros(len(rows))
    return found


def _outline(values: NDArray[np.float64], single: bool) -> Column:
    told = tuple(np.quantile(values, LEVELS).tolist()) if len(values) >= FEWEST else None
    return Column("numbers", 0, len(np.unique(values)), told, far_apart(values) if single and len(values) else None)


def _words(column: Any, picture: bool) -> str:
    """Return what a column was taken for."""
    kind = str(column.dtype).removeprefix("torch.")
    if isinstance(column, Ragged):
        return f"sequences of {kind}, up to {column.longest:,}, told by their lengths"
    shape = " x ".join(map(str, column.shape[1:]))
    if not shape or column[0].numel() == 1:
        return f"numbers, {kind}"
    return f"{'pictures' if picture else kind} {shape}, told by means"

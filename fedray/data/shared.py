"""Columns on disk that all processes of a machine map into memory."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedray.core.errors import ConfigError
from fedray.data.checks import tensor
from fedray.data.federated import FederatedData
from fedray.data.spec import DataSpec
from fedray.data.store import Examples
from fedray.rundir import durable


class MappedData(FederatedData):
    """Data whose columns are memory maps of a folder written by :func:`write`; it pickles as the folder's path."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open_mapped, (str(self._folder),)


def _columns(data: FederatedData) -> dict[str, NDArray[Any]]:
    columns = {
        "x": data._x.cpu().numpy(),
        "y": data._y.cpu().numpy(),
        "sizes": data.sizes,
        "holdout_sizes": data.holdout_sizes,
    }
    if data.test is not None:
        columns |= {"test_x": data.test.x.cpu().numpy(), "test_y": data.test.y.cpu().numpy()}
    if data._ids is not None:
        columns |= {"ids": data._ids, "keys": data.keys(np.arange(len(data)))}
    return columns


def write(data: FederatedData, folder: Path) -> FederatedData:
    """Write the columns of ``data`` below ``folder``, unless equal ones are there, and open them.

    Raises:
        ConfigError: there is no room, or nobody may write there.
    """
    columns = _columns(data)
    meta = json.dumps({"spec": dataclasses.asdict(data.spec), "columns": sorted(columns)})
    hasher = hashlib.blake2b(meta.encode(), digest_size=16)
    for name in sorted(columns):
        hasher.update(f"{name} {columns[name].dtype.str} {columns[name].shape}".encode())
        hasher.update(np.ascontiguousarray(columns[name]).reshape(-1).view(np.uint8).data)
    final = folder / hasher.hexdigest()
    try:
        if not final.exists():
            _write(columns, meta, final)
    except OSError as error:
        # Another process may have finished the same folder first: then its files are as good as ours.
        if not final.exists():
            size = sum(column.nbytes for column in columns.values()) / 1e9
            reason = error.strerror or error
            raise ConfigError(
                f"data: its {size:.3g} GB cannot be written below {folder}: {reason}; set TMPDIR to where there is room"
            ) from error
    return open_mapped(final)


def _write(columns: Mapping[str, NDArray[Any]], meta: str, final: Path) -> None:
    """Write a folder, which is there as a whole or not at all."""
    with durable.folder(final) as unfinished:
        for name, column in columns.items():
            np.save(unfinished / f"{name}.npy", column)
        (unfinished / "meta.json").write_text(meta)


def open_mapped(folder: str | Path) -> FederatedData:
    """The data that :func:`write` left in ``folder``, mapped into memory."""
    folder = Path(folder)
    meta = json.loads((folder / "meta.json").read_text())
    fields = meta["spec"]
    spec = DataSpec(**{**fields, "shape": tuple(fields["shape"]), "classes": tuple(fields["classes"])})

    def column(name: str) -> NDArray[Any] | None:
        return np.load(folder / f"{name}.npy", allow_pickle=False) if name in meta["columns"] else None

    def mapped(name: str) -> Tensor:
        # Mode "c" (copy on write): torch takes only writable memory, and nobody can write to the files through it.
        return tensor(np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False))

    test = Examples(mapped("test_x"), mapped("test_y")) if "test_x" in meta["columns"] else None
    data = MappedData(
        mapped("x"),
        mapped("y"),
        np.load(folder / "sizes.npy"),
        spec,
        holdout_sizes=np.load(folder / "holdout_sizes.npy"),
        test=test,
        ids=column("ids"),
    )
    data._keys = column("keys")
    data._folder = folder
    return data

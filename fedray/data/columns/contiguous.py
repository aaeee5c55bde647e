"""The rows of all clients in one contiguous store, found by client offsets.

A client is two numbers (where its rows start, how many there are), so a million clients cost a few arrays and no
Python object each.  A client's rows are its training rows first, then its local held-out rows.  The columns are in
memory, or on disk, where all processes of a machine map them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self, SupportsIndex

import numpy as np
import torch
from numpy.typing import NDArray
from rich.filesize import decimal
from torch import Tensor

from fedray.core.errors import ConfigError
from fedray.core.messages import Ints
from fedray.data.columns.base import ClientData, Ids
from fedray.data.columns.checks import counting, tensor
from fedray.data.columns.holdout import held_sizes, training_first
from fedray.data.columns.inputs import InputColumns, Inputs, parts
from fedray.data.columns.ragged import Ragged, dense, upon
from fedray.data.columns.rows import CPU, Examples, Rows, decode, nobodys, reading, unlike
from fedray.data.spec import DataSpec
from fedray.rundir import durable

NAMED = 100
"""The number of clients above which a fingerprint is of all of them together."""

LEARNT_BY = frozenset({"sums", "categories", "frequent"})
"""The questions to tables by which their scales, fills and categories are learnt."""


class ContiguousData(ClientData):
    """Rows that are already in client order.

    Args:
        x: inputs ``[N, ...]``, clients one after the other, training rows before held-out rows: float32, int64
            tokens, or uint8 images (kept as bytes, handed out as float32 in [0, 1]); or columns of such.
        y: targets: int64 ``[N]`` (or ``[N, T]``) classes, or float32 ``[N, ...]``.
        sizes: training examples of each client, int64 ``[n]``, each at least 1.
        spec: shape and meaning of an example.
        holdout_sizes: local held-out examples of each client, int64 ``[n]``; none by default.
        test: central test set.
        ids: client ids, unique, each matching ``[A-Za-z0-9._-]{1,64}``; none means clients are their numbers.
        starts: the row at which those of each client begin, and the end, int64 ``[n + 1]``; None: sizes are added up.

    Raises:
        ConfigError: an empty client, a bad or duplicate id, no client at all.
    """

    def __init__(
        self,
        x: Inputs,
        y: Tensor,
        sizes: Ints,
        spec: DataSpec,
        *,
        holdout_sizes: Ints | None = None,
        test: Examples | None = None,
        ids: Ids | None = None,
        starts: Ints | None = None,
    ) -> None:
        self._x, self._y = x, upon(y, parts(x))
        self.notes = (*reading(x), *nobodys(test))
        self._folder: Path | None = None
        self._hashes: dict[str, str] | None = None
        super().__init__(sizes, spec, holdout_sizes=holdout_sizes, test=test, ids=ids)
        if starts is None:
            starts = np.zeros(len(self.sizes) + 1, dtype=np.int64)
            np.cumsum(self.sizes if holdout_sizes is None else self.sizes + holdout_sizes, out=starts[1:])
        self._starts: Ints = starts
        if self._starts[-1] != len(x) or len(x) != len(y):
            raise ValueError(f"{len(x)} inputs and {len(y)} targets for clients of {self._starts[-1]} rows in total")

    def __reduce_ex__(self, protocol: SupportsIndex) -> str | tuple[Any, ...]:
        return super().__reduce_ex__(protocol) if self._folder is None else (open_mapped, (str(self._folder),))

    @property
    def folder(self) -> Path | None:
        return self._folder

    @property
    def has_lengths(self) -> bool:
        return bool(unlike(self._x))

    def rows(self, clients: Ints, device: torch.device = CPU) -> Rows:
        return Rows(self._x, self._y, self._starts[clients], self.sizes[clients], device)

    def stored(self) -> Inputs:
        places = np.repeat(self._starts[:-1], self.sizes) + np.arange(int(self.sizes.sum()))
        places -= np.repeat(np.cumsum(self.sizes) - self.sizes, self.sizes)
        return self._x.index_select(0, torch.from_numpy(places).to(self._y.device))

    def holdout(self, clients: Ints) -> tuple[Inputs, Tensor, Ints]:
        counts = self.holdout_sizes[clients]
        segment = np.repeat(np.arange(len(clients)), counts)
        within = np.arange(len(segment)) - (np.cumsum(counts) - counts)[segment]
        flat = (self._starts[clients] + self.sizes[clients])[segment] + within
        index = torch.from_numpy(flat).to(self._y.device)
        return decode(self._x.index_select(0, index)), dense(self._y.index_select(0, index)), segment

    def label_counts(self) -> Ints:
        self._need_classes()
        rows = self.sizes + self.holdout_sizes
        client = np.repeat(np.arange(len(self)), rows)
        training = np.arange(len(client)) - self._starts[client] < self.sizes[client]
        y, client = self._y, client[training]
        if isinstance(y, Ragged):
            chosen = y[torch.from_numpy(np.flatnonzero(training)).to(y.device)]
            targets = np.concatenate(list(chosen.pieces(0, chosen.size)))
            client = np.repeat(client, chosen.counts().cpu().numpy())
        else:
            targets = y.cpu().numpy().reshape(len(training), -1)[training]
        if self.spec.padding is not None:  # which sequences may have in between as well
            client, targets = client[targets != self.spec.padding], targets[targets != self.spec.padding]
        cells = client.reshape(-1, *[1] * (targets.ndim - 1)) * self.spec.outputs + targets
        counts = np.bincount(cells.reshape(-1), minlength=len(self) * self.spec.outputs)
        return counts.reshape(len(self), self.spec.outputs)

    def targets(self, client: int) -> Tensor:
        start = int(self._starts[client])
        return dense(self._y[start : start + int(self.sizes[client])])  # type: ignore[no-any-return]

    def lengths(self, client: int) -> Ints | None:
        if not isinstance(self._y, Ragged):
            return None
        start = int(self._starts[client])
        found: Ints = self._y[start : start + int(self.sizes[client])].counts().cpu().numpy()
        return found

    def positions(self, clients: Ints, ignored: int, unsaid: int = 0) -> Ints:
        sizes = self.sizes[clients]
        client = np.repeat(np.arange(len(clients)), sizes)
        within = np.arange(len(client)) - (np.cumsum(sizes) - sizes)[client]
        rows = torch.from_numpy(self._starts[clients][client] + within).to(self._y.device)
        counts = counting(dense(self._y.index_select(0, rows)), ignored)[:, unsaid:].flatten(1).sum(dim=1)
        found: Ints = np.zeros(len(clients), dtype=np.int64)
        np.add.at(found, client, counts.cpu().numpy())
        return found

    @property
    def nbytes(self) -> int:
        tensors = [self._x, self._y, *((self.test.x, self.test.y) if self.test is not None else ())]
        return sum(tensor.nbytes for tensor in tensors)

    def to(self, device: torch.device) -> Self:
        if torch.device(device) == self._y.device:
            return self
        test = None if self.test is None else self.test.to(device)
        return self._with(self._x.to(device), self._y.to(device), self.sizes, self.holdout_sizes, test)

    def with_holdout(self, fraction: float, seed: int) -> Self:
        held = held_sizes(self.sizes, fraction, self.holdout_sizes)
        if not held.any():
            return self
        order = training_first(seed, self.keys(np.arange(len(self))), self.sizes, held)
        index = torch.from_numpy(order).to(self._y.device)
        x, y = self._x.index_select(0, index), self._y.index_select(0, index)
        data = self._with(x, y, self.sizes - held, held, self.test)
        data.held_by = seed
        if any(one["question"] in LEARNT_BY for one in self.asked):
            said = (
                "scales, fills and categories were learnt from all rows of the tables, before some were held out; say "
                f"it where they are read: FederatedData.from_csv(..., holdout={fraction:g}, seed={seed})"
            )
            data.warnings = (*data.warnings, said)
        return data

    def _with(self, x: Inputs, y: Tensor, sizes: Ints, holdout: Ints, test: Examples | None) -> Self:
        data = type(self)(x, y, sizes, self.spec, holdout_sizes=holdout, test=test, ids=self._ids)
        data.warnings, data.encoding, data.marks = self.warnings, self.encoding, self.marks
        data.notes, data.taken, data.asked = self.notes, self.taken, self.asked
        data.augment, data.held_by = self.augment, self.held_by
        return data

    def fingerprint(self) -> Mapping[str, str]:
        return self.marks if self.marks is not None else self._row_hashes()

    def _row_hashes(self) -> dict[str, str]:
        if self._hashes is None:
            columns = [*parts(self._x), self._y]
            if len(self) <= NAMED:
                ends = self._starts.tolist()
                bounds = zip(ends, ends[1:], self.sizes.tolist(), strict=False)
                self._hashes = {
                    self.client_id(client): _digest(
                        *(part for one in columns for part in _hashed(one, start, stop)), size
                    )
                    for client, (start, stop, size) in enumerate(bounds)
                }
            else:
                sizes = _digest(self.sizes, self.keys(np.arange(len(self))))
                self._hashes = {
                    "all clients": _digest(
                        *(part for one in columns for part in _hashed(one, 0, int(self._starts[-1]))), sizes
                    )
                }
        return self._hashes

    def share(self, folder: Path) -> ContiguousData:
        """Return a memory-mapped copy, for all processes of a machine to share.

        The columns are written below ``folder``, in a folder named by their hash (so equal data is written once, and
        concurrent writers do not disturb each other).  A pickle of the copy holds only that path.  Data that is
        mapped already is returned as it is.

        Raises:
            ConfigError: there is no room, or nobody may write there.
        """
        return self if self._folder is not None else open_mapped(self._write(Path(folder)))

    def _columns(self) -> dict[str, NDArray[Any]]:
        columns = {
            **_numbered("x", self._x),
            **_arrays("y", self._y),
            "sizes": self.sizes,
            "starts": self._starts,
        }
        if self.holdout_sizes.any():
            columns["holdout_sizes"] = self.holdout_sizes
        if self.test is not None:
            columns |= {**_numbered("test_x", self.test.x), **_arrays("test_y", self.test.y)}
            columns |= {} if self.test.clients is None else {"test_clients": self.test.clients}
        if self._ids is not None:
            columns |= {"ids": self._ids, "keys": self.keys(np.arange(len(self)))}
        return columns

    def _ragged(self) -> dict[str, Any]:
        """Return what is to be known of sequences of different lengths, by the names of their files."""
        stores = {**_files("x", self._x), "y": self._y}
        if self.test is not None:
            stores |= {**_files("test_x", self.test.x), "test_y": self.test.y}
        found = {name: one.words() for name, one in stores.items() if isinstance(one, Ragged)}
        for name, one in stores.items():
            if isinstance(one, Ragged) and one.known is not None:
                whose = (other for other, x in stores.items() if isinstance(x, Ragged) and x.values is one.values)
                found[name]["of"] = next(whose)
        return found

    def _write(self, folder: Path) -> Path:
        """Write the columns below ``folder``, unless equal ones are there; return where they are."""
        columns = self._columns()
        described = {
            "spec": dataclasses.asdict(self.spec),
            "columns": sorted(columns),
            "rows": self._row_hashes(),
            "marks": self.marks,
            "encoding": self.encoding,
            "taken": self.taken,
            "asked": list(self.asked),
            "held_by": self.held_by,
            "ragged": self._ragged(),
        }
        meta = json.dumps(described)
        rows = {*_arrays("y", self._y), *_numbered("x", self._x)}  # whose hashes are in meta
        hashed = [columns[name] for name in sorted(columns) if name not in rows]
        final = folder / _digest(meta, *hashed)
        try:
            if not final.exists():
                _write(columns, meta, final)
        except OSError as error:
            # Another process may have finished the same folder first: then its files are as good as ours.
            if not final.exists():
                size = decimal(sum(column.nbytes for column in columns.values()))
                reason = error.strerror or error
                raise ConfigError(
                    f"data: its {size} cannot be written below {folder}: {reason}; set TMPDIR to where there is room"
                ) from error
        return final


def _numbered(name: str, x: Inputs) -> dict[str, NDArray[Any]]:
    """Return the columns of inputs by the names of their files: those of several are numbered."""
    return {file: array for stem, one in _files(name, x).items() for file, array in _arrays(stem, one).items()}


def _files(name: str, x: Inputs) -> dict[str, Any]:
    if not isinstance(x, InputColumns):
        return {name: x}
    return {f"{name}{place}": one for place, one in enumerate(x.columns.values())}


def _arrays(name: str, store: Any) -> dict[str, NDArray[Any]]:
    """Return the arrays of one tensor, or of sequences of different lengths, by the names of their files."""
    if not isinstance(store, Ragged):
        return {name: store.cpu().numpy()}
    return {f"{name}{end}": array for end, array in store.arrays().items()}


def _hashed(store: Any, start: int, stop: int) -> Iterator[NDArray[Any] | Pieces]:
    """Yield what rows ``start`` to ``stop`` of a column are, for hashes: of small types as int64, as they once were."""
    if not isinstance(store, Ragged):
        yield store.cpu().numpy()[start:stop]
        return
    ends = np.asarray(store.offsets[start : stop + 1].cpu())
    yield np.diff(ends)
    if store.values is not None:
        first, last = int(ends[0]), int(ends[-1])
        yield Pieces((last - first, *store.values.shape[1:]), store.pieces(first, last))


class Pieces(NamedTuple):
    """An array that is made a piece at a time.

    Args:
        shape: its shape.
        pieces: its pieces along the first axis.
    """

    shape: tuple[int, ...]
    pieces: Iterator[NDArray[Any]]


def _digest(*parts: NDArray[Any] | Pieces | str | int) -> str:
    """Hash arrays with their types and shapes, and words."""
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, str | int):
            hasher.update(f"{part} ".encode())
            continue
        shape, pieces = (part.shape, iter([part])) if isinstance(part, np.ndarray) else part
        for number, piece in enumerate(pieces):
            if not number:
                hasher.update(f"{piece.dtype.str} {shape} ".encode())
            hasher.update(np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data)
    return hasher.hexdigest()


def _write(columns: Mapping[str, NDArray[Any]], meta: str, final: Path) -> None:
    """Write a folder, which is there as a whole or not at all."""
    with durable.folder(final) as unfinished:
        for name, column in columns.items():
            np.save(unfinished / f"{name}.npy", column)
        (unfinished / "meta.json").write_text(meta)


def open_mapped(folder: str | Path) -> ContiguousData:
    """Map the columns that :meth:`ContiguousData.share` left in ``folder`` into memory."""
    folder = Path(folder)
    meta = json.loads((folder / "meta.json").read_text())
    spec = DataSpec.of(meta["spec"])

    def column(name: str) -> NDArray[Any] | None:
        if name not in meta["columns"]:
            return None
        # Of very many clients, too: no process has its own copy.
        return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False))

    def loaded(name: str) -> Tensor:
        # Mode "c" (copy on write): torch takes only writable memory, and nobody can write to the files through it.
        found: Tensor = tensor(np.load(folder / f"{name}.npy", mmap_mode="c", allow_pickle=False))
        return found

    def mapped(name: str) -> Any:
        if (words := meta["ragged"].get(name)) is None:
            return loaded(name)
        if (of := words.get("of")) is not None:
            own = mapped(of)
            return Ragged.mapped(own.values, own.offsets, words, loaded(f"{name}_known"))
        return Ragged.mapped(loaded(name) if words["values"] else None, loaded(f"{name}_offsets"), words)

    def inputs(name: str) -> Inputs:
        if not spec.columns:
            return mapped(name)
        return InputColumns({one.name: mapped(f"{name}{place}") for place, one in enumerate(spec.columns)})

    tested = any(name in meta["columns"] for name in ("test_y", "test_y_known", "test_y_offsets"))
    test = Examples(inputs("test_x"), mapped("test_y"), column("test_clients")) if tested else None
    data = ContiguousData(
        inputs("x"),
        mapped("y"),
        np.asarray(column("sizes")),
        spec,
        holdout_sizes=column("holdout_sizes"),
        test=test,
        ids=column("ids"),
        starts=column("starts"),
    )
    data.encoding, data.marks, data.taken, data.asked = (meta[one] for one in ("encoding", "marks", "taken", "asked"))
    data.held_by = meta["held_by"]
    data._hashes = meta["rows"]
    data._keys = column("keys")
    data._folder = folder
    return data

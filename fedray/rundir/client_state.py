"""Per-client state between rounds: rows in append-only segment files, found by an index.

A worker writes the new state of a block's clients into a segment of its own and reports where each row lies; the driver
commits those places when it accepts the block.  So a block that is repeated, or a client that is dropped, leaves the
old state in force, and a checkpoint is the index alone.  Memory is the page cache's: rows spill to disk by themselves.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.core.messages import Ints, Parts, Row
from fedray.rundir import durable

Seal = tuple[int, str]
"""The number of bytes of a segment that count, and their SHA-256."""

Matrix = NDArray[np.float32]

_COPIED = 1 << 20
"""The bytes of rows that are copied at once."""

_SUFFIX = ".f32"


class StateRows:
    """The worker's side: reads and writes rows.

    Args:
        folder: the folder of segments, visible to all workers that share the state.
        widths: length of each named vector; a row is their concatenation, float32, in this order.

    Attributes:
        width: length of a row.
    """

    def __init__(self, folder: Path, widths: Mapping[str, int]) -> None:
        self._folder = folder
        self._widths = dict(widths)
        self.width = sum(widths.values())
        self._segment = ""
        self._round = -1
        self._written = 0
        self._open: dict[str, int] = {}

    def read(self, clients: Ints, rows: Mapping[int, Row], device: torch.device) -> tuple[Parts, list[bool]]:
        """Read the state ``[C, k]`` of ``clients``, zero where there is none, and say which of them have some."""
        if not self._widths:
            return {}, [False] * len(clients)
        places = [rows.get(client) for client in clients.tolist()]
        parts = self.parts(places, list(self._widths.values()))
        known = [place is not None for place in places]
        return {name: torch.from_numpy(part).to(device) for name, part in zip(self._widths, parts, strict=True)}, known

    def parts(self, places: Sequence[Row | None], widths: Sequence[int]) -> list[Matrix]:
        """Return the rows at some places, zero for None, cut into parts ``[C, k]`` of these widths, whole in sum."""
        found = [np.zeros((len(places), width), dtype=np.float32) for width in widths]
        # A cohort has many short rows: what is done for each of them counts.
        into = [(part.reshape(-1).data.cast("B"), 4 * width) for part, width in zip(found, widths, strict=True)]
        size, read = self.width * 4, os.preadv
        for row, place in enumerate(places):
            if place is not None:
                segment, number = place
                file = self._open.get(segment)
                if file is None:
                    file = self._opened(segment)
                pieces = [part[row * length : (row + 1) * length] for part, length in into]
                if (got := read(file, pieces, number * size)) != size:
                    raise OSError(f"client state {segment} row {number} is cut short: {got} of {size} bytes")
        return found

    def _opened(self, segment: str) -> int:
        if len(self._open) > 64:
            self._forget()
        self._open[segment] = file = os.open(self._folder / segment, os.O_RDONLY)
        return file

    def write(self, round: int, clients: Ints, state: Parts) -> dict[int, Row]:
        """Append the state ``[C, k]`` of ``clients``, and return the places of their rows."""
        parts = [state[name] for name in self._widths]
        whole = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return self.append(round, clients, whole.detach().cpu().contiguous().numpy())

    def append(self, round: int, clients: Ints, matrix: Matrix) -> dict[int, Row]:
        """Append whole rows ``[C, sum of widths]``, and return their places."""
        if round != self._round:
            self._forget()  # an open file takes room, also once it is deleted
            self._round, self._written = round, 0
            self._segment = f"{round:08d}-{uuid.uuid4().hex[:12]}{_SUFFIX}"
        data, place = matrix.reshape(-1).data.cast("B"), self._written * self.width * 4
        # Closed each time: over NFS another node, and the driver that seals it, sees what was written before a close.
        file = os.open(self._folder / self._segment, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            while data:
                done = os.pwrite(file, data, place)
                data, place = data[done:], place + done
        finally:
            os.close(file)
        first = self._written
        self._written += len(clients)
        places = map(Row, repeat(self._segment), range(first, self._written))
        return dict(zip(clients.tolist(), places, strict=True))

    def _forget(self) -> None:
        for file in self._open.values():
            os.close(file)
        self._open.clear()

    def close(self) -> None:
        """Close all files."""
        self._forget()


class ClientStore:
    """The driver's side: the index of committed rows.

    Args:
        folder: the folder of segments; made if missing.
        widths: length of each named vector.

    Attributes:
        kept: segments that stay although the index may not refer to them: kept checkpoints do.
    """

    def __init__(self, folder: Path, widths: Mapping[str, int]) -> None:
        self.folder = folder
        self.widths = dict(widths)
        self.rows: dict[int, Row] = {}
        self._live: Counter[str] = Counter()
        self.kept: frozenset[str] = frozenset()
        self._ends: dict[str, int] = {}
        self._seals: dict[str, Seal] = {}
        self._condemned: set[str] = set()
        if widths:
            folder.mkdir(parents=True, exist_ok=True)

    def of(self, clients: Ints) -> dict[int, Row]:
        """Return the places of the state of ``clients``; newcomers are absent."""
        if not self.rows:
            return {}
        return {client: self.rows[client] for client in clients.tolist() if client in self.rows}

    def commit(self, rows: Mapping[int, Row]) -> None:
        """Accept new rows."""
        # What a segment has of the index is counted along: to go through all rows each round would take longer.
        gone = Counter([row.segment for row in map(self.rows.get, rows) if row is not None])
        self.rows.update(rows)
        self._live.update([row.segment for row in rows.values()])
        self._live.subtract(gone)
        for segment in gone:
            if not self._live[segment]:
                del self._live[segment]
        ends = self._ends
        for segment, number in rows.values():
            if number >= ends.get(segment, 0):
                ends[segment] = number + 1

    def index(self) -> tuple[dict[str, Tensor], list[str]]:
        """Return the index as tensors (``client``, ``segment``, ``row``) and the list of segments they refer to."""
        segments = sorted(self._live)
        number = {name: i for i, name in enumerate(segments)}
        table = [(client, number[row.segment], row.number) for client, row in sorted(self.rows.items())]
        columns = torch.tensor(table, dtype=torch.int64).reshape(-1, 3).t().contiguous()
        names = ("client", "segment", "row")
        return {name: column.clone() for name, column in zip(names, columns, strict=True)}, segments

    def seals(self) -> dict[str, Seal]:
        """Return the seal of each segment that the index refers to.

        Each segment is read once: when its rows are committed, the round that wrote them is over, and nothing more is
        appended.
        """
        known, self._seals = self._seals, {}
        for name in sorted(self._live):
            size = 4 * sum(self.widths.values()) * self._ends[name]
            self._seals[name] = known[name] if name in known else (size, _sha256(self.folder / name, size))
        return self._seals

    def restore(
        self, columns: Mapping[str, Tensor], segments: list[str], seals: Mapping[str, Seal] | None = None
    ) -> None:
        """Take over what ``index``, and ``seals`` if they were checked, have returned.

        Raises:
            FileNotFoundError: a segment is gone.
        """
        for name in segments:
            if not (self.folder / name).is_file():
                raise FileNotFoundError(f"client state segment {name} is missing in {self.folder}")
        triples = zip(columns["client"].tolist(), columns["segment"].tolist(), columns["row"].tolist(), strict=True)
        self.rows, self._live = {}, Counter()
        self.commit({client: Row(segments[segment], row) for client, segment, row in triples})
        self._seals = dict(seals or {})

    def flush(self) -> None:
        """Force all committed rows to disk, and the names of their segments."""
        names = set(self._live)
        folders = (self.folder, self.folder.parent) if names else ()
        for path in (*(self.folder / name for name in names), *folders):
            durable.sync(path)

    def compact(self, round: int) -> None:
        """Rewrite the live rows into one segment once less than half of the rows in their segments are live."""
        self._ends = {name: self._ends[name] for name in self._live}
        if len(self._live) < 2 or sum(self._ends.values()) <= 2 * len(self.rows):
            return
        rows, items = StateRows(self.folder, self.widths), sorted(self.rows.items())
        at_once = max(1, _COPIED // (4 * sum(self.widths.values())))
        for start in range(0, len(items), at_once):
            clients, places = zip(*items[start : start + at_once], strict=True)
            (whole,) = rows.parts(places, [rows.width])
            self.commit(rows.append(round, np.array(clients, dtype=np.int64), whole))
        rows.close()

    def collect_garbage(self) -> None:
        """Delete segments that neither the index nor ``kept`` has, at this call and at the one before.

        A segment that is missed by one call alone may be in use: workers in the middle of a round may be writing one
        that is not committed yet.
        """
        needed = self.kept | self._live.keys()
        unneeded = {path.name for path in self.folder.iterdir() if path.suffix == _SUFFIX} - needed
        for name in unneeded & self._condemned:
            (self.folder / name).unlink(missing_ok=True)
        self._condemned = unneeded

    def tidy(self, round: int) -> None:
        """Call ``collect_garbage`` and ``compact``: once in a round, beside it, any time before the next ``commit``.

        In this order, as the round may have asked for its rows before ``compact`` moves them: the segments that it
        asked for are then deleted in a later round at the earliest.
        """
        if self.rows:
            self.collect_garbage()
            self.compact(round)


def damage(folder: Path, seals: Mapping[str, Seal]) -> str | None:
    """Return the first thing that is wrong with the segments in ``folder``; None if they are as they were sealed."""
    for name, (size, digest) in seals.items():
        try:
            found = _sha256(folder / name, size)
        except OSError as error:
            return f"client state {name}: {error.strerror or error}"
        if found != digest:
            return f"client state {name} does not match its checksum"
    return None


def _sha256(path: Path, size: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size:
            data = file.read(min(size, 1 << 20))
            if not data:
                raise OSError(f"{path.name} is cut short, {size} bytes are missing")
            digest.update(data)
            size -= len(data)
    return digest.hexdigest()

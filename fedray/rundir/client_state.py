"""Per-client state between rounds: rows in append-only segment files, found by an index.

A worker writes the new state of a block's clients into a segment of its own and reports where each row lies; the driver
commits those places when it accepts the block.  So a block that is repeated, or a client that is dropped, leaves the
old state in force, and a checkpoint is the index alone.  Memory is the page cache's: rows spill to disk by themselves.
Where the driver trains itself, rows are in no file until a checkpoint needs them, see :mod:`fedray.rundir.held_rows`.
"""

from __future__ import annotations

import hashlib
import os
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fedray.core.fields import Bytes, Fields, as_bytes
from fedray.core.messages import Ints, Parts
from fedray.core.places import Places, joined
from fedray.rundir import durable
from fedray.rundir.held_rows import MEMORY, HeldRows
from fedray.rundir.index import Index

Seal = tuple[int, str]
"""The number of bytes of a segment that count, and their SHA-256."""

_COPIED = 1 << 20
"""The bytes of rows that are copied at once."""

_MOST, _LEFT = 2.5, 2.25
"""Rows in segments for each live one: before some are rewritten, and after."""

_SUFFIX, _EARLIER = ".rows", ".f32"
"""The ends of the names of segments; those of before knew one type."""

_IN_MEMORY = (MEMORY,)


class StateRows:
    """The worker's side: reads and writes rows.

    Args:
        folder: the folder of segments, visible to all workers that share the state.
        fields: the vector under each name; a row is the concatenation of their bytes, in this order.
        held: memory in which new rows may stay; None: they are written to files at once.

    Attributes:
        sizes: the bytes of each field.
        size: those of a row.
    """

    def __init__(self, folder: Path, fields: Fields, held: HeldRows | None = None) -> None:
        self._folder = folder
        self._fields = dict(fields)
        self.sizes = [field.nbytes for field in fields.values()]
        self.size = sum(self.sizes)
        self.held = held
        self._segment = ""
        self._round = -1
        self._written = 0
        self._open: dict[str, int] = {}
        self._asked: set[str] = set()

    def read(self, clients: Ints, places: Places, device: torch.device) -> tuple[Parts, Tensor]:
        """Read the state ``[C, k]`` of ``clients``, zero where there is none, and which of them have some, ``[C]``."""
        if not self._fields:
            return {}, torch.zeros(len(clients), dtype=torch.bool, device=device)
        if self.held is not None and places.clients is clients and places.segments == _IN_MEMORY:
            found = self._empty(len(clients))
            self.held.read(places.number, found)
            return self._parts(found, device), torch.ones(len(clients), dtype=torch.bool, device=device)
        at = places.at(clients)
        known, found = at >= 0, self._empty(len(clients))
        every = bool(known.all())
        into = self._remember(found, places, at, every)
        if not every:
            for part in found:
                part[~known] = 0
        if len(into):
            into = into[np.argsort(places.segment[at[into]], kind="stable")]
            self._fill(found, places, at[into], into, np.ones_like(into))
        return self._parts(found, device), torch.from_numpy(known).to(device)

    def _empty(self, rows: int) -> list[Bytes]:
        """Return room for the fields of so many rows, not by torch, which fills it where it is to be deterministic."""
        return [np.empty((rows, size), dtype=np.uint8) for size in self.sizes]

    def _parts(self, found: Sequence[Bytes], device: torch.device) -> Parts:
        fields = zip(self._fields.items(), found, strict=True)
        return {name: field.tensor(part).to(device) for (name, field), part in fields}

    def whole(self, places: Places) -> list[Bytes]:
        """Return the fields of rows, each ``[n, its bytes]``; what lies side by side is read at once."""
        found = np.empty((len(places), self.size), dtype=np.uint8)
        fields = np.split(found, np.cumsum(self.sizes)[:-1], axis=1)
        into = self._remember(fields, places, np.arange(len(places)), True)
        if len(into):
            apart = (np.diff(places.segment[into]) != 0) | (np.diff(places.number[into]) != 1) | (np.diff(into) != 1)
            first = np.flatnonzero(np.concatenate([[True], apart]))
            self._fill([found], places, into[first], into[first], np.diff(first, append=len(into)))
        return fields

    def _remember(self, found: Sequence[Bytes], places: Places, which: Ints, every: bool) -> Ints:
        """Copy what memory has of the rows at places ``[n]`` (-1: none), and return those of the n that files have.

        Rows of ``found`` that it does not have are left with any values.  ``every``: all n have a place.
        """
        if self.held is None or MEMORY not in places.segments:
            return np.flatnonzero(which >= 0)
        inside, number = every and len(places.segments) == 1, places.number[which]
        if not inside:
            here = (which >= 0) & (places.segment[which] == places.segments.index(MEMORY))
            number = np.where(here, number, 0)
        self.held.read(number, found)
        return which[:0] if inside else np.flatnonzero((which >= 0) & ~here)

    def _fill(self, found: Sequence[Bytes], places: Places, which: Ints, into: Ints, counts: Ints) -> None:
        """Read runs ``[n]``: from the place ``which`` so many rows on, into the parts of the rows from ``into`` on."""
        runs = places.segment[which].tolist(), places.number[which].tolist(), into.tolist(), counts.tolist()
        # A cohort has many short rows: what is done for each of them counts.
        parts = [(part.reshape(-1).data, part.shape[1]) for part in found]
        size, read, file, last = self.size, os.preadv, -1, -1
        for segment, number, row, count in zip(*runs, strict=True):
            if segment != last:
                file, last = self._file(places.segments[segment]), segment
            pieces = [part[row * length : (row + count) * length] for part, length in parts]
            if (got := read(file, pieces, number * size)) != count * size:
                where = f"{places.segments[segment]} row {number + got // size}"
                raise OSError(f"client state {where} is cut short: {got % size} of {size} bytes")

    def _file(self, segment: str) -> int:
        file = self._open.get(segment)
        if file is None:
            if len(self._open) > 64:
                self.close()
            self._open[segment] = file = os.open(f"{self._folder}/{segment}", os.O_RDONLY)
        self._asked.add(segment)
        return file

    def write(self, round: int, clients: Ints, state: Parts) -> Places:
        """Append the state ``[C, k]`` of ``clients``, and return the places of their rows."""
        fields = self._fields.items()
        return self.append(round, clients, [as_bytes(state[name].to(field.dtype)) for name, field in fields])

    def append(self, round: int, clients: Ints, fields: Sequence[Bytes]) -> Places:
        """Append rows, whose fields are ``[C, bytes]`` each, and return their places."""
        if round != self._round:
            self._forget()
            self._round, self._written = round, 0
            self._segment = f"{round:08d}-{uuid.uuid4().hex[:12]}{_SUFFIX}"
        if self.held is not None and (numbers := self.held.put(fields)) is not None:
            return Places(clients, _IN_MEMORY, np.zeros_like(clients), numbers)
        whole = np.ascontiguousarray(fields[0]) if len(fields) == 1 else np.concatenate(fields, axis=1)
        data, place = whole.reshape(-1).data, self._written * self.size
        # Closed each time: over NFS another node, and the driver that seals it, sees what was written before a close.
        file = os.open(f"{self._folder}/{self._segment}", os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            while data:
                done = os.pwrite(file, data, place)
                data, place = data[done:], place + done
        finally:
            os.close(file)
        first = self._written
        self._written += len(clients)
        return Places(clients, (self._segment,), np.zeros_like(clients), np.arange(first, self._written))

    def _forget(self) -> None:
        """Close the files that nobody asked for since the last call: one takes room, also once it is deleted."""
        for segment in self._open.keys() - self._asked:
            os.close(self._open.pop(segment))
        self._asked.clear()

    def close(self) -> None:
        """Close all files."""
        self._asked.clear()
        self._forget()


class ClientStore:
    """The driver's side: the index of committed rows.

    Args:
        folder: the folder of segments; made if missing.
        fields: the vector under each name.
        held: the memory in which workers of this process leave rows; None: all are in files.

    Attributes:
        kept: segments that stay although the index may not refer to them: kept checkpoints do.
    """

    def __init__(self, folder: Path, fields: Fields, held: HeldRows | None = None) -> None:
        self.folder = folder
        self.fields = dict(fields)
        self._size = sum(field.nbytes for field in fields.values())
        self.held = held
        self._index = Index()
        self.kept: frozenset[str] = frozenset()
        self._ends: dict[str, int] = {}
        self._seals: dict[str, Seal] = {}
        self._condemned: set[str] = set()
        self._round = 0
        self._bare = False  # the folder has been seen without a file
        if fields:
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def rows(self) -> Places:
        """The places of all committed rows, those of the clients in order."""
        return self._index.of(self._index.clients)

    def of(self, clients: Ints) -> Places:
        """Return the places of the state of ``clients``; newcomers are absent."""
        return self._index.of(clients)

    def commit(self, *reported: Places) -> None:
        """Accept new rows; a client has one of them."""
        places = joined(reported)
        if not len(places):
            return
        replaced = self._index.update(places, MEMORY)
        if self.held is not None:
            if places.segments == _IN_MEMORY:
                self.held.accept(places.number, replaced)
                return
            memory = places.segments.index(MEMORY) if MEMORY in places.segments else -1
            self.held.accept(places.number[places.segment == memory], replaced)
        ends = np.zeros(len(places.segments), dtype=np.int64)
        np.maximum.at(ends, places.segment, places.number + 1)
        for name, end in zip(places.segments, ends.tolist(), strict=True):
            self._ends[name] = max(end, self._ends.get(name, 0))

    def index(self) -> tuple[dict[str, Tensor], list[str]]:
        """Return the index as tensors (``client``, ``segment``, ``row``) and the list of segments they refer to.

        Raises:
            RuntimeError: rows are in memory alone: ``flush`` first.
        """
        rows = self._in_files()
        order = np.argsort(np.array(rows.segments))
        number = np.empty_like(order)
        number[order] = np.arange(len(order))
        columns = {"client": rows.clients, "segment": number[rows.segment], "row": rows.number}
        return {name: torch.from_numpy(column) for name, column in columns.items()}, sorted(rows.segments)

    def _in_files(self) -> Places:
        """Return the places of all committed rows in files, those of the clients in order; no segment is without."""
        rows = self.rows
        if self.held is None or MEMORY not in rows.segments:
            return rows
        memory, names = rows.segments.index(MEMORY), list(rows.segments)
        inside = rows.segment == memory
        files, file, number = self.held.written(rows.number[inside])
        segment, numbers = rows.segment.copy(), rows.number.copy()
        segment[inside], numbers[inside] = file + len(names), number
        used, segment = np.unique(segment, return_inverse=True)
        names += files
        return Places(rows.clients, tuple(names[place] for place in used.tolist()), segment, numbers)

    def seals(self) -> dict[str, Seal]:
        """Return the seal of each segment that the index refers to.

        Each segment is read once: when its rows are committed, the round that wrote them is over, and nothing more is
        appended.
        """
        known, self._seals = self._seals, {}
        ends = self._ends if self.held is None else self._ends | self.held.files
        for name in sorted(self._in_files().segments):
            size = self._size * ends[name]
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
        clients, segment, number = (columns[name].numpy() for name in ("client", "segment", "row"))
        self._index = Index()
        self.commit(Places(clients, tuple(segments), segment, number))
        self._seals = dict(seals or {})

    def flush(self) -> None:
        """Force all committed rows to disk, and the names of their segments."""
        self._write_held()
        names = set(self._in_files().segments)
        folders = (self.folder, self.folder.parent) if names else ()
        for path in (*(self.folder / name for name in names), *folders):
            durable.sync(path)

    def _write_held(self) -> None:
        """Write those rows of memory that no file has, and those of files that have few of the others, into a file."""
        if self.held is None or not self.fields:
            return
        inside = self._index.within([MEMORY] if MEMORY in self._index.live else [])
        self.held.forget(inside.number, _MOST, _LEFT)
        rows = self.held.unwritten(inside.number)
        new, first = StateRows(self.folder, self.fields), 0
        memory = StateRows(self.folder, self.fields, self.held)
        for some in np.split(rows, range(self._at_once, len(rows), self._at_once)):
            if len(some):
                there = Places(some, _IN_MEMORY, np.zeros_like(some), some)
                written = new.append(self._round, some, memory.whole(there))
                self.held.wrote(some, written.segments[0], first)
                first += len(some)

    @property
    def _at_once(self) -> int:
        """The number of rows that are copied at once."""
        return max(1, _COPIED // max(1, self._size))  # fields may be of no width

    def compact(self, round: int) -> None:
        """Rewrite live rows once more than ``_MOST`` times as many are stored, until ``_LEFT`` times as many are.

        Those of the emptiest segments are: to rewrite all would copy each row many times over, as most of a segment
        that was written lately are written anew soon.
        """
        live = {name: count for name, count in self._index.live.items() if name != MEMORY}
        self._ends = ends = {name: self._ends[name] for name in live}
        stored, wanted = sum(ends.values()), sum(live.values())
        if len(live) < 2 or stored <= _MOST * wanted:
            return
        emptiest = []
        for name in sorted(live, key=lambda name: live[name] / ends[name]):
            if stored <= _LEFT * wanted:
                break
            emptiest.append(name)
            stored -= ends[name] - live[name]
        rows, moved = StateRows(self.folder, self.fields, self.held), self._index.within(emptiest)
        for start in range(0, len(moved), self._at_once):
            some = moved.only(moved.clients[start : start + self._at_once])
            self.commit(rows.append(round, some.clients, rows.whole(some)))
        rows.close()

    def collect_garbage(self) -> None:
        """Delete segments that neither the index nor ``kept`` has, at this call and at the one before.

        A segment that is missed by one call alone may be in use: workers in the middle of a round may be writing one
        that is not committed yet.
        """
        needed = self.kept | self._index.live.keys()
        if self.held is not None:
            self.held.tidy()
            needed |= self.held.files.keys()
            if self._bare and needed == {MEMORY}:
                return
        with os.scandir(self.folder) as found:
            files = {entry.name for entry in found if entry.name.endswith((_SUFFIX, _EARLIER))}
        unneeded = files - needed
        for name in unneeded & self._condemned:
            (self.folder / name).unlink(missing_ok=True)
        self._condemned, self._bare = unneeded, not files

    def tidy(self, round: int) -> None:
        """Call ``collect_garbage`` and ``compact``: once in a round, beside it, any time before the next ``commit``.

        In this order, as the round may have asked for its rows before ``compact`` moves them: the segments that it
        asked for are then deleted in a later round at the earliest.
        """
        self._round = round
        if self._index.live:
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

"""Per-client state between rounds: rows in append-only segment files, found by an index.

A worker writes the new state of a block's clients into a segment of its own and reports where each row lies; the driver
commits those places when it accepts the block.  So a block that is repeated, or a client that is dropped, leaves the
old state in force, and a checkpoint is the index alone.  Memory is the page cache's: rows spill to disk by themselves.
Where workers share memory with the driver, the driver gives them places there, and rows are in no file until a
checkpoint needs them, see :mod:`fedray.rundir.held_rows`.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Mapping
from itertools import accumulate, pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fedray.core.fields import Fields
from fedray.core.messages import Ints
from fedray.core.places import NO_PLACES, Places, joined
from fedray.rundir import durable
from fedray.rundir.held_rows import MEMORY, HeldRows, RowMemory
from fedray.rundir.index import Index
from fedray.rundir.state_rows import IN_MEMORY, SUFFIX, StateRows

Seal = tuple[int, str]
"""The number of bytes of a segment that count, and their SHA-256."""

_COPIED = 1 << 20
"""The bytes of rows that are copied at once."""

_MOST, _LEFT = 2.5, 2.25
"""Rows in segments for each live one: before some are rewritten, and after."""

_EARLIER = ".f32"
"""The end of the names of segments of before, which knew one type."""


class ClientStore:
    """The driver's side: the index of committed rows.

    Args:
        folder: the folder of segments; made if missing.
        fields: the vector under each name.
        held: rows in memory that workers share; None: all are in files.

    Attributes:
        kept: segments that stay although the index may not refer to them: kept checkpoints do.
    """

    def __init__(self, folder: Path, fields: Fields, held: HeldRows | None = None) -> None:
        self.folder = folder
        self.fields = dict(fields)
        self._size = sum(field.nbytes for field in fields.values())
        self.held = held
        self._filing = threading.RLock()
        if held is not None:
            held.filed = self.filed
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
    def memory(self) -> RowMemory | None:
        """The memory where rows may lie."""
        return None if self.held is None else self.held.memory

    def reserve(self, *counts: int) -> list[Ints]:
        """Return places in memory for each of so many new rows, or fewer where there is no room: they go to files."""
        if self.held is None:
            return [NO_PLACES] * len(counts)
        room, ends = self.held.reserve(sum(counts)), list(accumulate(counts, initial=0))
        return [room[start:stop] for start, stop in pairwise(ends)]

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
            if places.segments == IN_MEMORY:
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

    def filed(self, places: Places) -> Places:
        """Return the places in files of rows, after those that no file has are written to one."""
        if self.held is None or MEMORY not in places.segments:
            return places
        with self._filing:
            inside = places.number[places.segment == places.segments.index(MEMORY)]
            self._write(self.held.unwritten(inside))
            return self._outside(places)

    def _in_files(self) -> Places:
        """Return the places of all committed rows in files, those of the clients in order; no segment is without."""
        with self._filing:
            return self._outside(self.rows)

    def _outside(self, rows: Places) -> Places:
        """Return the places of rows in files, which have them all; no segment is without."""
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
        with self._filing:
            inside = self._index.within([MEMORY] if MEMORY in self._index.live else [])
            self.held.forget(inside.number, _MOST, _LEFT)
            self._write(self.held.unwritten(inside.number))

    def _write(self, rows: Ints) -> None:
        """Write rows of memory, by their places there, into a file."""
        assert self.held is not None
        new, first = StateRows(self.folder, self.fields), 0
        memory = StateRows(self.folder, self.fields, self.memory)
        for some in np.split(rows, range(self._at_once, len(rows), self._at_once)):
            if len(some):
                there = Places(some, IN_MEMORY, np.zeros_like(some), some)
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
        rows, moved = StateRows(self.folder, self.fields, self.memory), self._index.within(emptiest)
        for start in range(0, len(moved), self._at_once):
            some = moved.only(moved.clients[start : start + self._at_once])
            self.commit(rows.append(round, some.clients, rows.whole(some), *self.reserve(len(some))))
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
            files = {entry.name for entry in found if entry.name.endswith((SUFFIX, _EARLIER))}
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

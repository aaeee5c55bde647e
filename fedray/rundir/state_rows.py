"""The workers' side of client state: rows of clients, read and written in segment files and in memory."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fedray.core.fields import Bytes, Fields, as_bytes
from fedray.core.messages import Ints, Parts
from fedray.core.places import NO_PLACES, Places
from fedray.rundir.held_rows import MEMORY, RowMemory

SUFFIX = ".rows"
"""The end of the names of segments."""

IN_MEMORY = (MEMORY,)
"""The segments of places that are all in memory."""


def read_on(file: int, pieces: Sequence[memoryview], place: int, got: int = 0) -> int:
    """Read a file from ``place`` on into pieces of memory, and return the bytes of all of them, fewer at its end.

    Linux reads at most 2 GiB at once.

    Args:
        file: its descriptor.
        pieces: the memory.
        place: of the first byte.
        got: the bytes that are read already.
    """
    wanted = sum(map(len, pieces))
    while got < wanted:
        ends = accumulate(map(len, pieces))
        left = [piece[max(0, got - end + len(piece)) :] for piece, end in zip(pieces, ends, strict=True) if end > got]
        if not (more := os.preadv(file, left, place + got)):
            break
        got += more
    return got


class StateRows:
    """The worker's side: reads and writes rows.

    Args:
        folder: the folder of segments, visible to all workers that share the state.
        fields: the vector under each name; a row is the concatenation of their bytes, in this order.
        memory: memory of further rows, whose places the driver gives; None: all are in files.

    Attributes:
        sizes: the bytes of each field.
        size: those of a row.
    """

    def __init__(self, folder: Path, fields: Fields, memory: RowMemory | None = None) -> None:
        self._folder = folder
        self._fields = dict(fields)
        self.sizes = [field.nbytes for field in fields.values()]
        self.size = sum(self.sizes)
        self.memory = memory
        self._segment = ""
        self._round = -1
        self._written = 0
        self._open: dict[str, int] = {}
        self._asked: set[str] = set()

    def read(self, clients: Ints, places: Places, device: torch.device) -> tuple[Parts, Tensor]:
        """Read the state ``[C, k]`` of ``clients``, zero where there is none, and which of them have some, ``[C]``."""
        if not self._fields:
            return {}, torch.zeros(len(clients), dtype=torch.bool, device=device)
        found = self._empty(len(clients))
        inside = self.memory if places.segments == IN_MEMORY else None
        if inside is not None and places.clients is clients:
            inside.read(places.number, found)
            return self._parts(found, device), torch.from_numpy(np.ones(len(clients), dtype=np.bool_)).to(device)
        at = places.at(clients)
        known = at >= 0
        into, new = at[:0], np.flatnonzero(~known)
        if inside is not None:
            inside.read(places.number[at], found)  # of newcomers, who are at -1, the row of another
        else:
            into = self._remember(found, places, at, not len(new))
        if len(new):
            for part in found:
                part[new] = 0
        if len(into):
            into = into[np.argsort(places.segment[at[into]], kind="stable")]
            self._fill(found, places, at[into], into, np.ones_like(into))
        return self._parts(found, device), torch.from_numpy(known).to(device)

    def _empty(self, rows: int) -> list[Bytes]:
        """Return room for the fields of so many rows, not by torch, which fills it where it is to be deterministic."""
        return [np.empty((rows, size), dtype=np.uint8) for size in self.sizes]

    def _parts(self, found: Sequence[Bytes], device: torch.device) -> Parts:
        fields = zip(self._fields.items(), found, strict=True)
        parts = {name: field.tensor(part) for (name, field), part in fields}
        return parts if device.type == "cpu" else {name: part.to(device) for name, part in parts.items()}

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
        if self.memory is None or MEMORY not in places.segments:
            return np.flatnonzero(which >= 0)
        inside, number = every and len(places.segments) == 1, places.number[which]
        if not inside:
            here = (which >= 0) & (places.segment[which] == places.segments.index(MEMORY))
            number = np.where(here, number, 0)
        self.memory.read(number, found)
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
            got = read(file, pieces, number * size)
            if got < count * size and (got := read_on(file, pieces, number * size, got)) < count * size:
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

    def write(self, round: int, clients: Ints, state: Parts, room: Ints = NO_PLACES) -> Places:
        """Write the state ``[C, k]`` of ``clients``, and return the places of their rows; ``room`` as for `append`."""
        rows = []
        for name, field in self._fields.items():
            part = state[name]
            rows.append(as_bytes(part if part.dtype == field.dtype else part.to(field.dtype)))
        return self.append(round, clients, rows, room)

    def append(self, round: int, clients: Ints, fields: Sequence[Bytes], room: Ints = NO_PLACES) -> Places:
        """Write rows, whose fields are ``[C, bytes]`` each, and return their places.

        Args:
            round: round number.
            clients: of the rows.
            fields: of the rows.
            room: places in memory; if they are too few, the rows are appended to a file.
        """
        if self.memory is not None and len(room) >= len(clients):
            self.memory.write(room := room[: len(clients)], fields)
            return Places(clients, IN_MEMORY, np.zeros_like(clients), room)
        self._turn_to(round)
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

    def _turn_to(self, round: int) -> None:
        """Begin another file in a new round."""
        if round != self._round:
            self._forget()
            self._round, self._written = round, 0
            self._segment = f"{round:08d}-{uuid.uuid4().hex[:12]}{SUFFIX}"

    def _forget(self) -> None:
        """Close the files that nobody asked for since the last call: one takes room, also once it is deleted."""
        for segment in self._open.keys() - self._asked:
            os.close(self._open.pop(segment))
        self._asked.clear()

    def close(self) -> None:
        """Close all files."""
        self._asked.clear()
        self._forget()

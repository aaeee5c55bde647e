"""The ledger of a run: a journal of its releases, on the disk before any of them is made."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedray.core.errors import ConfigError
from fedray.privacy.accounting import Accountant, spent
from fedray.privacy.releases import Release, charged
from fedray.rundir import durable

FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """A release as the ledger has it.

    Args:
        round: round number.
        id: of the release: the same only for the same values with the same noise.
        release: the mechanism.
    """

    round: int
    id: str
    release: Release

    def to_json(self) -> dict[str, Any]:
        """Return the entry ready for JSON."""
        return {"round": self.round, "release": self.id, **self.release.fields}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Entry:
        """Make an entry of what ``to_json`` has returned."""
        mechanism = {name: value for name, value in line.items() if name not in ("round", "release")}
        return cls(int(line["round"]), str(line["release"]), Release(**mechanism))


class Ledger:
    """A journal of releases, one JSON line each, in a file that only grows.

    A release that was made again with the same noise, after a kill, is one; one of a round that came out otherwise, as
    other clients failed or an older checkpoint was taken, is a further one.  So what is spent never falls.

    >>> import tempfile
    >>> ledger = Ledger.begin(Path(tempfile.mkdtemp()) / "privacy.jsonl")
    >>> for id in ("a", "a", "b"):  # the third is another one: the round was done again, and came out otherwise
    ...     ledger.write(1, id, Release(noise_multiplier=2.0, rate=0.1))
    >>> len(ledger), ledger.rounds
    (2, 1)
    >>> Ledger.read(ledger.path).entries == ledger.entries
    True

    Args:
        path: the file.
        id: of the ledger, drawn where it begins; a checkpoint has it, so that no other ledger is taken for it.
        entries: in their order.
    """

    def __init__(self, path: Path, id: str, entries: tuple[Entry, ...] = ()) -> None:
        self.path, self.id, self.entries = path, id, entries
        self._known = {(entry.round, entry.id) for entry in entries}

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    @classmethod
    def begin(cls, path: Path) -> Ledger:
        """Make the ledger of a new run.

        Raises:
            ConfigError: there is one, whose releases would be forgotten.
            OSError: the file cannot be written.
        """
        made = cls(path, secrets.token_hex(16))
        if not durable.create(path, _line({"ledger": made.id, "format": FORMAT})):
            raise ConfigError(f"{path}: there is a ledger of privacy already; begin a new run in a folder of its own")
        return made

    @classmethod
    def read(cls, path: Path) -> Ledger:
        """Read a ledger; a last line that was cut short by a kill is left out, as its release was never made.

        Raises:
            ConfigError: there is none, or it was changed.
        """
        try:
            head, *lines = path.read_bytes().split(b"\n")
        except FileNotFoundError:
            raise ConfigError(f"{path}: there is no ledger of privacy, so that nobody knows what was spent") from None
        try:
            first = json.loads(head)
            if first["format"] > FORMAT:
                raise ConfigError(
                    f"{path}: a ledger of format {first['format']}; this fedray reads {FORMAT}: update it"
                )
            entries = tuple(Entry.from_json(json.loads(line)) for line in lines[:-1])
            return cls(path, str(first["ledger"]), entries)
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path}: not a ledger of privacy, or a changed one ({error})") from error

    @classmethod
    def resume(cls, path: Path, id: str, least: int) -> Ledger:
        """Read the ledger of a run that goes on, and make it whole where a kill has cut its last line.

        Args:
            path: the file.
            id: of the ledger that the checkpoint belongs to.
            least: the number of entries that there were at the checkpoint.

        Raises:
            ConfigError: it is that of another run, or has lost entries: what was spent is not known.
        """
        found = cls.read(path)
        if found.id != id:
            raise ConfigError(f"{path}: the ledger of another run than the checkpoint's; put back the one that it had")
        if len(found) < least:
            raise ConfigError(
                f"{path}: the ledger has {len(found)} releases, and had {least} at the checkpoint: put it back whole"
            )
        whole = b"".join([_line({"ledger": id, "format": FORMAT}), *(_line(entry.to_json()) for entry in found)])
        if path.read_bytes() != whole:
            durable.replace(path, whole)
        return found

    def has(self, round: int, id: str) -> bool:
        """Return True if a release is written down."""
        return (round, id) in self._known

    def write(self, round: int, id: str, release: Release) -> None:
        """Write a release down and force it to the disk, unless it is there.

        Args:
            round: round number.
            id: of the release.
            release: one.

        Raises:
            OSError: the disk is full, or fails: the release must not be made.
        """
        if self.has(round, id):
            return
        entry = Entry(round, id, release)
        durable.append(self.path, _line(entry.to_json()))
        self.entries = (*self.entries, entry)
        self._known.add((round, id))

    @property
    def releases(self) -> tuple[Release, ...]:
        """The releases so far as they are paid for, alike in one."""
        return charged((entry.round, entry.release) for entry in self.entries)

    @property
    def rounds(self) -> int:
        """The number of rounds that were released at least once."""
        return len({entry.round for entry in self.entries})

    def spent(self, delta: float, accountant: Accountant = "pld") -> float:
        """Return the epsilon of all releases at ``delta``; errors are those of :func:`accounting.spent`."""
        return spent(self.releases, delta, accountant)


def _line(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"

"""A file that only grows, in which what a release costs stands before anything is made of it."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from fedray.core.errors import ConfigError
from fedray.rundir import durable


class Written(Protocol):
    """The content of a line of a journal."""

    def to_json(self) -> dict[str, Any]:
        """Return the line ready for JSON."""
        ...


E = TypeVar("E", bound=Written)


class Journal(Generic[E]):
    """The base of ledgers: a head, and a JSON line for each entry, forced to the disk before it is taken for written.

    See :class:`~fedray.privacy.ledger.Ledger`, of a server's releases, and
    :class:`~fedray.privacy.client_ledger.ClientLedger`, of clients'.

    Args:
        path: the file.
        id: of the journal, drawn where it begins; a checkpoint has it, so that no other one is taken for it.
        entries: in their order.
    """

    format: ClassVar[int]
    """The format of what is written; lower ones are read."""

    whose: ClassVar[str]
    """The owner of the releases that stand there: ``server`` or ``clients``."""

    def __init__(self, path: Path, id: str, entries: Iterable[E] = ()) -> None:
        self.path, self.id, self._entries = path, id, list[E]()
        self._file = durable.Growing(path)
        for entry in entries:
            self.add(entry)

    @classmethod
    def entry_of(cls, line: Mapping[str, Any]) -> E:
        """Make an entry of what its ``to_json`` has returned.

        Raises:
            TypeError: something is missing, or is unknown and might have cost something.
        """
        raise NotImplementedError

    @classmethod
    def entries_of(cls, lines: Iterable[bytes]) -> list[E]:
        """Make entries of the lines behind the head; errors are ValueError, and those of :meth:`entry_of`."""
        return [cls.entry_of(json.loads(line)) for line in lines]

    def add(self, entry: E) -> None:
        """Take an entry that is written down."""
        self._entries.append(entry)

    def __len__(self) -> int:
        """Return the number of releases."""
        return len(self._entries)

    def __iter__(self) -> Iterator[E]:
        return iter(self._entries)

    @classmethod
    def begin(cls, path: Path) -> Self:
        """Make the ledger of a new run.

        Raises:
            ConfigError: there is one, whose releases would be forgotten.
            OSError: the file cannot be written.
        """
        made = cls(path, secrets.token_hex(16))
        if not durable.create(path, made._head):
            raise ConfigError(f"{path}: there is a ledger of privacy already; begin a new run in a folder of its own")
        return made

    @property
    def _head(self) -> bytes:
        # Ledgers of servers were there first, and do not say so.
        said = {} if self.whose == "server" else {"of": self.whose}
        return _line({"ledger": self.id, "format": self.format, **said})

    @classmethod
    def is_at(cls, path: Path) -> bool:
        """Return True if a file is a ledger of this kind, and False for another one, or what is none."""
        try:
            with path.open("rb") as file:
                return bool(json.loads(file.readline()).get("of", "server") == cls.whose)
        except (OSError, ValueError, AttributeError):
            return False

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a ledger; a last line that was cut short by a kill is left out, as nothing was made of it.

        Raises:
            ConfigError: there is none, or it was changed, or is of another kind, or of a later fedray.
        """
        try:
            head, *lines = path.read_bytes().split(b"\n")
        except FileNotFoundError:
            raise ConfigError(f"{path}: there is no ledger of privacy, so that nobody knows what was spent") from None
        try:
            first = json.loads(head)
            if (found := first.get("of", "server")) != cls.whose:
                owners = {"server": "a server's releases", "clients": "clients' releases"}
                raise ConfigError(
                    f"{path}: the ledger of {owners.get(found, found)}, not of {owners[cls.whose]}: resume with the "
                    "privacy.model and privacy.unit that the run was started with, or train anew in another run.dir"
                )
            if first["format"] > cls.format:
                raise ConfigError(
                    f"{path}: a ledger of format {first['format']}; this fedray reads {cls.format}: update it"
                )
            return cls(path, str(first["ledger"]), cls.entries_of(lines[:-1]))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{path}: not a ledger of privacy, or a changed one ({error})") from error

    @classmethod
    def resume(cls, path: Path, id: str | None = None, least: int = 0) -> Self:
        """Read the ledger of a run that goes on, and make it whole where a kill has cut its last line.

        Args:
            path: the file.
            id: of the ledger that the checkpoint belongs to; None: there is no checkpoint yet.
            least: the number of releases that there were at the checkpoint.

        Raises:
            ConfigError: it is that of another run, or has lost entries: what was spent is not known.
        """
        found = cls.read(path)
        if id is not None and found.id != id:
            raise ConfigError(f"{path}: the ledger of another run than the checkpoint's; put back the one that it had")
        if len(found) < least:
            raise ConfigError(
                f"{path}: the ledger has {len(found)} releases, and had {least} at the checkpoint: put it back whole"
            )
        whole = b"".join([found._head, *(_line(entry.to_json()) for entry in found)])
        if path.read_bytes() != whole:
            durable.replace(path, whole)
        return found

    def append(self, entries: Iterable[E]) -> None:
        """Write entries down, force them to the disk, and take them.

        Raises:
            OSError: the disk is full, or fails: nothing must be made of them.
        """
        if new := list(entries):
            self.note(*(entry.to_json() for entry in new))
            for entry in new:
                self.add(entry)

    def note(self, *lines: Mapping[str, Any], forced: bool = True) -> None:
        """Write lines down; those of entries are still to be taken.

        Args:
            lines: the lines, ready for JSON.
            forced: wait until they, and all before them, are on the disk.

        Raises:
            OSError: as for :meth:`append`; none of the lines is there.
        """
        self._file.append(b"".join(map(_line, lines)), forced=forced)

    def settle(self) -> None:
        """Write down that nothing more was made than stands here, where that is not clear."""


_encoded = json.JSONEncoder().encode


def _line(value: Mapping[str, Any]) -> bytes:
    return _encoded(value).encode() + b"\n"

"""The ledger of a run: a journal of its releases, on the disk before any of them is made."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from fedray.core import inject
from fedray.privacy.accounting import Accountant, spent
from fedray.privacy.journal import Journal
from fedray.privacy.releases import Charges, Release
from fedray.privacy.reserved import Reserved
from fedray.rundir.boots import boot_id, keeping_boot

FORMAT = 4
"""The format of what is written: 2 has the circumstances of a release, 3 those of correlated noise and shares too, and
4 has releases that are reserved."""

LOST = "lost"
"""The id of a release that counts as made, as it was reserved and the machine has stopped."""

_RESERVED, _BOOT, _SETTLED = "reserved", "boot", "settled"
"""Keys of a line: the number of releases reserved and the boot; and, alone, that no more were made."""


@dataclass(frozen=True)
class Correlated:
    """The circumstances of noise that is correlated between rounds: whom a round was of, and how far noise reaches.

    Args:
        turns: the number of groups of clients that take turns.
        rate: the share of those whose turn it is that is drawn, in (0, 1].
        reach: of ``banded`` the number of bands, of ``tree`` that of the rounds of a tree.
    """

    turns: int
    rate: float
    reach: int


@dataclass(frozen=True)
class Shared:
    """The circumstances of noise that clients share, in the ring of a secure sum.

    Args:
        rate: the share of those whose turn it is that is drawn, in (0, 1].
        square: sigma^2 of the discrete Gaussian that each client adds to its whole numbers.
        most: the largest squared norm of these.
        step: the value of one.
        counted: the number of clients whose noise counts.
        corrupt: the share of a cohort that may work with the server.
    """

    rate: float
    square: int
    most: int
    step: float
    counted: int
    corrupt: float


@dataclass(frozen=True)
class Circumstances:
    """The circumstances of a release, for a reviewer: they do not change the epsilon.

    Args:
        expected: the number of clients that a cohort is expected to have, by which the sum is divided.
        norm: the Euclidean norm to which all that a client sends was clipped.
        noise_std: the standard deviation of the noise on each value of the mean.
        correlated: those of noise that is correlated between rounds; None: it is not, or an earlier fedray has written
            the line.
        shared: those of noise that clients share; None: they do not.
    """

    expected: float
    norm: float
    noise_std: float
    correlated: Correlated | None = None
    shared: Shared | None = None

    def to_json(self) -> dict[str, Any]:
        """Return them ready for JSON."""
        told = {name: value for name, value in vars(self).items() if value is not None}
        return told | {name: asdict(told[name]) for name in ("correlated", "shared") if name in told}

    @classmethod
    def from_json(cls, told: Mapping[str, Any]) -> Circumstances:
        """Make them of what ``to_json`` has returned; TypeError: something is missing, or unknown."""
        kinds = {"correlated": Correlated, "shared": Shared}
        return cls(**dict(told) | {name: kind(**told[name]) for name, kind in kinds.items() if name in told})


@dataclass(frozen=True)
class Cost:
    """The words on a release that are written down before it is made.

    Args:
        release: the mechanism, which is accounted for.
        circumstances: those of the release.
    """

    release: Release
    circumstances: Circumstances | None = None


@dataclass(frozen=True)
class Entry:
    """A release as the ledger has it.

    Args:
        round: round number.
        id: of the release: the same only for the same values with the same noise.
        release: the mechanism.
        circumstances: those of the release; None: an earlier fedray has written the line.
    """

    round: int
    id: str
    release: Release
    circumstances: Circumstances | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the entry ready for JSON."""
        release = {"sampling": self.release.sampling, "relation": self.release.relation, **self.release.fields}
        told = {} if self.circumstances is None else self.circumstances.to_json()
        return {"round": self.round, "release": self.id, **release, **told}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Entry:
        """Make an entry of what ``to_json`` has returned.

        Raises:
            TypeError: something is missing, or is unknown and might have cost something.
        """
        left = dict(line)
        round, id = int(left.pop("round")), str(left.pop("release"))
        told = {field.name: left.pop(field.name) for field in fields(Circumstances) if field.name in left}
        return cls(round, id, Release(count=1, **left), Circumstances.from_json(told) if told else None)

    def next(self, count: int) -> list[Entry]:
        """Return the entries of the rounds that follow, as they count where nobody knows more of them."""
        return [
            replace(self, round=self.round + n, id=LOST, release=self.release.after(n)) for n in range(1, count + 1)
        ]


class Ledger(Journal[Entry]):
    """A journal of releases, one JSON line each, in a file that only grows.

    A release that was made again with the same noise, after a kill, is one; one of a round that came out otherwise, as
    other clients failed or an older checkpoint was taken, is a further one.  So what is spent never falls.

    A line may reserve releases of the rounds that follow (:class:`~fedray.privacy.reserved.Reserved`): they have lines
    of their own, too, which do not wait for the disk.  A process that is killed loses none of them.  Where the machine
    stopped, lines may be lost: to whoever reads the file in another boot, all that was reserved and has no line is a
    release, with the id :data:`LOST`.

    >>> import tempfile
    >>> ledger = Ledger.begin(Path(tempfile.mkdtemp()) / "privacy.jsonl")
    >>> for id in ("a", "a", "b"):  # the third is another one: the round was done again, and came out otherwise
    ...     ledger.write(1, id, Cost(Release(noise_multiplier=2.0, rate=0.1)))
    >>> len(ledger), ledger.rounds
    (2, 1)
    >>> Ledger.read(ledger.path).entries == ledger.entries
    True

    Args:
        path: the file.
        id: of the ledger, drawn where it begins; a checkpoint has it, so that no other ledger is taken for it.
        entries: in their order.
    """

    format: ClassVar[int] = FORMAT
    whose: ClassVar[str] = "server"

    def __init__(self, path: Path, id: str, entries: Iterable[Entry] = ()) -> None:
        self._known, self._rounds, self._reserved = set[tuple[int, str]](), set[int](), Reserved[Entry]()
        self._charges, self._failed = Charges(), False
        super().__init__(path, id, entries)

    @classmethod
    def entry_of(cls, line: Mapping[str, Any]) -> Entry:
        """Make an entry of its line; TypeError as for :meth:`Entry.from_json`."""
        return Entry.from_json(line)

    @classmethod
    def entries_of(cls, lines: Iterable[bytes]) -> list[Entry]:
        """Make entries of lines, those at the end that were reserved and may have been lost; errors as of the base."""
        here, reserved, found = boot_id(), Reserved[Entry](), list[Entry]()
        all_lines = list(lines)
        for number, text in enumerate(all_lines, 1):
            try:
                line = json.loads(text)
            except ValueError:
                # A machine that stops may damage lines that did not wait for the disk, which count as reserved, and the
                # one that was waiting, of which nothing was made.
                if reserved.lost(here) or (number == len(all_lines) and reserved.of_another(here)):
                    continue
                raise
            if line == {_SETTLED: True}:
                reserved.settle()
                continue
            ahead = int(line.pop(_RESERVED, 0))
            boot = str(line.pop(_BOOT)) if ahead else ""
            found.append(entry := cls.entry_of(line))
            reserved.take(entry)
            if ahead:
                reserved.open(boot, entry.next(ahead))
        return [*found, *reserved.lost(here)]

    def add(self, entry: Entry) -> None:
        """Take a release that is written down."""
        super().add(entry)
        self._known.add((entry.round, entry.id))
        self._rounds.add(entry.round)
        self._charges.add(entry.round, entry.release)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The releases in their order."""
        return tuple(self._entries)

    def has(self, round: int, id: str) -> bool:
        """Return True if a release is written down."""
        return (round, id) in self._known

    def write(self, round: int, id: str, cost: Cost, ahead: int = 0) -> None:
        """Write a release down, unless it is there, and force it to the disk, unless it was reserved.

        Args:
            round: round number.
            id: of the release.
            cost: of one release.
            ahead: the number of releases, one in each of the rounds that follow, that may be reserved with it.

        Raises:
            OSError: the disk is full, or fails: the release must not be made.
        """
        if self.has(round, id):
            return
        inject.point("ledger.write", round)
        entry = Entry(round, id, cost.release, cost.circumstances)
        told, boot = entry.to_json(), None if ahead < 1 or self._reserved else self._boot
        try:
            if self._reserved.take(entry):
                self.note(told, forced=False)
            elif boot is None:
                self.note(told)
            else:
                self.note({**told, _RESERVED: ahead, _BOOT: boot})
                self._reserved.open(boot, entry.next(ahead))
        except OSError:
            self._failed = True
            raise
        self.add(entry)
        inject.point("ledger.written", round)

    @cached_property
    def _boot(self) -> str | None:
        return keeping_boot(self.path.parent)

    def settle(self) -> None:
        """Write down that no more was made than has lines, and force all of them to the disk; errors as of ``write``.

        A run that ends, or is stopped, does so, and has nothing reserved then.  Not one whose disk has failed: a kernel
        tells once that lines are lost, and would take the next ones as if nothing had happened.
        """
        if self._reserved.unsettled and not self._failed:
            self.note({_SETTLED: True})
            self._reserved.settle()

    @property
    def lost(self) -> int:
        """The number of releases that count as made, though the machine stopped before the disk had their lines."""
        return sum(entry.id == LOST for entry in self)

    def was_lost(self, round: int) -> bool:
        """Return True if a round counts as released and has no line that was made with it."""
        return self.has(round, LOST)

    @property
    def releases(self) -> tuple[Release, ...]:
        """The releases so far as they are paid for, alike in one."""
        return self._charges.releases

    @property
    def rounds(self) -> int:
        """The number of rounds that were released at least once."""
        return len(self._rounds)

    def released(self, round: int) -> bool:
        """Return True if a round was released at least once."""
        return round in self._rounds

    def spent(self, delta: float, accountant: Accountant = "pld") -> float:
        """Return the epsilon of all releases at ``delta``; errors are those of :func:`accounting.spent`."""
        return spent(self.releases, delta, accountant)

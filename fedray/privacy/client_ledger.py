"""The ledger of a run in which each client pays for what it releases itself, with noise of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from fedray.privacy.accounting import Accountant, spent
from fedray.privacy.journal import Journal
from fedray.privacy.local import composed
from fedray.privacy.releases import Release

FORMAT = 3
"""The format of what is written, the first of clients' ledgers."""

_SLACK = 1.05
"""A factor by which a bound of one accountant may lie below the figure of the other, as both round."""

Releases = tuple[Release, ...]
"""All that a client has released, alike in one."""


@dataclass(frozen=True)
class Line:
    """Releases of some clients in a round that cost each of them the same.

    Args:
        round: round number.
        release: the mechanism, and how often it was used in the round.
        clients: by the client's name the id of what it released: the same only for the same values and noise.
    """

    round: int
    release: Release
    clients: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the line ready for JSON."""
        said = {"sampling": self.release.sampling, "relation": self.release.relation, **self.release.fields}
        return {"round": self.round, **said, "count": self.release.count, "clients": dict(self.clients)}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Line:
        """Make a line of what ``to_json`` has returned.

        Raises:
            TypeError: something is missing, or is unknown and might have cost something.
        """
        left = dict(line)
        round, clients = int(left.pop("round")), left.pop("clients")
        return cls(round, Release(**left), {str(name): str(id) for name, id in clients.items()})


class ClientLedger(Journal[Line]):
    """A journal of what clients release, in a file that only grows, on the disk before anything is made of it.

    What a client released again with the same noise, as a block was done again, is one release; what came out otherwise
    is a further one.

    >>> import tempfile
    >>> ledger = ClientLedger.begin(Path(tempfile.mkdtemp()) / "privacy.jsonl")
    >>> once = Release(2.0, sampling="fixed", relation="replace_one")
    >>> for ids in ({"ann": "1", "bob": "2"}, {"ann": "1", "bob": "3"}):
    ...     ledger.write([Line(1, once, ids)])
    >>> {name: releases[0].count for name, releases in ledger.clients.items()}, ledger.rounds
    ({'ann': 1, 'bob': 2}, 1)
    >>> ClientLedger.read(ledger.path).clients == ledger.clients
    True

    Args:
        path: the file.
        id: of the ledger, drawn where it begins.
        entries: its lines, in their order.
    """

    format: ClassVar[int] = FORMAT
    whose: ClassVar[str] = "clients"

    def __init__(self, path: Path, id: str, entries: Iterable[Line] = ()) -> None:
        self._known, self._done = set[tuple[int, str, str]](), set[tuple[int, str]]()
        self._spent: dict[str, Counter[Release]] = {}
        self._paid, self._alike = dict[str, Releases](), Counter[Releases]()
        self._rounds = set[int]()
        super().__init__(path, id, entries)

    @classmethod
    def entry_of(cls, line: Mapping[str, Any]) -> Line:
        """Make a line of what stands there; TypeError as for :meth:`Line.from_json`."""
        return Line.from_json(line)

    def add(self, entry: Line) -> None:
        """Take releases that are written down."""
        super().add(entry)
        once = replace(entry.release, count=1)
        for name, id in entry.clients.items():
            self._known.add((entry.round, name, id))
            self._done.add((entry.round, name))
            self._spent.setdefault(name, Counter())[once] += entry.release.count
            if (before := self._paid.get(name)) is not None:
                self._alike[before] -= 1
            self._paid[name] = paid = self.of(name)
            self._alike[paid] += 1
        self._rounds.add(entry.round)

    def __len__(self) -> int:
        """Return the number of releases, each of one client in one round."""
        return len(self._known)

    def new(self, lines: Iterable[Line]) -> list[Line]:
        """Return lines without what is written down already."""
        found = []
        for line in lines:
            left = {name: id for name, id in line.clients.items() if (line.round, name, id) not in self._known}
            if left:
                found.append(replace(line, clients=left))
        return found

    def write(self, lines: Iterable[Line]) -> None:
        """Write releases down and force them to the disk, but for those that are there.

        Raises:
            OSError: the disk is full, or fails: nothing must be made of them.
        """
        self.append(self.new(lines))

    def of(self, name: str, more: Iterable[Release] = ()) -> Releases:
        """Return all that a client has released, and ``more``."""
        counts = Counter(self._spent.get(name, ()))
        for each in more:
            counts[replace(each, count=1)] += each.count
        return tuple(replace(each, count=count) for each, count in sorted(counts.items()) if count)

    def count(self, name: str, kind: Release) -> int | None:
        """Return the number of releases of a client, all of one kind; None: there are others among them."""
        known: Mapping[Release, int] = self._spent.get(name, {})
        return None if any(each != kind for each in known) else sum(known.values())

    @property
    def clients(self) -> dict[str, Releases]:
        """All that each client has released, by name."""
        return dict(self._paid)

    @property
    def paid(self) -> list[Releases]:
        """All that each client has released, and once where several have released the same."""
        self._alike = +self._alike  # without those that no client has any more
        return [*self._alike]

    @property
    def rounds(self) -> int:
        """The number of rounds in which somebody released something."""
        return len(self._rounds)

    def has(self, round: int, name: str, id: str) -> bool:
        """Return True if a release of a client is written down."""
        return (round, name, id) in self._known

    def released(self, round: int, name: str) -> bool:
        """Return True if a client has released something in a round."""
        return (round, name) in self._done


def client_epsilon(releases: Releases, delta: float, accountant: Accountant = "pld") -> float:
    """Return the epsilon of what one client has released: in closed form, or of samples by an accountant.

    Raises:
        ConfigError: dp-accounting is not installed, and there are samples.
    """
    if all(each.sampling == "fixed" for each in releases):
        return _composed(releases, delta)
    return spent(releases, delta, accountant)


_composed = lru_cache(maxsize=4096)(composed)


def dearest(of_clients: Iterable[Releases], delta: float, accountant: Accountant = "pld") -> float:
    """Return the epsilon of the client that pays most; 0 where nobody has released anything.

    >>> few, many = ((Release(3.0, 0.1, count),) for count in (5, 50))
    >>> dearest([few, many, few], 1e-5, "rdp") == client_epsilon(many, 1e-5, "rdp")
    True
    """
    left = _candidates(of_clients)
    if accountant == "rdp" or len(left) < 2:
        return max((client_epsilon(each, delta, accountant) for each in left), default=0.0)
    # Renyi divergences are quick, and bound what distributions of losses take seconds for.
    bounds = sorted(((client_epsilon(each, delta, "rdp"), each) for each in left), reverse=True)
    most = 0.0
    for bound, each in bounds:
        if bound * _SLACK < most:
            break
        most = max(most, client_epsilon(each, delta, accountant))
    return most


def _candidates(of_clients: Iterable[Releases]) -> Sequence[Releases]:
    """Return what may cost most: of releases of one kind, not those of which another has more, at as large a rate."""
    left, alike = list[Releases](), dict[Release, dict[float, Releases]]()
    for each in set(of_clients):
        if len(each) != 1:
            left.append(each)
            continue
        rates = alike.setdefault(replace(each[0], count=1, rate=1.0), {})
        known = rates.get(each[0].rate)
        if known is None or known[0].count < each[0].count:
            rates[each[0].rate] = each
    for rates in alike.values():
        most = -1
        for rate in sorted(rates, reverse=True):
            if rates[rate][0].count > most:
                most = rates[rate][0].count
                left.append(rates[rate])
    return left

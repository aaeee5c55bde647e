"""Samplers of cohorts: the clients of a round are a pure function of (seed, round)."""

from __future__ import annotations

import copy
import csv
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from fedray.config.bounds import check_at_least_1
from fedray.config.registry import Registry
from fedray.core.errors import ConfigError
from fedray.core.messages import Ints
from fedray.core.rng import numpy_generator
from fedray.data import ClientData
from fedray.data.columns.names import Names

_LAST_ROUND = 10**7

_AT_ONCE = 1 << 16
"""The clients whose draws are in memory together, where each has one; the same are drawn whatever it is."""


class Sampler(ABC):
    """The base of samplers, which choose cohorts.

    >>> class First(Sampler):
    ...     def cohort(self, sizes, seed, round):
    ...         return np.arange(2)
    ...     def expected(self, sizes):
    ...         return 2.0
    >>> First().cohort(np.array([5, 5, 5]), seed=1, round=1)
    array([0, 1])
    """

    def prepare(self, data: ClientData) -> Sampler:
        """Return the sampler for these clients, where it knows them by name; by default itself.

        Raises:
            ConfigError: it speaks of clients that there are not.
        """
        return self

    def check(self, sizes: Ints) -> None:
        """Raise ValueError if no cohort can be drawn from clients with ``sizes`` examples each."""
        return

    @abstractmethod
    def cohort(self, sizes: Ints, seed: int, round: int) -> Ints:
        """Draw the cohort of a round: client indices in increasing order, each at most once.

        Args:
            sizes: number of training examples of each client, ``[n]``.
            seed: the run's seed.
            round: round number.
        """

    @abstractmethod
    def expected(self, sizes: Ints) -> float:
        """Return the expected number of clients in a cohort."""

    def most(self, sizes: Ints) -> int:
        """Return a number of clients that no cohort has more of; by default all."""
        return len(sizes)

    def fingerprint(self) -> str | None:
        """Return a hash of what it draws by beside its options, as a file; None, the default: there is nothing."""
        return None


samplers = Registry("sampler", package="fedray.sampling", base=Sampler, such_as="fedray.Uniform(10)")


@dataclass(frozen=True)
class _OfSize(Sampler):
    """The base of samplers whose cohorts have one size."""

    clients: int

    def check(self, sizes: Ints) -> None:
        """Raise ValueError if the cohort is empty, or larger than the federation."""
        if self.clients < 1:
            raise ValueError(f"clients={self.clients}: a cohort has at least 1 client")
        if self.clients > len(sizes):
            raise ValueError(f"clients={self.clients}: the data has only {len(sizes)} clients")

    def expected(self, sizes: Ints) -> float:
        """Return the fixed number."""
        return float(self.clients)

    def most(self, sizes: Ints) -> int:
        """Return the fixed number."""
        return self.clients


@samplers.register("full")
@dataclass(frozen=True)
class Full(Sampler):
    """Every client, every round.

    >>> Full().cohort(np.array([5, 5, 5]), seed=1, round=1)
    array([0, 1, 2])
    """

    def cohort(self, sizes: Ints, seed: int, round: int) -> Ints:
        """Return all clients."""
        return np.arange(len(sizes))

    def expected(self, sizes: Ints) -> float:
        """Return the number of clients."""
        return float(len(sizes))


@samplers.register("uniform")
@dataclass(frozen=True)
class Uniform(_OfSize):
    """A fixed number of clients, uniformly without replacement.

    >>> [Uniform(clients=2).cohort(np.full(100, 5), seed=1, round=round).tolist() for round in (1, 2)]
    [[49, 66], [31, 51]]

    Args:
        clients: cohort size, 1 to n.
    """

    def cohort(self, sizes: Ints, seed: int, round: int) -> Ints:
        """Draw ``clients`` distinct indices."""
        chosen = numpy_generator(seed, "cohort", round).choice(len(sizes), self.clients, replace=False, shuffle=False)
        return np.sort(chosen.astype(np.int64))


@samplers.register("poisson")
@dataclass(frozen=True)
class Poisson(Sampler):
    """Every client independently with the same probability (as differential privacy's accounting assumes).

    A cohort may be empty: such a round leaves the model as it is, but for the noise of ``gaussian``.

    >>> Poisson(rate=0.05).cohort(np.full(100, 5), seed=1, round=1), Poisson(rate=0.05).expected(np.full(100, 5))
    (array([ 5,  7, 12, 29, 44, 51]), 5.0)

    Args:
        rate: sampling probability q in (0, 1].
    """

    rate: float

    def __post_init__(self) -> None:
        if not 0.0 < self.rate <= 1.0:
            raise ValueError(f"rate={self.rate}: it must be above 0 and at most 1")

    def cohort(self, sizes: Ints, seed: int, round: int) -> Ints:
        """Toss a coin for each client."""
        draw = numpy_generator(seed, "cohort", round)
        pieces = [start + np.flatnonzero(draw.random(count) < self.rate) for start, count in _pieces(len(sizes))]
        return np.concatenate(pieces)

    def expected(self, sizes: Ints) -> float:
        """Return ``q n``."""
        return self.rate * len(sizes)


class InTurns(Sampler):
    """The base of samplers by which clients take turns: in groups of a fixed order, one group a round.

    The order is drawn from the seed, and is the same for all rounds: a client that takes part in a round does so again
    in no other of ``turns`` rounds in a row.
    """

    @abstractmethod
    def turns(self, clients: int) -> int:
        """Return the number of groups of so many clients; they differ by one client at most."""

    def group(self, sizes: Ints, seed: int, round: int) -> Ints:
        """Return the clients whose turn it is in a round, in the order of the draw; a view, not to be changed."""
        turns = self.turns(len(sizes))
        return _order(len(sizes), seed)[(round - 1) % turns :: turns]


@samplers.register("round_robin")
@dataclass(frozen=True)
class RoundRobin(InTurns, _OfSize):
    """Every client once in a cycle, in groups of a fixed order: cyclic participation.

    The ``ceil(n / clients)`` groups are as equal as may be.

    >>> [RoundRobin(clients=2).cohort(np.full(5, 5), seed=1, round=round).tolist() for round in (1, 2, 3, 4)]
    [[0, 4], [1, 3], [2], [0, 4]]

    Args:
        clients: the largest number of clients in a cohort, 1 to n.
    """

    def turns(self, clients: int) -> int:
        """Return the number of rounds of a cycle."""
        return -(-clients // self.clients)

    def cohort(self, sizes: Ints, seed: int, round: int) -> Ints:
        """Return the group whose turn it is."""
        return np.sort(self.group(sizes, seed, round))

    def expected(self, sizes: Ints) -> float:
        """Return the mean over a cycle."""
        return len(sizes) / self.turns(len(sizes))


@samplers.register("separated")
@dataclass(frozen=True)
class Separated(InTurns, _OfSize):
    """A fixed number of clients, uniformly of those whose turn it is: between two rounds of a client lie some others.

    The clients are cut into ``min_separation`` groups of a fixed order that take turns (as section 5 of
    Choquette-Choo et al., arXiv:2306.08153, cuts examples); each round draws from its group without replacement.
    ``min_separation=1`` draws as ``uniform`` does.

    >>> separated = Separated(clients=2, min_separation=3)
    >>> [separated.cohort(np.full(9, 5), seed=1, round=round).tolist() for round in (1, 2, 3, 4)]
    [[4, 6], [1, 2], [5, 7], [4, 6]]

    Args:
        clients: cohort size, 1 to n / min_separation.
        min_separation: b >= 1: a client that takes part in round t does so again in round t + b at the earliest.
    """

    min_separation: int

    def check(self, sizes: Ints) -> None:
        """Raise ValueError if a group has fewer clients than a cohort."""
        check_at_least_1(min_separation=self.min_separation)
        super().check(sizes)
        if self.clients * self.min_separation > len(sizes):
            raise ValueError(
                f"min_separation={self.min_separation}: with {self.clients} clients a round, so many rounds in a row "
                f"take {self.clients * self.min_separation} clients, and the data has {len(sizes)}: take at most "
                f"{len(sizes) // self.clients}"
            )

    def turns(self, clients: int) -> int:
        """Return ``min_separation``."""
        return self.min_separation

    def cohort(self, sizes: Ints, seed: int, round: int) -> Ints:
        """Draw ``clients`` of the group whose turn it is."""
        group = self.group(sizes, seed, round)
        # By number, as a choice of the group itself would copy it.
        draw = numpy_generator(seed, "cohort", round)
        return np.sort(group[draw.choice(len(group), self.clients, replace=False, shuffle=False)])


def _pieces(clients: int) -> Iterator[tuple[int, int]]:
    """Yield the first client, and the number, of pieces of so many clients."""
    for start in range(0, clients, _AT_ONCE):
        yield start, min(_AT_ONCE, clients - start)


@lru_cache(maxsize=1)
def _order(clients: int, seed: int) -> Ints:
    """Return the order in which so many clients take turns, the same in all rounds, and so drawn once for a run."""
    order = numpy_generator(seed, "cohort", 0).permutation(clients).astype(np.int64, copy=False)
    order.flags.writeable = False
    return order


@samplers.register("weighted")
@dataclass(frozen=True)
class Weighted(_OfSize):
    """A fixed number of clients without replacement, likelier with more examples.

    Successive sampling with probability proportional to the number of examples among those left, by the Gumbel-top-k
    trick (Kool et al., arXiv:1903.06059).

    >>> [Weighted(clients=1).cohort(np.array([1, 1, 8]), seed=1, round=round).item() for round in range(12)]
    [2, 2, 2, 2, 2, 1, 2, 2, 2, 2, 2, 2]

    Args:
        clients: cohort size, 1 to n.
    """

    def cohort(self, sizes: Ints, seed: int, round: int) -> Ints:
        """Return the ``clients`` largest perturbed log sizes; of equal ones those that come first."""
        draw = numpy_generator(seed, "cohort", round)
        best, chosen = np.zeros(0), np.zeros(0, dtype=np.int64)
        for start, count in _pieces(len(sizes)):
            best = np.concatenate([best, np.log(sizes[start : start + count]) + draw.gumbel(size=count)])
            chosen = np.concatenate([chosen, np.arange(start, start + count)])
            if (lower := len(best) - self.clients) > 0:
                least = np.partition(best, lower)[lower]
                above, equal = best > least, np.flatnonzero(best == least)
                above[equal[: self.clients - int(above.sum())]] = True
                best, chosen = best[above], chosen[above]
        return chosen


@samplers.register("trace")
@dataclass(frozen=True)
class AvailabilityTrace(Sampler):
    """The clients that a file says are available in a round, all of them or so many of them, drawn uniformly.

    The file is CSV with the columns ``round``, from 1, and ``client``, its name (the number of an unnamed one); others
    are not read.  A round that it does not name has nobody available, and leaves the model as it is.  After its last
    round it begins again: of a file with 24 rounds, round 25 has the clients of round 1.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "trace.csv")
    ...     _ = file.write_text("round,client\\n1,0\\n1,2\\n3,1\\n")
    ...     trace = AvailabilityTrace(str(file))
    ...     [trace.cohort(np.full(3, 5), seed=1, round=round).tolist() for round in (1, 2, 3, 4)]
    [[0, 2], [], [1], [0, 2]]

    Args:
        file: path of the file, read once before the run.
        clients: at most so many of those available, at least 1; default: all of them.
    """

    file: str
    clients: int | None = None
    _available: Any = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.clients is not None and self.clients < 1:
            raise ValueError(
                f"clients={self.clients}: a cohort has at least 1 client, or null for all that are available"
            )

    def prepare(self, data: ClientData) -> Sampler:
        """Read the file, so that no other process needs it."""
        return self._of(data.names)

    def _of(self, names: Names) -> AvailabilityTrace:
        prepared = copy.copy(self)
        object.__setattr__(prepared, "_available", _read_trace(self.file, names))
        return prepared

    def cohort(self, sizes: Ints, seed: int, round: int) -> Ints:
        """Return the available clients, or ``clients`` of them."""
        if self._available is None:
            return self._of(Names(len(sizes))).cohort(sizes, seed, round)
        available: Ints = self._available[(round - 1) % len(self._available)]
        if self.clients is None or self.clients >= len(available):
            return available
        chosen = numpy_generator(seed, "cohort", round).choice(available, self.clients, replace=False, shuffle=False)
        return np.sort(chosen)

    def fingerprint(self) -> str | None:
        """Return a hash of who is available in each round; None before :meth:`prepare`."""
        if self._available is None:
            return None
        rounds = [available.tolist() for available in self._available]
        return hashlib.sha256(json.dumps(rounds).encode()).hexdigest()

    def expected(self, sizes: Ints) -> float:
        """Return the mean over the rounds of the file."""
        if self._available is None:
            return self._of(Names(len(sizes))).expected(sizes)
        return float(np.mean([min(len(available), self.most(sizes)) for available in self._available]))

    def most(self, sizes: Ints) -> int:
        """Return ``clients``, or all."""
        return len(sizes) if self.clients is None else min(self.clients, len(sizes))


def _read_trace(file: str, names: Names) -> list[Ints]:
    """Return the clients that are available in each round of a file, increasing."""
    try:
        with Path(file).open(newline="", encoding="utf-8-sig") as lines:
            table = csv.DictReader(lines)
            columns = table.fieldnames or []
            if missing := [name for name in ("round", "client") if name not in columns]:
                have = ", ".join(columns) or "nothing"
                raise ConfigError(
                    f"sampler.file: {file} has no column {missing[0]!r} in its first line, which is: {have}"
                )
            rows = [(table.line_num, row["round"], row["client"]) for row in table]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"sampler.file: {file} cannot be read: {reason}") from None
    rounds: dict[int, set[int]] = {}
    index = names.find(client for _, _, client in rows if client)
    for line, round, client in rows:
        where = f"sampler.file: {file}, line {line}"
        if not (round or "").strip().isdecimal() or not 1 <= int(round) <= _LAST_ROUND:
            raise ConfigError(f"{where}: {round!r} is no round; they are whole numbers from 1 to {_LAST_ROUND}")
        if client not in index:
            raise ConfigError(f"{where}: there is no client {client!r}{names.nearest(client or '')}")
        rounds.setdefault(int(round), set()).add(index[client])
    if not rounds:
        raise ConfigError(f"sampler.file: {file} has no row; each says a round and a client")
    return [np.array(sorted(rounds.get(round, ())), dtype=np.int64) for round in range(1, max(rounds) + 1)]

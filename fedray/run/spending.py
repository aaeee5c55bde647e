"""The privacy that a run has spent: its ledger, what it tells of it, and when it has to end."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedray.core.errors import ConfigError, counted
from fedray.core.record import RoundRecord
from fedray.privacy.accounting import Accountant, counted_by, releases_within, spent
from fedray.privacy.central import Central
from fedray.privacy.client_ledger import ClientLedger
from fedray.privacy.ledger import Cost, Ledger
from fedray.privacy.releases import Release, charged, relations
from fedray.privacy.statement import statement
from fedray.run.plan import Plan
from fedray.rundir.names import LEDGER, PRIVACY

TOLD = 4
"""The number of rounds in which a run counts closely what is spent, about, besides its first and its last."""

MOST_AHEAD, SHARE_AHEAD = 8, 20
"""The most releases that are reserved at once, and the part of all rounds: one in so many."""

_log = logging.getLogger(__name__)


class BudgetExceeded(Exception):
    """A release that must not be made, as it would exceed the budget: the run ends with the round before."""


class Spending:
    """The privacy that a run spends.

    Args:
        central: the mechanism, prepared.
        ledger: of the run.
        rounds: of the run in all.
        done: those that are done.
        budget: the epsilon not to be exceeded; None: there is no limit.
        clock: seconds, rising; by it so many releases are reserved as were made in the last second.
    """

    def __init__(
        self,
        central: Central,
        ledger: Ledger,
        rounds: int,
        done: int,
        budget: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.central, self.ledger = central, ledger
        self._clock, self._times = clock, deque[float](maxlen=MOST_AHEAD)
        self._rounds, self._budget = rounds, budget
        self._refused: str | None = None
        first = central.release(done + 1)
        begun = first.correlated and any(entry.release == first for entry in ledger)
        self._most = None if begun else self._within(done)
        if first.correlated and self._most is not None:
            cost = spent([first], central.privacy.delta, central.accountant)
            raise ConfigError(
                f"budget.epsilon={budget:g}: all rounds with noise that is correlated between them are one "
                f"release, which costs {cost:.4g}: give privacy.epsilon, or more noise"
            )

    def _within(self, done: int) -> int | None:
        """Return the number of lines of the ledger that the budget allows for; None: it allows for all rounds left."""
        if self._budget is None:
            return None
        central, left = self.central, self._rounds - done
        section, releases = central.privacy, self.ledger.releases
        most = releases_within(
            self._budget, central.release(done + 1), left, section.delta, central.accountant, releases
        )
        return None if most == left else len(self.ledger) + most

    @classmethod
    def of(cls, plan: Plan, folder: Path, saved: Mapping[str, Any] | None) -> Spending | None:
        """Return what a run spends, with its ledger in its folder; None without ``privacy``.

        Args:
            plan: of the run.
            folder: of the run.
            saved: the state of the checkpoint that it goes on from; None: it begins.

        Raises:
            ConfigError: the ledger is missing, another one, or cut short; or the rounds before had no privacy, or were
                the only ones to have some.
        """
        central = next((part for part in plan.algorithm.transforms if isinstance(part, Central)), None)
        known = None if saved is None else saved.get("privacy")
        done = 0 if saved is None else int(saved["round"])
        if (central is None and known is not None) or (central is not None and done and known is None):
            which, other = ("with", "without") if central is None else ("without", "with")
            raise ConfigError(
                f"privacy: the run has done {counted(done, 'round')} {which} it, and would go on {other} it, so that "
                "nobody could say what it costs: resume as it was started, or train anew in another run.dir"
            )
        if central is None:
            return None
        path = folder / LEDGER
        if ClientLedger.is_at(path):
            raise ConfigError(
                f"{path}: a ledger of what clients release themselves, not of a server's releases: resume with the "
                "privacy.model and privacy.unit that the run was started with, or train anew in another run.dir"
            )
        if known is not None:
            ledger = Ledger.resume(path, known["ledger"], known["releases"])
        else:
            # A run that was killed before its first checkpoint may have released something.
            ledger = Ledger.resume(path) if path.exists() else Ledger.begin(path)
        if ledger.lost:
            _log.warning(
                "privacy: %s: the machine stopped before the disk had the lines of all releases that were reserved; "
                "those without one, %d so far, count as made",
                path,
                ledger.lost,
            )
        if others := {*relations(ledger.releases)} - {central.cohorts.relation}:
            raise ConfigError(
                f"privacy.relation: rounds that are done count on other neighbours, {min(others)}, than those to come, "
                f"{central.cohorts.relation}, and there is no epsilon of both: resume with the sampler and relation "
                "that the run was started with, or train anew in another run.dir"
            )
        kinds = {entry.release for entry in ledger} | {central.release()}
        if len(kinds) > 1 and any(kind.correlated for kind in kinds):
            said = sorted(f"{kind.mechanism} over {kind.planned} rounds" for kind in kinds if kind.correlated)
            raise ConfigError(
                f"privacy.mechanism: noise that is correlated between rounds ({said[0]}) is one release of all of "
                "them, which nothing can be added to: resume with the rounds, the sampler and the privacy that the run "
                "was started with, or train anew in another run.dir"
            )
        (folder / PRIVACY).unlink(missing_ok=True)  # what was claimed of the rounds before does not hold of more
        limit = plan.budget.epsilon
        return cls(central, ledger, plan.rounds, done, central.privacy.epsilon if limit is None else limit)

    def write(self, round: int, id: str, cost: Cost) -> None:
        """Write a release into the ledger, before it is made.

        Raises:
            BudgetExceeded: a round that was released already came out otherwise, and a further release would exceed
                the budget.
            OSError: the disk is full, or fails.
        """
        known = self.ledger.has(round, id)
        if not known and (self._none_left or self._exceeds(round, cost.release)):
            why = "may have been released before" if self.ledger.was_lost(round) else "was released before"
            self._refused = (
                f"budget.epsilon: round {round} {why} and came out otherwise, and another release would "
                f"exceed {self._budget:g}; {self.epsilon:.4g} are spent"
            )
            raise BudgetExceeded(self._refused)
        again = not known and self.ledger.released(round)
        # Of correlated noise rounds cost nothing by themselves, and one that may have come out otherwise does.
        self.ledger.write(round, id, cost, 0 if cost.release.correlated else self._ahead(round))
        if again and not cost.release.correlated:
            self._most = self._within(round)

    def _ahead(self, round: int) -> int:
        """Return the number of releases that may be reserved: what a second of the run makes, and may still make.

        So a machine that stops costs a run no more than what it makes in a second, and a small part of its budget.
        """
        now, left = self._clock(), min(self._rounds - round, self._rounds // SHARE_AHEAD)
        while self._times and self._times[0] < now - 1.0:
            self._times.popleft()
        made = len(self._times)
        self._times.append(now)
        return min(made, left if self._most is None else min(left, self._most - len(self.ledger) - 1))

    def _exceeds(self, round: int, release: Release) -> bool:
        """Return True if a round that was released already, and comes out otherwise, would exceed the budget."""
        if self._budget is None or not self.ledger.released(round):
            return False
        section, done = self.central.privacy, [(entry.round, entry.release) for entry in self.ledger]
        return spent(charged([*done, (round, release)]), section.delta, self.central.accountant) > self._budget

    @property
    def _none_left(self) -> bool:
        return self._most is not None and len(self.ledger) >= self._most

    def used_up(self, round: int) -> str | None:
        """Return, in words, that the round after ``round`` would exceed the budget; None if it would not."""
        if self._refused is not None:
            return self._refused
        if not self._none_left or self.ledger.released(round + 1):
            return None  # a round that was released already, and is done again as it was, costs nothing
        return f"budget.epsilon: one more round would exceed {self._budget:g}; {self.epsilon:.4g} are spent"

    def tell(self, record: RoundRecord) -> None:
        """Write what is spent into the record of a round."""
        section, releases = self.central.privacy, self.ledger.releases
        record.metrics["privacy"] |= told_of(
            lambda by: spent(releases, section.delta, by),
            counted_by(releases, self.central.accountant),
            self._rounds,
            record.round,
            last=self.used_up(record.round) is not None,
        ) | {"delta": section.delta}

    @property
    def epsilon(self) -> float:
        """The epsilon of all releases so far."""
        section = self.central.privacy
        return spent(self.ledger.releases, section.delta, self.central.accountant)

    def to_json(self) -> dict[str, Any]:
        """Return what a checkpoint keeps of it."""
        return {"ledger": self.ledger.id, "releases": len(self.ledger)}

    def statement(self) -> dict[str, Any]:
        """Return what can be claimed of the run, in words that a reviewer can use."""
        return statement(self.central.privacy, self.ledger)


def told_of(
    epsilon: Callable[[Accountant], float], accountant: Accountant, rounds: int, round: int, last: bool
) -> dict[str, float]:
    """Return the epsilons that the record of a round has: a quick bound, and now and then a close one.

    >>> [list(told_of({"rdp": 2.1, "pld": 1.8}.__getitem__, "pld", 8, round, last=False)) for round in (1, 3, 4)]
    [['epsilon_rdp', 'epsilon'], ['epsilon_rdp'], ['epsilon_rdp', 'epsilon']]
    >>> told_of({"rdp": 2.1}.__getitem__, "rdp", 8, 3, last=False)
    {'epsilon': 2.1}

    Args:
        epsilon: returns the epsilon so far as an accountant counts it.
        accountant: the accountant of the run.  ``rdp`` takes a tenth of a millisecond and ``pld`` a second or two, so
            that it counts in the first round, the last, and each quarter of the run.
        rounds: of the run in all.
        round: its number.
        last: True: the run ends with it, whatever ``rounds`` is.
    """
    if accountant == "rdp":
        return {"epsilon": epsilon("rdp")}
    due = last or round in (1, rounds) or round % max(1, rounds // TOLD) == 0
    return {"epsilon_rdp": epsilon("rdp")} | ({"epsilon": epsilon(accountant)} if due else {})


def planned(central: Central, rounds: int) -> float:
    """Return the epsilon of a run of so many rounds."""
    section = central.privacy
    return spent(central.release().over(rounds), section.delta, central.accountant)

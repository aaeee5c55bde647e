"""The clients of a round as privacy counts them: how they are drawn, how often each comes, and who neighbours are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fedray.core.errors import counted
from fedray.core.messages import Ints
from fedray.privacy.accounting import Accountant
from fedray.privacy.releases import Relation, Release, Sampling
from fedray.sampling import Full, InTurns, Poisson, RoundRobin, Sampler, Separated, Uniform

NEIGHBOURS: dict[Relation, str] = {
    "add_or_remove": "federations that differ by one client, there or not",
    "replace_one": "federations of as many clients, one of which is another one, with other rows",
    "zero_out": "federations of as many clients, one of which has its rows, or takes part with zeros",
}
"""The relations in words that a reviewer can use."""


@dataclass(frozen=True)
class Participation:
    """The way in which clients take part in rounds, as far as it decides what privacy costs.

    Args:
        sampling: ``poisson``: each by a coin of its own; ``fixed``: a number of those whose turn it is.
        rate: the probability of the coin, or the share of those whose turn it is.
        relation: the difference of neighbouring federations.
        turns: the number of groups of clients that take turns: the rounds from one participation of a client to the
            next at the least; 1: none has to wait.
        expected: the number of clients that a cohort is expected to have.
        clients: their number in all.
        seen: True if whom the noise is to hide from is told who takes part, so that draws gain nothing.
    """

    sampling: Sampling = "poisson"
    rate: float = 1.0
    relation: Relation = "add_or_remove"
    turns: int = 1
    expected: float = 1.0
    clients: int = 1
    seen: bool = False

    @classmethod
    def of(cls, sampler: Sampler, sizes: Ints, relation: Relation | None = None) -> Participation:
        """Make the participation of clients whom a sampler draws.

        Coins are for one client there or not.  With a fixed number, whoever comes or goes changes who else is drawn, so
        that neighbours have as many clients: another one in the place of one, or one that sends zeros.

        Args:
            sampler: the sampler.
            sizes: the number of training examples of each client, ``[N]``.
            relation: the one of the config; None: the usual one.

        Raises:
            ValueError: its cost is not known, or not for this relation.
        """
        clients, expected = len(sizes), sampler.expected(sizes)
        if isinstance(sampler, Poisson):
            if relation not in (None, "add_or_remove"):
                raise ValueError(
                    f"relation={relation}: with a coin for each client neighbours differ by one client, there or not: "
                    "leave it out"
                )
            return cls("poisson", sampler.rate, "add_or_remove", 1, expected, clients)
        if not isinstance(sampler, Full | Uniform | RoundRobin | Separated):
            near = max(expected / clients, 1e-6)
            raise ValueError(
                f"sampler: what privacy costs is not known where {getattr(sampler, 'name', type(sampler).__name__)} "
                f"draws: take {{name: poisson, rate: {near:.3g}}}, uniform, separated, round_robin or full"
            )
        if relation == "add_or_remove":
            raise ValueError(
                "relation=add_or_remove: where cohorts have a fixed size, a client that comes or goes changes who else "
                "is drawn: take replace_one or zero_out, or the sampler poisson"
            )
        turns = sampler.turns(clients) if isinstance(sampler, InTurns) else 1
        drawn = isinstance(sampler, Uniform | Separated)
        rate = min(1.0, sampler.expected(sizes) / (clients // turns)) if drawn else 1.0
        return cls("fixed", rate, relation or "replace_one", turns, expected, clients)

    @property
    def factor(self) -> float:
        """The change of a sum that one client makes at most, over the norm that clients are clipped to."""
        return 2.0 if self.relation == "replace_one" else 1.0

    @property
    def bit(self) -> float:
        """The change of a sum of bits, 1/2 or -1/2 each, that one client makes at most: zeros have a bit as well."""
        return 0.5 if self.relation == "add_or_remove" else 1.0

    def release(self, noise_multiplier: float, round: int = 1) -> Release:
        """Return the release of a round."""
        first = Release(noise_multiplier, self.rate, 1, self.sampling, self.relation, self.turns)
        return first.after(round - 1)

    @property
    def neighbouring(self) -> str:
        """The relation in words."""
        return NEIGHBOURS[self.relation]

    def words(self, rounds: int, accountant: Accountant, together: bool = False) -> str:
        """Return the way in which clients are drawn, and how that is counted, in words.

        Args:
            rounds: of the run.
            accountant: the accountant.
            together: all rounds are one release.
        """
        return "; ".join(self._words(rounds, accountant, together))

    def _words(self, rounds: int, accountant: Accountant, together: bool) -> Iterator[str]:
        if self.sampling == "poisson" and self.rate < 1.0:
            yield f"Poisson: each client takes part in a round with probability {self.rate:g}, by a coin of its own"
            return
        if self.turns == 1 and self.rate == 1.0:
            yield "every client in every round: nothing is gained by sampling"
            return
        if self.turns > 1:
            most = -(-rounds // self.turns)
            yield (
                f"clients take turns in {counted(self.turns, 'group')} of a fixed order, so that each takes part in "
                f"one of {self.turns} rounds in a row, and in {counted(most, 'round')} of {rounds} at most: "
                + ("one release counts them all" if together else "epsilon is composed over these alone")
            )
        who = f"of a {'group' if self.turns > 1 else 'federation'}"
        if self.rate == 1.0:
            yield f"all {who} take part: nothing is gained by sampling"
            return
        yield f"{self.expected:g} {who} are drawn, uniformly without replacement"
        if self.seen:
            yield "counted as though all took part, as the server knows who does"
            return
        if self.relation == "replace_one" and not together:
            other = "" if accountant == "rdp" else ", or by pld as though all took part, whichever is less"
            yield f"counted by rdp, which knows what such draws gain{other}"
        else:
            yield "counted as though all took part"

"""The claim of a run with differential privacy, in words that a reviewer can use."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from fedray.core.errors import counted
from fedray.core.record import finite
from fedray.privacy.accounting import version
from fedray.privacy.central import NOT_PRIVATE, Central
from fedray.privacy.ledger import Entry, Ledger
from fedray.privacy.mechanism import correlated_words
from fedray.privacy.participation import NEIGHBOURS, Participation
from fedray.privacy.releases import relations
from fedray.privacy.section import Privacy

NOT_COVERED = (
    "clients from the server, which sees their updates within a round",
    "rows from their own client, which is protected as a whole",
    "not_private.jsonl, log.txt of the workers, and the checkpoints of a run that has not ended",
    "what was chosen by looking at the clients' rows: the architecture, hyperparameters, the encoding of tables",
    "who was drawn into which cohort, if the seed and the config are known and the accounting counts on sampling",
    "arithmetic in float64 in place of real numbers",
)
"""The limits of the claim."""


def statement(section: Privacy, ledger: Ledger, central: Central | None = None) -> dict[str, Any]:
    """Return the claim of a run, as its ledger has it.

    Args:
        section: of the config.
        ledger: of the run.
        central: the mechanism, where the run is at hand: of correlated noise it knows more than the ledger.

    Raises:
        ConfigError: dp-accounting is not installed.
    """
    epsilon, releases = ledger.spent(section.delta, section.accountant), ledger.releases
    claim = (
        f"({epsilon:.4g}, {section.delta:g})-differential privacy of each client, for whoever sees all rounds' models"
        if math.isfinite(epsilon)
        else "none: the noise is so small that epsilon is above 10,000"
    )
    return {
        "claim": claim if section.noise == "secure" else f"{claim}; {NOT_PRIVATE}",
        "epsilon": finite(epsilon),
        "delta": section.delta,
        "unit": "one client with all its rows",
        "neighbouring": "; ".join(NEIGHBOURS[each] for each in relations(releases)) or "nothing was released so far",
        "sampling": _sampling(section, ledger, central),
        "mechanism": _mechanism(section, ledger, central),
        "releases": f"{counted(sum(each.count for each in releases), 'release')} in {counted(ledger.rounds, 'round')}",
        "accountant": f"{section.accountant}, {version()}",
        "noise": section.noise,
        "not_covered": list(NOT_COVERED),
    }


def _sampling(section: Privacy, ledger: Ledger, central: Central | None) -> str:
    found: list[str] = []
    for entry in ledger:
        if not entry.release.correlated:
            found.append(_cohorts(entry).words(ledger.rounds, section.accountant))
        elif central is not None:
            found.append(central.cohorts.words(entry.release.planned, section.accountant, together=True))
        else:
            found.append("as the sampler of the config draws: one release counts all rounds of a client")
    return "; then ".join(dict.fromkeys(found)) or "nobody was drawn so far"


def _cohorts(entry: Entry) -> Participation:
    """Return the way in which clients took part in a release."""
    made, told = entry.release, entry.circumstances
    expected = math.nan if told is None else told.expected
    return Participation(made.sampling, made.rate, made.relation, made.turns, expected)


def _mechanism(section: Privacy, ledger: Ledger, central: Central | None) -> str:
    if not len(ledger):
        return "nothing was released so far"
    told = [entry.circumstances for entry in ledger if entry.circumstances is not None]
    norms = _range([section.norm] if section.clip == "adaptive" else [each.norm for each in told] or [section.norm])
    clip = f"a noised quantile of the norms, first {norms}" if section.clip == "adaptive" else norms
    correlated = {entry.release for entry in ledger if entry.release.correlated}
    ways = [f"; noise correlated between {each.planned} rounds: {each.mechanism}" for each in sorted(correlated)]
    if central is not None and central.correlation is not None:
        ways = [f"; {correlated_words(central.correlation)}"]
    divided = f"; divided by {_range(each.expected for each in told)} clients whoever comes" if told else ""
    return (
        f"Gaussian noise of multiplier {_range(entry.release.noise_multiplier for entry in ledger)} on the sum of what "
        f"clients send, each clipped to {clip} in the Euclidean norm, so that one client changes it by "
        f"{_range(_cohorts(entry).factor for entry in ledger)} times that at most{divided}{''.join(ways)}"
    )


def _range(values: Iterable[float]) -> str:
    """Return the one value, or the least and the largest of a run that went on with another config."""
    found = sorted({f"{value:g}": value for value in values}.items(), key=lambda one: one[1])
    return found[0][0] if len(found) == 1 else f"{found[0][0]} to {found[-1][0]}"

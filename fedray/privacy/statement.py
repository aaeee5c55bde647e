"""The claim of a run with differential privacy, in words that a reviewer can use."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from fedray.core.errors import counted
from fedray.core.record import finite
from fedray.privacy.accounting import Accountant, counted_by, version
from fedray.privacy.central import NOT_PRIVATE
from fedray.privacy.ledger import Correlated, Entry, Ledger, Shared
from fedray.privacy.mechanism import shared_words, told_words
from fedray.privacy.participation import NEIGHBOURS, Participation
from fedray.privacy.releases import relations
from fedray.privacy.section import Privacy

NOT_COVERED = (
    "clients from the server, which sees their updates within a round",
    "rows from their own client, which is protected as a whole",
    "not_private.jsonl, log.txt of the workers, and the checkpoints of a run that has not ended",
    "what was chosen by looking at the clients' rows: the architecture, hyperparameters, the encoding of tables",
    "cohorts that the accounting counts on and the seed draws: of separated, beside secure_sum, or with seeded noise",
    "arithmetic in float64 in place of real numbers",
)
"""The limits of the claim."""

SHARED = (
    "clients from the machines of a simulation, which draw their noise and their masks",
    "clients from a server that does not follow the protocol, or with which more of them work than corrupt has",
    "who takes part in a round, and who is lost in it",
    *NOT_COVERED[1:4],
)
"""The limits of the claim where clients share the noise: no draw of a cohort and no float is relied upon."""

_GENERAL = "as the sampler of the config draws: one release counts all rounds of a client"
"""The words of a line of an earlier fedray, which says no more of correlated noise."""


def statement(section: Privacy, ledger: Ledger) -> dict[str, Any]:
    """Return the claim of a run, as its ledger has it.

    Args:
        section: of the config.
        ledger: of the run.

    Raises:
        ConfigError: dp-accounting is not installed.
    """
    epsilon, releases = ledger.spent(section.delta, section.accountant), ledger.releases
    # Two of one cohort are two, though they are paid for as one; correlated noise is one, of all rounds.
    count = sum(each.count for each in releases) if any(each.correlated for each in releases) else len(ledger)
    shared = any(each.mechanism == "discrete" for each in releases)
    whom = f"whoever sees all rounds' models{', and the server, which sees their sums' if shared else ''}"
    claim = (
        f"({epsilon:.4g}, {section.delta:g})-differential privacy of each client, for {whom}"
        if math.isfinite(epsilon)
        else "none: the noise is so small that epsilon is above 10,000"
    )
    return {
        "claim": claim if section.noise == "secure" else f"{claim}; {NOT_PRIVATE}",
        "epsilon": finite(epsilon),
        "delta": section.delta,
        "unit": "one client with all its rows",
        "neighbouring": "; ".join(NEIGHBOURS[each] for each in relations(releases)) or "nothing was released so far",
        "sampling": _sampling(section, ledger),
        "mechanism": _mechanism(section, ledger),
        "releases": f"{counted(count, 'release')} in {counted(ledger.rounds, 'round')}{lost_words(ledger)}",
        "accountant": f"{counted_by(releases, section.accountant)}, {version()}",
        "noise": section.noise,
        "not_covered": list(SHARED if shared else NOT_COVERED),
    }


def lost_words(ledger: Ledger) -> str:
    """Return the words on releases that were reserved as their machine stopped, and may not have been made."""
    return f", {ledger.lost} of which count as their machine stopped" if ledger.lost else ""


def _sampling(section: Privacy, ledger: Ledger) -> str:
    found = dict.fromkeys(_drawn(entry, ledger.rounds, section.accountant) for entry in ledger)
    if len(found) > 1:  # what a later line says exactly
        found.pop(_GENERAL, None)
    return "; then ".join(found) or "nobody was drawn so far"


def _drawn(entry: Entry, rounds: int, accountant: Accountant) -> str:
    """Return the way in which clients were drawn for a release, in words."""
    made = entry.release
    if made.correlated and _correlated(entry) is None:
        return _GENERAL
    return _cohorts(entry).words(made.planned or rounds, accountant, together=made.correlated)


def _correlated(entry: Entry) -> Correlated | None:
    return None if entry.circumstances is None else entry.circumstances.correlated


def _shared(entry: Entry) -> Shared | None:
    return None if entry.circumstances is None else entry.circumstances.shared


def _cohorts(entry: Entry) -> Participation:
    """Return the way in which clients took part in a release."""
    made, told = entry.release, entry.circumstances
    expected = math.nan if told is None else told.expected
    if (shared := _shared(entry)) is not None:
        return Participation(made.sampling, shared.rate, made.relation, made.turns, expected, seen=True)
    turns = made if (known := _correlated(entry)) is None else known
    return Participation(made.sampling, turns.rate, made.relation, turns.turns, expected)


def _mechanism(section: Privacy, ledger: Ledger) -> str:
    if not len(ledger):
        return "nothing was released so far"
    told = [entry.circumstances for entry in ledger if entry.circumstances is not None]
    norms = _range([section.norm] if section.clip == "adaptive" else [each.norm for each in told] or [section.norm])
    clip = f"a noised quantile of the norms, first {norms}" if section.clip == "adaptive" else norms
    together = {entry.release: _correlated(entry) for entry in ledger if entry.release.correlated}
    ways = [
        f"; noise correlated between {made.planned} rounds: {made.mechanism}"
        if known is None
        else f"; {told_words(made.mechanism, known.reach, made.planned)}"
        for made, known in sorted(together.items(), key=lambda one: one[0])
    ]
    ways += dict.fromkeys(f"; {shared_words(each)}" for entry in ledger if (each := _shared(entry)) is not None)
    kind = "Noise" if any(entry.release.mechanism == "discrete" for entry in ledger) else "Gaussian noise"
    divided = f"; divided by {_range(each.expected for each in told)} clients whoever comes" if told else ""
    return (
        f"{kind} of multiplier {_range(entry.release.noise_multiplier for entry in ledger)} on the sum of what "
        f"clients send, each clipped to {clip} in the Euclidean norm, so that one client changes it by "
        f"{_range(_cohorts(entry).factor for entry in ledger)} times that at most{divided}{''.join(ways)}"
    )


def _range(values: Iterable[float]) -> str:
    """Return the one value, or the least and the largest of a run that went on with another config."""
    found = sorted({f"{value:g}": value for value in values}.items(), key=lambda one: one[1])
    return found[0][0] if len(found) == 1 else f"{found[0][0]} to {found[-1][0]}"

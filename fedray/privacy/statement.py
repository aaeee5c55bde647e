"""The claim of a run with differential privacy, in words that a reviewer can use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fedray.core.errors import counted
from fedray.core.record import finite
from fedray.privacy.accounting import spent, version
from fedray.privacy.central import NOT_PRIVATE, Central
from fedray.privacy.mechanism import correlated_words
from fedray.privacy.releases import Release

NOT_COVERED = (
    "clients from the server, which sees their updates within a round",
    "rows from their own client, which is protected as a whole",
    "not_private.jsonl, log.txt of the workers, and the checkpoints of a run that has not ended",
    "what was chosen by looking at the clients' rows: the architecture, hyperparameters, the encoding of tables",
    "who was drawn into which cohort, if the seed and the config are known and the accounting counts on sampling",
    "arithmetic in float64 in place of real numbers",
)
"""The limits of the claim."""


def statement(central: Central, releases: Sequence[Release], rounds: int) -> dict[str, Any]:
    """Return the claim of a run.

    Args:
        central: the mechanism.
        releases: those that were made, alike in one.
        rounds: in which they were.

    Raises:
        ConfigError: dp-accounting is not installed.
    """
    section = central.privacy
    epsilon = spent(releases, section.delta, section.accountant)
    count = sum(each.count for each in releases)
    clip = f"{section.norm:g}" if section.clip == "fixed" else f"a noised quantile of the norms, first {section.norm:g}"
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
        "neighbouring": central.cohorts.neighbouring,
        "sampling": central.cohorts.words(
            rounds if central.correlation is None else central.correlation.rounds,
            section.accountant,
            together=central.correlation is not None,
        ),
        "mechanism": (
            f"Gaussian noise of multiplier {central.multiplier:g} on the sum of what clients send, each clipped to "
            f"{clip} in the Euclidean norm, so that one client changes it by {central.cohorts.factor:g} times that at "
            f"most; divided by {central.expected:g} clients whoever comes"
            + (f"; {correlated_words(central.correlation)}" if central.correlation is not None else "")
        ),
        "releases": f"{counted(count, 'release')} in {counted(rounds, 'round')}",
        "accountant": f"{section.accountant}, {version()}",
        "noise": section.noise,
        "not_covered": list(NOT_COVERED),
    }

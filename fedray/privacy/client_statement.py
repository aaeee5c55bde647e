"""The claim of a run in which each client adds noise itself, in words that a reviewer can use."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from fedray.core.errors import counted
from fedray.core.record import finite
from fedray.privacy.accounting import version
from fedray.privacy.central import NOT_PRIVATE
from fedray.privacy.client_ledger import ClientLedger, Releases, client_epsilon, dearest
from fedray.privacy.section import Privacy

NOT_COVERED = (
    "not_private.jsonl, log.txt of the workers, and the checkpoints of a run that has not ended",
    "what was chosen by looking at the clients' rows: the architecture, hyperparameters, the encoding of tables",
    "which clients took part in which rounds, and how long that took them",
    "arithmetic in float64 in place of real numbers",
)
"""The limits of the claim."""

_ROWS_NOT_COVERED = (
    "how many rows each client has, which rates and steps follow from",
    "several rows of one person, who is protected less the more there are",
    "coins of a round that is done again on machines of other bits, which are the same where its noise is not",
)


def client_epsilons(section: Privacy, ledger: ClientLedger) -> dict[str, float]:
    """Return the epsilon of each client that has released something, by name, those that pay most first.

    Of rows it is counted by ``rdp``, which is quick for many clients, and somewhat above what ``pld`` counts.
    """
    known: dict[Releases, float] = {}
    found = {}
    for name, releases in ledger.clients.items():
        if releases not in known:
            known[releases] = client_epsilon(releases, section.delta, "rdp")
        found[name] = known[releases]
    return dict(sorted(found.items(), key=lambda one: (-one[1], one[0])))


def _spread(section: Privacy, ledger: ClientLedger) -> dict[str, float]:
    """Return the largest epsilon, and those of the clients in the middle and at the end."""
    kind, names = (section.delta, section.accountant), [*client_epsilons(section, ledger)]
    most = dearest(ledger.clients.values(), *kind)
    if not names:
        return {"most": most, "median": most, "least": most}
    median, least = (client_epsilon(ledger.of(name), *kind) for name in (names[len(names) // 2], names[-1]))
    return {"most": most, "median": median, "least": least}


def client_statement(section: Privacy, ledger: ClientLedger, clients: int | None = None) -> dict[str, Any]:
    """Return the claim of a run, as the ledger of its clients has it.

    Args:
        section: of the config.
        ledger: of the run.
        clients: the number of the federation's clients; None: it is not known.
    """
    told = _spread(section, ledger)
    most = told["most"]
    of = "" if clients is None else f" of {clients:,}"
    times = [sum(release.count for release in releases) for releases in ledger.clients.values()]
    return {
        "claim": _claim(section, most),
        "epsilon": finite(most),
        "delta": section.counted_at,
        **_words(section),
        "mechanism": _mechanism(section, ledger),
        "clients": finite(told),
        "releases": f"of {counted(len(times), 'client')}{of}, in {counted(ledger.rounds, 'round')}; of a client "
        f"{min(times, default=0):,} to {max(times, default=0):,}",
        "noise": section.noise,
        "not_covered": [*NOT_COVERED, *(_ROWS_NOT_COVERED if section.unit == "example" else ())],
    }


def _claim(section: Privacy, most: float) -> str:
    if not math.isfinite(most):
        return "none: the noise is so small that epsilon is above 10,000"
    figure, whom = f"({most:.4g}, {section.counted_at:g})", "towards everybody, the server among them"
    claim = f"{figure}-local differential privacy of the client that pays most, {whom}"
    if section.unit == "example":
        claim = f"{figure}-differential privacy of each row of the client that pays most, {whom}"
    return claim if section.noise == "secure" else f"{claim}; {NOT_PRIVATE}"


def _words(section: Privacy) -> Mapping[str, str]:
    if section.unit == "example":
        return {
            "unit": "one row of one client",
            "neighbouring": "data sets of one client that differ by one row, there or not",
            "sampling": "Poisson: each row of a client comes into a batch by a coin of its own; each client pays for "
            "the steps of the rounds in which it took part",
            "accountant": f"{section.accountant}, {version()}",
        }
    return {
        "unit": "all that one client sends in the run",
        "neighbouring": "any two data sets of one client",
        "sampling": "each client pays for the rounds in which it took part; nothing is gained by draws, as the server "
        "knows who they were",
        "accountant": "the sum of epsilons"
        if section.mechanism == "laplace"
        else "the closed form of composed Gaussian releases (Balle and Wang, arXiv:1805.06530)",
    }


def _mechanism(section: Privacy, ledger: ClientLedger) -> str:
    found = sorted({line.release.noise_multiplier for line in ledger})
    if not found:
        return "nothing was released so far"
    kind = "Laplace noise" if section.mechanism == "laplace" else "Gaussian noise"
    norm = "L1" if section.mechanism == "laplace" else "Euclidean"
    multiplier = f"{found[0]:g}" if len(found) == 1 else f"{found[0]:g} to {found[-1]:g}"
    if section.unit == "example":
        return (
            f"Gaussian noise of multiplier {multiplier} on the sum of the gradients of each step, that of a row "
            f"clipped to {section.norm:g} in the Euclidean norm; divided by the expected batch; added by the client"
        )
    return (
        f"{kind} of multiplier {multiplier} on all that a client sends, clipped to {section.norm:g} in the {norm} "
        "norm, so that two of its updates differ by twice that at most; added by the client"
    )

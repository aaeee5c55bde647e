"""Correlated noise in a run: the one that the config asks for, its draws from round to round, and its release."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fedray.core.errors import counted
from fedray.core.messages import Floats
from fedray.core.noise import Noise, Normals
from fedray.privacy.correlated import Banded, Correlation, Tree
from fedray.privacy.factorisation import banded
from fedray.privacy.ledger import Shared
from fedray.privacy.participation import Participation
from fedray.privacy.releases import Mechanism, Release
from fedray.privacy.section import Privacy

HISTORY = "history"
"""The name of a word for all that was released before, kept beside the vectors."""

USUAL_BANDS = 16
"""The bands that are taken where nobody says how many: each is a vector more of the model's length to keep."""


def correlation_of(section: Privacy, cohorts: Participation, rounds: int) -> Correlation | None:
    """Return the correlation that a config asks for, or None for noise that is drawn anew in each round.

    Raises:
        ValueError: clients do not take part in a way that it is made for.
    """
    if section.mechanism == "gaussian":
        return None
    if cohorts.sampling == "poisson":
        raise ValueError(
            f"mechanism={section.mechanism}: correlated noise is for clients that take turns, and gains nothing by "
            "coins: take the sampler separated or round_robin, or mechanism: gaussian"
        )
    if section.mechanism == "tree":
        every = cohorts.turns if cohorts.turns > 1 else rounds
        return Tree(rounds, min(rounds, section.restart or every))
    if cohorts.turns == 1:
        raise ValueError(
            "mechanism=banded: it needs rounds between one participation of a client and the next: take the sampler "
            "separated or round_robin, or mechanism: tree or gaussian"
        )
    bands = section.bands or min(cohorts.turns, USUAL_BANDS)
    if bands > cohorts.turns:
        raise ValueError(
            f"bands={bands}: a client takes part again after {cohorts.turns} rounds: take at most {cohorts.turns}"
        )
    # A matrix has no more bands than rows.
    return Banded(rounds, banded(rounds, min(rounds, bands)))


def whole(once: Release, correlation: Correlation, turns: int) -> Release:
    """Return the release that all rounds are together, by what one of independent noise would be.

    The change of ``C x`` by one client is :meth:`Correlation.sensitivity`, and the noise is scaled by that; so the
    noise multiplier is that of a Gaussian mechanism.  Draws within a group gain nothing that is counted.
    """
    kind = replace(once, rate=1.0, turns=1, turn=0, mechanism="banded" if isinstance(correlation, Banded) else "tree")
    single = once.noise_multiplier * correlation.sensitivity(turns) / correlation.single(turns)
    down = 10.0 ** (math.floor(math.log10(single)) - 4)
    return replace(kind, planned=correlation.rounds, single=float(f"{math.floor(single / down) * down:.5g}"))


def history(correlation: Correlation | None, noise: Noise) -> dict[str, Floats]:
    """Return by what, beside what is released, the draws of a round are known: all releases before it.

    Independent noise needs no such thing.  Of correlated noise the same values after other rounds are another release:
    with the same draws the difference of both would tell that of the rounds before.
    """
    return {} if correlation is None else {HISTORY: noise.memory.get(HISTORY, np.zeros(0))}


def standard(
    correlation: Correlation | None, noise: Noise, lengths: Mapping[str, int], normals: Normals
) -> dict[str, Floats]:
    """Return the noise of a round, of the standard deviation 1, by name; keep what later rounds need of it.

    Args:
        correlation: of the run; None: it is drawn anew.
        noise: of the round, with the vectors of those before it; in place.
        lengths: of the noise, by name.
        normals: the draws of the round.

    Raises:
        RuntimeError: those vectors are not there.
    """
    drawn = {name: normals.draw(name, length) for name, length in lengths.items()}
    if correlation is None:
        return drawn
    round, found = noise.round, dict[str, Floats]()
    terms, kept = correlation.terms(round), correlation.kept(round)
    memory = {HISTORY: normals.draw(HISTORY, 4)} if round < correlation.rounds else {}
    for name, draws in drawn.items():
        made = draws.copy()
        for earlier, factor in terms.items():
            made -= factor * _of(noise, name, earlier)
        vectors = {round: draws if correlation.keeps == "draws" else made}
        memory |= {_place(name, each): vectors[each] if each == round else _of(noise, name, each) for each in kept}
        found[name] = made / correlation.deviation(round)
    noise.memory.clear()
    noise.memory.update(memory)
    return found


def _of(noise: Noise, name: str, round: int) -> Floats:
    try:
        return noise.memory[_place(name, round)]
    except KeyError:
        raise RuntimeError(f"the noise of round {round} is forgotten, of which that of {noise.round} is made") from None


def _place(name: str, round: int) -> str:
    return f"{name}@{round}"


def reach_of(correlation: Correlation) -> int:
    """Return the number of bands of ``banded``, and of rounds of each tree."""
    if isinstance(correlation, Banded):
        return correlation.bands
    if isinstance(correlation, Tree):
        return correlation.restart
    raise TypeError(type(correlation).__name__)


def correlated_words(correlation: Correlation) -> str:
    """Return the correlation in words that a reviewer can use."""
    kind: Mechanism = "banded" if isinstance(correlation, Banded) else "tree"
    return told_words(kind, reach_of(correlation), correlation.rounds)


def told_words(mechanism: Mechanism, reach: int, rounds: int) -> str:
    """Return a correlation in words that a reviewer can use.

    Args:
        mechanism: ``tree`` or ``banded``.
        reach: the number of bands, or of the rounds of a tree.
        rounds: their number in all.
    """
    if mechanism == "banded":
        how = f"row t of C^-1 z, C a Toeplitz matrix of {reach} bands (arXiv:2306.08153), z drawn for each round"
    else:
        how = f"that of sums by binary trees of {reach} rounds, less that of the sum before (arXiv:2103.00039)"
    return f"noise correlated between rounds: {how}; all {rounds} rounds are one release"


def shared_words(shared: Shared) -> str:
    """Return noise that clients share in words that a reviewer can use.

    >>> shared_words(Shared(1.0, square=900, most=16129, step=0.01, counted=7, corrupt=0.2))[:58]
    'a discrete Gaussian of sigma^2 900 added by each client to'
    """
    return (
        f"a discrete Gaussian of sigma^2 {shared.square} added by each client to its whole numbers, of the step "
        f"{shared.step:.6g} and a Euclidean norm of {math.sqrt(shared.most):.6g} at most, in the ring of a secure sum "
        f"(arXiv:2102.06387); the noise of {counted(shared.counted, 'client')} counts: of those without whom nothing "
        f"is opened, but for the share {shared.corrupt:g} of a cohort that may work with the server"
    )

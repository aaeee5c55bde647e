"""The cost of releases of the Gaussian mechanism: epsilon at a delta, by the package dp-accounting."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from fedray.core.errors import ConfigError
from fedray.core.quiet import quieted
from fedray.privacy.releases import Relation, Release, Sampling, relations

if TYPE_CHECKING:
    from dp_accounting import DpEvent
    from dp_accounting.privacy_accountant import PrivacyAccountant

Accountant = Literal["pld", "rdp"]
"""``pld``: privacy loss distributions, tight; ``rdp``: Renyi differential privacy, looser."""

Pace = Literal["close", "quick"]

_INTERVAL: dict[Pace, float] = {"close": 1e-4, "quick": 1e-3}
"""The steps into which privacy losses are rounded up."""

_LARGEST = 1e4
"""A noise multiplier that is enough for anybody; and the epsilon above which there is no privacy to speak of."""

_COARSE = 100.0
"""The epsilon from which on a loose bound will do: distributions of losses so large fill the memory."""


def epsilon(
    noise_multiplier: float,
    rate: float,
    rounds: int,
    delta: float = 1e-5,
    accountant: Accountant = "pld",
    *,
    sampling: Sampling = "poisson",
    turns: int = 1,
) -> float:
    """Return the epsilon of a run: sampled Gaussian releases, one a round.

    >>> round(epsilon(noise_multiplier=1.0, rate=0.01, rounds=1000, delta=1e-5), 2)
    1.83
    >>> round(epsilon(noise_multiplier=1.0, rate=0.01, rounds=1000, delta=1e-5, accountant="rdp"), 2)
    2.11
    >>> round(epsilon(noise_multiplier=4.0, rate=1.0, rounds=80, turns=20, sampling="fixed"), 2)  # four turns each
    1.99

    Args:
        noise_multiplier: z > 0, over what one client can change the sum by: the clip of ``poisson``, and of ``fixed``
            twice the clip.
        rate: q in (0, 1]; 1: everybody takes part in each round, or whenever it is its turn.
        rounds: their number, at least 0.
        delta: the probability at which epsilon may not hold, in (0, 1).
        accountant: ``pld`` (Koskela et al., arXiv:1906.03049; Doroshenko et al., arXiv:2207.04380) or ``rdp``
            (Mironov, arXiv:1702.07476; Mironov et al., arXiv:1908.10530; of whole orders): upper bounds.  Above 100
            it is the second in any case.
        sampling: ``poisson``, where neighbouring federations differ by one client, there or not; ``fixed``: cohorts of
            one size, drawn uniformly without replacement, where they differ by another client in the place of one.
            What such draws gain is known to ``rdp`` alone (Wang et al., arXiv:1808.00087); with ``pld`` the result is
            the smaller of that, and of ``pld`` without any gain.
        turns: the number of groups of clients that take turns: a client takes part in ``ceil(rounds / turns)`` rounds
            at most.

    Raises:
        ValueError: one of them is out of range.
        ConfigError: dp-accounting is not installed.
    """
    return spent(_kind(noise_multiplier, rate, sampling, turns).over(rounds), delta, accountant)


def noise_multiplier(
    epsilon: float,
    rate: float,
    rounds: int,
    delta: float = 1e-5,
    accountant: Accountant = "pld",
    *,
    sampling: Sampling = "poisson",
    turns: int = 1,
) -> float:
    """Return the smallest noise multiplier, of four digits and rounded up, with which a run stays within epsilon.

    >>> noise_multiplier(epsilon=8.0, rate=1.0, rounds=10, delta=1e-5)
    1.899

    Args:
        epsilon: to be spent in all, above 0.
        rate: q in (0, 1].
        rounds: their number, at least 1.
        delta: the probability at which epsilon may not hold, in (0, 1).
        accountant: as :func:`epsilon` has it.
        sampling: as :func:`epsilon` has it.
        turns: as :func:`epsilon` has it.

    Raises:
        ValueError: one of them is out of range, or nothing but noise would stay within epsilon.
        ConfigError: dp-accounting is not installed.
    """
    return multiplier_for(epsilon, _kind(1.0, rate, sampling, turns), rounds, delta, accountant)


def multiplier_for(epsilon: float, kind: Release, rounds: int, delta: float, accountant: Accountant = "pld") -> float:
    """Return :func:`noise_multiplier` for releases of a kind, whose own multiplier is left aside.

    >>> multiplier_for(8.0, Release(1.0), rounds=10, delta=1e-5)
    1.899
    """
    if not 0.0 < epsilon < math.inf:
        raise ValueError(f"epsilon={epsilon:g}: it must be above 0")
    if rounds < 1:
        raise ValueError(f"rounds={rounds}: there must be at least 1")
    _check(delta)
    check_installed()
    # Nobody takes part more often than those whose turn is the first.
    first = replace(kind.over(rounds)[0], noise_multiplier=1.0, turns=1, turn=0)
    ways = {first, replace(first, rate=1.0)} if first.sampling == "fixed" else {first}
    return min(_multiplier(float(epsilon), way, float(delta), accountant) for way in ways)


def _kind(z: float, rate: float, sampling: Sampling, turns: int) -> Release:
    return Release(z, float(rate), 1, sampling, "add_or_remove" if sampling == "poisson" else "replace_one", turns)


def spent(releases: Iterable[Release], delta: float, accountant: Accountant = "pld") -> float:
    """Return the epsilon of releases, which may differ from one another, at ``delta``; infinite above 10,000.

    >>> both = spent([Release(5.0, count=10), Release(9.0, count=10)], delta=1e-5)
    >>> spent([Release(9.0, count=10)], delta=1e-5) < both < spent([Release(5.0, count=20)], delta=1e-5)
    True
    >>> spent([], delta=1e-5)
    0.0

    Of clients that take turns it is the epsilon of those who pay most, as a release costs the others nothing.

    >>> spent([Release(9.0, 1.0, 10, "fixed", "replace_one", turns=2, turn=turn) for turn in (0, 1)], delta=1e-5) == (
    ...     spent([Release(9.0, 1.0, 10, "fixed", "replace_one")], delta=1e-5)
    ... )
    True

    Args:
        releases: in any order.
        delta: the probability at which epsilon may not hold, in (0, 1).
        accountant: as :func:`epsilon` has it.

    Raises:
        ValueError: delta is out of range, or they count on different neighbours.
        ConfigError: dp-accounting is not installed.
    """
    _check(delta)
    check_installed()
    return _dearest(releases, float(delta), accountant, "close")


def _dearest(releases: Iterable[Release], delta: float, accountant: Accountant, pace: Pace) -> float:
    """Return the epsilon of who pays most: of each way to take turns somebody may be in any group."""
    found = tuple(releases)
    if all(each.turns == 1 for each in found):
        return _spent(_joined(found), delta, accountant, pace)
    ways: dict[int, dict[int, list[Release]]] = {}
    for each in found:
        ways.setdefault(each.turns, {}).setdefault(each.turn, []).append(replace(each, turns=1, turn=0))
    choices = [{_joined(group) for group in groups.values()} for groups in ways.values()]
    each_of = {_joined(itertools.chain.from_iterable(chosen)) for chosen in itertools.product(*choices)}
    return max((_spent(each, delta, accountant, pace) for each in each_of), default=0.0)


def releases_within(
    budget: float,
    release: Release,
    most: int,
    delta: float,
    accountant: Accountant = "pld",
    before: Iterable[Release] = (),
) -> int:
    """Return the number of further releases of one kind that stay within a budget, at most ``most``.

    >>> releases_within(10.0, Release(noise_multiplier=5.0), most=1000, delta=1e-5, accountant="rdp")
    86

    Args:
        budget: the epsilon not to be exceeded.
        release: the first of them; its ``count`` is left aside, and who take turns go on doing so.
        most: the largest number asked for.
        delta: the probability at which epsilon may not hold, in (0, 1).
        accountant: as :func:`epsilon` has it.
        before: the earlier releases.

    Raises:
        ValueError: delta is out of range.
        ConfigError: dp-accounting is not installed.
    """
    _check(delta)
    check_installed()
    earlier = tuple(before)

    def fits(count: int, pace: Pace = "close") -> bool:
        return _dearest((*earlier, *release.over(count)), float(delta), accountant, pace) <= budget

    if most < 1 or fits(most):
        return max(0, most)
    # What fits at a quick look fits at a close one, and hardly more does.
    low = _last(lambda count: fits(count, "quick"), 0, most)
    step = 1
    while low + step < most and fits(low + step):
        low, step = low + step, 2 * step
    return _last(fits, low, min(low + step, most))


def _last(fits: Callable[[int], bool], low: int, high: int) -> int:
    """Return the largest number that fits, where ``low`` does and ``high`` does not."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def counted_by(releases: Iterable[Release], accountant: Accountant) -> Accountant:
    """Return the accountant that counts releases: ``rdp`` where there is discrete noise, whoever was asked for.

    >>> counted_by([Release(1.0)], "pld"), counted_by([Release(1.0), Release(1.0, mechanism="discrete")], "pld")
    ('pld', 'rdp')
    """
    return "rdp" if any(each.mechanism == "discrete" for each in releases) else accountant


def version() -> str:
    """Return the name and version of what accounts.

    Raises:
        ConfigError: dp-accounting is not installed.
    """
    from importlib.metadata import version

    check_installed()
    return f"dp-accounting {version('dp-accounting')}"


def _check(delta: float) -> None:
    if not 0.0 < delta < 1.0:
        raise ValueError(f"delta={delta:g}: it must be above 0 and below 1, such as 1e-5")


def check_installed() -> None:
    """Raise ConfigError if dp-accounting is not installed."""
    if find_spec("dp_accounting") is None:
        raise ConfigError("privacy: what is spent is counted by dp-accounting: pip install 'fedray[dp]'")


def _joined(releases: Iterable[Release]) -> tuple[Release, ...]:
    """Return releases with those alike in one, sorted: the same for any order, so that it can be looked up."""
    counts: dict[Release, int] = {}
    for each in releases:
        key = replace(each, noise_multiplier=float(each.noise_multiplier), rate=float(each.rate), count=1)
        counts[key] = counts.get(key, 0) + each.count
    return tuple(replace(each, count=count) for each, count in sorted(counts.items()) if count)


@lru_cache(maxsize=4096)
def _spent(releases: tuple[Release, ...], delta: float, accountant: Accountant, pace: Pace) -> float:
    if not releases:
        return 0.0
    if len(found := relations(releases)) > 1:
        raise ValueError(f"releases that count on different neighbours, {' and '.join(found)}, have no common epsilon")
    drawn = any(each.sampling == "fixed" and each.rate < 1.0 for each in releases)
    if drawn and (plain := tuple(replace(each, rate=1.0) for each in releases)):
        without = _spent(_joined(plain), delta, accountant, pace)
        if found != ("replace_one",):
            return without  # what draws without replacement gain is known for that relation alone
        return min(without, _composed(releases, delta, "rdp", pace))
    accountant = counted_by(releases, accountant)
    if accountant == "pld" and (bound := _spent(releases, delta, "rdp", pace)) > _COARSE:
        return bound
    return _composed(releases, delta, accountant, pace)


def _composed(releases: tuple[Release, ...], delta: float, accountant: Accountant, pace: Pace) -> float:
    if accountant == "rdp":
        return _summed(releases, delta)
    made = _accountant(accountant, pace, releases[0].relation)
    with quieted("absl"):
        made.compose(_event(releases))
        found = float(made.get_epsilon(delta))
    return found if found < _LARGEST else math.inf


def _summed(releases: tuple[Release, ...], delta: float) -> float:
    """Return the epsilon of releases by Renyi divergences, which add up: those of a kind take long, and are kept."""
    from dp_accounting.rdp import compute_epsilon

    curves = [(each.count, *_divergences(replace(each, count=1))) for each in releases]
    total = sum(count * curve for count, _, curve in curves)
    # It goes through them one by one, which takes numbers of numpy four times as long.
    found = float(compute_epsilon(curves[0][1], total.tolist(), delta)[0])
    return found if found < _LARGEST else math.inf


@lru_cache(maxsize=4096)
def _divergences(release: Release) -> tuple[list[float], Any]:
    """Return the orders, and the Renyi divergences ``[n]`` for them, of a single release."""
    from dp_accounting.rdp import RdpAccountant

    made = _accountant("rdp", "close", release.relation)
    assert isinstance(made, RdpAccountant)
    with quieted("absl"):
        made.compose(_event((release,)))
    return made.orders.tolist(), made.rdp


@lru_cache(maxsize=256)
def _multiplier(epsilon: float, kind: Release, delta: float, accountant: Accountant) -> float:
    from dp_accounting import ExplicitBracketInterval, calibrate_dp_mechanism

    loose = kind.mechanism == "discrete" or (kind.sampling == "fixed" and kind.rate < 1.0)
    by: Accountant = "rdp" if loose else accountant

    def fits(z: float, pace: Pace = "close") -> bool:
        return _spent((replace(kind, noise_multiplier=z),), delta, accountant, pace) <= epsilon

    # A pace of its own for the search: distributions of small noise are wide, and a close look at one takes seconds.
    high = 1.0
    while not fits(high, "quick"):
        high *= 2.0
        if high > _LARGEST:
            raise ValueError(
                f"epsilon={epsilon:g} at delta={delta:g} over {kind.count} rounds: no noise is enough for it"
            )
    low = high
    while fits(low, "quick") and low > 1e-3:
        low /= 2.0
    if fits(low, "quick"):
        return low
    with quieted("absl"):
        found = calibrate_dp_mechanism(
            lambda: _accountant(by, "quick", kind.relation),
            lambda z: _event((replace(kind, noise_multiplier=float(z)),)),
            epsilon,
            delta,
            ExplicitBracketInterval(low, high),
            tol=1e-4 * low,
        )
    digits = 10.0 ** (math.floor(math.log10(found)) - 3)
    steps = math.ceil(found / digits - 1e-9)
    while not fits(steps * digits):
        steps += 1
    return float(f"{steps * digits:.4g}")


def _event(releases: tuple[Release, ...]) -> DpEvent:
    from dp_accounting import (
        ComposedDpEvent,
        GaussianDpEvent,
        PoissonSampledDpEvent,
        SampledWithoutReplacementDpEvent,
        SelfComposedDpEvent,
        ZCDpEvent,
    )

    def of(release: Release) -> DpEvent:
        if release.mechanism == "discrete":
            if release.rate < 1.0:
                raise ValueError(f"rate={release.rate:g}: of discrete noise nobody knows what draws gain")
            return SelfComposedDpEvent(ZCDpEvent(0.5 / release.noise_multiplier**2), release.count)
        noise = GaussianDpEvent(release.noise_multiplier)
        if release.rate == 1.0:
            return SelfComposedDpEvent(noise, release.count)
        if release.sampling == "poisson":
            return SelfComposedDpEvent(PoissonSampledDpEvent(release.rate, noise), release.count)
        share = Fraction(release.rate).limit_denominator(10**8)
        drawn = SampledWithoutReplacementDpEvent(share.denominator, share.numerator, noise)
        return SelfComposedDpEvent(drawn, release.count)

    return ComposedDpEvent([of(release) for release in releases])


def _accountant(name: Accountant, pace: Pace, relation: Relation) -> PrivacyAccountant:
    if name == "rdp":
        from dp_accounting import NeighboringRelation
        from dp_accounting.rdp import RdpAccountant

        # Whole orders: those between them may not converge, and take ten times as long.
        orders = [*range(2, 64), 80, 96, 128, 192, 256, 512, 1024]
        one_there = relation != "replace_one"
        by = NeighboringRelation.ADD_OR_REMOVE_ONE if one_there else NeighboringRelation.REPLACE_ONE
        return RdpAccountant(orders, by)
    from dp_accounting.pld import PLDAccountant

    # Its Gaussian event of another relation would be of twice the sensitivity, which the multiplier has already.
    return PLDAccountant(value_discretization_interval=_INTERVAL[pace])

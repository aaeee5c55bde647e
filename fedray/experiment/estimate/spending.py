"""The part of ``fedray plan`` on differential privacy: what a run would cost, and what would cost less."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

from fedray.core.errors import counted
from fedray.privacy.accounting import multiplier_for, spent
from fedray.privacy.central import Central
from fedray.privacy.client_ledger import client_epsilon, dearest
from fedray.privacy.correlated import Banded, Correlation
from fedray.privacy.distributed import Distributed
from fedray.privacy.local import Randomizer
from fedray.privacy.mechanism import correlated_words
from fedray.privacy.randomized import Local
from fedray.privacy.section import Privacy
from fedray.run.plan import Plan
from fedray.run.private_steps import planned_releases

Row = tuple[str, str]

SHOWN = 5
"""The number of clients, those that pay most, of which a plan says what each pays."""

TARGETS = (1.0, 3.0, 8.0)
"""Epsilons for which to say what noise it takes: what is called strong, usual, and weak."""


def privacy_rows(plan: Plan) -> Iterator[Row]:
    """Yield what a run spends by its plan; nothing without ``privacy``.

    Raises:
        ConfigError: dp-accounting is not installed.
    """
    if plan.task.private is not None and plan.privacy is not None:
        yield from _of_rows(plan, plan.privacy)
    local = next((part for part in plan.algorithm.transforms if isinstance(part, Local)), None)
    if local is not None:
        yield from _of_clients(local)
    central = next((part for part in plan.algorithm.transforms if isinstance(part, Central)), None)
    if central is None:
        return
    section, z, cohorts = central.privacy, central.multiplier, central.cohorts
    kind = (section.delta, central.accountant)

    def after(rounds: int, share: float = 1.0) -> float:
        release = central.release()
        return spent(replace(release, rate=share * release.rate).over(rounds), *kind)

    yield "unit", f"one client with all its rows; neighbours: {cohorts.neighbouring}"
    once = central.correlation is not None
    yield "sampling", cohorts.words(plan.rounds, central.accountant, together=once)
    deviation = f"{central.deviation(1):.3g}"
    yield "noise", f"multiplier {z:g}; {deviation} on each entry of the mean, of {central.expected:g} expected clients"
    if isinstance(central, Distributed):
        yield "", central.mechanism
    if central.correlation is not None:
        yield from _correlated(central, central.correlation)
    way = "for all rounds, from the first on"
    if not once:
        first, half = after(1), after(math.ceil(plan.rounds / 2))
        way = f"after {plan.rounds:,} rounds; {first:.3g} after the first, {half:.3g} half way"
    yield "epsilon", f"{after(plan.rounds):.4g} at delta {section.delta:g} {way} ({central.accountant})"
    others = [f"{multiplier_for(e, central.release(), plan.rounds, *kind):.3g} for {e:g}" for e in TARGETS]
    yield "to meet", f"an epsilon with these cohorts, a noise multiplier of {', '.join(others)}"
    if not once:
        longest = [f"{_most_rounds(central, e, plan.rounds):,} for {e:g}" for e in TARGETS]
        yield "", f"with this noise and these cohorts, rounds, counted by rdp: {', '.join(longest)}"
    if central.release().rate < 1.0 and not once:
        rates = [f"{_highest_rate(central, e, plan.rounds):.3g} for {e:g}" for e in TARGETS]
        yield "", f"with this noise and as many rounds, a sampling rate, counted by rdp: {', '.join(rates)}"
        less = after(plan.rounds, 0.5)
        yield "", f"with this noise, cohorts half as large: {less:.3g}; but noise weighs twice as much in their mean"


def _most_rounds(central: Central, epsilon: float, rounds: int) -> int:
    """Return the most rounds that stay within an epsilon by rdp, up to a hundred times those of the plan."""

    def within(count: int) -> bool:
        return spent(central.release().over(count), central.privacy.delta, "rdp") <= epsilon

    low, high = 0, 100 * rounds + 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if within(middle) else (low, middle)
    return low


def _highest_rate(central: Central, epsilon: float, rounds: int) -> float:
    """Return the highest sampling rate that stays within an epsilon by rdp, of three digits and rounded down."""
    low, high = 0.0, 1.0
    while high - low > 2e-4 * high:
        middle = (low + high) / 2.0
        release = replace(central.release(), rate=middle)
        within = spent(release.over(rounds), central.privacy.delta, "rdp") <= epsilon
        low, high = (middle, high) if within else (low, middle)
        if high < 1e-6:
            return 0.0
    digits = 10.0 ** (math.floor(math.log10(low)) - 2)
    return math.floor(low / digits) * digits


def _of_rows(plan: Plan, section: Privacy) -> Iterator[Row]:
    """Yield what rows of clients cost whose gradients are noised in each step."""
    assert plan.task.private is not None
    kind, planned = (section.delta, section.accountant), planned_releases(plan)
    rates, steps = [each.rate for each in planned.values()], [each.count for each in planned.values()]
    yield "unit", "one row of one client, there or not; how many rows each has is not hidden"
    low, high = min(rates, default=0.0), max(rates, default=0.0)
    taken = f"{min(steps, default=0):,} to {max(steps, default=0):,} steps of a client that takes part"
    yield "sampling", f"rows come into a batch by coins, at rates from {low:.3g} to {high:.3g}; {taken}"
    yield "noise", f"multiplier {plan.task.private.noise_multiplier:g} over the clip, {section.norm:g}, in each step"
    most = dearest([(each,) for each in planned.values()], *kind)
    yield "epsilon", f"{most:.4g} at delta {section.delta:g} of the client that pays most ({section.accountant})"
    bounds = {client: client_epsilon((each,), section.delta, "rdp") for client, each in planned.items()}
    shown = sorted(bounds, key=lambda client: -bounds[client])[:SHOWN]
    told = ", ".join(f"{plan.task.data.client_id(client)} {bounds[client]:.3g}" for client in shown)
    yield "", f"by rdp, which is quick and somewhat above, of {counted(len(planned), 'client')}: {told}"


def _of_clients(local: Local) -> Iterator[Row]:
    """Yield what clients spend that noise what they send themselves."""
    section, one, most = local.privacy, local.randomizer, local.participations
    yield "unit", "all that one client sends, before anybody sees it; neighbours: any two data sets of a client"
    yield "sampling", f"nothing is gained by draws; the client that is drawn most often takes part {most:,} times"
    of_mean = one.deviation / math.sqrt(max(1.0, local.expected))
    kind = f"{one.mechanism}, multiplier {one.multiplier:g} over twice the clip"
    each = f"{one.deviation:.3g} on each value of an update, {of_mean:.3g} on the mean of {local.expected:g} clients"
    yield "noise", f"{kind}; {each}"
    times = dict.fromkeys((1, max(1, most // 2), max(1, most)))
    after = ", ".join(f"{one.spent(k, section.delta):.4g} after {counted(k, 'time')}" for k in times)
    yield "epsilon", f"of who takes part most often, at delta {section.counted_at:g}: {after}"
    kinds = [Randomizer.calibrated(one.mechanism, e, section.delta, one.norm, max(1, most)) for e in TARGETS]
    needed = ", ".join(f"{kind.multiplier:.3g} for {e:g}" for kind, e in zip(kinds, TARGETS, strict=True))
    yield "to meet", f"an epsilon with these cohorts, a noise multiplier of {needed}"


def _correlated(central: Central, correlation: Correlation) -> Iterator[Row]:
    """Yield the way in which noise is correlated, and what that gains on the sum of all updates."""
    rounds, turns = correlation.rounds, central.cohorts.turns
    yield "", correlated_words(correlation)
    anew = Banded(rounds)
    sums = [each.of_sum(rounds) * each.sensitivity(turns) for each in (correlation, anew)]
    one = central.multiplier * central.cohorts.factor * central.privacy.norm / central.expected
    yield (
        "",
        f"on the sum of all rounds {one * sums[0]:.3g}; drawn anew in each, at the same epsilon, {one * sums[1]:.3g}",
    )

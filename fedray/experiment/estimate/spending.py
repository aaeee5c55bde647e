"""The part of ``fedray plan`` on differential privacy: what a run would cost, and what would cost less."""

from __future__ import annotations

import math
from collections.abc import Iterator

from fedray.privacy.accounting import epsilon, noise_multiplier
from fedray.privacy.central import Central
from fedray.run.plan import Plan

Row = tuple[str, str]

TARGETS = (1.0, 3.0, 8.0)
"""Epsilons for which to say what noise it takes: what is called strong, usual, and weak."""


def privacy_rows(plan: Plan) -> Iterator[Row]:
    """Yield what a run spends by its plan; nothing without ``privacy``.

    Raises:
        ConfigError: dp-accounting is not installed.
    """
    central = next((part for part in plan.algorithm.transforms if isinstance(part, Central)), None)
    if central is None:
        return
    section, z, q = central.privacy, central.multiplier, central.rate
    kind = (section.delta, section.accountant)
    spent = epsilon(z, q, plan.rounds, *kind)
    yield "unit", "one client with all its rows, there or not"
    deviation = f"{z * section.norm / central.expected:.3g}"
    yield "noise", f"multiplier {z:g}; {deviation} on each entry of the mean, of {central.expected:g} expected clients"
    first, half = epsilon(z, q, 1, *kind), epsilon(z, q, math.ceil(plan.rounds / 2), *kind)
    way = f"after {plan.rounds:,} rounds; {first:.3g} after the first, {half:.3g} half way"
    yield "epsilon", f"{spent:.4g} at delta {section.delta:g} {way} ({section.accountant})"
    others = [f"{noise_multiplier(target, q, plan.rounds, *kind):.3g} for {target:g}" for target in TARGETS]
    yield "to meet", f"an epsilon with these cohorts, a noise multiplier of {', '.join(others)}"
    if q < 1.0:
        less = epsilon(z, q / 2, plan.rounds, *kind)
        yield "", f"with this noise, cohorts half as large: {less:.3g}; but noise weighs twice as much in their mean"

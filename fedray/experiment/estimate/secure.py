"""The part of ``fedray plan`` on secure sums: messages, bytes and seconds, by the size of the cohort."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rich.filesize import decimal

from fedray.core.discrete import DiscreteGaussian
from fedray.core.noise import Stream
from fedray.run.plan import Plan
from fedray.transforms.secure.graph import degree, least_of
from fedray.transforms.secure.masks import agreed, expanded, private_key
from fedray.transforms.secure.share import SharesNoise
from fedray.transforms.secure_sum import SecureSum

Row = tuple[str, str]

COHORTS = 100, 1_000, 10_000
"""The cohorts that stand beside the run's own."""

_PAIRS, _VALUES, _SQUARE = 20, 200_000, 2**20


@dataclass(frozen=True)
class Pace:
    """The seconds of what secure sums are made of, on one processor.

    Args:
        agreement: of a key that two clients agree on.
        value: of one number of one mask.
        noise: of one number of a client's share of the noise.
    """

    agreement: float
    value: float
    noise: float = 0.0

    @classmethod
    def here(cls) -> Pace:
        """Measure it, in some milliseconds."""
        keys = [bytes([number]) * 32 for number in range(1, _PAIRS + 1)]
        own, publics = private_key(keys[0]), [private_key(key).public_key() for key in keys]
        pairs = _seconds(lambda: [agreed(own, public, b"") for public in publics])
        masks = _seconds(lambda: expanded(keys[0], _VALUES, 40))
        noise = _seconds(lambda: DiscreteGaussian(_SQUARE).draw(Stream(keys[0]).words, _VALUES // 4))
        return cls(pairs / _PAIRS, masks / _VALUES, 4.0 * noise / _VALUES)


def _seconds(work: Callable[[], object]) -> float:
    work()
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def secure_rows(plan: Plan, pace: Pace | None = None) -> Iterator[Row]:
    """Yield what secure sums take in a round by their plan; nothing where a run has none.

    Args:
        plan: the plan.
        pace: of the machine; None: it is measured, for this one.
    """
    secure = plan.algorithm.transforms.ring
    if not isinstance(secure, SecureSum):
        return
    pace = pace or Pace.here()
    noise = pace.noise if any(isinstance(part, SharesNoise) for part in plan.algorithm.transforms) else 0.0
    own = max(2, round(plan.sampler.expected(plan.task.data.sizes)))
    yield "messages", "4 to each client and 4 from it: keys, shares, update, and what takes masks off"
    for n in sorted({own, *COHORTS}):
        shape = degree(n, secure.threshold, secure.corrupt)
        least, k = least_of(n, secure.threshold), shape.neighbours
        values = sum(plan.algorithm.sends(plan.layout).values())
        mine = k * pace.agreement + (k + 1) * values * pace.value + values * noise
        # The own masks of those who came, and those that the lost ones had with them, in the worst case of a round.
        lost = n - least
        server = (least + lost * min(k, least)) * values * pace.value + lost * min(k, least) * pace.agreement
        down, up = (total / n for total in secure.beside(n, n))
        masks = f"{k} neighbours each, {shape.shares} shares take a mask off, {least:,} clients at least"
        moved = f"beside update and model {decimal(int(down))} down and {decimal(int(up))} up for each client"
        times = f"{mine:.2g} s of a client's processor, {server:.2g} s of the server's with {lost:,} lost"
        yield f"cohort of {n:,}" + (", as here" if n == own else ""), f"{masks}; {moved}; {times}"

"""Centered clipping: no client moves the aggregate of the round before by more than a radius."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch

from fedray.aggregators.base import aggregators
from fedray.aggregators.distances import distances_to
from fedray.aggregators.gathered import Gathered, Rows, one_thread
from fedray.config.bounds import check_above_0, check_at_least_1
from fedray.core.messages import DELTA, Parts
from fedray.core.now import Now


@aggregators.register("centered_clip")
@dataclass(frozen=True)
class CenteredClip(Gathered):
    """The mean of updates clipped around the last aggregate (Karimireddy et al., arXiv:2012.10333, Algorithm 1).

    From the aggregate v of the round before, 0 in the first, ``steps`` times:
    ``v = v + 1/n sum_i (x_i - v) min(1, radius / ||x_i - v||)``.  Each client counts the same.  ``v`` is kept on the
    server and in checkpoints.  Distances are those of the trained parameters' changes; a client's other parts are
    clipped by the same factor around their own v.  The record has the number of clients that were ``clipped`` in
    the last step, and ``share``, the mean factor.

    Deviation: the paper's workers send a momentum of their gradients, which is what makes v a good guess; here v is the
    mean of updates of many local steps.

    >>> import numpy as np
    >>> rows = Rows(np.arange(3), np.ones(3), {"delta": torch.tensor([[1.0], [2.0], [900.0]])})
    >>> now = Now(seed=1, round=1, state=CenteredClip(radius=3.0).initial_state({"delta": 1}, "cpu"))
    >>> CenteredClip(radius=3.0).aggregate(rows, now)  # (1 + 2 + 3) / 3
    {'delta': tensor([2.])}
    >>> CenteredClip(radius=3.0).aggregate(rows, now)  # 2 + (-1 + 0 + 3) / 3
    {'delta': tensor([2.6667])}

    Args:
        radius: tau, above 0; from the size of an update on, it is the mean in the first round.
        steps: L, at least 1.
    """

    radius: float
    steps: int = 1
    by_columns: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_above_0(radius=self.radius)
        check_at_least_1(steps=self.steps)

    def initial_state(self, sent: Mapping[str, int], device: str) -> Parts:
        """Return a v of zeros for each part."""
        return {name: torch.zeros(width, device=device) for name, width in sent.items()}

    def aggregate(self, rows: Rows, now: Now) -> Parts:
        """Clip around v, and keep what comes of it."""
        centre = {name: now.state[name].double() for name in rows.parts}
        with one_thread():
            for _ in range(self.steps):
                distance = distances_to(rows.pieces(DELTA), centre[DELTA])
                factor = (self.radius / distance.clamp(min=self.radius)).div_(len(rows))
                for name in rows.parts:
                    centre[name] += rows.combined(factor, name) - factor.sum() * centre[name]
        now.metrics.update(clipped=float((distance > self.radius).sum()), share=float(factor.sum()))
        now.state.update({name: point.float() for name, point in centre.items()})
        return {name: kept.clone() for name, kept in now.state.items()}

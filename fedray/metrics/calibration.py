"""Metrics of how far the probabilities that a model gives may be believed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from fedray.config.bounds import check_at_least_1
from fedray.metrics.base import Metric, metrics
from fedray.metrics.sums import State


@metrics.register("calibration_error")
@dataclass(frozen=True)
class CalibrationError(Metric):
    """The expected calibration error: ``sum_b |right_b - confidence_b| n_b / n`` over bins of equal width.

    A bin has the answers whose probability lies in it; of two classes, too, the probability is that of the class which
    is said.  Source: Guo et al., arXiv:1706.04599, section 2, ``bins`` = M.

    >>> round(CalibrationError().on(torch.tensor([[0.0, 9.0], [0.0, 9.0]]), torch.tensor([1, 0])), 4)
    0.4999

    Args:
        bins: the number of bins, at least 1.
        label: the name of the number in records; default: that of the metric.
    """

    bins: int = 15
    label: str | None = None

    needs: ClassVar[Literal["classes", "numbers", ""]] = "classes"

    def __post_init__(self) -> None:
        check_at_least_1(bins=self.bins)

    def update(self, output: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return of each bin its answers, the right ones, and the sum of their probabilities, ``[B, 3, bins]``."""
        found, sure = self.task.answers(output, target), self.task.confidence(output)
        sure = sure.double()
        known = torch.ones_like(sure) if found.known is None else found.known.double()
        # A bin includes its upper end, as in the paper: half sure is not the bin above.
        place = (torch.ceil(sure * self.bins) - 1).clamp(0, self.bins - 1).to(torch.int64)
        parts = torch.stack([known, found.right.double(), sure * known], dim=1)
        return {"bins": parts @ F.one_hot(place, self.bins).double()}

    def compute(self, state: State) -> float:
        """Return the expected calibration error."""
        count, right, sure = state["bins"]
        return float((right - sure).abs().sum() / count.sum())

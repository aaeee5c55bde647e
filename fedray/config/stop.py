"""The section ``stop`` of an experiment's YAML file."""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedray.config.bounds import check_at_least_1
from fedray.core.monitor import Mode, Monitor


@dataclass(frozen=True)
class StopSection:
    """``stop``: early stopping, once a metric does not improve any more.

    It is looked at after each round that has the metric, before the next cohort is drawn, so that the last round is
    the same for any number of workers and after any resume; the evaluation is waited for.  The run then ends as told:
    the model is evaluated and written, a checkpoint saved, ``summary.json`` says ``early_stopped``, and the exit status
    is 0.  ``fedray resume RUN_DIR stop.patience=20`` goes on.

    >>> StopSection("test.loss", patience=3).monitor.direction
    'min'

    Args:
        metric: the metric, as records have it: ``test.loss``, ``train.loss``, ``clients_test.accuracy`` (of the
            examples of all clients together), ``clients_test.accuracy.p10``, or what a part tells,
            ``metrics.fedexp.step``; null: the run does all its rounds.
        patience: the number of rounds with this metric, one after the other, that must not be better than the best
            before; where ``evaluate.every`` is 5, of evaluations.
        min_delta: the difference, in the unit of the metric, by more than which a better value must be better.
        mode: ``min``: less is better; ``max``: more is better; ``auto``: ``min`` for losses and errors, by the name.
    """

    metric: str | None = None
    patience: int = 10
    min_delta: float = 0.0
    mode: Mode = "auto"

    def __post_init__(self) -> None:
        check_at_least_1(patience=self.patience)
        if not 0.0 <= self.min_delta < math.inf:
            raise ValueError(f"min_delta={self.min_delta}: it must be at least 0")
        if self.metric is not None:
            self.monitor  # noqa: B018  # a name that no record can have is an error where it is given
        elif (self.patience, self.min_delta, self.mode) != (10, 0.0, "auto"):
            raise ValueError("metric: a value is needed, such as test.loss: without it nothing is stopped early")

    @property
    def monitor(self) -> Monitor:
        """The metric with its direction; there must be one."""
        assert self.metric is not None
        return Monitor(self.metric, self.mode)

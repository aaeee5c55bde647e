"""Confidence intervals of metrics that are shares of examples, from their numbers and the examples of each class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Any, NamedTuple

from fedray.core.errors import ConfigError
from fedray.data.spec import DataSpec
from fedray.metrics.base import Metric, metrics
from fedray.tasks import Classification
from fedray.tasks.base import OF_YES_OR_NO

CONFIDENCE = 0.95

ABOUT = (
    "Wilson's intervals, 95 %: where the number may lie for many more such examples, with this model. They take "
    "examples for independent, which several rows of one patient are not, and say nothing of another training."
)
"""The words for what the intervals are."""


class Interval(NamedTuple):
    """A confidence interval of a share.

    Args:
        share: the share itself.
        low: the least value.
        high: the largest value.
        of: the number of examples that it is a share of.
    """

    share: float
    low: float
    high: float
    of: int


def wilson(hits: int, of: int, confidence: float = CONFIDENCE) -> Interval:
    """Return Wilson's score interval of a share of examples (E. B. Wilson, JASA 22, 1927).

    >>> _, low, high, _ = wilson(33, 40)
    >>> round(low, 3), round(high, 3)
    (0.681, 0.913)

    Args:
        hits: those that count.
        of: all, at least 1.
        confidence: the share of such intervals that hold the true share.
    """
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share, scale = hits / of, 1 + z * z / of
    middle = (share + z * z / (2 * of)) / scale
    half = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / scale
    return Interval(share, 0.0 if hits == 0 else middle - half, 1.0 if hits == of else middle + half, of)


def intervals(
    measured: Sequence[Metric], numbers: Mapping[str, float | None], support: Sequence[int], examples: int
) -> dict[str, Interval]:
    """Return the intervals of the numbers that are shares of examples, by name.

    >>> from fedray.metrics.confusion import Sensitivity
    >>> metric = Sensitivity().of(Classification().of(DataSpec((), 2)))
    >>> found = intervals([metric], {"loss": 0.1, "sensitivity": 0.825}, [60, 40], 100)
    >>> {name: (round(one.low, 3), round(one.high, 3), one.of) for name, one in found.items()}
    {'sensitivity': (0.681, 0.913, 40)}

    Args:
        measured: metrics that know their task.
        numbers: by name; None or NaN: no value.
        support: the examples of each class.
        examples: all of them; where they have several positions each, as pixels, of which none tells much that its
            neighbours do not, there are no intervals.
    """
    if sum(support) != examples:
        return {}
    found = {}
    for metric in measured:
        for name, of in metric.shares(support).items():
            value = numbers.get(name)
            if value is None or math.isnan(value) or not of:
                continue
            hits = round(value * of)
            if abs(value * of - hits) < 1e-4:  # else it is a share of something else
                found[name] = wilson(hits, of)
    return found


def of_classes(chosen: Sequence[Metric], classes: Sequence[str]) -> list[Metric]:
    """Return metrics as those of some classes, without those that are none."""
    task = Classification().of(DataSpec((), len(classes), classes=tuple(classes)))
    found = []
    for metric in chosen:
        try:
            found.append(metric.of(task))
        except ConfigError:
            continue
    return found


def usual() -> list[Metric]:
    """Return the metrics that readers of two classes expect, for a run that has chosen none."""
    return [metrics[name]() for name in OF_YES_OR_NO]


def shown(interval: Interval, digits: int = 3) -> str:
    """Return a share with its interval, as a table has it.

    >>> shown(wilson(33, 40))
    '0.825 (0.681 to 0.913)'
    """
    return f"{interval.share:.{digits}f} ({interval.low:.{digits}f} to {interval.high:.{digits}f})"


def to_json(found: Mapping[str, Interval]) -> dict[str, dict[str, Any]]:
    """Return intervals ready for JSON."""
    return {name: {"low": one.low, "high": one.high, "of": one.of} for name, one in found.items()}

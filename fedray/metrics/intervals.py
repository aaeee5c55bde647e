"""Confidence intervals of shares of examples and of AUROC, from their numbers and the examples of each class."""

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
    "Wilson's intervals, 95 %, of AUROC Newcombe's: where the number may lie for many more such examples, with this "
    "model. They take examples for independent, which several rows of one patient are not, and say nothing of another "
    "training."
)
"""The words for what the intervals are."""

FEW = 10
"""The examples of a class below which an area says how few they are."""


class Interval(NamedTuple):
    """A confidence interval of a share, or of an area under the ROC curve.

    Args:
        share: the share itself.
        low: the least value.
        high: the largest value.
        of: the number of examples that it is of.
        few: the classes that it has few examples of, in words; empty: there are none, or it is a share.
    """

    share: float
    low: float
    high: float
    of: int
    few: str = ""


def wilson(hits: int, of: int, confidence: float = CONFIDENCE) -> Interval:
    """Return Wilson's score interval of a share of examples (E. B. Wilson, JASA 22, 1927).

    >>> _, low, high, *_ = wilson(33, 40)
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


def area(value: float, positives: int, negatives: int, confidence: float = CONFIDENCE) -> Interval:
    """Return the interval of an area under the ROC curve: the areas that it is not too far from.

    Method 5 of R. G. Newcombe (Statistics in Medicine 25:559, 2006), which does for Hanley and McNeil's standard error
    (Radiology 143:29, 1982) what Wilson's does for that of a share: the error is that of the true area, and not of the
    one that was seen.  So it needs no scores, stays within 0 and 1, and holds the true area nineteen times in twenty
    also where a class has two examples, of which DeLong's on the scale of log-odds may hold it three times in five.

    >>> _, low, high, *_ = area(0.329, 35, 2)
    >>> round(low, 3), round(high, 3)
    (0.099, 0.703)

    Args:
        value: the area.
        positives: the examples of the class, at least 1.
        negatives: all others, at least 1.
        confidence: the share of such intervals that hold the true area.
    """
    z, more = NormalDist().inv_cdf(0.5 + confidence / 2), (positives + negatives) / 2 - 1

    def apart(true: float) -> bool:
        spread = 1 + more * ((1 - true) / (2 - true) + true / (1 + true))
        return (value - true) ** 2 > z * z * true * (1 - true) * spread / (positives * negatives)

    def end(out: float) -> float:
        within = value
        for _ in range(60):
            middle = (out + within) / 2
            out, within = (middle, within) if apart(middle) else (out, middle)
        return within

    low, high = (0.0 if value <= 0 else end(0.0)), (1.0 if value >= 1 else end(1.0))
    return Interval(value, low, high, positives + negatives)


def intervals(
    measured: Sequence[Metric], numbers: Mapping[str, float | None], support: Sequence[int], examples: int
) -> dict[str, Interval]:
    """Return the intervals of the numbers that are shares of examples or areas under the ROC curve, by name.

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
        for name, place in metric.areas(len(support)).items():
            value, of = numbers.get(name), support[place] if place < len(support) else 0
            if value is not None and not math.isnan(value) and 0 < of < examples:
                found[name] = area(value, of, examples - of)._replace(few=_few(metric.task.classes, support, place))
    return found


def _few(classes: Sequence[str], support: Sequence[int], place: int) -> str:
    """Return of which of the two sides of an area there are few examples, in words."""
    others = sum(support) - support[place]
    other = f"class {classes[1 - place]}" if len(classes) == 2 else "the others"
    sides = [(others, other), (support[place], f"class {classes[place]}")]
    return ", ".join(f"{count} of {side}" for count, side in sides if count < FEW)


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

    >>> shown(wilson(33, 40)), shown(area(0.329, 35, 2)._replace(few="2 of class no"))
    ('0.825 (0.681 to 0.913)', '0.329 (0.099 to 0.703; 2 of class no)')
    """
    few = f"; {interval.few}" if interval.few else ""
    return f"{interval.share:.{digits}f} ({interval.low:.{digits}f} to {interval.high:.{digits}f}{few})"


def to_json(found: Mapping[str, Interval]) -> dict[str, dict[str, Any]]:
    """Return intervals ready for JSON."""
    return {
        name: {"low": one.low, "high": one.high, "of": one.of, **({"few": one.few} if one.few else {})}
        for name, one in found.items()
    }

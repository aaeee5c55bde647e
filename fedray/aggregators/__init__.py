"""Aggregators: mean (streamed, exact), and robust ones, for which updates are gathered."""

from fedray.aggregators.base import Aggregator, UpdateOutOfRange, aggregators
from fedray.aggregators.centered_clip import CenteredClip
from fedray.aggregators.geometric_median import GeometricMedian
from fedray.aggregators.krum import Krum, MultiKrum
from fedray.aggregators.mean import Mean
from fedray.aggregators.robust import Median, TrimmedMean

__all__ = [
    "Aggregator",
    "CenteredClip",
    "GeometricMedian",
    "Krum",
    "Mean",
    "Median",
    "MultiKrum",
    "TrimmedMean",
    "UpdateOutOfRange",
    "aggregators",
]

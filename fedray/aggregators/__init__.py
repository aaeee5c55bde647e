"""Aggregators: mean (streamed, exact), and robust ones, for which updates are gathered."""

from fedray.aggregators.base import Aggregator, UpdateOutOfRange, aggregators
from fedray.aggregators.mean import Mean
from fedray.aggregators.robust import Median, TrimmedMean

__all__ = ["Aggregator", "Mean", "Median", "TrimmedMean", "UpdateOutOfRange", "aggregators"]

"""Aggregators: mean (streamed, exact), median and trimmed mean (gathered)."""

from fedray.aggregators.base import Aggregator, UpdateOutOfRange, aggregators
from fedray.aggregators.mean import Mean
from fedray.aggregators.robust import Median, TrimmedMean

__all__ = ["Aggregator", "Mean", "Median", "TrimmedMean", "UpdateOutOfRange", "aggregators"]

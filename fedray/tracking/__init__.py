"""Trackers of a run's records: ``metrics.jsonl``, TensorBoard, the terminal."""

from fedray.tracking.base import RunInfo, Tracker, trackers
from fedray.tracking.console import Console
from fedray.tracking.csv import CSV
from fedray.tracking.jsonl import JsonLines, read_records
from fedray.tracking.tensorboard import TensorBoard

__all__ = ["CSV", "Console", "JsonLines", "RunInfo", "TensorBoard", "Tracker", "read_records", "trackers"]

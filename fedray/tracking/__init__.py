"""Trackers of a run's records: ``metrics.jsonl``, the terminal, and those of which a run names any number."""

from fedray.tracking.base import RunInfo, Tracker, trackers
from fedray.tracking.console import Console
from fedray.tracking.csv import CSV
from fedray.tracking.jsonl import JsonLines, read_records
from fedray.tracking.mlflow import MLflow
from fedray.tracking.tensorboard import TensorBoard
from fedray.tracking.wandb import WandB

__all__ = [
    "CSV",
    "Console",
    "JsonLines",
    "MLflow",
    "RunInfo",
    "TensorBoard",
    "Tracker",
    "WandB",
    "read_records",
    "trackers",
]

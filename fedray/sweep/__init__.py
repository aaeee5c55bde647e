"""Sweeps: one run for each combination of values, and what they say together."""

from fedray.sweep.folder import Sweep
from fedray.sweep.grid import Cell, grid, split_values
from fedray.sweep.table import Row, interval, tabulate, write_table

__all__ = ["Cell", "Row", "Sweep", "grid", "interval", "split_values", "tabulate", "write_table"]

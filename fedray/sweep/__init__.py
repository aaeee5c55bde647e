"""Sweeps: one run for each combination of values, and what they say together."""

from fedray.rundir.names import SWEEP
from fedray.sweep.folder import Sweep
from fedray.sweep.grid import Cell, grid, split_values
from fedray.sweep.search import Search
from fedray.sweep.table import (
    GIVEN,
    TABLE,
    Outcome,
    Row,
    fitting,
    in_words,
    interval,
    notes,
    numbers_of,
    tabulate,
    write_table,
)

__all__ = [
    "GIVEN",
    "SWEEP",
    "TABLE",
    "Cell",
    "Outcome",
    "Row",
    "Search",
    "Sweep",
    "fitting",
    "grid",
    "in_words",
    "interval",
    "notes",
    "numbers_of",
    "split_values",
    "tabulate",
    "write_table",
]

"""Sweeps: one run for each combination of values, and what they say together."""

from fedray.rundir.names import SWEEP
from fedray.sweep.folder import Sweep
from fedray.sweep.grid import Cell, grid, split_values
from fedray.sweep.search import Search
from fedray.sweep.table import (
    NOT_MEASURED,
    TABLE,
    UNTESTED,
    Outcome,
    Row,
    fitting,
    in_words,
    interval,
    tabulate,
    write_table,
)

__all__ = [
    "NOT_MEASURED",
    "SWEEP",
    "TABLE",
    "UNTESTED",
    "Cell",
    "Outcome",
    "Row",
    "Search",
    "Sweep",
    "fitting",
    "grid",
    "in_words",
    "interval",
    "split_values",
    "tabulate",
    "write_table",
]

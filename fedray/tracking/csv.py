"""One row of numbers per round: the table of a run, for a spreadsheet, pandas or R."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from fedray.core.record import RoundRecord
from fedray.rundir import durable
from fedray.tracking.base import RunInfo, Tracker, trackers
from fedray.tracking.tensorboard import scalars

ROUND = "round"


def numbers(record: RoundRecord) -> dict[str, float]:
    """Return the round of a record, and each of its numbers by a dotted name.

    The names are section and name, ``test.accuracy``; see :func:`fedray.tracking.tensorboard.scalars`.

    >>> numbers(RoundRecord(3, seconds=2.0, train={"loss": 0.5}))
    {'round': 3, 'train.loss': 0.5, 'time.round_seconds': 2.0}
    """
    return {ROUND: record.round} | {tag.replace("/", "."): value for tag, value in scalars(record).items()}


def row(record: RoundRecord) -> dict[str, str]:
    """Return the cells of a record: its :func:`numbers` as text.

    A metric that was measured and has no value is ``nan``; floats are written so that reading gives them back.

    >>> row(RoundRecord(3, seconds=2.0, train={"loss": 0.5}, test={"auc": None}))
    {'round': '3', 'train.loss': '0.5', 'test.auc': 'nan', 'time.round_seconds': '2'}
    """
    return {name: _cell(value) for name, value in numbers(record).items()}


def _cell(value: float) -> str:
    return str(int(value)) if math.isfinite(value) and float(value).is_integer() else repr(value)


@trackers.register("csv")
@dataclass
class CSV(Tracker):
    """The tracker that writes a CSV file: one row per round, one column per number.

    The cells are those of :func:`row`.  Each row is handed to the operating system at once, so the file can be read
    whole while the run goes on.  A column that appears later, such as that of an evaluation that was not due before, is
    added on the right: the file is then written anew.  A round in which a number was not measured has an empty cell.
    On start the rounds after ``resumed_from`` are dropped; a record whose round is there already replaces it.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     tracker = CSV()
    ...     tracker.start(RunInfo(Path(folder), "first", rounds=2))
    ...     tracker.round(RoundRecord(1, seconds=0.25, train={"loss": 0.7}))
    ...     tracker.round(RoundRecord(2, seconds=0.25, train={"loss": 0.5}, test={"accuracy": 0.9}))
    ...     tracker.close()
    ...     print(Path(folder, "metrics.csv").read_text(), end="")
    round,train.loss,time.round_seconds,test.accuracy
    1,0.7,0.25,
    2,0.5,0.25,0.9

    Args:
        path: the file, relative to the run folder; its name must end in ``.csv``.
    """

    path: str = "metrics.csv"

    def __post_init__(self) -> None:
        if not self.path.endswith(".csv"):  # so that it is none of the run's own
            raise ValueError(f"path={self.path}: its name must end in .csv")
        self._file: IO[str] | None = None
        self._target: Path | None = None
        self._columns = [ROUND]
        self._last = -1

    def start(self, run: RunInfo) -> None:
        """Drop later rounds from a file that is there; a new one is made with the first record.

        Raises:
            OSError: it cannot be written.
            ValueError: it is no table of rounds.
        """
        self.close()
        self._target = run.run_dir / self.path
        self._columns, self._last = [ROUND], -1
        if self._target.exists():
            self._write({number: cells for number, cells in self._read().items() if number <= run.resumed_from})

    def round(self, record: RoundRecord) -> None:
        """Append the record's row, or write the file anew where that is not enough.

        Raises:
            OSError: the disk is full or gone.
        """
        if self._target is None:
            raise RuntimeError("a record came before start or after close")
        cells = row(record)
        if self._file is not None and record.round > self._last and cells.keys() <= set(self._columns):
            self._file.write(_text([[cells.get(column, "") for column in self._columns]]))
            self._file.flush()
            self._last = record.round
        else:
            self._write({**self._read(), record.round: cells})

    def close(self) -> None:
        """Close the file."""
        self._target = None
        self._let_go()

    def _let_go(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _read(self) -> dict[int, dict[str, str]]:
        """Return the rows by round, without a last line that a crash tore."""
        assert self._target is not None
        if not self._target.exists():
            return {}
        whole = self._target.read_bytes().decode().rpartition("\n")[0]
        table = csv.DictReader(io.StringIO(whole, newline=""), strict=True)
        if whole and ROUND not in (table.fieldnames or ()):
            raise ValueError(f"{self._target} has no column {ROUND!r}; move it away, or set another path")
        rows = {int(cells[ROUND]): {name: cell for name, cell in cells.items() if cell} for cells in table}
        self._columns = list(table.fieldnames or [ROUND])
        return rows

    def _write(self, rows: dict[int, dict[str, str]]) -> None:
        """Make these the rows, in the order of their rounds, and open the file for more."""
        assert self._target is not None
        self._let_go()
        known = dict.fromkeys(self._columns)
        for cells in rows.values():
            known |= dict.fromkeys(cells)
        self._columns, self._last = list(known), max(rows, default=-1)
        ordered = [rows[number] for number in sorted(rows)]
        lines = [[cells.get(column, "") for column in known] for cells in ordered]
        self._target.parent.mkdir(parents=True, exist_ok=True)
        durable.replace(self._target, _text([self._columns, *lines] if rows else []).encode())
        self._file = self._target.open("a", encoding="utf-8", newline="")


def _text(lines: list[list[str]]) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()

"""The table of a run: Python's own reader and pyarrow's read it, at any moment and after any end."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pyarrow.csv
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedray
from fedray.config.registry import bind_part
from fedray.core.errors import ConfigError
from fedray.core.record import RoundRecord
from fedray.tracking.base import RunInfo, trackers
from fedray.tracking.csv import CSV, row
from fedray.tracking.tensorboard import scalars
from tests.helpers import class_problem


def record(number: int, **test: float) -> RoundRecord:
    return RoundRecord(number, seconds=0.5, train={"loss": 1 / number}, test=test)


def started(folder: Path, resumed_from: int = 0, **options: str) -> CSV:
    tracker = CSV(**options)
    tracker.start(RunInfo(folder, "x", 9, resumed_from))
    return tracker


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file, strict=True))


def losses(folder: Path) -> dict[int, float]:
    return {int(cells["round"]): float(cells["train.loss"]) for cells in table(folder)}


NUMBERS = st.floats() | st.integers(-(10**6), 10**6).map(float)


@given(st.dictionaries(st.text('ab,"\n;.é', min_size=1, max_size=4), NUMBERS, max_size=4))
def test_every_number_of_a_record_is_a_cell_that_reads_as_the_same_float(metrics: dict[str, float]) -> None:
    cells = row(RoundRecord(7, train={"loss": 0.1}, test=metrics))
    assert cells.pop("round") == "7"
    numbers = scalars(RoundRecord(7, train={"loss": 0.1}, test=metrics))
    assert [name.replace("/", ".") for name in numbers] == list(cells)
    for cell, number in zip(cells.values(), numbers.values(), strict=True):
        assert float(cell) == number or (math.isnan(number) and cell == "nan")


def test_the_file_is_whole_after_each_round_also_when_a_column_appears(tmp_path: Path) -> None:
    tracker = started(tmp_path)
    for number in (1, 2, 3, 4):
        tracker.round(record(number, **({"accuracy": number / 8} if number % 2 == 0 else {})))
        rows = table(tmp_path)
        assert [cells["round"] for cells in rows] == [str(n) for n in range(1, number + 1)]
        assert losses(tmp_path) == {n: 1 / n for n in range(1, number + 1)}
    tracker.close()
    assert [cells["test.accuracy"] for cells in rows] == ["", "0.25", "", "0.5"]
    # The reader of another library, which infers types.
    read = pyarrow.csv.read_csv(tmp_path / "metrics.csv").to_pydict()
    assert read["round"] == [1, 2, 3, 4]
    assert read["test.accuracy"] == [None, 0.25, None, 0.5]


@pytest.mark.parametrize("torn", ["", "6", "6,0.", "6,0.1666,0.5"])
def test_a_resume_drops_later_rounds_and_what_a_crash_tore(torn: str, tmp_path: Path) -> None:
    tracker = started(tmp_path)
    for number in range(1, 6):
        tracker.round(record(number))
    tracker.close()
    with (tmp_path / "metrics.csv").open("a") as file:
        file.write(torn)
    tracker = started(tmp_path, resumed_from=3)
    assert list(losses(tmp_path)) == [1, 2, 3]
    # The round of the checkpoint is told once more, complete by now.
    tracker.round(record(3, accuracy=0.5))
    tracker.round(record(4))
    tracker.close()
    tracker.close()
    assert losses(tmp_path) == {1: 1.0, 2: 0.5, 3: 1 / 3, 4: 0.25}
    assert [cells["test.accuracy"] for cells in table(tmp_path)] == ["", "", "0.5", ""]


def test_a_file_elsewhere_and_one_that_is_no_table_of_rounds(tmp_path: Path) -> None:
    tracker = started(tmp_path / "run", path=str(tmp_path / "tables" / "mine.csv"))
    assert list(tmp_path.iterdir()) == []  # a run that does not get to its first round leaves nothing
    tracker.round(record(1))
    tracker.close()
    assert (tmp_path / "tables" / "mine.csv").read_text() == "round,train.loss,time.round_seconds\n1,1,0.5\n"
    (tmp_path / "metrics.csv").write_text("name,age\nann,3\n")
    with pytest.raises(ValueError, match="has no column 'round'; move it away"):
        started(tmp_path)
    assert (tmp_path / "metrics.csv").read_text() == "name,age\nann,3\n"
    for stray in (CSV(), tracker):
        with pytest.raises(RuntimeError, match="before start or after close"):
            stray.round(record(1))


def test_no_file_of_the_run_is_taken_for_the_table() -> None:
    with pytest.raises(ConfigError, match=r"^tracking\[0\]: path=metrics\.jsonl: its name must end in \.csv"):
        bind_part(trackers, {"name": "csv", "path": "metrics.jsonl"}, "tracking[0]")


def test_a_run_and_its_resume_leave_the_table_of_their_records(tmp_path: Path) -> None:
    problem = class_problem()
    model = fedray.FederatedModel(problem.model_fn)
    for rounds in (3, 5):
        args = fedray.TrainArgs(rounds=rounds, tracking=["csv"])
        result = fedray.train(
            model, problem.data, args, cluster="inline", run_dir=tmp_path / "run", resume=rounds > 3, progress=False
        )
    assert losses(tmp_path / "run") == {one.round: one.train["loss"] for one in result.history}
    assert {path.name for path in (tmp_path / "run").glob("metrics.*")} == {"metrics.csv", "metrics.jsonl"}
    assert not list((tmp_path / "run").glob("events.*"))

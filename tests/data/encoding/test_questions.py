"""What a silo is asked: counts, sums and names, and no row."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.data import FederatedData
from fedray.data.encoding import questions
from fedray.data.encoding.table import Table
from tests.data.reading import Files


def test_a_column_of_ids_is_advised_against_and_its_values_are_listed_nowhere(write: Files) -> None:
    path = write("a.csv", "id,u,y\n" + "".join(f"P{n:03},{n},{'pq'[n % 2]}\n" for n in range(500)))
    with pytest.raises(ConfigError, match=r"'P000' is not a number; .*ids or free text.*`ignore: \[id\]`") as advised:
        FederatedData.from_csv(path, target="y")
    with pytest.raises(ConfigError, match=r"column 'id' has 500 different values in 500 rows.*") as refused:
        FederatedData.from_csv(path, target="y", categorical=["id"])
    with pytest.raises(ConfigError, match="the target 'id' has 500 different values"):
        FederatedData.from_csv(path, target="id", ignore=["y"])
    assert "categorical" not in str(advised.value)
    assert "P00" not in str(refused.value)
    assert FederatedData.from_csv(path, target="y", ignore=["id"]).spec.shape == (1,)


@given(st.permutations(range(6)))
def test_answers_do_not_tell_the_order_of_rows(order: list[int]) -> None:
    rows = ["1,n,p", "2,s,q", ",n,p", "4,,p", "5,n,q", "6,s,q"]
    first, other = (_table("u,ward,y\n" + "\n".join(lines)) for lines in (rows, [rows[i] for i in order]))
    assert questions.categories(first, ["ward"]) == questions.categories(other, ["ward"]) == {"ward": ("n", "s")}
    assert questions.labels(first, "y", False) == questions.labels(other, "y", False)
    sums = [questions.sums(table, ["u"], np.ones(1)) for table in (first, other)]
    assert [(one.count.item(), one.total.item(), one.squares.item()) for one in sums] == [(5.0, 13.0, 51.0)] * 2


@pytest.mark.parametrize(
    ("cells", "classes", "kind", "names"),
    [
        (["2", "10", "2.0"], False, "whole", ("10", "2")),
        (["0.5", "1"], False, "numbers", None),
        (["0.5", "1"], True, "numbers", ("0.5", "1")),
        (["yes", "1"], False, "text", ("1", "yes")),
        ([str(n) for n in range(21)], False, "whole", None),
    ],
)
def test_values_of_a_target_are_told_only_as_names_of_classes(
    cells: list[str], classes: bool, kind: str, names: tuple[str, ...] | None
) -> None:
    assert questions.labels(_table("y\n" + "\n".join(cells)), "y", classes) == questions.Labels(kind, names)  # type: ignore[arg-type]


def _table(text: str) -> Table:
    table = pyarrow.csv.read_csv(
        io.BytesIO(text.encode()),
        convert_options=pyarrow.csv.ConvertOptions(column_types={"u": pa.string(), "y": pa.string()}),
    )
    return Table(Path("t.csv"), dict(zip(table.column_names, table.columns, strict=True)), table.num_rows)

"""Files of several kinds as clients, each with its own dialect."""

from __future__ import annotations

from typing import Any

import pandas as pd

from tests.data.reading import Files, inputs, load, targets


def test_hospitals_that_write_differently_are_one_table(write: Files) -> None:
    frame = pd.DataFrame({"age": [40.5, 61.25, 52.0], "sex": ["f", "m", "f"], "y": ["no", "yes", "no"]})
    a = write("a.csv", frame.to_csv(index=False))
    b = write("b.csv", frame.to_csv(index=False, sep=";", decimal=",").encode("utf-16"))
    c = write("c.csv", frame.to_csv(index=False, sep="#"))
    frame.to_parquet(d := a.with_name("d.parquet"))
    options: dict[str, Any] = {"target": "y", "categorical": ["sex"], "csv": {"files": {"c": {"delimiter": "#"}}}}
    test = {"b": str(b), "d": str(d)}
    data = load(name="csv", train=[str(path) for path in (a, b, c, d)], test=test, **options)
    for client in range(1, 4):
        assert inputs(data, client).tolist() == inputs(data, 0).tolist()
        assert targets(data, client) == targets(data, 0)
    assert data.test is not None
    assert data.test.x.tolist() == [*inputs(data, 0).tolist()] * 2
    assert data.encoding is not None
    assert data.encoding["files"] == {
        "b.csv": "delimiter semicolon, encoding utf-16, decimal comma",
        "c.csv": "delimiter '#'",
    }

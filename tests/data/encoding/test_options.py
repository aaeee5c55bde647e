"""The options for reading tables: the same everywhere, and what contradicts itself is refused."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from fedray.core.errors import ConfigError
from fedray.data.encoding.options import Options, TableOptions
from fedray.data.sites import Silo
from fedray.data.sources.tables import TableSource


def test_what_a_config_can_say_can_be_said_from_python() -> None:
    names = [field.name for field in fields(Options)]
    assert ["target", *TableOptions.__annotations__] == names
    assert set(names) - {"target"} <= {field.name for field in fields(TableSource)}
    defaults = {field.name: field.default for field in fields(TableSource) if field.name in names}
    assert all(getattr(Options("y"), key) == value for key, value in defaults.items() if isinstance(value, str | bool))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"missing_columns": "fill"}, "missing_columns: 'fill' is unknown; known: error, impute"),
        ({"missing_values": "drop"}, "missing_values: 'drop' is unknown; known: impute, indicator"),
        ({"missing_target": "impute"}, "missing_target: 'impute' is unknown; known: error, drop"),
        ({"unseen": "zeros"}, "unseen: 'zeros' is unknown; known: error, other"),
        ({"columns": ["a"], "ignore": ["b"]}, "ignore: `columns` says already"),
        ({"columns": ["a", "y"]}, "columns: 'y' is the target"),
        ({"columns": ["a", "a"]}, "columns: expected names of columns, each once"),
        ({"columns": "a"}, "columns: expected names of columns"),
        ({"columns": ["a"], "categorical": ["b"]}, "categorical: 'b' is not among `columns`"),
        ({"ordinal": ["a"]}, r"ordinal: expected \{column: \[values\]\}"),
        ({"ordinal": {"a": ["x"]}}, r"ordinal\.a: expected two levels or more"),
        ({"ordinal": {"a": ["x", "x"]}}, r"ordinal\.a: expected two levels or more"),
        ({"ordinal": {"a": ["no", True]}}, r"ordinal\.a: YAML reads bare yes"),
        ({"ordinal": {"a": ["x", "z"]}, "categorical": ["a"]}, "ordinal: 'a' is declared as categorical too"),
        ({"ordinal": {"a": ["x", "z"]}, "ignore": ["a"]}, "ignore: 'a' is declared as ordinal too"),
        ({"missing": {"a": {"b": 0}}}, r"missing\.a: expected a list of values"),
        ({"missing": {"a": None}}, r"missing\.a: expected a list of values"),
        ({"missing": {"a": False}}, r"missing\.a: YAML reads bare yes"),
        ({"categorical": {"a": {"top": 0}}}, r"categorical\.a: expected a list .*\{hash: 64\}"),
        ({"categorical": {"a": {"most": 3}}}, r"categorical\.a: expected a list .*got \{'most': 3\}"),
    ],
)
def test_what_contradicts_itself_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        Options("y", **options)


def test_a_file_has_what_is_said_of_it_alone_and_else_what_is_said_of_all() -> None:
    csv = {"delimiter": ";", "missing": [-9], "files": {"b": {"decimal": ","}, "c.csv": {"delimiter": "|"}}}
    options = Options("y", csv=csv, missing_target="drop")
    a, b, c = (options.reading(f"data/{name}.csv") for name in "abc")
    assert (a.dialect.delimiter, a.dialect.decimal, a.dialect.missing, a.drop) == (";", None, ["-9"], "y")
    assert (b.dialect.delimiter, b.dialect.decimal, b.dialect.missing) == (";", ",", ["-9"])
    assert c.dialect.delimiter == "|"
    silo = Silo(path="d.csv", node_label="site=d", csv={"encoding": "latin-1", "missing": []})
    d = options.reading(silo.path, silo.csv)
    assert (d.dialect.delimiter, d.dialect.encoding, d.dialect.missing) == (";", "latin-1", [])

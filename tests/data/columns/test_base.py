"""What every kind of data has in common: ids, keys, and that its modules do not go in a circle."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import pytest

import fedray.data
from fedray.data import ClientData, FederatedData


def test_names_become_ids_and_keys_do_not_depend_on_the_other_clients() -> None:
    x, y = np.zeros((3, 1)), np.zeros(3, dtype=np.int64)
    data = FederatedData.from_arrays(x, y, np.array(["b", "a", "c"]))
    assert [data.client_id(i) for i in range(3)] == ["a", "b", "c"]
    without = FederatedData.from_arrays(x[1:], y[1:], np.array(["a", "c"]))
    keys = data.keys(np.arange(3))
    assert keys[[0, 2]].tolist() == without.keys(np.arange(2)).tolist()
    assert len(set(keys.tolist())) == 3
    assert keys.min() >= 0
    ordered = FederatedData.from_arrays(x, y, np.array(["b", "a", "c"]), ids=["c", "b", "a"])
    assert [ordered.client_id(i) for i in range(3)] == ["c", "b", "a"]
    unnamed = FederatedData.from_arrays(x, y, np.arange(3))
    assert unnamed.client_id(2) == "2"
    assert unnamed.keys(np.array([2, 0])).tolist() == [2, 0]


PACKAGE = Path(fedray.data.__file__).parent


def imported(path: Path) -> set[str]:
    """Files of the package that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            for length in range(len(parts), 2, -1):
                file = PACKAGE.joinpath(*parts[2:length])
                if parts[:2] == ["fedray", "data"] and (module := file.with_suffix(".py")).is_file():
                    found.add(str(module))
                    break
    return found


def test_no_module_of_the_data_imports_itself_in_a_circle() -> None:
    graph = {str(path): imported(path) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    order = list(TopologicalSorter(graph).static_order())
    assert len(order) > 15
    assert order.index(str(PACKAGE / "columns" / "base.py")) < order.index(str(PACKAGE / "federated.py"))


@pytest.mark.parametrize("kind", ["arrays", "function", "probe"])
def test_data_of_every_kind_is_federated_data(kind: str) -> None:
    x, y = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])
    data: ClientData = FederatedData.from_arrays(x, y, np.array([0, 0, 1, 1]))
    if kind != "arrays":
        data = FederatedData.from_function(lambda client: (x, y), range(2))
    if kind == "probe":
        data = data.probe()
    assert isinstance(data, FederatedData)
    assert isinstance(data, ClientData)
    assert not isinstance((x, y), FederatedData)
    assert repr(data).endswith("examples, " + repr(data.spec) + ")")

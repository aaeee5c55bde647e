"""What every kind of data has in common, and that its modules build on each other without a circle."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import numpy as np
import pytest

import fedray.data
from fedray.data import ClientData, FederatedData

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

"""What every section of data shares: its mistakes are one clear error, and a config can hold it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedray.config.registry import bind_part, dump
from fedray.core.errors import ConfigError
from fedray.data import data_sources
from fedray.data.sources.base import Whole
from tests.data.reading import load


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"name": "digit"}, "did you mean 'digits'"),
        ({"name": "digits", "test_fraction": 1.0}, "test_fraction: must be at least 0 and below 1"),
        ({"name": "digits", "holdout": 1.5}, "holdout: must be at least 0 and below 1"),
        ({"name": "digits", "partition": {"name": "iidd"}}, "data.partition.name: unknown partitioner 'iidd'"),
        ({"name": "digits", "partition": {"name": "iid", "client": 3}}, "data.partition.client: unknown key"),
        ({"name": "digits", "partition": {"name": "column", "column": "writer"}}, "no column 'writer'"),
        ({"name": "cifar10", "path": "x"}, "data.partition: a value is needed"),
        ({"name": "csv", "train": ["a.csv"]}, "data.target: a value is needed"),
        ({"name": "csv", "train": ["a.csv"], "target": "y", "task": "rank"}, "data.task"),
        ({"name": "synthetic", "classes": 1}, "classes: must be at least 2"),
        ({"name": "synthetic", "heterogeneity": -1.0}, "heterogeneity: must be at least 0"),
    ],
)
def test_wrong_sections_are_one_clear_error(node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(**node)


def test_every_source_has_options_that_a_config_can_hold() -> None:
    required = {"path": "p", "train": ["a.csv"], "target": "y", "input": "x", "partition": {"name": "iid"}}
    required["silos"] = {"a": {"node_label": "site=a", "path": "a.csv"}}
    for name, schema in data_sources.items():
        fields = schema.__dataclass_fields__  # type: ignore[attr-defined]
        own = {"partition": {"seed": 1}} if issubclass(schema, Whole) else {}
        node = {key: value for key, value in {**required, **own}.items() if key in fields}
        part = bind_part(data_sources, {"name": name, **node}, "data")
        assert bind_part(data_sources, dump(part), "data") == part


@pytest.mark.parametrize("name", ["digits", "breast_cancer"])
def test_a_split_may_have_a_seed_of_its_own(name: str) -> None:
    def split(run: int, **own: int) -> list[Any]:
        partition = {"name": "dirichlet", "clients": 4, "alpha": 0.5, **own}
        data = bind_part(data_sources, {"name": name, "partition": partition, "holdout": 0.2}, "data").load(run)
        assert data.test is not None
        return [data.sizes.tolist(), data.holdout_sizes.tolist(), data.label_counts().tolist(), data.test.x.tolist()]

    assert split(1, seed=5) == split(2, seed=5) == split(5)
    assert split(1) != split(2)


def test_a_seed_of_a_split_is_a_whole_number() -> None:
    for wrong in ("x", 1.5, True, None):
        with pytest.raises(ConfigError, match=r"data.partition.seed=.*: it must be a whole number"):
            load(name="digits", partition={"name": "iid", "seed": wrong})


def test_the_seed_of_a_split_is_heeded_by_tables(tmp_path: Path) -> None:
    path = tmp_path / "all.csv"
    path.write_text("a,y\n" + "".join(f"{n},{n % 2}\n" for n in range(60)))

    def split(run: int, **own: int) -> list[Any]:
        partition = {"name": "quantity", "clients": 4, **own}
        node = {"name": "csv", "train": [str(path)], "target": "y", "partition": partition, "holdout": 0.3}
        data = bind_part(data_sources, node, "data").load(run)
        return [data.sizes.tolist(), data.holdout_sizes.tolist(), data.label_counts().tolist()]

    assert split(1, seed=5) == split(2, seed=5) == split(5)
    assert split(1) != split(2)


def test_data_whose_clients_are_what_they_are_have_a_seed_of_their_own_split(tmp_path: Path) -> None:
    (tmp_path / "clients").mkdir()
    users: dict[str, Any] = {"users": ["ann", "bob"], "user_data": {}}
    for name in ("ann", "bob"):
        rows = [[float(n), 1.0] for n in range(30)]
        users["user_data"][name] = {"x": rows, "y": [n % 2 for n in range(30)]}
        np.savez(tmp_path / "clients" / f"{name}.npz", x=np.array(rows), y=np.arange(30) % 2)
        (tmp_path / f"{name}.csv").write_text("a,y\n" + "".join(f"{n},{n % 2}\n" for n in range(30)))
    (tmp_path / "all.json").write_text(json.dumps(users))
    files = {name: str(tmp_path / f"{name}.csv") for name in ("ann", "bob")}
    silos = {name: {"path": path, "node_label": "a=b"} for name, path in files.items()}
    for node in (
        {"name": "folder", "path": str(tmp_path / "clients")},
        {"name": "leaf", "path": str(tmp_path / "all.json")},
        {"name": "csv", "train": list(files.values()), "target": "y"},
        {"name": "silos", "silos": silos, "target": "y"},
        {"name": "synthetic", "clients": 2},
    ):

        def split(run: int, node: dict[str, Any] = node, **own: Any) -> list[Any]:
            data = bind_part(data_sources, {**node, "holdout": 0.3, **own}, "data").load(run)
            return data.holdout(np.arange(2))[0].tolist()  # type: ignore[no-any-return]

        assert split(1, partition={"seed": 5}) == split(2, partition={"seed": 5}) == split(5), node["name"]
        assert split(1) != split(2), node["name"]
        if node["name"] != "csv":
            with pytest.raises(ConfigError, match="these data have their clients, so that only"):
                split(1, partition={"name": "iid"})

"""The registered sources, the shipped tables, and the hospitals."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer, load_digits

from fedray.config.registry import bind_part, dump
from fedray.core.errors import ConfigError
from fedray.data import DataSpec, FederatedData, data_sources
from fedray.data.tables import load_table
from fedray.data.tables.hospitals import TARGET, write_hospitals


def load(seed: int = 0, **node: Any) -> FederatedData:
    """The data of a config's ``data`` section."""
    data: FederatedData = bind_part(data_sources, node, "data").load(seed)
    return data


def everything(data: FederatedData) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Training rows of all clients."""
    pairs = [data.rows(np.array([c])).take(np.arange(data.sizes[c])[None]) for c in range(len(data))]
    return np.concatenate([x[0].numpy() for x, _ in pairs]), np.concatenate([y[0].numpy() for _, y in pairs])


def test_shipped_tables_are_sklearns() -> None:
    digits, table = load_digits(), load_table("digits")
    np.testing.assert_array_equal(table["x"], digits.images)
    np.testing.assert_array_equal(table["y"], digits.target)
    cancer, table = load_breast_cancer(), load_table("breast_cancer")
    np.testing.assert_array_equal(table["x"], cancer.data)
    np.testing.assert_array_equal(table["y"], cancer.target)
    assert table["features"].tolist() == cancer.feature_names.tolist()
    assert table["classes"].tolist() == cancer.target_names.tolist()


def test_digits_are_split_and_every_row_is_used_once() -> None:
    data = load(name="digits", partition={"name": "dirichlet", "clients": 20, "alpha": 0.3})
    assert data.spec == DataSpec((1, 8, 8), 10, classes=tuple("0123456789"))
    assert data.test is not None
    assert len(data) == 20
    x, _ = everything(data)
    rows = np.sort(np.concatenate([x, data.test.x.numpy()]).reshape(-1, 64), axis=0)
    np.testing.assert_array_equal(rows, np.sort(load_digits().data.astype(np.float32) / 16, axis=0))
    share = np.bincount(data.test.y.numpy()) / np.bincount(load_digits().target)
    np.testing.assert_allclose(share, 0.2, atol=0.01)
    assert load(name="digits", flat=True, test_fraction=0.0).spec.shape == (64,)
    assert load(name="digits", test_fraction=0.0).test is None


def test_breast_cancer_is_standardised_by_its_training_rows() -> None:
    data = load(name="breast_cancer", holdout=0.1)
    x, _ = everything(data)
    held = data.holdout(np.arange(len(data)))[0].numpy()
    joined = np.concatenate([x, held])
    np.testing.assert_allclose(joined.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(joined.std(axis=0), 1, atol=1e-5)
    assert data.spec.classes == ("malignant", "benign")


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "synthetic"])
def test_the_seed_decides(name: str) -> None:
    first, again, other = load(3, name=name), load(3, name=name), load(4, name=name)
    np.testing.assert_array_equal(everything(first)[0], everything(again)[0])
    assert (everything(first)[1] != everything(other)[1]).any()


def test_synthetic_labels_come_from_one_linear_teacher() -> None:
    data = load(name="synthetic", clients=30, examples=40, features=5, classes=3, test=600)
    x, y = everything(data)
    assert (data.spec, len(data)) == (DataSpec((5,), 3), 30)
    assert np.bincount(y).min() > 0
    assert data.test is not None
    # Least squares on one-hot labels finds the linear teacher of h = 0, as it finds no other rule.
    design = np.linalg.lstsq(x, np.eye(3)[y], rcond=None)[0]
    assert (np.argmax(data.test.x.numpy() @ design, axis=1) == data.test.y.numpy()).mean() > 0.9


def test_synthetic_heterogeneity_moves_clients_apart() -> None:
    def spread(knob: float) -> float:
        data = load(name="synthetic", clients=40, examples=50, features=8, classes=4, heterogeneity=knob)
        shares = data.label_counts() / 50
        means = everything(data)[0].reshape(40, 50, 8).mean(axis=1)
        assert means.std(axis=0).mean() == pytest.approx(np.sqrt(knob**2 + 1 / 50), rel=0.15)
        return float(shares.std(axis=0).mean())

    assert spread(0.0) < 0.08 < 0.2 < spread(1.5)


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
        node = {key: value for key, value in required.items() if key in fields}
        part = bind_part(data_sources, {"name": name, **node}, "data")
        assert bind_part(data_sources, dump(part), "data") == part


def test_hospitals_hold_every_row_of_the_table_once(tmp_path: Path) -> None:
    paths, test = write_hospitals(tmp_path, seed=1)
    assert [path.stem for path in paths] == [f"hospital_{letter}" for letter in "abcde"]
    rows, sizes, shares = [], [], []
    for path in [*paths, test]:
        with path.open(newline="") as stream:
            records = list(csv.DictReader(stream))
        rows += [tuple(float(record[name]) for name in record if name != TARGET) for record in records]
        sizes.append(len(records))
        shares.append(np.mean([record[TARGET] == "malignant" for record in records]))
    assert sorted(rows) == sorted(map(tuple, load_breast_cancer().data.tolist()))
    assert sizes == [160, 120, 80, 55, 40, 114]
    np.testing.assert_allclose(shares, [0.15, 0.35, 0.55, 0.62, 0.65, 0.37], atol=0.005)
    before = [path.read_bytes() for path in paths]
    assert [path.read_bytes() for path in write_hospitals(tmp_path, seed=1)[0]] == before
    assert [path.read_bytes() for path in write_hospitals(tmp_path, seed=2)[0]] != before


def test_hospitals_load_as_a_csv_section(tmp_path: Path) -> None:
    paths, test = write_hospitals(tmp_path)
    data = load(name="csv", train=[str(p) for p in paths], test=str(test), target=TARGET, holdout=0.2)
    assert data.spec == DataSpec((30,), 2, classes=("benign", "malignant"))
    assert [data.client_id(i) for i in range(5)] == [path.stem for path in paths]
    assert data.holdout_sizes.tolist() == [32, 24, 16, 11, 8]
    pooled = load(name="csv", train=[str(p) for p in paths], target=TARGET, partition={"name": "iid", "clients": 7})
    assert (len(pooled), pooled.client_id(0)) == (7, "0")
    np.testing.assert_allclose(
        np.sort(everything(pooled)[0], axis=0),
        np.sort(np.concatenate([everything(data)[0], data.holdout(np.arange(5))[0].numpy()]), axis=0),
        atol=1e-6,
    )


def test_leaf_femnist_and_folder_sections(tmp_path: Path) -> None:
    users = {"w1": {"x": [[0.5] * 784], "y": [61]}, "w2": {"x": [[0.25] * 784] * 2, "y": [3, 4]}}
    path = tmp_path / "f.json"
    path.write_text(json.dumps({"users": list(users), "user_data": users}))
    assert load(name="femnist", path=str(path), test=str(path)).spec == DataSpec((1, 28, 28), 62)
    assert load(name="leaf", path=str(path)).spec == DataSpec((784,), 62)
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3)), y=np.arange(2))
    assert load(name="folder", path=str(tmp_path)).client_id(0) == "a"
    path.write_text(json.dumps({"users": ["u"], "user_data": {"u": {"x": [[0.5]], "y": [1]}}}))
    with pytest.raises(ConfigError, match="inputs have 1 numbers, expected 784"):
        load(name="femnist", path=str(path))


def test_huggingface_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'fedray\[huggingface\]'"):
        load(name="huggingface", path=str(tmp_path), input="x", target="y", partition={"name": "iid"})


class Split:
    """What this package uses of a ``datasets.Dataset``."""

    def __init__(self, columns: dict[str, list[Any]], names: list[str] | None = None) -> None:
        self.columns = columns
        self.features = {name: types.SimpleNamespace(**({"names": names} if names else {})) for name in columns}

    @property
    def column_names(self) -> list[str]:
        return list(self.columns)

    def __getitem__(self, name: str) -> list[Any]:
        return self.columns[name]


def test_huggingface_columns_become_clients(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = Split({"ids": [[1, 2], [3, 9], [5, 6]], "label": [0, 1, 0], "who": ["b", "a", "b"]}, ["neg", "pos", "odd"])
    test = Split({"ids": [[1, 11]], "label": [2], "who": ["c"]})
    saved = {"train": train, "test": test}
    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_from_disk=lambda path: saved))
    node: dict[str, Any] = {
        "name": "huggingface", "path": str(tmp_path), "input": "ids", "target": "label", "test_split": "test",
        "partition": {"name": "column", "column": "who"},
    }  # fmt: skip
    data = load(**node)
    assert data.spec == DataSpec((2,), 3, "classification", ("neg", "pos", "odd"), 12)
    assert [data.client_id(i) for i in range(2)] == ["a", "b"]
    assert everything(data)[0].tolist() == [[3, 9], [1, 2], [5, 6]]
    for change, message in (
        ({"input": "id"}, r"no column 'id' \(did you mean 'ids'\?\)"),
        ({"split": "trian"}, r"data\.split: .*did you mean 'train'"),
        ({"test_split": "tset"}, r"data\.test_split: .*did you mean 'test'"),
        ({"input": "who"}, "is text"),
        ({"path": "nowhere"}, "does not exist"),
    ):
        with pytest.raises(ConfigError, match=message):
            load(**node | change)
    train.columns["ids"][0] = [1]
    with pytest.raises(ConfigError, match="rows of different shapes"):
        load(**node)


def test_a_source_without_tables_does_without_pyarrow() -> None:
    script = """if True:
        import sys
        from fedray.data.registry import data_sources
        data_sources["digits"]().load(1)
        assert list(data_sources) and "pyarrow" not in sys.modules
        import fedray.data.silos.survey
        assert "pyarrow" in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

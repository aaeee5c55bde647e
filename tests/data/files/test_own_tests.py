"""Clients' own test sets, from every source: whose each row is, what clients are evaluated on, and the central set."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedray.algorithms import Ditto
from fedray.config.registry import bind_part
from fedray.config.sections import EvaluateSection
from fedray.core.errors import ConfigError
from fedray.data import ClientData, FederatedData, data_sources
from fedray.data.columns.contiguous import open_mapped
from fedray.data.columns.lazy import from_function
from fedray.data.columns.pooled import Pooled
from fedray.data.columns.rows import Examples
from fedray.data.encoding.saved import load_encoding
from fedray.data.files.own_tests import own_files
from fedray.data.sources.tables import TableSource
from tests.helpers import class_problem, federation, personal
from tests.local.test_views import judged

# Of the own test rows of clients a (2), b (none) and c (3), by the number in their one input; 1 more is nobody's.
OWN = {"a": [100.0, 101.0], "c": [120.0, 121.0, 122.0]}
NOBODYS = [900.0]


def rows(values: list[float], ward: str = "") -> str:
    head, last = ("u,ward,y", f",{ward}") if ward else ("u,y", "")
    return head + "\n" + "".join(f"{value}{last},{'no' if value % 2 else 'yes'}\n" for value in values)


def csv_pairs(folder: Path) -> dict[str, Any]:
    for number, name in enumerate("abc"):
        (folder / f"{name}.csv").write_text(rows([10.0 * number + i for i in range(3)]))
        (folder / f"{name}_test.csv").write_text(rows(OWN.get(name, [])))
    tests = {name: str(folder / f"{name}_test.csv") for name in ("c", "a")}
    return {"name": "csv", "train": [str(folder / f"{name}.csv") for name in "abc"], "target": "y", "test": tests}


def column(folder: Path) -> dict[str, Any]:
    lines = [rows([10.0 * number + i for i in range(3)], name).split("\n", 1)[1] for number, name in enumerate("abc")]
    (folder / "all.csv").write_text("u,ward,y\n" + "".join(lines))
    parts = {"a": OWN["a"], "somewhere": NOBODYS, "c": OWN["c"]}
    lines = [rows(values, name).split("\n", 1)[1] for name, values in parts.items()]
    (folder / "test.csv").write_text("u,ward,y\n" + "".join(lines))
    files = {"train": [str(folder / "all.csv")], "test": str(folder / "test.csv")}
    return {"name": "csv", "target": "y", "partition": {"name": "column", "column": "ward"}, **files}


def parquet(folder: Path) -> dict[str, Any]:
    (folder / "test").mkdir()
    for place, names in ((folder, dict.fromkeys("abc")), (folder / "test", {**OWN, "elsewhere": NOBODYS})):
        for number, (name, own) in enumerate(names.items()):
            values = own or [10.0 * number + i for i in range(3)]
            table = pa.table({"u": values, "y": ["no" if value % 2 else "yes" for value in values]})
            pyarrow.parquet.write_table(table, place / f"{name}.parquet")
    return {"name": "folder", "path": str(folder), "target": "y", "test": str(folder / "test")}


def npz(folder: Path) -> dict[str, Any]:
    (folder / "test").mkdir()
    for number, name in enumerate("abc"):
        values = np.array([[10.0 * number + i] for i in range(3)], dtype=np.float32)
        np.savez(folder / f"{name}.npz", x=values, y=np.arange(3) % 2)
    for name, own in {**OWN, "elsewhere": NOBODYS}.items():
        np.savez(folder / "test" / f"{name}.npz", x=np.array(own, dtype=np.float32)[:, None], y=np.arange(len(own)) % 2)
    return {"name": "folder", "path": str(folder), "test": str(folder / "test")}


def leaf(folder: Path) -> dict[str, Any]:
    train = {name: [10.0 * number + i for i in range(3)] for number, name in enumerate("abc")}
    for kind, users in (("train", train), ("test", {"c": OWN["c"], "new": NOBODYS, "a": OWN["a"]})):
        (folder / kind).mkdir()
        data = {user: {"x": [[v] for v in own], "y": [int(v) % 2 for v in own]} for user, own in users.items()}
        (folder / kind / "1.json").write_text(json.dumps({"users": list(users), "user_data": data}))
    return {"name": "leaf", "path": str(folder)}


def silos(folder: Path) -> dict[str, Any]:
    csv_pairs(folder)
    places = {name: {"node_label": f"site={name}", "path": str(folder / f"{name}.csv")} for name in "abc"}
    for name in OWN:
        places[name]["test"] = str(folder / f"{name}_test.csv")
    return {"name": "silos", "target": "y", "silos": places}


SOURCES = {f.__name__: f for f in (csv_pairs, column, parquet, npz, leaf, silos)}


def loaded(source: str, folder: Path, **options: Any) -> ClientData:
    data: ClientData = bind_part(data_sources, {**SOURCES[source](folder), **options}, "data").load(3)
    return data


def raw(data: ClientData, x: torch.Tensor) -> list[float]:
    """The inputs as they were written, without the scale of an encoding."""
    encoding = load_encoding(data.encoding) if data.encoding else None
    mean, scale, _ = (0.0, 1.0, 0.0) if encoding is None else encoding.numeric["u"]
    return [round(value, 3) for value in (x[:, 0].double() * scale + mean).tolist()]


@pytest.mark.parametrize("source", SOURCES)
def test_clients_are_evaluated_on_their_own_test_sets(source: str, tmp_path: Path) -> None:
    data = loaded(source, tmp_path)
    assert [data.client_id(client) for client in range(3)] == ["a", "b", "c"]
    assert data.test_sizes.tolist() == data.evaluation_sizes.tolist() == [2, 0, 3]
    assert data.unevaluated == 1
    x, y, whose = data.evaluation(np.array([2, 1, 0]))
    assert raw(data, x) == [*OWN["c"], *OWN["a"]]
    assert whose.tolist() == [0, 0, 0, 2, 2]
    again, _, _ = data.evaluation(np.array([0]))
    assert raw(data, again) == OWN["a"]
    if source != "npz":
        labels = {int(value) % 2: int(label) for value, label in zip(raw(data, x), y.tolist(), strict=True)}
        assert labels == ({0: 1, 1: 0} if data.spec.classes else {0: 0, 1: 1})


@pytest.mark.parametrize("source", SOURCES)
def test_all_of_them_together_are_the_central_test_set_but_those_of_silos(source: str, tmp_path: Path) -> None:
    data = loaded(source, tmp_path)
    if source == "silos":
        assert data.test is None
        return
    assert data.test is not None
    extra = [] if source == "csv_pairs" else NOBODYS
    assert sorted(raw(data, data.test.x)) == sorted([*OWN["a"], *OWN["c"], *extra])
    assert ("test: 1 of 6 examples are no client's own" in data.notes) == bool(extra)


@pytest.mark.parametrize("source", [name for name in SOURCES if name != "silos"])
def test_rows_that_are_held_out_stand_in_for_them(source: str, tmp_path: Path) -> None:
    data = loaded(source, tmp_path, holdout=0.4)
    assert data.test_sizes.tolist() == [2, 0, 3]
    assert data.evaluation_sizes.tolist() == data.holdout_sizes.tolist() == [1, 1, 1]
    assert torch.equal(data.evaluation(np.arange(3))[0], data.holdout(np.arange(3))[0])


def test_silos_are_refused_two_kinds_of_rows_to_be_evaluated_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="held-out rows, or on test sets of their own, which a, c have"):
        loaded("silos", tmp_path, holdout=0.4)


@pytest.mark.parametrize("source", ["csv_pairs", "column", "parquet"])
def test_the_central_test_set_is_read_by_the_encoding_alone(source: str, tmp_path: Path) -> None:
    """As ``fedray evaluate`` does it, without a training table."""
    data = loaded(source, tmp_path)
    assert data.encoding is not None
    assert data.test is not None
    section = SOURCES[source]
    part = bind_part(data_sources, section(tmp_path) if source != "parquet" else {**_parquet(tmp_path)}, "data")
    assert isinstance(part, TableSource)
    test, _ = part.read_test(data.encoding)
    assert test is not None
    assert torch.equal(test.x, data.test.x)
    assert torch.equal(test.y, data.test.y)


def _parquet(folder: Path) -> dict[str, Any]:
    return {"name": "folder", "path": str(folder), "target": "y", "test": str(folder / "test")}


def test_the_training_data_are_told_by_the_same_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    with_tests = loaded("leaf", tmp_path / "one")
    leaf(tmp_path / "two")
    without = FederatedData.from_leaf(tmp_path / "two" / "train")
    assert with_tests.fingerprint() == without.fingerprint()


@pytest.mark.parametrize("kind", ["shared", "pooled", "moved"])
def test_they_go_where_the_data_go(kind: str, tmp_path: Path) -> None:
    data = loaded("leaf", tmp_path)
    kinds: dict[str, Callable[[], ClientData]] = {
        "shared": lambda: open_mapped(data.share(tmp_path / "shared").folder or ""),
        "pooled": lambda: Pooled(data),
        "moved": lambda: data.to(torch.device("cpu")).with_augment([]),
    }
    other = kinds[kind]()
    assert other.test_sizes[:3].tolist() == [2, 0, 3]
    assert other.unevaluated == 1
    assert torch.equal(other.evaluation(np.array([2, 0]))[0], data.evaluation(np.array([2, 0]))[0])


def test_lazy_data_know_whose_examples_a_test_set_has() -> None:
    test = Examples(torch.tensor([[5.0], [6.0]]), torch.tensor([0, 1]), np.array([1, 1]))
    data = from_function(lambda c: (np.zeros((2, 1), dtype=np.float32), np.array([0, 1])), range(2), test=test)
    assert data.evaluation_sizes.tolist() == [0, 2]
    assert data.evaluation(np.array([1]))[0].tolist() == [[5.0], [6.0]]


def test_synthetic_clients_have_their_share_of_the_test_set() -> None:
    data: ClientData = bind_part(data_sources, {"name": "synthetic", "clients": 3, "test": 7}, "data").load(1)
    assert data.evaluation_sizes.tolist() == [3, 2, 2]


@given(st.lists(st.integers(-1, 4), max_size=30), st.permutations(range(5)))
def test_of_any_owners_each_row_goes_to_its_own(owners: list[int], asked: list[int]) -> None:
    x = torch.arange(float(len(owners)))[:, None]
    test = Examples(x, torch.zeros(len(owners), dtype=torch.int64), np.array(owners, dtype=np.int64))
    found, _, whose = test.of(np.array(asked[:3]))
    expected = [[place for place, owner in enumerate(owners) if owner == client] for client in asked[:3]]
    assert found[:, 0].tolist() == [row for part in expected for row in part]
    assert whose.tolist() == [place for place, part in enumerate(expected) for _ in part]
    assert test.sizes(5).tolist() == [owners.count(client) for client in range(5)]


@pytest.mark.parametrize(
    ("test", "names", "said"),
    [
        (["a.csv"], ["a", "b"], "test: 1 file for 2 clients; give one for each, in their order, or name them"),
        ({"nort": "n.csv"}, ["north", "south"], "'nort' is no client .did you mean 'north'"),
        (["a.csv"], None, "rows that a partitioner splits need one test file"),
        (3, ["a"], "a file, a list of files, or a mapping of client ids to files is needed, got 3"),
    ],
)
def test_files_that_fit_no_clients_are_refused(test: Any, names: list[str] | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        own_files(test, names)


def test_files_are_clients_own_in_their_order_or_by_name() -> None:
    assert own_files("test.csv", ["a"]) is None
    assert own_files(None, ["a"]) is None
    assert own_files(["x.csv", "y.csv"], ["a", "b"]) == [(Path("x.csv"), 0), (Path("y.csv"), 1)]
    assert own_files({"b": "y.csv", "a": "x.csv"}, ["a", "b"]) == [(Path("x.csv"), 0), (Path("y.csv"), 1)]


@pytest.mark.parametrize(
    ("clients", "labels", "test", "said"),
    [
        ([0, 1], [0], True, "one label for each of the 2 rows is needed, got"),
        ([0, 1], [0, 2], True, "clients are numbered from 0 to 1; -1 stands for nobody"),
        (["n", "s"], ["n", "x"], True, "'x' is no client of the training rows"),
        ([0, 1], [0, 1], False, "there is no test set whose examples they could be"),
    ],
)
def test_owners_that_fit_no_test_set_are_refused(clients: Any, labels: Any, test: bool, said: str) -> None:
    x, y = np.zeros((2, 1), dtype=np.float32), np.array([0, 1])
    with pytest.raises(ConfigError, match=said):
        FederatedData.from_arrays(x, y, clients, test=(x, y) if test else None, test_clients=labels)


def test_the_views_of_clients_are_of_their_own_test_sets(tmp_path: Path) -> None:
    """Against plain PyTorch; who has none is counted; the central test set is as it was."""
    problem = class_problem((7, 3, 12, 9, 6, 5), test=40)
    data, owners = problem.data, np.array([0, 1, 2, 4, -1] * 8)
    assert data.test is not None
    own = Examples(data.test.x, data.test.y, owners)
    assert isinstance(data, FederatedData)
    mine = replace(problem, data=data._with(data._x, data._y, data.sizes, data.holdout_sizes, own))
    evaluate = EvaluateSection(1, 1)
    run = federation(mine, tmp_path / "own", Ditto(lam=0.5), evaluate=evaluate)
    records = run.run()
    plain = federation(problem, tmp_path / "plain", Ditto(lam=0.5), evaluate=EvaluateSection(1, 0)).run()
    assert [record.test for record in records] == [record.test for record in plain]
    seen = np.array([0, 1, 2, 4])
    assert records[-1].evaluated == {"clients": 4, "missing": 0, "without": 2, "taken_part": 4}
    models = personal(run)[seen]
    x, y, whose = mine.data.evaluation(seen)
    held = {client: (x[whose == place], y[whose == place]) for place, client in enumerate(seen.tolist())}
    for metric, values in judged(run, models, [held[client] for client in seen.tolist()]).items():
        assert records[-1].clients_personal[metric]["client_mean"] == pytest.approx(values.mean(), rel=1e-5)
    assert "evaluate.clients_every: 2 of the clients have no test set of their own" in " ".join(run.plan.notes)

"""Silos simulated in this process: the data of the CSV source, and nothing leaves a silo but what it may tell."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import cloudpickle
import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedray.config.registry import bind_part
from fedray.core.errors import ConfigError
from fedray.data import FederatedData, data_sources
from fedray.data.columns.checks import LABEL_LIMIT
from fedray.data.encoding import questions
from fedray.data.encoding.moments import Sums
from fedray.data.encoding.questions import Labels, Outline
from fedray.data.encoding.reading import read_csv
from fedray.data.silos.survey import SiloData
from fedray.data.sites import LocalSites, OpenSiteData, SiteData, Sites
from fedray.tasks.standardized import target_moments

T = TypeVar("T")
A = TypeVar("A")

HEADER = "age,dose,ward,y\n"
A_CSV = HEADER + "".join(f"{30 + i},{1e6 + i / 7!r},{'ns'[i % 2]},{'no' if i % 3 else 'yes'}\n" for i in range(11))
B_CSV = HEADER + "".join(f"{50 - i},{i / 3 if i != 2 else ''},{'e' if i else ''},yes\n" for i in range(6))
TEST_CSV = HEADER + "40,17.5,n,no\n41,18.5,s,yes\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two silos' folder, which ``SITE_DATA`` names, and a test file."""
    (tmp_path / "a.csv").write_text(A_CSV)
    (tmp_path / "b.csv").write_text(B_CSV)
    (tmp_path / "test.csv").write_text(TEST_CSV)
    monkeypatch.setenv("SITE_DATA", str(tmp_path))
    return tmp_path


def silos(*names: str) -> dict[str, dict[str, Any]]:
    """Sections of silos with CSV files."""
    return {name: {"node_label": f"site={name}", "path": f"$SITE_DATA/{name}.csv"} for name in names or ("a", "b")}


def section(folder: Path) -> dict[str, Any]:
    """The data section."""
    test = str(folder / "test.csv")
    return {"name": "silos", "silos": silos(), "target": "y", "test": test, "categorical": ["ward"]}


def load(folder: Path, sites: Callable[[], Sites] = LocalSites, **options: Any) -> FederatedData:
    """The source's data."""
    data: FederatedData = bind_part(data_sources, {**section(folder), **options}, "data").load(5, sites)
    return data


def from_csv(folder: Path, **options: Any) -> FederatedData:
    """The same files as clients of a CSV source."""
    paths = [str(folder / f"{name}.csv") for name in "ab"]
    node = {"name": "csv", "train": paths, "target": "y", "test": str(folder / "test.csv"), "categorical": ["ward"]}
    data: FederatedData = bind_part(data_sources, {**node, **options}, "data").load(5)
    return data


class Recorded(LocalSites):
    """Keeps what every question was and what crossed back, pickled."""

    def __init__(self) -> None:
        self.crossed: list[tuple[Any, bytes]] = []

    @contextmanager
    def opened(self, sources: Sequence[SiteData[T]]) -> Iterator[OpenSiteData[T]]:
        with super().opened(sources) as inner:
            yield _RecordedSiteData(inner, self.crossed)


class _RecordedSiteData(OpenSiteData[T]):
    def __init__(self, inner: OpenSiteData[T], crossed: list[tuple[Any, bytes]]) -> None:
        self._inner, self._crossed = inner, crossed

    def ask(self, asked: Sequence[Callable[[T], A]]) -> list[A]:
        answers = self._inner.ask(asked)
        self._crossed += zip(map(plain, asked), map(pickle.dumps, answers), strict=True)
        return answers


def plain(question: Any) -> Any:
    """The function of ``questions`` that is put to the table."""
    while hasattr(question, "func"):
        question = next((arg for arg in question.args if callable(arg)), question.func)
    return question


@pytest.mark.parametrize("holdout", [0.0, 0.3])
def test_the_data_are_those_of_the_csv_source(folder: Path, holdout: float) -> None:
    mine, theirs = load(folder, holdout=holdout), from_csv(folder, holdout=holdout)
    assert mine.spec == theirs.spec
    assert mine.sizes.tolist() == theirs.sizes.tolist()
    assert mine.holdout_sizes.tolist() == theirs.holdout_sizes.tolist()
    assert mine.label_counts().tolist() == theirs.label_counts().tolist()
    both = np.array([1, 0])
    assert mine.keys(both).tolist() == theirs.keys(both).tolist()
    for one, other in zip(mine.holdout(both), theirs.holdout(both), strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    for client in (0, 1):
        index = np.arange(mine.sizes[client])[None]
        for one, other in zip(
            mine.rows(np.array([client])).take(index), theirs.rows(np.array([client])).take(index), strict=True
        ):
            assert torch.equal(one, other)
    assert mine.test is not None
    assert theirs.test is not None
    assert torch.equal(mine.test.x, theirs.test.x)
    assert torch.equal(mine.test.y, theirs.test.y)


def test_missing_values_of_silos_are_inputs_of_their_own_too(folder: Path) -> None:
    mine, theirs = (of(folder, missing_values="indicator") for of in (load, from_csv))
    assert mine.encoding == theirs.encoding
    assert mine.spec.shape == (6,)  # age, dose, whether it is missing, and three wards
    (x, _), (other, _) = (one.rows(np.array([1])).take(np.arange(6)[None]) for one in (mine, theirs))
    assert torch.equal(x, other)
    assert x[0, :, 2].tolist() == [0.0, 0.0, 1.0, 0.0, 0.0, 0.0]


def test_clients_are_pinned_to_their_silos(folder: Path) -> None:
    data = load(folder, silos={**silos("a"), "b": {"node_resource": "b", "path": "$SITE_DATA/b.csv", "gpus": 0.5}})
    assert [data.pin(client) for client in (0, 1)] == ["a", "b"]
    assert data.pins(np.array([1, 0, 1])).tolist() == [1, 0, 1]
    assert {name: (silo.where, silo.cpus, silo.gpus) for name, silo in data.silos.items()} == {
        "a": ("site=a", None, None),
        "b": ("b", None, 0.5),
    }
    plain_data = from_csv(folder)
    assert (plain_data.silos, plain_data.pin(0), plain_data.probe()) == ({}, None, plain_data)


# What leaves a silo


def asked() -> set[Any]:
    """Every question there is."""
    public = [f for name, f in inspect.getmembers(questions, inspect.isfunction) if not name.startswith("_")]
    return {f for f in public if f.__module__ == questions.__name__ and "table" in inspect.signature(f).parameters}


def test_only_sums_counts_and_names_leave_a_silo(folder: Path) -> None:
    """Every question is asked, and no answer holds a number of a row, as text, float64, or float32."""
    sites = Recorded()
    load(folder, lambda: sites, holdout=0.3)
    load(folder, lambda: sites, categorical={"ward": {"top": 2}}, unseen="other")
    load(folder, lambda: sites, target="age", categorical=["ward", "y"], task="regression").target_sums(np.zeros(1))
    assert {question for question, _ in sites.crossed} == asked()
    allowed = {Outline: 0, Sums: 0, dict: 0, Labels: 0, np.ndarray: 0, str: 0}
    for _, answer in sites.crossed:
        allowed[type(pickle.loads(answer))] += 1
    assert all(allowed.values())
    ages, doses = [30 + i for i in range(11)], [1e6 + i / 7 for i in range(1, 11)]
    for _, answer in sites.crossed:
        for value in doses:
            assert repr(value).encode() not in answer
            assert np.float64(value).tobytes() not in answer
        # Sums about the mean may be any number: these are the rows themselves, side by side.
        assert np.array(ages[:3], dtype=np.float64).tobytes() not in answer
        assert np.array(ages[:3], dtype=np.int64).tobytes() not in answer


def test_tables_that_are_read_here_are_noted_to_tell_what_silos_tell(folder: Path) -> None:
    """Every question there is, in the same order: its columns, and the values and bytes of each file's answer."""
    told: set[str] = set()
    variants: list[dict[str, Any]] = [
        {},
        {"categorical": {"ward": {"top": 2}}, "unseen": "other"},
        {"target": "age", "categorical": ["ward", "y"], "task": "regression"},
    ]
    for options in variants:
        both = []
        for data in (load(folder, holdout=0.3, **options), from_csv(folder, holdout=0.3, **options)):
            if data.spec.task == "regression":
                data.target_sums(np.zeros(1))
            both.append([{**one, "answer": ""} for one in data.asked])
        silos_told, tables_told = both
        assert tables_told == silos_told
        told.update(one["question"] for one in tables_told)
    assert told == {question.__name__ for question in asked()}


def test_own_test_sets_are_noted_to_tell_what_those_of_silos_tell(folder: Path) -> None:
    own = str(folder / "test.csv")
    silo = load(folder, silos={**silos("a"), "b": {**silos("b")["b"], "test": "$SITE_DATA/test.csv"}}, unseen="other")
    data = from_csv(folder, test={"b": own}, unseen="other")

    def twice(data: FederatedData) -> list[str]:
        names = [one["question"] for one in data.asked]
        return [name for name in dict.fromkeys(names) if names.count(name) == 2 and name != "sums"]

    assert twice(silo) == twice(data) == ["outline", "unseen", "class_counts"]


def test_a_run_that_goes_on_asks_nothing_that_its_encoding_knows(folder: Path) -> None:
    """Whatever has become of the tables; and their hashes tell which have changed."""
    before = load(folder)
    (folder / "a.csv").write_text(A_CSV.replace("\n3", "\n93"))
    sites = Recorded()
    after = bind_part(data_sources, {**section(folder)}, "data").load(5, lambda: sites, before.encoding)
    assert {question for question, _ in sites.crossed} == {
        questions.outline,
        questions.class_counts,
        questions.fingerprint,
    }
    assert after.encoding == before.encoding
    assert [name for name, mark in before.fingerprint().items() if after.fingerprint()[name] != mark] == ["a"]


def test_moments_of_a_target_are_asked_for_as_those_of_features_and_are_those_of_all_training_rows(
    folder: Path,
) -> None:
    options: dict[str, Any] = {"target": "dose", "categorical": ["ward", "y"], "task": "regression"}
    for name, text in (("b", B_CSV.replace(",,", ",0.1,")), ("test", TEST_CSV)):
        (folder / f"{name}.csv").write_text(text)
    sites = Recorded()
    mine = load(folder, lambda: sites, holdout=0.3, **options)
    before = [one["question"] for one in mine.asked]
    del sites.crossed[:]
    moments = target_moments(mine)
    assert [question for question, _ in sites.crossed] == [questions.target_sums] * 4
    assert [one["question"] for one in mine.asked] == [*before, "target_sums", "target_sums"]
    for own, theirs in zip(moments, target_moments(from_csv(folder, holdout=0.3, **options)), strict=True):
        np.testing.assert_array_equal(own, theirs)


def test_ids_do_not_leave_a_silo(folder: Path) -> None:
    header, *rows = A_CSV.splitlines()
    named = [f"{row},P{number:04}" for number, row in enumerate(rows)]
    for name in "ab":
        (folder / f"{name}.csv").write_text("\n".join([f"{header},patient", *named]) + "\n")
    sites = Recorded()
    with pytest.raises(
        ConfigError, match=r"silo 'a', .* 'patient' has 11 different values .*\n.*`ignore: \[patient\]`"
    ):
        load(folder, lambda: sites, categorical=["ward", "patient"], test=None)
    load(folder, lambda: sites, ignore=["patient"], test=None)
    assert not any(b"P0003" in answer for _, answer in sites.crossed)


def test_answers_do_not_grow_with_the_rows(folder: Path) -> None:
    def crossed(times: int) -> list[int]:
        for name, text in (("a", A_CSV), ("b", B_CSV)):
            (folder / f"{name}.csv").write_text(HEADER + text.removeprefix(HEADER) * times)
        sites = Recorded()
        load(folder, lambda: sites)
        return [len(answer) for _, answer in sites.crossed]

    # A larger number of rows takes a byte or two more as an integer.
    assert max(np.abs(np.array(crossed(40)) - crossed(1))) <= 2


@given(st.lists(st.floats(-1e6, 1e6).map(repr), min_size=2, max_size=40, unique=True), st.booleans())
def test_values_of_a_regression_target_are_not_told(
    tmp_path_factory: pytest.TempPathFactory, values: list[str], whole: bool
) -> None:
    cells = [str(round(float(value))) for value in values] if whole else [*values, "0.25"]
    path = tmp_path_factory.mktemp("labels") / "a.csv"
    path.write_text("u,y\n" + "".join(f"1,{cell}\n" for cell in cells))
    told = questions.labels(read_csv(path), "y", classes=False)
    many = len({int(cell) for cell in cells}) > LABEL_LIMIT if whole else True
    assert told.kind == ("whole" if whole else "numbers")
    assert (told.names is None) == many


CELLS = st.lists(
    st.sampled_from(["0", "1", "1.0", "02", "-3", "2.5", "1e3", "x", "inf", *map(str, range(40, 61))]), min_size=1
).map(lambda cells: 3 * cells)  # a column of values that nearly all differ holds ids


@given(st.lists(CELLS, min_size=1, max_size=3), st.sampled_from(["auto", "classification"]))
def test_classes_of_silos_are_those_of_one_file(
    tmp_path_factory: pytest.TempPathFactory, columns: list[list[str]], task: Any
) -> None:
    folder = tmp_path_factory.mktemp("classes")

    def spec(parts: list[list[str]]) -> Any:
        paths = [folder / f"{number}.csv" for number in range(len(parts))]
        for path, cells in zip(paths, parts, strict=True):
            path.write_text("u,y\n" + "".join(f"1,{cell}\n" for cell in cells))
        return FederatedData.from_csv(paths, target="y", task=task).spec

    whole = spec([[cell for cells in columns for cell in cells]])
    kinds = []
    for cells in columns:
        (folder / "one.csv").write_text("u,y\n" + "".join(f"1,{cell}\n" for cell in cells))
        kinds.append(questions.labels(read_csv(folder / "one.csv"), "y", classes=False))
    if task == "auto" and any(one.kind == "text" for one in kinds) and any(one.names is None for one in kinds):
        with pytest.raises(ConfigError, match="numbers in some files and text in others"):
            spec(columns)
    else:
        assert spec(columns) == whole


def test_a_class_that_one_silo_alone_has_is_named(folder: Path) -> None:
    coded, warning = load(folder).warnings
    assert coded.startswith("column 'ward' may be coded differently in ")
    assert f"classes that one file alone has: 'no' ({folder}/a.csv);" in warning
    assert load(folder, classes=["no", "yes"]).warnings == (coded,)


def test_a_pickle_holds_no_row(folder: Path) -> None:
    data = load(folder)
    index = np.arange(11)[None]
    x, y = data.rows(np.array([0])).take(index)
    for dumps in (pickle.dumps, cloudpickle.dumps):
        pickled = dumps(data)
        assert x[0, :2].numpy().tobytes() not in pickled
        again = pickle.loads(pickled).rows(np.array([0])).take(index)
        assert torch.equal(again[0], x)
        assert torch.equal(again[1], y)


def test_a_table_is_read_once_by_a_process(folder: Path) -> None:
    data = load(folder)
    first = data.rows(np.array([0])).take(np.array([[3]]))[0]
    (folder / "a.csv").unlink()
    assert torch.equal(data.rows(np.array([0])).take(np.array([[3]]))[0], first)
    with pytest.raises(ConfigError, match=r"silo 'a', on .*a\.csv does not exist"):
        pickle.loads(pickle.dumps(data)).rows(np.array([0]))


# Trials before a run


def test_the_probe_has_the_sizes_and_none_of_the_rows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = load(folder, holdout=0.3)

    def opened(self: SiloData, client: int) -> Any:
        raise AssertionError("a client was opened")

    monkeypatch.setattr(SiloData, "_load", opened)
    probe = data.probe()
    both = np.array([0, 1])
    assert (probe.spec, probe.sizes.tolist()) == (data.spec, data.sizes.tolist())
    assert probe.keys(both).tolist() == data.keys(both).tolist()
    assert (probe.pins(both).tolist(), probe.pin(1)) == ([0, 1], "b")
    index = np.array([[0, 5, 700], [1, 2, 3]])
    x, y = probe.rows(both).take(index)
    assert x.shape == (2, 3, 5)
    assert x.unique(dim=1).shape == x.shape
    assert set(probe.rows(both).take(np.tile(np.arange(50), (2, 1)))[1].unique().tolist()) == {0, 1}
    again = data.probe().rows(both).take(index)
    assert torch.equal(again[0], x)
    assert torch.equal(again[1], y)


def test_a_probe_of_regression(folder: Path) -> None:
    path = folder / "r.csv"
    path.write_text("u,v,y\n1,2,0.5\n2,1,1.5\n")
    data = load(folder, silos={"r": {"node_label": "a=b", "path": str(path)}}, test=None, categorical=None)
    x, y = data.probe().rows(np.array([0])).take(np.array([[0, 1]]))
    assert (x.shape, y.shape, y.dtype) == ((1, 2, 2), (1, 2, 1), torch.float32)
    with pytest.raises(ConfigError, match="need a classification task"):
        data.label_counts()


# Mistakes


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"silos": {}}, "silos: at least one is needed"),
        ({"silos": silos("a", "nowhere")}, r"silo 'nowhere', on .*nowhere\.csv does not exist"),
        ({"silos": {"a b": silos("a")["a"]}}, "client id 'a b' is not allowed"),
        ({"silos": {"a": {"node_label": "s=a", "path": "$SITE_DAT/$X/a.csv"}}}, "environment has no SITE_DAT, X here"),
        ({"target": "z"}, r"a\.csv has no target column 'z'"),
        ({"categorical": None}, r"silo 'a', on .*a\.csv, line 2, column 'ward': 'n' is not a number"),
        ({"classes": ["no"]}, r"silo 'a', on .*a\.csv, line 2, column 'y': class 'yes' is not among the classes given"),
        ({"test": "none.csv"}, r"none\.csv does not exist"),
        ({"holdout": 1.5}, "holdout: must be at least 0"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_clear_error(folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(folder, **options)


def test_a_file_that_may_not_be_read_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(path: str, reading: Any) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("fedray.data.silos.survey.read_table", locked)
    with pytest.raises(ConfigError, match=r"silo 'a', on .*a\.csv cannot be read: Permission denied"):
        load(folder, test=None)


def test_holdout_is_said_in_the_section(folder: Path) -> None:
    data = load(folder)
    assert data.with_holdout(0.0, 1) is data
    with pytest.raises(ConfigError, match="say it in the data section"):
        data.with_holdout(0.5, 1)


def test_parquet_is_read_as_csv_is(folder: Path) -> None:
    before = load(folder)
    for name in "ab":
        table = pyarrow.csv.read_csv(folder / f"{name}.csv")
        pyarrow.parquet.write_table(table, folder / f"{name}.parquet")
    sections = {name: {"node_label": "s=a", "path": f"$SITE_DATA/{name}.parquet"} for name in "ab"}
    after = load(folder, silos=sections)
    everyone = np.array([0, 1])
    index = np.tile(np.arange(6), (2, 1))
    assert torch.equal(after.rows(everyone).take(index)[0], before.rows(everyone).take(index)[0])

"""CSV and Parquet tables: the encoding against scikit-learn, and every mistake a file can hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fedray.core.errors import ConfigError
from fedray.data import DataSpec, FederatedData
from fedray.data.encoding.moments import Sums, federated_moments
from fedray.data.encoding.table import read_csv
from fedray.data.partition import IID, Column


def inputs(data: FederatedData, client: int) -> np.ndarray[Any, Any]:
    """A client's training inputs."""
    return data.rows(np.array([client])).take(np.arange(data.sizes[client])[None])[0][0].numpy()


def targets(data: FederatedData, client: int) -> list[Any]:
    """A client's training targets."""
    return data.rows(np.array([client])).take(np.arange(data.sizes[client])[None])[1][0].tolist()


def moments(silos: list[np.ndarray[Any, Any]]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Mean and deviation over all silos' rows."""
    return federated_moments(lambda center: [Sums.of(values, center) for values in silos], silos[0].shape[1])


class Files:
    """Writes small files into a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path


@pytest.fixture
def write(tmp_path: Path) -> Files:
    """``write(name, text)`` gives the path of a new file."""
    return Files(tmp_path)


def test_silos_become_clients_with_columns_matched_by_name(write: Files) -> None:
    a = write("a.csv", "age,weight,y\n30,70,no\n40,80,yes\n")
    b = write("b.csv", "y,weight,age\nyes,90,50\n")
    test = write("t.csv", "weight,y,age\n100,no,60\n")
    data = FederatedData.from_csv([a, b], target="y", test=test, standardize=False)
    assert data.spec == DataSpec((2,), 2, "classification", ("no", "yes"))
    assert [data.client_id(i) for i in range(2)] == ["a", "b"]
    assert inputs(data, 0).tolist() == [[30.0, 70.0], [40.0, 80.0]]
    assert inputs(data, 1).tolist() == [[50.0, 90.0]]
    assert (targets(data, 0), targets(data, 1)) == ([0, 1], [1])
    assert data.test is not None
    assert (data.test.x.tolist(), data.test.y.tolist()) == ([[60.0, 100.0]], [0])


def test_standardisation_equals_sklearn_on_the_pooled_rows(write: Files) -> None:
    generator = np.random.default_rng(0)
    silos = [generator.normal([5.0, -300.0, 1.7e9], [2.0, 1e-3, 10.0], (m, 3)) for m in (4, 9, 1)]
    paths = []
    for number, silo in enumerate(silos):
        rows = "".join(f"{','.join(map(repr, row))},{i % 2}\n" for i, row in enumerate(silo.tolist()))
        paths.append(write(f"{number}.csv", "a,b,c,y\n" + rows))
    data = FederatedData.from_csv(paths, target="y")
    expected = StandardScaler().fit_transform(np.concatenate(silos))
    np.testing.assert_allclose(np.concatenate([inputs(data, i) for i in range(3)]), expected, rtol=2e-5, atol=1e-6)


@given(arrays(np.float64, (12, 2), elements=st.floats(-1e6, 1e6)), st.integers(1, 11))
def test_merged_sums_are_the_sums_of_the_pooled_rows(values: np.ndarray[Any, Any], cut: int) -> None:
    mean, deviation = moments([values[:cut], values[cut:]])
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(deviation, values.std(axis=0), rtol=1e-6, atol=1e-6)


def test_sums_skip_missing_values() -> None:
    sums = Sums.of(np.array([[1.0, np.nan], [3.0, 5.0]]), np.zeros(2)).merge(Sums.of(np.full((1, 2), 8.0), np.zeros(2)))
    assert sums.count.tolist() == [3.0, 2.0]
    assert sums.mean().tolist() == [4.0, 6.5]
    np.testing.assert_allclose(sums.deviation(), np.array([np.std([1.0, 3.0, 8.0]), 1.5]))


def test_missing_numbers_become_the_federated_mean(write: Files) -> None:
    a = write("a.csv", "u,v,y\n1,,p\nNA,4,q\n")
    b = write("b.csv", "u,v,y\n nan ,8,p\n3,null,q\n")
    scaled = FederatedData.from_csv([a, b], target="y")
    np.testing.assert_allclose(inputs(scaled, 0), [[-1, 0], [0, -1]])
    np.testing.assert_allclose(inputs(scaled, 1), [[0, 1], [1, 0]])
    plain = FederatedData.from_csv([a, b], target="y", standardize=False)
    assert inputs(plain, 0).tolist() == [[1, 6], [2, 4]]


@given(st.floats(-1e9, 1e9), st.lists(st.integers(1, 40), min_size=1, max_size=4))
def test_a_constant_column_has_no_deviation_whatever_the_rounding(value: float, sizes: list[int]) -> None:
    _, deviation = moments([np.full((size, 1), value) for size in sizes])
    assert deviation.tolist() == [0.0]


def test_a_constant_column_is_only_centred(write: Files) -> None:
    a = write("a.csv", "u,v,y\n0.1,1,p\n0.1,2,q\n")
    b = write("b.csv", "u,v,y\n0.1,3,q\n")
    test = write("t.csv", "u,v,y\n1.1,2,q\n")
    data = FederatedData.from_csv([a, b], target="y", test=test)
    assert np.abs(inputs(data, 0)[:, 0]).max() < 1e-12
    assert data.test is not None
    assert data.test.x[0, 0].item() == pytest.approx(1.0)


@pytest.mark.parametrize("declared", [["colour"], {"colour": None}])
def test_one_hot_equals_sklearn_over_the_union_of_the_silos(write: Files, declared: Any) -> None:
    colours = [["red", "blue"], ["green", "", "red"]]
    paths = [
        write(f"{n}.csv", "size,colour,y\n" + "".join(f"{i},{c},{i % 2}\n" for i, c in enumerate(silo)))
        for n, silo in enumerate(colours)
    ]
    data = FederatedData.from_csv(paths, target="y", categorical=declared, standardize=False)
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit([["red"], ["blue"], ["green"]])
    for client, silo in enumerate(colours):
        np.testing.assert_array_equal(inputs(data, client)[:, 1:], encoder.transform([[c] for c in silo]))


def test_bare_yes_and_no_of_yaml_are_told_apart_from_text(write: Files) -> None:
    a = write("a.csv", "u,v,y\n1,yes,no\n2,no,yes\n")
    with pytest.raises(ConfigError, match=r'^classes: YAML reads bare yes, no, .* quote them: \["no"\]$'):
        FederatedData.from_csv([a], target="y", classes=[False, True])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match=r"^v: YAML reads bare yes, no"):
        FederatedData.from_csv([a], target="y", categorical={"v": [True, False]})


def test_given_categories_and_classes_fix_the_encoding(write: Files) -> None:
    a = write("a.csv", "colour,y\nred,b\n3,a\n")
    data = FederatedData.from_csv([a], target="y", categorical={"colour": [3, "red", "blue"]}, classes=["b", "a", "c"])
    assert inputs(data, 0).tolist() == [[0, 1, 0], [1, 0, 0]]
    assert targets(data, 0) == [0, 1]
    assert data.spec.classes == ("b", "a", "c")


@pytest.mark.parametrize(
    ("cells", "task", "expected"),
    [
        (["2", "10", "1.0"], "auto", DataSpec((1,), 3, "classification", ("1", "2", "10"))),
        (["0.5", "1", "2"], "auto", DataSpec((1,), 1, "regression")),
        ([str(n) for n in range(21)], "auto", DataSpec((1,), 1, "regression")),
        (["1", "2", "x"], "auto", DataSpec((1,), 3, "classification", ("1", "2", "x"))),
        (["0", "1", "1"], "regression", DataSpec((1,), 1, "regression")),
        (["0.5", "1", "2"], "classification", DataSpec((1,), 3, "classification", ("0.5", "1", "2"))),
    ],
)
def test_the_task_follows_from_the_target(write: Files, cells: list[str], task: Any, expected: DataSpec) -> None:
    path = write("a.csv", "u,y\n" + "".join(f"1,{cell}\n" for cell in cells))
    data = FederatedData.from_csv(path, target="y", task=task)
    assert data.spec == expected
    if expected.task == "regression":
        assert targets(data, 0) == [[float(cell)] for cell in cells]
    else:
        names = [str(int(float(cell))) if float(cell).is_integer() else cell for cell in cells if cell != "x"]
        assert [expected.classes[number] for number in targets(data, 0)][: len(names)] == names


def test_quoted_cells_line_breaks_blank_lines_and_a_byte_order_mark(write: Files) -> None:
    text = '\ufeffu,"no,te",y\n\n1,"two\nlines",a\n 2 ,"say ""hi""",b\n'
    data = FederatedData.from_csv(write("a.csv", text), target="y", categorical=["no,te"], standardize=False)
    assert inputs(data, 0).tolist() == [[1, 0, 1], [2, 1, 0]]
    windows = FederatedData.from_csv(write("b.csv", text.replace("\n", "\r\n")), target="y", categorical=["no,te"])
    assert len(windows) == 1


def test_rows_of_all_files_can_be_split_by_a_partitioner_or_a_column(write: Files) -> None:
    text = "ward,u,y\n" + "".join(f"{'north' if i % 3 else 'south'},{i},{i % 2}\n" for i in range(12))
    test = write("t.csv", "u,y\n5,1\n")
    path = write("all.csv", text)
    by_ward = FederatedData.from_csv(path, target="y", test=test, partitioner=Column("ward"), standardize=False)
    assert [by_ward.client_id(i) for i in range(2)] == ["north", "south"]
    assert inputs(by_ward, 1).tolist() == [[0], [3], [6], [9]]
    split = FederatedData.from_csv(path, target="y", partitioner=IID(3), categorical=["ward"], seed=5)
    assert split.sizes.tolist() == [4, 4, 4]
    assert split.spec.shape == (3,)


def test_ignored_columns_are_no_inputs_and_files_may_lack_them(write: Files) -> None:
    a, b = write("a.csv", "id,u,y\nP1,1,p\nP2,3,q\n"), write("b.csv", "u,y,ward\n5,p,n\n")
    data = FederatedData.from_csv([a, b], target="y", ignore=["id", "ward"], test=a, standardize=False)
    assert [inputs(data, client).tolist() for client in range(2)] == [[[1], [3]], [[5]]]
    for options, message in (
        ({"ignore": ["id"]}, r"b\.csv has a column 'ward' that .*a\.csv lacks.*`ignore: \[ward\]`"),
        ({"ignore": ["id", "ward", "wrad"]}, r"ignore: 'wrad' is a column of no file"),
        ({"ignore": ["y"]}, "ignore: 'y' is the target"),
        ({"ignore": ["id"], "categorical": ["id"]}, "ignore: 'id' is declared as categorical too"),
        ({"ignore": "id"}, "ignore: expected names of columns"),
    ):
        with pytest.raises(ConfigError, match=message):
            FederatedData.from_csv([a, b], target="y", **options)


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


def test_lists_in_messages_end_after_ten(write: Files) -> None:
    wards = [f"w{n:02}" for n in range(40)]
    path = write("a.csv", "ward,y\n" + "".join(f"{ward},{y}\n" for ward in wards for y in "ppq"))
    test = write("t.csv", "ward,y\nnowhere,p\n")
    with pytest.raises(ConfigError, match=r"known: w00, w01.* w09 and 30 more$"):
        FederatedData.from_csv(path, target="y", categorical=["ward"], test=test)


GOOD = "u,v,y\n1,2,p\n3,4,q\n"


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("", {}, r"bad\.csv is empty; a header line"),
        ("1,2,3\n4,5,6\n", {}, r"bad\.csv has no header: its first line is '1,2,3'"),
        ("1,2,p\n4,5,q\n", {}, r"no target column 'y'.*is the header missing"),
        ("u,v,yy\n1,2,p\n", {}, r"bad\.csv has no target column 'y' \(did you mean 'yy'\?\); its columns: u, v, yy"),
        ("u,v,y\n1,2,p\n\n1,2\n", {}, r"bad\.csv, line 4: 2 cells, but the header names 3 columns"),
        ('u,v,y\n1,"2\n",p\n1,2,p,9\n', {}, r"bad\.csv, line 4: 4 cells, but the header names 3"),
        ("u,v,y\n1,2,p\n1,two,p\n", {}, r"line 3, column 'v': 'two' is not a number.*if missing.*`ignore: \[v\]`"),
        ("u,v,y\n\n1,inf,p\n", {}, r"bad\.csv, line 3, column 'v': 'inf' is not a finite number"),
        ('u,v,y\n1,"82,7",p\n', {}, r"line 2, column 'v': '82,7' is not a number \(a decimal comma\? write 1\.5, not"),
        ("u,v,y\n1,red,p\n1,blue,q\n", {}, r"'red' is not a number; declare .*`categorical: \[v\]`, or leave"),
        (b"PAR1....", {}, r"bad\.csv is a Parquet file, not CSV.*`data\.name: folder`"),
        (b"PK\x03\x04...", {}, r"bad\.csv is an Excel workbook.*save it as CSV"),
        ("u,v,y\n1,1_000,p\n", {}, r"bad\.csv, line 2, column 'v': '1_000'"),
        ("u,v,y\n1,2,\n", {}, r"bad\.csv, line 2: the target 'y' is missing"),
        ("u,v,y\n1,2,r\n", {"classes": ["p", "q"]}, r"line 2, column 'y': class 'r' is not .* classes given: p, q"),
        ("u,v,y\n", {}, r"bad\.csv has .*no rows"),
        ("u,y\n1,p\n", {}, r"bad\.csv has no column 'v', but .*good\.csv has"),
        ("u,v,w,y\n1,2,3,p\n", {}, r"bad\.csv has a column 'w' that .*good\.csv lacks"),
        ("u,u,y\n1,2,p\n", {}, r"'u' occurs twice"),
        (",u,v,y\n0,1,2,p\n", {}, r"column 1 has no name"),
        (b"u,v,y\n1,2,\xff\n", {}, r"UTF-8"),
        (b"u,v,\xff\n1,2,3\n", {}, r"UTF-8"),
        ("u,v,y\n1,red,p\n", {"categorical": {"v": ["2", "4", "reed"]}}, r"line 2, column 'v': .*'red' \(did you"),
        ("u,v,y\n1,2,p\n", {"categorical": ["w"]}, r"categorical: 'w' is no column"),
        ("u,v,y\n1,2,p\n", {"categorical": ["y"]}, r"categorical: 'y' is the target"),
        ("u,v,y\n1,2,p\n", {"categorical": "v"}, r"categorical: expected"),
        ("u,v,y\n1,2,p\n", {"task": "ranking"}, r"known: auto, classification, regression"),
        ("u,v,y\n1,2,p\n", {"task": "regression"}, r"good\.csv, line 2, column 'y': 'p' is not a number.*`task: class"),
        ("u,v,y\n1,2,p\n", {"task": "regression", "classes": ["p"]}, r"leave them out"),
        ("u,v,y\n1,2,p\n", {"classes": ["p", "p"]}, r"given twice"),
        ("u,v,y\n1,2,p\n", {"ids": ["a", "a"]}, r"used twice"),
        ("u,v,y\n1,2,p\n", {"ids": ["a"]}, r"1 client ids were given for 2"),
        ("u,v,y\n1e200,2,p\n", {}, r"line 2, column 'u': '1e200'"),
    ],
)  # fmt: skip
def test_a_wrong_file_is_one_clear_error(
    write: Files, text: str | bytes, options: dict[str, Any], message: str
) -> None:
    paths = [write("good.csv", GOOD), write("bad.csv", text)]
    with pytest.raises(ConfigError, match=message):
        FederatedData.from_csv(paths, target="y", **options)


def test_missing_files_and_unknown_test_labels_are_errors(write: Files, tmp_path: Path) -> None:
    good = write("good.csv", GOOD)
    with pytest.raises(ConfigError, match=r"nowhere\.csv does not exist"):
        FederatedData.from_csv([good, tmp_path / "nowhere.csv"], target="y")
    with pytest.raises(ConfigError, match="is a folder"):
        FederatedData.from_csv([tmp_path], target="y")
    with pytest.raises(ConfigError, match="no training file"):
        FederatedData.from_csv([], target="y")
    with pytest.raises(
        ConfigError, match=r"t\.csv, line 3, column 'y': class 'r' is not among the classes seen in training"
    ):
        FederatedData.from_csv([good], target="y", test=write("t.csv", "u,v,y\n1,2,p\n1,2,r\n"))
    with pytest.raises(ConfigError, match=r"t\.csv has no column 'v'"):
        FederatedData.from_csv([good], target="y", test=write("t.csv", "u,y\n1,p\n"))
    with pytest.raises(ConfigError, match=r"t\.csv has .*no rows"):
        FederatedData.from_csv([good], target="y", test=write("t.csv", "u,v,y\n"))
    odd = write("Klinik Süd.csv", GOOD)
    with pytest.raises(ConfigError, match=r"'Klinik Süd' is not allowed.*\n.*`data\.ids: \[Klinik_Sud, \.\.\.\]`"):
        FederatedData.from_csv([odd], target="y")
    assert len(FederatedData.from_csv([odd], target="y", ids=["Klinik_Sud"])) == 1
    with pytest.raises(ConfigError, match="'good' is used twice"):
        FederatedData.from_csv([good, good], target="y")
    with pytest.raises(ConfigError, match="column 'u' has no value in any"):
        FederatedData.from_csv([write("a.csv", "u,y\n,p\nNA,q\n")], target="y")
    with pytest.raises(ConfigError, match="no columns beside the target"):
        FederatedData.from_csv([write("a.csv", "y\np\n")], target="y")
    with pytest.raises(ConfigError, match=r"line 3: the target 'y' is missing"):
        FederatedData.from_csv([write("a.csv", "u,y\n1,0.5\n1,\n")], target="y")


@given(st.lists(st.floats(-3e38, 3e38), min_size=1, max_size=20))
def test_numbers_are_read_exactly(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    path = tmp_path_factory.mktemp("exact") / "a.csv"
    path.write_text("u,y\n" + "".join(f"{value!r},p\n" for value in values))
    assert read_csv(path).numbers("u").tolist() == values


def test_parquet_folder_is_read_as_csv_files_are(tmp_path: Path) -> None:
    folder = tmp_path / "clients"
    folder.mkdir()
    tables = {
        "b": {"age": [30, None], "smoker": [True, False], "ward": ["x", "y"], "y": ["no", "yes"]},
        "a": {"ward": ["x"], "smoker": [True], "age": [50], "y": ["yes"]},
    }
    for name, columns in tables.items():
        pyarrow.parquet.write_table(pa.table(columns), folder / f"{name}.parquet")
    pyarrow.parquet.write_table(pa.table(tables["a"]), tmp_path / "test.parquet")
    data = FederatedData.from_folder(
        folder, target="y", categorical=["ward"], standardize=False, test=tmp_path / "test.parquet"
    )
    assert [data.client_id(i) for i in range(2)] == ["a", "b"]
    # The columns of the first file: ward (x, y), smoker, age.
    assert inputs(data, 0).tolist() == [[1, 0, 1, 50]]
    assert inputs(data, 1).tolist() == [[1, 0, 1, 30], [0, 1, 0, 40]]
    assert data.test is not None
    assert data.test.x.tolist() == [[1, 0, 1, 50]]
    with pytest.raises(ConfigError, match=r"a\.parquet, row 1, column 'ward': 'x' is not a number"):
        FederatedData.from_folder(folder, target="y")
    with pytest.raises(ConfigError, match="need the name of the target"):
        FederatedData.from_folder(folder)
    (folder / "c.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(ConfigError, match=r"c\.parquet cannot be read as Parquet"):
        FederatedData.from_folder(folder, target="y")


def test_a_class_that_one_silo_alone_has_is_named(write: Files, caplog: pytest.LogCaptureFixture) -> None:
    files = [
        write("a.csv", "u,y\n1,benign\n2,malignant\n"),
        write("b.csv", "u,y\n3,benign\n4,mailgnant\n5,malignant\n"),
    ]
    data = FederatedData.from_csv(files, target="y")
    assert data.spec.classes == ("benign", "mailgnant", "malignant")
    assert f"classes that one file alone has: 'mailgnant' ({files[1]}); correct them if they are typos" in caplog.text
    assert data.warnings == (caplog.messages[0],)
    assert data.with_holdout(0.5, seed=1).warnings == data.warnings
    caplog.clear()
    declared = FederatedData.from_csv(files, target="y", classes=data.spec.classes)
    alone = FederatedData.from_csv(files[1:], target="y")
    assert (caplog.text, declared.warnings, alone.warnings) == ("", (), ())

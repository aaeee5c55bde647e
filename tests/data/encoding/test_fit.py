"""CSV and Parquet tables: the encoding against scikit-learn, and every mistake a file can hold."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fedray.core.errors import ConfigError
from fedray.data import DataSpec, FederatedData
from fedray.data.partition import IID, Column
from tests.data.reading import Files, inputs, targets


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


def test_missing_numbers_become_the_federated_mean(write: Files) -> None:
    a = write("a.csv", "u,v,y\n1,,p\nNA,4,q\n")
    b = write("b.csv", "u,v,y\n nan ,8,p\n3,null,q\n")
    scaled = FederatedData.from_csv([a, b], target="y")
    np.testing.assert_allclose(inputs(scaled, 0), [[-1, 0], [0, -1]])
    np.testing.assert_allclose(inputs(scaled, 1), [[0, 1], [1, 0]])
    plain = FederatedData.from_csv([a, b], target="y", standardize=False)
    assert inputs(plain, 0).tolist() == [[1, 6], [2, 4]]


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
    with pytest.raises(ConfigError, match=r'^classes: YAML reads bare yes, no, .* write \["no", '):
        FederatedData.from_csv([a], target="y", classes=[False, True])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match=r"^categorical.v: YAML reads bare yes, no"):
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


def test_lists_in_messages_end_after_ten(write: Files) -> None:
    wards = [f"w{n:02}" for n in range(40)]
    path = write("a.csv", "ward,y\n" + "".join(f"{ward},{y}\n" for ward in wards for y in "ppq"))
    test = write("t.csv", "ward,y\nnowhere,p\n")
    with pytest.raises(ConfigError, match=r"known: w00, w01.* w09 and 30 more\ncorrect it, or .*`unseen: other`$"):
        FederatedData.from_csv(path, target="y", categorical=["ward"], test=test)


def test_a_class_that_one_silo_alone_has_is_named(write: Files, caplog: pytest.LogCaptureFixture) -> None:
    files = [
        write("a.csv", "u,y\n1,benign\n2,malignant\n"),
        write("b.csv", "u,y\n3,benign\n4,mailgnant\n5,malignant\n"),
    ]
    data = FederatedData.from_csv(files, target="y")
    assert data.spec.classes == ("benign", "mailgnant", "malignant")
    assert f"classes that one file alone has: 'mailgnant' ({files[1]}); correct them if they are typos" in caplog.text
    assert data.warnings == (caplog.messages[0],)
    assert data.with_holdout(0.5, seed=1).warnings[0] == data.warnings[0]
    caplog.clear()
    declared = FederatedData.from_csv(files, target="y", classes=data.spec.classes)
    alone = FederatedData.from_csv(files[1:], target="y")
    assert (caplog.text, declared.warnings, alone.warnings) == ("", (), ())


def test_a_feature_that_one_silo_codes_differently_is_named(write: Files, caplog: pytest.LogCaptureFixture) -> None:
    files = [
        write("a.csv", "sex,ward,y\nm,N,p\nw,S,q\n"),
        write("b.csv", "sex,ward,y\n1,n,p\n2.0,S,q\n"),
        write("c.csv", "sex,ward,y\nw,S,p\n,N,q\n"),
    ]
    data = FederatedData.from_csv(files, target="y", categorical=["sex", "ward"])
    assert len(data.warnings) == 2
    assert (
        f"column 'sex' may be coded differently in {files[1]} (1, 2) than elsewhere (m, w); correct it" in caplog.text
    )
    assert "column 'ward' has categories that differ by case alone: N and n; correct it" in caplog.text
    alike = FederatedData.from_csv([files[0], files[2]], target="y", categorical=["sex", "ward"])
    declared = FederatedData.from_csv(files, target="y", categorical={"sex": ["m", "w", 1, 2], "ward": ["N", "n", "S"]})
    assert (alike.warnings, declared.warnings) == ((), ())


def test_codes_are_the_same_with_and_without_a_decimal_point(write: Files) -> None:
    """As pandas writes whole numbers of a column with missing ones."""
    a, b = write("a.csv", "cp,y\n1,p\n2,q\n"), write("b.csv", "cp,y\n1.0,p\n,q\n2.0,q\n")
    c = write("c.csv", "cp;y\n1,0;p\n;q\n2,0;q\n")
    data = FederatedData.from_csv([a, b, c], target="y", categorical=["cp"])
    assert inputs(data, 2).tolist() == inputs(data, 1).tolist()
    assert inputs(data, 1).tolist() == [[1, 0], [0, 0], [0, 1]]
    assert data.warnings == ()


def test_an_unseen_category_is_other_or_missing_if_asked_for(write: Files) -> None:
    a = write("a.csv", "ward,kind,grade,y\nn,other,low,p\ns,x,high,q\n")
    test = write("t.csv", "ward,kind,grade,y\nnowhere,z,mid,p\ns,x,low,q\n")
    options: dict[str, Any] = {"categorical": ["ward", "kind"], "ordinal": {"grade": ["low", "high"]}, "target": "y"}
    with pytest.raises(
        ConfigError, match=r"t\.csv, line 2, column 'ward': unknown category 'nowhere'.*\n.*unseen: other"
    ):
        FederatedData.from_csv(a, test=test, **options)
    data = FederatedData.from_csv(a, test=test, unseen="other", **options)
    assert data.test is not None
    assert data.test.x.tolist() == [[0, 0, 1, 0, 0], [0, 1, 0, 1, -1]]
    assert f"{test}, column 'ward': 1 cell of no known category" in data.notes


def test_the_most_frequent_values_are_those_of_all_silos_and_rare_ones_are_told_to_nobody(write: Files) -> None:
    counts = [{"a": 9, "b": 6, "c": 4}, {"b": 6, "d": 7, "other": 8}]
    paths = [
        write(f"{n}.csv", "w,y\n" + "".join(f"{word},{'pq'[i % 2]}\n" for word, m in one.items() for i in range(m)))
        for n, one in enumerate(counts)
    ]
    data = FederatedData.from_csv(paths, target="y", categorical={"w": {"top": 2}})
    assert data.encoding is not None
    assert data.encoding["columns"][0]["categories"] == ["b", "a", "other"]
    assert np.concatenate([inputs(data, client) for client in range(2)]).sum(axis=0).tolist() == [12, 9, 19]
    every = FederatedData.from_csv(paths, target="y", categorical={"w": {"top": 9}})
    assert every.encoding is not None
    assert every.encoding["columns"][0]["categories"] == ["b", "a", "d", "other"]
    ids = write("ids.csv", "w,y\n" + "".join(f"P{n},{'pq'[n % 2]}\n" for n in range(30)))
    with pytest.raises(
        ConfigError, match=r"categorical\.w: no value stands in 5 rows of a file.*\n.*hash: 64"
    ) as refused:
        FederatedData.from_csv(ids, target="y", categorical={"w": {"top": 5}})
    assert "P1" not in str(refused.value)


def test_hashed_values_need_no_list_and_are_the_same_for_ever(write: Files) -> None:
    path = write("a.csv", "w,y\n" + "".join(f"P{n},{'pq'[n % 2]}\n" for n in range(30)) + "P0,p\n,q\n")
    data = FederatedData.from_csv(path, target="y", categorical={"w": {"hash": 16}})
    x = inputs(data, 0)
    assert x.shape == (32, 16)
    assert x.sum(axis=1).tolist() == [1.0] * 31 + [0.0]
    assert x[0].tolist() == x[30].tolist()
    assert x[:4].argmax(axis=1).tolist() == [9, 10, 5, 2]


def test_a_target_with_decimal_commas_is_a_number(write: Files) -> None:
    data = FederatedData.from_csv(write("a.csv", "u;y\n1;0,5\n2;1.234,5\n3;2\n"), target="y")
    assert data.spec.task == "regression"
    assert targets(data, 0) == [[0.5], [1234.5], [2.0]]

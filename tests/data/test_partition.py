"""Each partitioner against its definition."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedray.config.registry import bind_part
from fedray.core.errors import ConfigError
from fedray.data import FederatedData, partitioners
from fedray.data.partition import IID, Column, Dirichlet, Quantity, Shards, assign_rows, chosen

LABELS = np.tile(np.arange(10), 60)
MAKERS = [
    lambda clients: IID(clients),
    lambda clients: Dirichlet(clients, alpha=0.5),
    lambda clients: Shards(clients, shards=2),
    lambda clients: Quantity(clients, "lognormal", sigma=2.0),
    lambda clients: Quantity(clients, "zipf", exponent=1.5),
]


def counts(assigned: NDArray[np.int64], labels: NDArray[np.int64] = LABELS) -> NDArray[np.int64]:
    """Rows per client and class."""
    table = np.zeros((int(assigned.max()) + 1, int(labels.max()) + 1), dtype=np.int64)
    np.add.at(table, (assigned, labels), 1)
    return table


@pytest.mark.parametrize("make", MAKERS)
@given(clients=st.integers(1, 30), seed=st.integers(0, 2**40))
def test_every_row_has_one_client_and_every_client_a_row(make: Any, clients: int, seed: int) -> None:
    assigned = make(clients).assign(LABELS, seed)
    assert assigned.shape == LABELS.shape
    assert np.unique(assigned).tolist() == list(range(clients))


@pytest.mark.parametrize("make", MAKERS)
def test_the_seed_decides(make: Any) -> None:
    first = make(7).assign(LABELS, 1)
    np.testing.assert_array_equal(first, make(7).assign(LABELS, 1))
    assert (first != make(7).assign(LABELS, 2)).any()


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("clients", [0, len(LABELS) + 1])
def test_too_many_or_no_clients_is_an_error(make: Any, clients: int) -> None:
    with pytest.raises(ConfigError, match=r"partition\.clients"):
        make(clients).assign(LABELS, 0)


@given(st.integers(1, 200), st.data())
def test_iid_sizes_differ_by_at_most_one(rows: int, data: st.DataObject) -> None:
    clients = data.draw(st.integers(1, rows))
    sizes = np.bincount(IID(clients).assign(np.zeros(rows), seed=0))
    assert sizes.max() - sizes.min() <= 1


def test_iid_mixes_labels() -> None:
    table = counts(IID(4).assign(LABELS, seed=0))
    # 15 of each class expected; 6 standard deviations of the hypergeometric draw.
    assert np.abs(table - 15).max() < 6 * np.sqrt(60 * 0.25 * 0.75)


def test_dirichlet_shares_have_the_moments_of_the_distribution() -> None:
    alpha, clients, classes, rows = 0.7, 4, 400, 250
    labels = np.repeat(np.arange(classes), rows)
    shares = counts(Dirichlet(clients, alpha).assign(labels, seed=3), labels) / rows
    expected = (1 / clients) * (1 - 1 / clients) / (clients * alpha + 1)
    np.testing.assert_allclose(shares.mean(axis=1), 1 / clients, atol=0.05)
    np.testing.assert_allclose(shares.var(axis=1), expected, rtol=0.2)


def test_dirichlet_limits() -> None:
    even = counts(Dirichlet(5, alpha=1e7).assign(LABELS, seed=0))
    assert np.abs(even - 12).max() <= 1
    labels = np.repeat(np.arange(50), 20)
    lonely = counts(Dirichlet(3, alpha=1e-6).assign(labels, seed=0), labels)
    assert ((lonely > 0).sum(axis=0) == 1).all()


@pytest.mark.parametrize(("clients", "alpha"), [(1, 0.5), (7, 0.01), (7, 0.3), (20, 1e-6), (20, 100.0)])
def test_balanced_clients_have_equal_sizes_whatever_their_mix(clients: int, alpha: float) -> None:
    assigned = Dirichlet(clients, alpha, balanced=True).assign(LABELS, seed=1)
    sizes = np.bincount(assigned, minlength=clients)
    assert sizes.max() - sizes.min() <= 1
    assert sizes.sum() == len(LABELS)
    assert assigned.tolist() == Dirichlet(clients, alpha, balanced=True).assign(LABELS, seed=1).tolist()
    if clients > 1:
        assert assigned.tolist() != Dirichlet(clients, alpha, balanced=True).assign(LABELS, seed=2).tolist()


def test_the_mixes_of_balanced_clients_are_those_of_the_distribution() -> None:
    """A class's share in a client has the mean and the variance of Dirichlet(alpha), where all classes are alike."""
    clients, classes, alpha, each = 400, 5, 0.4, 50
    labels = np.arange(clients * each) % classes
    shares = counts(Dirichlet(clients, alpha, balanced=True).assign(labels, seed=3), labels) / each
    assert shares.mean(axis=0) == pytest.approx(1 / classes, abs=1e-12)
    variance = (1 / classes) * (1 - 1 / classes) / (classes * alpha + 1)
    assert shares.var(axis=0) == pytest.approx(variance, rel=0.15)


def test_balanced_mixes_go_from_equal_to_as_few_classes_as_there_are_rows_for() -> None:
    labels = np.arange(1000) % 10

    def largest(alpha: float) -> NDArray[np.int64]:
        found: NDArray[np.int64] = counts(Dirichlet(50, alpha, balanced=True).assign(labels, seed=0), labels).max(
            axis=1
        )
        return found

    assert largest(1e6).max() <= 3, "2 of each class, to within rounding"
    means = [float(largest(alpha).mean()) for alpha in (1e6, 10.0, 1.0, 0.1, 1e-4)]
    assert means == sorted(means)
    # Each wants one class; of those that more than five want there is too little.
    assert (largest(1e-4) == 20).sum() >= 15


def test_balanced_clients_keep_the_smallest_size_or_cannot() -> None:
    assigned = Dirichlet(4, 0.1, min_size=25, balanced=True).assign(np.arange(100) % 3, seed=0)
    assert np.bincount(assigned).tolist() == [25] * 4
    with pytest.raises(ConfigError, match="cannot give 4 clients at least 26 each"):
        Dirichlet(4, 0.1, min_size=26, balanced=True).assign(np.arange(100) % 3, seed=0)


def test_dirichlet_takes_a_random_part_of_a_class() -> None:
    assigned = Dirichlet(2, alpha=100.0).assign(np.zeros(100, dtype=np.int64), seed=0)
    assert (np.diff(assigned) != 0).sum() > 10


def test_dirichlet_keeps_the_smallest_size_or_says_it_cannot() -> None:
    assert np.bincount(Dirichlet(10, 0.3, min_size=15).assign(LABELS, seed=0)).min() >= 15
    with pytest.raises(ConfigError, match="use a larger alpha or fewer clients"):
        Dirichlet(10, 1e-3).assign(np.zeros(50, dtype=np.int64), seed=0)


@given(clients=st.sampled_from([5, 10, 20]), shards=st.sampled_from([1, 2, 3]), seed=st.integers(0, 100))
def test_shards_give_at_most_k_classes_at_equal_sizes(clients: int, shards: int, seed: int) -> None:
    # Classes of a whole number of shards each.
    labels = np.repeat(np.arange(5), clients * shards * 2)
    table = counts(Shards(clients, shards).assign(labels, seed), labels)
    assert ((table > 0).sum(axis=1) <= shards).all()
    assert (table.sum(axis=1) == len(labels) // clients).all()


def test_shards_are_dealt_at_random() -> None:
    labels = np.repeat(np.arange(20), 10)
    seen = [counts(Shards(10, 2).assign(labels, seed), labels) > 0 for seed in range(5)]
    assert all((first != second).any() for first, second in pairwise(seen))


def test_quantity_even_limits_and_skew() -> None:
    labels = np.zeros(1000)
    for even in (Quantity(7, "lognormal", sigma=0.0), Quantity(7, "zipf", exponent=0.0)):
        sizes = np.bincount(even.assign(labels, seed=0))
        assert sizes.max() - sizes.min() <= 1
    zipf = np.sort(np.bincount(Quantity(20, "zipf", exponent=1.0).assign(np.zeros(100_000), seed=0)))[::-1]
    np.testing.assert_allclose(zipf / zipf[0], 1 / np.arange(1, 21), atol=1e-3)


def test_quantity_lognormal_has_the_spread_asked_for() -> None:
    sizes = np.bincount(Quantity(2000, "lognormal", sigma=0.8).assign(np.zeros(2_000_000), seed=1))
    assert np.log(sizes).std() == pytest.approx(0.8, rel=0.05)


def test_column_names_clients_by_its_values() -> None:
    columns = {"ward": np.array(["north", "south", "north"]), "age": np.arange(3)}
    assigned = assign_rows(Column("ward"), np.zeros(3), columns, seed=0)
    data = FederatedData.from_arrays(np.arange(3.0)[:, None], [0, 1, 1], assigned)
    assert [data.client_id(i) for i in range(2)] == ["north", "south"]
    assert data.sizes.tolist() == [2, 1]
    with pytest.raises(ConfigError, match=r"no column 'wards' \(did you mean 'ward'\?\); the data has: ward, age"):
        assign_rows(Column("wards"), np.zeros(3), columns, seed=0)
    with pytest.raises(ConfigError, match="no column 'ward'"):
        FederatedData.from_partition(np.zeros((3, 1)), np.arange(3), Column("ward"))
    with pytest.raises(ConfigError, match="missing in row 2"):
        Column("ward").assign(np.array(["north", ""]), seed=0)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"name": "dirichlet", "alpha": 0}, "alpha: must be above 0"),
        ({"name": "dirichlet", "min_size": 0}, "min_size: must be at least 1"),
        ({"name": "shards", "shards": 0}, "shards: must be at least 1"),
        ({"name": "quantity", "distribution": "poisson"}, "known: lognormal, zipf"),
        ({"name": "quantity", "sigma": -1}, "must be at least 0"),
        ({"name": "dirichlett"}, "did you mean 'dirichlet'"),
        ({"name": "column"}, "data.partition.column: a value is needed"),
    ],
)
def test_wrong_options_are_one_clear_error(node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        bind_part(partitioners, node, "data.partition")


@pytest.mark.parametrize("partitioner", [Dirichlet(2), Shards(2)])
def test_label_skew_needs_classes(partitioner: Dirichlet | Shards) -> None:
    with pytest.raises(ConfigError, match="needs one class per row"):
        partitioner.assign(np.zeros((8, 1), dtype=np.float32), seed=0)


def test_a_partitioner_that_raises_is_named() -> None:
    class Own:
        def assign(self, labels: NDArray[Any], seed: int) -> NDArray[Any]:
            raise KeyError("site")

    with pytest.raises(ConfigError, match=r"^partition: Own failed: KeyError: 'site'$"):
        FederatedData.from_partition(np.zeros((len(LABELS), 1)), LABELS, Own())


def test_a_partitioner_may_be_named_as_in_a_config() -> None:
    x = np.zeros((len(LABELS), 1))
    named = FederatedData.from_partition(x, LABELS, {"name": "dirichlet", "clients": 4, "alpha": 0.5}, seed=3)
    made = FederatedData.from_partition(x, LABELS, Dirichlet(4, alpha=0.5), seed=3)
    assert np.array_equal(named.label_counts(), made.label_counts())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("dirichle", r"^partitioner\.name: unknown partitioner 'dirichle' \(did you mean 'dirichlet'\?\)"),
        ({"name": "iid", "alpha": 1}, r"^partitioner\.alpha: unknown key"),
        (None, r"^partitioner\.name: a partitioner is needed; known: "),
        (Dirichlet, r"^partitioner: expected a partitioner or the name of one \(.*\), got the class Dirichlet$"),
        (object(), r"^partitioner: expected a partitioner, such as .*; this is an object$"),
        (IID(clients=0), r"^partition\.clients: must be at least 1, got 0$"),
    ],
)
def test_what_is_no_partitioner_is_refused(given: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FederatedData.from_partition(np.zeros((len(LABELS), 1)), LABELS, given)
    assert chosen(IID(3)) == IID(3)

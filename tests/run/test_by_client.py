"""Numbers of each client, and their spread: each client once, in the order of the clients, whoever reported first."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from fedray.core.losses import mse
from fedray.core.messages import BlockReport, Failure
from fedray.core.places import Places
from fedray.data.spec import DataSpec
from fedray.metrics import ConfusionMatrix, Measures, measured
from fedray.run.by_client import columns, from_columns, held_out, of_training, spread
from fedray.run.evaluation import HoldoutReport
from fedray.rundir.client_table import ClientRows
from fedray.tasks import Classification

METRIC = ConfusionMatrix()


def rows(values: list[float], examples: list[int] | None = None, metric: str = "accuracy") -> ClientRows:
    count = np.arange(len(values))
    seen = np.array(examples) if examples else np.ones(len(values), dtype=np.int64)
    return ClientRows("global", count, seen, {metric: np.array(values)})


def block(index: int, *clients: int) -> BlockReport:
    ids = np.array(clients, dtype=np.int64)
    return BlockReport(index, ids, np.ones(len(ids)), np.array(clients) / 10, 2 * ids, Places(), (), 0.0)


PAIRS = st.lists(st.tuples(st.floats(0, 1), st.integers(1, 50)), min_size=1, max_size=40)


@given(PAIRS)
def test_the_spread_is_that_of_numpy_and_of_the_standard_library(pairs: list[tuple[float, int]]) -> None:
    values, examples = (list(column) for column in zip(*pairs, strict=True))
    got = spread(rows(values, examples))["accuracy"]
    assert got["mean"] == pytest.approx(np.average(values, weights=examples))
    assert got["client_mean"] == pytest.approx(statistics.fmean(values))
    assert got["std"] == pytest.approx(statistics.pstdev(values), abs=1e-9)
    assert [got["p10"], got["p50"], got["p90"]] == pytest.approx(np.percentile(values, [10, 50, 90]).tolist())
    assert got["worst"] == pytest.approx(np.mean(sorted(values)[: -(-len(values) // 10)]))


@given(PAIRS)
def test_the_worst_of_a_loss_are_the_largest(pairs: list[tuple[float, int]]) -> None:
    values = [value for value, _ in pairs]
    worst = spread(rows(values, metric="loss"))["loss"]["worst"]
    assert worst == pytest.approx(-spread(rows([-value for value in values]))["accuracy"]["worst"])
    assert worst >= np.mean(values) - 1e-12


@given(PAIRS)
def test_a_client_as_often_as_it_has_examples_makes_both_means_one(pairs: list[tuple[float, int]]) -> None:
    repeated = [value for value, count in pairs for _ in range(count)]
    one = spread(rows(*(list(column) for column in zip(*pairs, strict=True))))["accuracy"]  # type: ignore[arg-type]
    assert spread(rows(repeated))["accuracy"]["client_mean"] == pytest.approx(one["mean"])


def test_a_client_without_a_finite_loss_is_among_the_worst() -> None:
    assert math.isnan(spread(rows([0.5, math.nan, 0.25], metric="loss"))["loss"]["worst"])


def test_training_is_told_client_by_client_in_their_order() -> None:
    one, other = (of_training(reports) for reports in ([block(0, 7, 2), block(1, 4)], [block(1, 4), block(0, 7, 2)]))
    for found in (one, other):
        assert (found.view, found.clients.tolist(), found.examples.tolist()) == ("train", [2, 4, 7], [4, 8, 14])
        assert found.metrics["loss"].tolist() == [0.2, 0.4, 0.7]
        again = from_columns({name: tensor.clone() for name, tensor in columns(found).items()})
        assert again.metrics["loss"].tolist() == [0.2, 0.4, 0.7]
        assert (again.clients.tolist(), again.examples.tolist()) == ([2, 4, 7], [4, 8, 14])
    assert of_training([]).clients.tolist() == []


def test_held_out_rows_are_those_of_who_could_be_reached() -> None:
    reports = [
        HoldoutReport(1, np.array([5]), {"global": {"loss": np.array([6.0])}}, np.array([3]), 0.0),
        HoldoutReport(0, np.array([2, 1]), {"global": {"loss": np.array([1.0, 8.0])}}, np.array([2, 4]), 0.0),
    ]
    none = np.zeros(0, dtype=np.int64)
    lost = HoldoutReport(2, none, {}, none, 0.0, (Failure(9, "nine", 1, "worker", "no node"),))
    (found,) = held_out([*reports, lost], Measures(mse))
    assert (found.view, found.clients.tolist(), found.examples.tolist()) == ("global", [1, 2, 5], [4, 2, 3])
    assert found.metrics["loss"].tolist() == [2.0, 0.5, 2.0]
    assert held_out([lost], Measures(mse)) == []


def test_each_client_has_its_own_counts_whoever_reported_first() -> None:
    """A class that nobody was known to have, too; and nothing of a client without counts."""
    measures = measured(cross_entropy, Classification().of(DataSpec((2,), 2, classes=("no", "yes"))), [METRIC])
    (metric,) = measures.summed
    state = metric.state(torch.eye(3), torch.tensor([0, 1, 1]))
    reports = [
        HoldoutReport(
            number,
            np.array(clients),
            {"global": {"loss": np.ones(len(clients))}},
            np.array([3] * len(clients)),
            0.0,
            apart={"global": {"confusion_matrix": states}},
        )
        for number, clients, states in ((0, [5], [state]), (1, [2, 1], [{}, state]))
    ]
    expected = [
        {"true": true, "predicted": said, "count": 1} for true, said in (("no", "no"), ("yes", "yes"), ("yes", "2"))
    ]
    for order in (reports, reports[::-1]):
        (found,) = held_out(order, measures)
        assert found.clients.tolist() == [1, 2, 5]
        assert found.cells == {"confusion_matrix": [expected, None, expected]}


def test_clients_that_a_metric_gives_no_value_are_left_out_of_its_spread() -> None:
    values = np.array([0.5, np.nan, 1.0])
    told = ClientRows("global", np.arange(3), np.array([4, 4, 2]), {"f1": values}, {"f1": 0.6})
    found = spread(told)["f1"]
    assert (found["mean"], found["client_mean"], found["p50"], found["worst"]) == (0.6, 0.75, 0.75, 0.5)
    nobody = ClientRows("global", np.arange(1), np.array([4]), {"f1": np.array([np.nan])}, {"f1": 0.0})
    assert spread(nobody)["f1"]["mean"] == 0.0
    assert np.isnan(spread(nobody)["f1"]["p10"])

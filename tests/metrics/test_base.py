"""Metrics and counts: their laws, and what a person may give as one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.experiment.chosen import chosen_metrics
from fedray.metrics import F1, MSE, Accuracy, Counts, FunctionMetric, Metric
from fedray.metrics.given import as_metric
from fedray.metrics.sums import added
from fedray.tasks import Classification, Regression

KEYS = st.lists(st.integers(0, 9), max_size=8).map(lambda keys: np.array(keys, dtype=np.int64))


def same(a: Counts, b: Counts) -> bool:
    return np.array_equal(a.keys, b.keys) and np.array_equal(a.counts, b.counts)


@given(st.lists(KEYS, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_counts_are_a_commutative_monoid(parts: list[np.ndarray], random: object) -> None:
    whole = Counts.of(np.concatenate(parts))
    counted = [Counts.of(part) for part in parts]
    assert same(Counts.merged(counted), whole)
    random.shuffle(counted)  # type: ignore[attr-defined]
    assert same(Counts.merged([Counts.merged(counted[:1]), *counted[1:], Counts.of(parts[0][:0])]), whole)


def test_negative_keys_are_none() -> None:
    assert same(Counts.of(np.array([-1, 3, -1])), Counts.of(np.array([3])))


def test_states_are_added_name_by_name() -> None:
    one = {"total": torch.tensor([1.0, 2.0]), "pairs": Counts.of(np.array([1]))}
    both = added([one, one])
    assert both["total"].tolist() == [2.0, 4.0]
    assert both["pairs"].counts.tolist() == [2]


@pytest.mark.parametrize(
    ("metric", "task", "words"),
    [(F1(), Regression(), "f1 is a metric of classes"), (MSE(), Classification(), "mse is a metric of numbers")],
)
def test_a_metric_of_another_kind_of_task_is_refused(metric: Metric, task: Regression, words: str) -> None:
    with pytest.raises(ConfigError, match=f"{words}, and the task is {task.name}"):
        metric.of(task)


@pytest.mark.parametrize("value", [torch.zeros(()), torch.zeros(3, 2), 1.0])
def test_a_function_gives_a_value_for_each_example(value: object) -> None:
    metric = FunctionMetric(lambda output, target: value, "mine")  # type: ignore[arg-type, return-value]
    with pytest.raises(ConfigError, match=r"mine: it must give one value for each example, \(3,\), got"):
        metric.on(torch.zeros(3, 2), torch.zeros(3, 2))


OWN = """
from dataclasses import dataclass
import torch
from fedray.metrics import Metric


def within(output, target, limit=1.0):
    return ((output - target).abs() < limit).float().mean(dim=1)


@dataclass(frozen=True)
class Largest(Metric):
    label: str = "share"
    power: float = 1.0

    def update(self, output, target):
        return {"sum": output.abs().pow(self.power).sum(dim=1), "count": torch.ones(len(output))}

    def compute(self, state):
        return {"mean": float(state["sum"] / state["count"]), "sum": float(state["sum"])}


class Plain(Metric):
    def update(self, output, target):
        return {"n": torch.ones(len(output))}

    def compute(self, state):
        return float(state["n"])
"""


def test_metrics_of_ones_own_are_named_by_their_import_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_metrics.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    nodes = [{"name": "own_metrics:within", "limit": 2.0}, {"name": "own_metrics:Largest", "power": 2.0}]
    found = chosen_metrics([*nodes, "own_metrics:Plain"])
    assert found is not None
    within, largest, plain = (as_metric(getattr(part, "make", lambda p=part: p)(), "metrics") for part in found)
    output, target = torch.tensor([[1.0], [3.0]]), torch.zeros(2, 1)
    assert (within.title, within.on(output, target)) == ("within", 0.5)
    assert largest.numbers(largest.of(Regression()).state(output, target)) == {"share_mean": 5.0, "share_sum": 10.0}
    assert (plain.title, plain.on(output, target)) == ("plain", 2.0)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ("f1", r"metrics: a list is needed, such as \[accuracy, auroc\]"),
        (["acuracy"], r"metrics\[0\]\.name: unknown metric 'acuracy' \(did you mean 'accuracy'\?\)"),
        ([{"name": "f1", "averge": "macro"}], r"metrics\[0\]\.averge: unknown key \(did you mean 'average'\?\)"),
        ([{"name": "f1", "average": "mean"}], r"metrics\[0\]\.average: .*'mean'"),
        ([Accuracy], r"metrics\[0\]: expected a metric.*got the class Accuracy"),
        ([3], r"metrics\[0\]"),
    ],
)
def test_what_is_no_metric_is_refused(nodes: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        chosen_metrics(nodes)

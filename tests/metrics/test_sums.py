"""Sums over groups of examples: as many passes, and as many cuts, as there are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedray.metrics import AUROC, F1, R2, ConfusionMatrix, Metric
from fedray.metrics.sums import Counts, State, added, on_host, sums
from fedray.tasks import Task, inferred

DRAW = torch.Generator().manual_seed(6)
CLASSES = torch.randn(60, 3, generator=DRAW), torch.randint(0, 3, (60,), generator=DRAW)
NUMBERS = torch.randn(60, 2, generator=DRAW), torch.randn(60, 2, generator=DRAW)
GROUP = np.random.default_rng(7).integers(0, 4, 60)


class Reduced(Metric):
    """Sums that are no sums of what single examples say."""

    label = "reduced"

    def update(self, output: torch.Tensor, target: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"output": output}

    def reduce(self, rows: dict[str, torch.Tensor]) -> State:  # type: ignore[override]
        return {"ones": torch.tensor(float(len(rows["output"])))}

    def compute(self, state: State) -> float:
        return float(state["ones"])


def close(a: object, b: object) -> bool:
    if isinstance(a, Counts) and isinstance(b, Counts):
        return np.array_equal(a.keys, b.keys) and np.array_equal(a.counts, b.counts)
    assert isinstance(a, torch.Tensor)
    return torch.allclose(a, b)  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", [F1(), ConfusionMatrix(), AUROC(), R2(), Reduced()], ids=lambda m: m.title)
def test_groups_at_once_are_each_alone_and_add_up_to_all(metric: Metric) -> None:
    output, target = NUMBERS if metric.title in ("r2", "reduced") else CLASSES
    task: Task = inferred(output, target)
    metric = metric.of(task)
    together = metric.states(on_host(metric.update(output, target)), GROUP, 5)
    for place in range(4):
        alone = metric.state(output[place == GROUP], target[place == GROUP])
        assert all(close(alone[name], together[place][name]) for name in alone)
    whole, total = metric.state(output, target), added(together)
    assert all(close(whole[name], total[name]) for name in whole)


def test_sums_are_those_of_rows_in_their_order() -> None:
    values = np.random.default_rng(8).standard_normal((60, 2, 3))
    found = sums(values, GROUP, 4)
    for place in range(4):
        np.testing.assert_allclose(found[place], values[place == GROUP].sum(axis=0))

"""The memory of a run, counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedray.experiment.estimate.memory import activation_bytes, memory
from tests.experiment.estimate.plans import prepared


def test_memory_of_plain_averaging_by_hand(small: Path) -> None:
    _, plan, server = prepared(small, "local.stack=4", "local.optimizer={name: adam}")
    costs = memory(plan, server, 2)
    assert costs.worker == {
        "broadcast": 4 * 53,
        "accumulator": 8 * 53,
        "block sum": 4 * 53,
        "local models": 4 * 4 * 53,
        "gradients": 4 * 4 * 2 * 53,
        "optimizer": 4 * 4 * 2 * 53,  # two moments
        "client state": 0,
        "other parts sent": 0,
        "transforms": 0,
        "activations": 4 * activation_bytes(plan),
        "other devices": 0,
    }
    assert costs.driver == {"model": 4 * 53, "server state": 0, "aggregation": 12 * 53, "checkpoint": 4 * 53}
    assert (costs.checkpoint, costs.state) == (4 * 53, 0)


@pytest.mark.parametrize("steps", ["local.batch_size=4", "local.steps=3"])
def test_clients_that_finish_early_need_no_second_model(steps: str, small: Path) -> None:
    unequal = "data={name: digits, partition: {name: quantity, clients: 8}}"
    _, plan, server = prepared(small, unequal, "local.stack=4", steps)
    assert memory(plan, server, 2).worker["local models"] == 4 * 4 * plan.layout.size


def test_memory_of_several_devices_by_hand(small: Path) -> None:
    _, plan, server = prepared(small, "local.stack=off", "worker.gpus=3")
    costs = memory(plan, server, 2).worker
    assert costs["gradients"] == 4 * 3 * 53  # its own, joined, those that arrive
    assert costs["other devices"] == 2 * 4 * (53 + 2 * 53)


def test_gathered_aggregation_grows_with_the_cohort_and_nothing_else_does(small: Path) -> None:
    for aggregator, grows in (("median", True), ("mean", False)):
        totals = []
        for clients in (2, 4, 8):
            sampler = f"sampler={{name: uniform, clients: {clients}}}"
            _, plan, server = prepared(small, f"aggregator={aggregator}", sampler, "local.stack=1")
            totals.append(sum(memory(plan, server, 2).driver.values()))
        assert np.ptp(np.diff(totals) / np.array([2, 4])) == 0
        assert (totals[-1] > totals[0]) is grows


def test_who_reads_a_few_columns_at_a_time_holds_no_cohort(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedray.experiment.estimate.memory.COLUMNS", 8)

    def aggregation(aggregator: str, clients: int, *more: str) -> int:
        sampler = f"sampler={{name: uniform, clients: {clients}}}"
        _, plan, server = prepared(small, f"aggregator={aggregator}", sampler, "local.stack=1", *more)
        return memory(plan, server, 2).driver["aggregation"]

    for aggregator in ("median", "trimmed_mean", "geometric_median"):
        assert aggregation(aggregator, 4) == aggregation(aggregator, 8)
    for options in ("krum, byzantine: 0", "multi_krum, byzantine: 0", "centered_clip, radius: 1.0"):
        assert aggregation(f"{{name: {options}}}", 4) == aggregation(f"{{name: {options}}}", 8)
    # Attackers that look at all of a cohort have all of it brought to the driver.
    looks = "attack={name: alie, clients: 0.3}"
    assert aggregation("median", 8, looks) - aggregation("median", 4, looks) == 4 * 4 * 53


def test_activations_are_what_autograd_keeps(small: Path) -> None:
    # A batch of 5 inputs of 6 for the first layer, the 5 hidden values after ReLU, log-probabilities of 3 classes,
    # the targets, and the scalar weight of the mean.
    _, plan, _ = prepared(small)
    floats = 4 * 5 * (6 + 5 + 3)
    assert floats <= activation_bytes(plan) <= floats + 8 * 5 + 64
    _, wider, _ = prepared(small, "local.batch_size=10")
    assert 1.8 * activation_bytes(plan) < activation_bytes(wider) < 2.2 * activation_bytes(plan)

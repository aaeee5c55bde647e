"""A round's aggregate, and what its record says of attackers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fedray.aggregators import CenteredClip, Krum, Median, MultiKrum
from fedray.attacks import ALIE, SignFlip
from fedray.core.errors import RunFailed
from fedray.core.messages import BlockReport, Broadcast
from fedray.core.record import RoundRecord
from fedray.run.aggregation import aggregate
from fedray.run.executor import InlineExecutor
from fedray.sampling import Uniform
from tests.helpers import Federation, class_problem, federation


def folded(run: Federation) -> tuple[dict[str, torch.Tensor], list[BlockReport]]:
    """What a first round brings to the server."""
    executor, plan = InlineExecutor(run.job), run.plan
    executor.publish(Broadcast(1, {"model": run.vector}, 6.0))
    reports = executor.run(plan.blocks(1, plan.cohort(1), run.state.store), lambda: False)
    executor.close()
    return executor.collect(), [report for report in reports or [] if isinstance(report, BlockReport)]


def test_what_was_kept_stays_as_it_was(tmp_path: Path) -> None:
    run = federation(class_problem(), tmp_path, aggregator=CenteredClip(0.05))
    record = RoundRecord(1)
    total, kept = aggregate(run.plan, run.state.kept, *folded_first(run), record)
    assert not run.state.kept["delta"].any()
    assert torch.equal(kept["delta"], total.parts["delta"])
    assert (total.count, total.weight) == (6, 37.0)
    assert sorted(record.metrics["centered_clip"]) == ["clipped", "share"]


def folded_first(run: Federation) -> tuple[dict[str, torch.Tensor], float, list[BlockReport]]:
    rows, reports = folded(run)
    return rows, 6.0, reports


def test_too_few_for_the_aggregator_are_no_aggregate(tmp_path: Path) -> None:
    run = federation(class_problem((4, 5)), tmp_path, aggregator=Krum(0))
    with pytest.raises(
        RunFailed, match=r"^aggregator: Krum\(byzantine=0\) needs 3 updates at least, and round 1 has 2:"
    ):
        aggregate(run.plan, {}, *folded_first(run), RoundRecord(1))


def test_attackers_of_a_round_and_their_share_are_told(tmp_path: Path) -> None:
    sizes = np.random.default_rng(0).integers(5, 9, 20).tolist()
    clients = ["1", "3", "8", "12"]
    run = federation(
        class_problem(sizes),
        tmp_path,
        aggregator=MultiKrum(2, keep=3),
        attack=SignFlip(clients, scale=50.0),
        sampler=Uniform(12),
        rounds=4,
    )
    records = run.run()
    for number, record in enumerate(records, 1):
        cohort = {str(client) for client in run.plan.cohort(number).tolist()}
        assert record.attackers == [name for name in clients if name in cohort]
        assert record.metrics["attack"] == {"share": 0.0}
    assert len({tuple(record.attackers) for record in records}) > 1


def test_an_aggregator_without_shares_tells_none_and_no_attack_nobody(tmp_path: Path) -> None:
    (record,) = federation(class_problem(), tmp_path, aggregator=Median(), attack=ALIE(0.5), rounds=1).run()
    assert len(record.attackers) == 3
    assert "attack" not in record.metrics
    (record,) = federation(class_problem(), tmp_path, aggregator=Krum(0), rounds=1).run()
    assert (record.attackers, list(record.metrics)) == ([], ["krum"])

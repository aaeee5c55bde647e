"""A round's aggregate, and what its record says of attackers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fedray.aggregators import CenteredClip, Krum, Median, MultiKrum
from fedray.algorithms import FedAvg
from fedray.attacks import ALIE, SignFlip
from fedray.core.errors import RunFailed
from fedray.core.layout import Layout
from fedray.core.messages import Aggregate, BlockReport, Broadcast, Parts
from fedray.core.now import Now
from fedray.core.record import RoundRecord
from fedray.run.aggregation import aggregate, tell
from fedray.run.executor import InlineExecutor
from fedray.sampling import Poisson, Uniform
from fedray.server import SGD, Server
from fedray.tracking.tensorboard import scalars
from fedray.transforms import Transform
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


def test_parts_of_one_name_are_told_apart() -> None:
    record = RoundRecord(1)
    for share in (0.25, 0.5):
        tell(record, "clip", {"share": share}, {"norm": torch.tensor(2.0)})  # type: ignore[dict-item]
    tell(record, "topk", None, {})
    assert record.metrics == {"clip": {"share": 0.25, "norm": 2.0}, "clip_2": {"share": 0.5, "norm": 2.0}}


@pytest.mark.parametrize("told", [{"a": torch.ones(2)}, {"a": "much"}, 0.5, {"a": None}])
def test_what_is_no_number_ends_the_run_in_words(told: Any) -> None:
    with pytest.raises(RunFailed, match=r"^round 3: mine must tell numbers by name: "):
        tell(RoundRecord(3), "mine", told)


@dataclass(frozen=True)
class Talkative(FedAvg):
    """Tells how far the model moves, and counts the rounds."""

    def start(self, s: Server) -> Parts:
        return {"rounds": torch.zeros(())}

    def step(self, s: Server, total: Aggregate) -> Mapping[str, float]:
        s.move(total["delta"])
        return {"length": float(total["delta"].norm()), "rounds": float(s.state["rounds"].add_(1.0))}


class Counting(Transform):
    """Tells how many there were; in a round of nobody as well."""

    hides_empty = True

    def on_aggregate(self, total: Aggregate, now: Now) -> Mapping[str, float]:
        now.metrics["round"] = now.round
        return {"count": total.count}


@dataclass(frozen=True)
class Loud(SGD):
    """Tells what it was given."""

    def step(  # type: ignore[override]
        self, params: torch.Tensor, delta: torch.Tensor, lr: float, state: Parts, layout: Layout
    ) -> Mapping[str, float]:
        super().step(params, delta, lr, state, layout)
        return {"norm": float(delta.norm())}


def test_what_any_hook_tells_is_in_the_record_of_its_round_also_where_nobody_came(tmp_path: Path) -> None:
    halving = Loud(lr_schedule={"name": "exponential", "gamma": 0.5})
    parts = {"transforms": [Counting()], "aggregator": CenteredClip(0.05), "server": halving}
    run = federation(class_problem(), tmp_path, Talkative(), sampler=Poisson(0.2), rounds=8, **parts)  # type: ignore[arg-type]
    records = run.run()
    assert 0 in [record.clients["ok"] for record in records]
    for number, record in enumerate(records, start=1):
        assert record.metrics["Counting"] == {"count": record.clients["ok"], "round": number}
        assert record.metrics["Talkative"]["rounds"] == number
        assert record.metrics["sgd"] == {"norm": record.metrics["Talkative"]["length"], "lr": 0.5 ** (number - 1)}
        assert ("centered_clip" in record.metrics) is (record.clients["ok"] > 0)
        assert scalars(record)["Talkative/rounds"] == number
        assert RoundRecord.from_json(record.to_json()) == record


class Still(FedAvg):
    """Does not do what it says."""

    def step(self, s: Server, total: Aggregate) -> None:
        s.params.add_(total["delta"])


def test_an_algorithm_that_leaves_the_server_optimizer_out_without_saying_so_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        federation(class_problem(), tmp_path, Still(), server=SGD(0.5)).run()
    (told,) = (record.getMessage() for record in caplog.records)
    assert told.startswith("Still gave no update to s.move, so that the server optimizer sgd is without effect")

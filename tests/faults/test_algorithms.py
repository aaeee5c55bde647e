"""Algorithms on real worker processes, one of which dies: the bits of a quiet run in one process.

Each registered algorithm meets the death and a resume on two workers of one node, which go from one algorithm to the
next.  On two nodes, and in processes of their own, are those that between them have, and lack, all that nodes can tell
apart.  Every algorithm has the same law in ``tests/laws/test_runs.py``, among the fast tests, on workers with the code
of these and objects of the test's own in the place of their processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from fedray.algorithms import AFL, Centralized, Ditto, FedAMP, FedPer, HeteroFL, Mime, Scaffold, StreamingDiLoCo
from fedray.algorithms.base import Algorithm
from fedray.cluster.place.slots import WorkerArgs
from fedray.cluster.work.executor import RayExecutor
from fedray.core.record import VIEWS, RoundRecord
from tests.faults.kept import Hosts
from tests.faults.nights import all_present, go
from tests.faults.nodes import Nodes, fault
from tests.helpers import Federation, remembered
from tests.laws.parts import ALGORITHMS, every
from tests.laws.typed import Typed
from tests.laws.usual import PIECES, ROUNDS, usual

pytestmark = pytest.mark.slow

IN_A_BLOCK = ["worker.block", "worker.trained", "worker.folded"]
POINTS = [*IN_A_BLOCK, "worker.reply"]

EVERY: list[Algorithm] = [*ALGORITHMS, Typed()]

ON_TWO_NODES: list[Algorithm] = [
    Scaffold(),
    AFL(gamma=0.5),
    Ditto(lam=0.5),
    FedPer(),
    Mime(),
    FedAMP(alpha=1.0),
    HeteroFL(),
    Centralized(),
    StreamingDiLoCo(keep=False, alpha=0.5),
    Typed(),
]


def traits(algorithm: Algorithm, folder: Path) -> dict[str, bool]:
    """What of an algorithm shows in blocks, accumulators, broadcasts and in the rows that are kept of clients."""
    plan = usual(folder, algorithm).plan
    profile, layout = plan.task.profile, plan.layout
    names = ("sends", "keeps", "slots", "surveys", "apart", "others")
    return {
        **{name: bool(getattr(profile, name)) for name in names},
        "shares": layout.shared > 0,
        "personal": layout.personal > 0,
        "pools": algorithm.pools,
        "variants": bool(algorithm.variants()),
        "fragments": plan.task.fragments is not None,
    }


def test_whatever_an_algorithm_has_is_seen_on_two_nodes_and_so_is_what_it_lacks(tmp_path: Path) -> None:
    """An algorithm with something that none of these has is to be added to them."""
    seen = {trait for place, one in enumerate(ON_TWO_NODES) for trait in traits(one, tmp_path / f"{place}").items()}
    others = {str(one): traits(one, tmp_path / f"other{place}") for place, one in enumerate(EVERY)}
    assert {name: found.items() - seen for name, found in others.items() if found.items() - seen} == {}


def seen(records: Sequence[RoundRecord]) -> list[Any]:
    """Evaluations, whose last bits depend on where rows lie in the memory of a process."""
    views = [getattr(record, section) for record in records for section in ("test", *VIEWS.values())]
    return [number for view in views for value in view.values() for number in _numbers(value)]


def _numbers(value: Any) -> list[float]:
    return list(value.values()) if isinstance(value, dict) else [value]


def told_alike(records: Sequence[RoundRecord], expected: Sequence[RoundRecord]) -> None:
    """What anybody is told is that of the quiet run."""
    for record, other in zip(records, expected, strict=True):
        assert record.model_sha256 == other.model_sha256, f"round {record.round}"
        assert (record.train, record.clients, record.metrics) == (other.train, other.clients, other.metrics)
        assert record.evaluated == other.evaluated
    assert seen(records) == pytest.approx(seen(expected), rel=1e-5, abs=1e-6)


def left_alike(one: Federation, quiet: Federation) -> None:
    """The model, and what clients remember, are those of the quiet run."""
    assert torch.equal(one.vector, quiet.vector)
    kept = remembered(quiet)
    assert {name for name, part in remembered(one).items() if not torch.equal(part, kept[name])} == set()


@pytest.fixture(scope="module")
def hosts(nodes: Nodes) -> Iterator[Hosts]:
    """Worker processes of the first node."""
    nodes.plan()
    found = Hosts(nodes.id("head"))
    yield found
    found.close()


@every("algorithm", EVERY)
def test_an_algorithm_whose_worker_dies_and_which_is_taken_up_again(
    algorithm: Algorithm, nodes: Nodes, hosts: Hosts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies in the second round of all, that is in its survey if there is one; the third is another executor's."""
    monkeypatch.setattr(*PIECES)
    quiet = usual(tmp_path / "quiet", algorithm)
    expected = quiet.run()
    # Of two workers, the first to reply may have done nothing.
    nodes.plan(head=[fault(IN_A_BLOCK[EVERY.index(algorithm) % len(IN_A_BLOCK)], 2)])
    one, two = (usual(tmp_path / "run", algorithm) for _ in range(2))
    one.executor = two.executor = hosts.executor(monkeypatch)
    records = one.run(2)
    assert nodes.to_come() == []
    assert records[2].usage["retries"] >= 1
    two.restore(one.saves[-1])
    # The second round's record is told with its evaluation, which who goes on from the checkpoint does again.
    told_alike([*records[:2], *two.run()], expected)
    left_alike(two, quiet)


@every("algorithm", ON_TWO_NODES)
def test_an_algorithm_whose_workers_die_on_two_nodes(
    algorithm: Algorithm, nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the second round of all, that is in its survey if there is one, and in the third beside the evaluation."""
    monkeypatch.setattr(*PIECES)
    quiet = usual(tmp_path / "quiet", algorithm)
    expected = quiet.run()
    number = ON_TWO_NODES.index(algorithm)
    where = ["head", "second"][number % 2]
    nodes.plan(**{where: [fault(POINTS[number // 2 % len(POINTS)], 2), fault("worker.reply", 3)]})
    one = usual(tmp_path / "nodes", algorithm)
    executor = RayExecutor(one.job, WorkerArgs(workers=1))
    try:
        all_present(executor, 2)
        records = go(one, executor)
    finally:
        executor.close()
    assert nodes.to_come() == []
    told_alike(records, expected)
    left_alike(one, quiet)
    assert records[ROUNDS - 1].usage["retries"] >= 1


def test_of_fragments_a_node_is_told_what_has_moved(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the first round all of the model goes to it, in the others a part; the bits are those of one process."""
    algorithm, sent = StreamingDiLoCo(keep=False, fragments=2, alpha=0.5), list[int]()
    quiet, one = usual(tmp_path / "quiet", algorithm), usual(tmp_path / "nodes", algorithm)
    expected = quiet.run()
    nodes.plan()
    executor = RayExecutor(one.job, WorkerArgs(workers=1))
    publish = executor._transport.publish

    def counted(*args: Any) -> int:
        sent.append(publish(*args))
        return sent[-1]

    monkeypatch.setattr(executor._transport, "publish", counted)
    try:
        all_present(executor, 2)
        records = go(one, executor)
    finally:
        executor.close()
    told_alike(records, expected)
    left_alike(one, quiet)
    assert sent[0] == 4 * one.plan.layout.size
    assert all(told < sent[0] for told in sent[1:])

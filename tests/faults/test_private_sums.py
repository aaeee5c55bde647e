"""Privacy and secure sums on two nodes, one of whose workers dies: the bits and the ledger of one process."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.algorithms import Scaffold
from fedray.cluster.place.slots import WorkerArgs
from fedray.cluster.work.executor import RayExecutor
from fedray.privacy.ledger import Ledger
from fedray.privacy.section import Privacy
from fedray.run.executor import InlineExecutor
from fedray.run.worker import Job
from fedray.sampling import Poisson
from tests.faults.nights import all_present
from tests.faults.nodes import Nodes, fault
from tests.helpers import Federation
from tests.laws import test_private_runs as private

pytestmark = pytest.mark.slow


def made(kind: str, folder: Path) -> tuple[Federation, Ledger]:
    ledger = Ledger.begin(folder / f"{kind}.jsonl")
    if kind == "central":
        said = Privacy(noise_multiplier=0.5, norm=0.5, noise="seeded", accountant="rdp")
        return private.made(folder / kind, Scaffold(), said, ledger, Poisson(0.9)), ledger
    said = Privacy(model="distributed", noise_multiplier=0.5, norm=0.5, noise="seeded")
    return private.of_shares(folder / kind, Scaffold(), said, ledger), ledger


@pytest.mark.parametrize("kind", ["central", "distributed"])
def test_bits_and_ledger_are_those_of_one_process(kind: str, nodes: Nodes, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    nodes.plan()
    quiet, alone = made(kind, tmp_path / "one")
    quiet.executor = InlineExecutor
    hashes = [record.model_sha256 for record in quiet.run()]
    assert len({*hashes}) == len(hashes) == private.ROUNDS

    def on_both(job: Job) -> RayExecutor:
        executor = RayExecutor(job, WorkerArgs(workers=1))
        all_present(executor, 2)
        return executor

    nodes.plan(second=[fault("worker.folded", 2)])
    run, ledger = made(kind, tmp_path / "two")
    run.executor = on_both
    records = run.run()
    assert nodes.to_come() == []
    assert [record.model_sha256 for record in records] == hashes
    assert {record.usage["nodes"] for record in records} == {2}
    assert ledger.entries == alone.entries
    assert len(ledger) == private.ROUNDS

"""Differential privacy and secure sums over a real transport: bits and ledger are those of one process."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from fedray.algorithms import Scaffold
from fedray.cluster.place.slots import WorkerArgs
from fedray.cluster.work.executor import RayExecutor
from fedray.core.messages import Block
from fedray.privacy.client_ledger import ClientLedger
from fedray.privacy.ledger import Ledger
from fedray.privacy.section import Privacy
from fedray.run.executor import InlineExecutor
from fedray.run.worker import Job
from fedray.sampling import Poisson
from tests.cluster import problem
from tests.helpers import Federation
from tests.laws import test_private_runs as private
from tests.laws import test_secure_runs as secure


def killing(workers: int, there: frozenset[int], killed: list[int]) -> Callable[[Job], RayExecutor]:
    """The maker of an executor that kills one of its workers in its second round; ``there`` are those of others."""

    def make(job: Job) -> RayExecutor:
        executor, rounds = RayExecutor(job, WorkerArgs(workers=workers)), [0]
        work = executor.run

        def run(blocks: Sequence[Block], stopping: Callable[[], bool]) -> object:
            rounds[0] += 1

            def deadly() -> bool:
                if rounds[0] == 2 and not killed and (found := {*problem.processes("ray::WorkerActor")} - there):
                    killed.append(min(found))
                    os.kill(killed[0], signal.SIGKILL)
                return stopping()

            return work(blocks, deadly)

        executor.run = run  # type: ignore[method-assign,assignment]
        return executor

    return make


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Callable[[str], tuple[Federation, Path]]]:
    """Makers of runs, by what is private about them, each with the place of its ledger."""
    folder = tmp_path_factory.mktemp("private")

    def central(name: str) -> tuple[Federation, Path]:
        ledger = folder / f"central-{name}.jsonl"
        privacy = Privacy(noise_multiplier=0.5, norm=0.5, noise="seeded", accountant="rdp")
        whole = private.made(folder / f"central-{name}", Scaffold(), privacy, Ledger.begin(ledger), Poisson(0.9))
        return whole, ledger

    def local(name: str) -> tuple[Federation, Path]:
        ledger = folder / f"local-{name}.jsonl"
        privacy = Privacy(noise_multiplier=0.5, norm=0.5, model="local")
        return private.of_clients(folder / f"local-{name}", Scaffold(), privacy, ClientLedger.begin(ledger)), ledger

    def sums(name: str) -> tuple[Federation, Path]:
        return secure.made(folder / f"sums-{name}", Scaffold()), folder / "none"

    return {"central": central, "local": local, "secure_sum": sums}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "workers"), [("central", 2), ("central", 3), ("local", 3), ("secure_sum", 2), ("secure_sum", 3)]
)
def test_bits_and_ledger_are_those_of_one_process(
    kind: str,
    workers: int,
    made: dict[str, Callable[[str], tuple[Federation, Path]]],
    four_cpus: None,
) -> None:
    quiet, ledger = made[kind](f"{workers}-quiet")
    quiet.executor = InlineExecutor
    hashes = [record.model_sha256 for record in quiet.run()]
    assert len({*hashes}) == len(hashes) == private.ROUNDS
    killed: list[int] = []
    run, other = made[kind](f"{workers}-ray")
    run.executor = killing(workers, frozenset(problem.processes("ray::WorkerActor")), killed)
    assert [record.model_sha256 for record in run.run()] == hashes
    assert len(killed) == 1
    assert killed[0] not in problem.processes("ray::")
    if kind != "secure_sum":
        owner: type[Ledger | ClientLedger] = ClientLedger if kind == "local" else Ledger
        # How many releases were reserved at once is up to the clock.
        lines, others = [*owner.read(ledger)], [*owner.read(other)]
        assert lines == others
        assert len(lines) >= private.ROUNDS

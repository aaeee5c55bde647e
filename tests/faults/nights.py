"""Small federations on several nodes, and what must hold after every fault."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fedray
from fedray.cluster.work.executor import RayExecutor
from fedray.config.sections import FailuresSection
from fedray.core.messages import Ints
from fedray.core.record import RoundRecord
from fedray.run.loop import Rounds
from tests.faults.nodes import eventually
from tests.helpers import Federation, class_problem, federation

SIZES = [*range(1, 31)]
DROP = FailuresSection(on_failure="drop")
Lost = Mapping[int, set[str]]
"""Names of the clients that give no update, by round."""


def small(folder: Path, rounds: int = 3, stack: int = 2, **parts: Any) -> Federation:
    """Thirty clients of 1 to 30 examples, in 15 blocks."""
    return federation(class_problem(sizes=SIZES, test=40), folder, rounds=rounds, stack=stack, **parts)


def go(one: Federation, executor: RayExecutor) -> list[RoundRecord]:
    """All rounds, on an executor that outlives them."""
    return list(Rounds(one.plan, one.state, executor, lambda state: None))


def all_present(executor: RayExecutor, groups: int) -> None:
    """Wait until so many nodes can work, those included that a round would set up before it begins."""

    def present() -> bool:
        executor.nodes.settle()
        return len(executor.nodes.present()) == groups

    executor.wait()
    eventually(present, f"{groups} groups")


@dataclass(frozen=True)
class Listed(fedray.Full):
    """Everybody, but in one round only those listed."""

    clients: tuple[int, ...] = ()
    in_round: int = 0

    def cohort(self, sizes: Ints, seed: int, round: int) -> Ints:
        """The clients of a round."""
        return np.array(self.clients, dtype=np.int64) if round == self.in_round else super().cohort(sizes, seed, round)


def quiet(folder: Path, rounds: int = 3, lost: Lost | None = None, **parts: Any) -> list[RoundRecord]:
    """The run to compare with: one process, no faults, configured without those who were lost."""
    one = small(folder, rounds, **parts)
    index = {one.plan.task.data.client_id(i): i for i in range(len(SIZES))}
    left_out = {round: frozenset(index[name] for name in names) for round, names in (lost or {}).items()}
    one.plan = replace(one.plan, left_out=left_out)
    return one.run()


def failed(records: Sequence[RoundRecord]) -> dict[int, set[str]]:
    """Who gave no update."""
    return {r.round: {failure["client"] for failure in r.failures} for r in records if r.failures}


def same_bits(records: Sequence[RoundRecord], expected: Sequence[RoundRecord]) -> None:
    """Every update counted once, with the weights of those who gave one, to the same model and metrics."""
    assert [record.round for record in records] == [record.round for record in expected]
    for record, other in zip(records, expected, strict=True):
        assert record.model_sha256 == other.model_sha256, f"round {record.round}"
        assert (record.clients, record.examples, record.weight) == (other.clients, other.examples, other.weight)
        assert record.train == other.train
        # The test rows lie elsewhere in memory in another process, and matmul's last bit depends on their alignment.
        assert record.test == pytest.approx(other.test, rel=1e-6)
        assert record.clients["ok"] + record.clients["failed"] == len(SIZES)
        gone = {int(failure["client"]) for failure in record.failures}
        assert record.weight == float(np.delete(np.array(SIZES), sorted(gone)).sum())

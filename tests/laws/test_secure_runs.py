"""Runs with secure sums have the same bits on any number of workers, after deaths, failures and resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fedray.algorithms import FedAvg, FedPer, Scaffold
from fedray.algorithms.base import Algorithm
from fedray.config.sections import FailuresSection
from fedray.sampling import Uniform
from fedray.transforms import SecureSum
from tests.cluster.work.within import Deaths, workers_within
from tests.helpers import Federation, class_problem, federation

PROBLEM, ROUNDS = class_problem((7, 3, 12, 9, 1, 5, 8, 4), test=20), 4


def made(folder: Path, algorithm: Algorithm) -> Federation:
    run = federation(
        PROBLEM,
        folder,
        algorithm,
        transforms=[SecureSum(0.3, bits=24)],
        sampler=Uniform(6),
        rounds=ROUNDS,
        failures=FailuresSection(dropout=0.2),
        checkpoint_every=2,
    )
    run.plan = replace(run.plan, left_out={1: frozenset([0, 2]), 3: frozenset([4])})
    return run


@pytest.mark.parametrize("algorithm", [FedAvg(), Scaffold(), FedPer()], ids=lambda one: type(one).__name__)
def test_bits_are_those_of_one_process(algorithm: Algorithm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = made(tmp_path / "whole", algorithm)
    records = whole.run()
    hashes = [record.model_sha256 for record in records]
    assert len(set(hashes)) == ROUNDS
    # Somebody's masks are taken off in some round: of who dropped out, and of who failed.
    assert sum(record.clients["dropped"] for record in records) > 0
    assert any(record.failures for record in records)

    def on(count: int, dies: Deaths, name: str) -> Federation:
        run = made(tmp_path / name, algorithm)
        run.executor = workers_within(monkeypatch, count, dies)
        return run

    one = on(1, {0: [False, True, False, False, True]}, "one")
    assert [record.model_sha256 for record in one.run()] == hashes
    first = on(2, {1: [True]}, "two")
    first.run(3)
    second = on(3, {0: [True], 2: [False, True]}, "two")
    second.restore(first.saves[0])
    assert [record.model_sha256 for record in second.run()][-2:] == hashes[-2:]

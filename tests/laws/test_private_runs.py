"""Runs with privacy have the same bits, and the same ledger, on any number of workers, after deaths and resumes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedray.algorithms import Ditto, FedAvg, FedPer, Scaffold
from fedray.algorithms.base import Algorithm
from fedray.config.sections import FailuresSection
from fedray.core import inject
from fedray.core.messages import Parts
from fedray.core.noise import NoiseKeys, Source
from fedray.core.now import Now
from fedray.privacy.central import Central
from fedray.privacy.client_ledger import ClientLedger, Line
from fedray.privacy.distributed import Distributed
from fedray.privacy.ledger import Ledger
from fedray.privacy.randomized import Local
from fedray.privacy.section import Privacy
from fedray.run.client_spending import ClientSpending, OfSteps, OfUpdates
from fedray.run.spending import Spending
from fedray.sampling import Poisson, RoundRobin, Sampler, Separated, Uniform
from fedray.transforms import SecureSum
from fedray.transforms.secure_sum import _InRun
from tests.cluster.work.within import Deaths, workers_within
from tests.helpers import Federation, class_problem, federation

PROBLEM, ROUNDS = class_problem((7, 3, 12, 9, 1, 5, 8), test=20), 4


def made(folder: Path, algorithm: Algorithm, privacy: Privacy, ledger: Ledger, sampler: Sampler) -> Federation:
    run = federation(
        PROBLEM,
        folder,
        algorithm,
        transforms=[Central(privacy)],
        sampler=sampler,
        rounds=ROUNDS,
        checkpoint_every=2,
    )
    (central,) = run.plan.algorithm.transforms
    assert isinstance(central, Central)
    run.spending = Spending(central, ledger, ROUNDS, 0, None)
    return run


def of_shares(folder: Path, algorithm: Algorithm, privacy: Privacy, ledger: Ledger) -> Federation:
    run = federation(
        PROBLEM,
        folder,
        algorithm,
        transforms=[Distributed(privacy), SecureSum(0.3, bits=16, range=0.5, corrupt=0.1)],
        sampler=Uniform(6),
        rounds=ROUNDS,
        failures=FailuresSection(dropout=0.2),
        checkpoint_every=2,
    )
    run.plan = replace(run.plan, privacy=privacy, left_out={1: frozenset([0, 2]), 3: frozenset([4])})
    first = run.plan.algorithm.transforms.members[0]
    assert isinstance(first, Distributed)
    run.spending = Spending(first, ledger, ROUNDS, 0, None)
    run.state.noise = NoiseKeys(run.plan.task.seed, bytes(32))
    return run


@pytest.mark.parametrize("algorithm", [FedAvg(), Scaffold()], ids=lambda one: type(one).__name__)
def test_noise_that_clients_share_is_that_of_one_process(
    algorithm: Algorithm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeded = Privacy(model="distributed", noise_multiplier=0.5, norm=0.5, noise="seeded")

    def on(name: str, ledger: Ledger, count: int = 0, dies: Deaths | None = None) -> Federation:
        run = of_shares(tmp_path / name, algorithm, seeded, ledger)
        if count:
            run.executor = workers_within(monkeypatch, count, dies)
        return run

    one, two, whole = (Ledger.begin(tmp_path / f"{name}.jsonl") for name in ("one", "two", "whole"))
    hashes = [record.model_sha256 for record in on("whole", whole).run()]
    assert len(set(hashes)) == ROUNDS
    alone = on("one", one, 1, {0: [False, True, False, False, True]})
    assert [record.model_sha256 for record in alone.run()] == hashes
    first = on("two", two, 2, {1: [True]})
    first.run(3)
    second = on("two", two, 3, {0: [True], 2: [False, True]})
    second.restore(first.saves[0])
    assert [record.model_sha256 for record in second.run()][-2:] == hashes[-2:]
    assert whole.entries == one.entries == two.entries
    assert len(two) == ROUNDS


def test_secret_shares_of_a_round_that_is_done_again_are_others_and_it_is_paid_for_twice(tmp_path: Path) -> None:
    privacy = Privacy(model="distributed", noise_multiplier=0.5, norm=0.5)
    ledger = Ledger.begin(tmp_path / "privacy.jsonl")
    first = of_shares(tmp_path / "run", FedAvg(), privacy, ledger)
    hashes = [record.model_sha256 for record in first.run(3)]
    second = of_shares(tmp_path / "run", FedAvg(), privacy, ledger)
    second.restore(first.saves[0])
    again = [record.model_sha256 for record in second.run()]
    # The first two stand in the checkpoint; with the noise of before the third would tell of whoever was lost since.
    assert again[-2] not in hashes
    assert [entry.round for entry in ledger] == [1, 2, 3, 3, 4]


@pytest.mark.parametrize(("noise", "rounds"), [("seeded", [1, 2, 3, 4]), ("secure", [1, 2, 3, 3, 4])])
def test_a_sum_stands_in_the_ledger_before_it_is_opened(
    noise: Source, rounds: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver dies between the two; what comes out as it was is one release, with other shares it is a second."""
    privacy = Privacy(model="distributed", noise_multiplier=0.5, norm=0.5, noise=noise)
    ledger, opened = Ledger.begin(tmp_path / "privacy.jsonl"), list[int]()
    whole = _InRun.opened

    def noted(self: _InRun, sums: Parts, now: Now) -> Parts:
        opened.append(now.round)
        return whole(self, sums, now)

    monkeypatch.setattr(_InRun, "opened", noted)
    (tmp_path / "faults.json").write_text('[{"point": "driver.opening", "round": 3, "action": "raise"}]')
    monkeypatch.setenv(inject.PLAN, str(tmp_path / "faults.json"))
    first = of_shares(tmp_path / "run", FedAvg(), privacy, ledger)
    with pytest.raises(RuntimeError, match=r"driver\.opening, round 3"):
        first.run()
    assert opened == [1, 2]
    assert [entry.round for entry in Ledger.read(ledger.path)] == [1, 2, 3]
    second = of_shares(tmp_path / "run", FedAvg(), privacy, Ledger.read(ledger.path))
    second.restore(first.saves[0])
    second.run()
    assert opened == [1, 2, 3, 4]
    assert [entry.round for entry in Ledger.read(ledger.path)] == rounds


def of_clients(folder: Path, algorithm: Algorithm, privacy: Privacy, ledger: ClientLedger) -> Federation:
    run = federation(
        PROBLEM, folder, algorithm, transforms=[Local(privacy)], sampler=Poisson(0.6), rounds=ROUNDS, checkpoint_every=2
    )
    run.plan = replace(run.plan, privacy=privacy)
    (local,) = run.plan.algorithm.transforms
    assert isinstance(local, Local)
    run.spending = ClientSpending(run.plan, OfUpdates(local), ledger, None)
    run.state.noise = NoiseKeys(run.plan.task.seed, bytes(32))
    return run


def of_rows(folder: Path, algorithm: Algorithm, privacy: Privacy, ledger: ClientLedger) -> Federation:
    run = federation(PROBLEM, folder, algorithm, sampler=Uniform(5), rounds=ROUNDS, checkpoint_every=2)
    task = replace(run.plan.task, private=privacy.examples)
    run.plan, run.job = replace(run.plan, privacy=privacy, task=task), replace(run.job, task=task)
    run.spending = ClientSpending(run.plan, OfSteps(run.plan), ledger, None)
    run.state.noise = NoiseKeys(task.seed, bytes(32))
    return run


ADAPTIVE = {"clip": "adaptive", "bit_noise": 9.0}


@pytest.mark.parametrize(
    ("algorithm", "said", "sampler"),
    [
        *((algorithm, said, Poisson(0.6)) for algorithm in (FedAvg(), Scaffold(), FedPer()) for said in ({}, ADAPTIVE)),
        (FedAvg(), {}, Separated(2, 3)),
        (FedAvg(), {"mechanism": "tree"}, RoundRobin(2)),
        (Scaffold(), {"mechanism": "banded", "bands": 3}, Separated(2, 3)),
    ],
    ids=lambda one: type(one).__name__ if not isinstance(one, dict) else "-".join(map(str, one.values())) or "fixed",
)
@pytest.mark.one_in(3)
def test_bits_and_ledger_are_those_of_one_process(
    algorithm: Algorithm, said: dict[str, object], sampler: Sampler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    privacy = Privacy(noise_multiplier=0.5, norm=0.5, noise="seeded", accountant="rdp", **said)  # type: ignore[arg-type]
    whole = made(tmp_path / "whole", algorithm, privacy, Ledger.begin(tmp_path / "whole.jsonl"), sampler)
    hashes = [record.model_sha256 for record in whole.run()]
    assert len(set(hashes)) == ROUNDS

    def on(count: int, dies: Deaths, name: str, ledger: Ledger) -> Federation:
        run = made(tmp_path / name, algorithm, privacy, ledger, sampler)
        run.executor = workers_within(monkeypatch, count, dies)
        return run

    one = on(1, {0: [False, True, False, False, True]}, "one", Ledger.begin(tmp_path / "one.jsonl"))
    assert [record.model_sha256 for record in one.run()] == hashes
    ledger = Ledger.begin(tmp_path / "two.jsonl")
    first = on(2, {1: [True]}, "two", ledger)
    first.run(3)
    # From the checkpoint of round 2: the third is done again as it was, and is one release.
    second = on(3, {0: [True], 2: [False, True]}, "two", ledger)
    second.restore(first.saves[0])
    assert [record.model_sha256 for record in second.run()][-2:] == hashes[-2:]
    assert isinstance(whole.spending, Spending)
    assert isinstance(one.spending, Spending)
    assert whole.spending.ledger.entries == one.spending.ledger.entries == ledger.entries


@pytest.mark.parametrize("noise", ["seeded", "secure"])
@pytest.mark.parametrize(
    ("made_of", "algorithm"),
    [
        (of_clients, FedAvg()),
        (of_clients, Scaffold()),
        (of_clients, FedPer()),
        (of_rows, FedAvg()),
        (of_rows, Scaffold()),
        (of_rows, Ditto()),
    ],
    ids=lambda one: one.__name__ if callable(one) else type(one).__name__,
)
@pytest.mark.slow
def test_noise_of_clients_is_that_of_one_process(
    made_of: Any, algorithm: Algorithm, noise: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind: dict[str, Any] = {"unit": "example", "accountant": "rdp"} if made_of is of_rows else {"model": "local"}
    privacy = Privacy(noise_multiplier=0.5, norm=0.5, noise=noise, **kind)

    def on(name: str, ledger: str, count: int = 0, dies: Deaths | None = None) -> Federation:
        path = tmp_path / ledger
        found = ClientLedger.read(path) if path.exists() else ClientLedger.begin(path)
        run: Federation = made_of(tmp_path / name, algorithm, privacy, found)
        if count:
            run.executor = workers_within(monkeypatch, count, dies)
        return run

    def spent(ledger: str) -> list[Line]:
        return [*ClientLedger.read(tmp_path / ledger)]

    hashes = [record.model_sha256 for record in on("whole", "whole.jsonl").run()]
    assert len(set(hashes)) == ROUNDS
    one = on("one", "one.jsonl", 1, {0: [False, True, False, False, True]})
    assert [record.model_sha256 for record in one.run()] == hashes
    first = on("two", "two.jsonl", 2, {1: [True]})
    first.run(3)
    # From the checkpoint of round 2: the third is done again as it was, and is one release of each client.
    second = on("two", "two.jsonl", 3, {0: [True], 2: [False, True]})
    second.restore(first.saves[0])
    assert [record.model_sha256 for record in second.run()][-2:] == hashes[-2:]
    assert spent("whole.jsonl") == spent("one.jsonl") == spent("two.jsonl")

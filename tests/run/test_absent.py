"""Clients that send nothing because the config says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from fedray.config.sections import FailuresSection
from fedray.core.errors import ConfigError, RunFailed
from fedray.core.messages import Ints
from fedray.run.absent import left_out, staying
from fedray.sampling import Full, Uniform
from fedray.transforms import Clip, Gaussian
from tests.helpers import class_problem, federation

DATA = class_problem((5, 5, 5)).data


def test_clients_that_are_left_out_are_known_by_their_names() -> None:
    assert left_out(FailuresSection(), DATA) == {}
    assert left_out(FailuresSection(left_out={2: ["2", "0"], 3: []}), DATA) == {2: frozenset({0, 2}), 3: frozenset()}
    with pytest.raises(ConfigError, match=r"^failures\.left_out\.4: no client '3'.*there are 3, the first is '0'"):
        left_out(FailuresSection(left_out={4: ["3"]}), DATA)


MANY = class_problem((1,) * 2000).data
PROBLEM = class_problem((7, 3, 12, 9, 1, 5, 8), test=20)
HALF = FailuresSection(dropout=0.5)


def test_each_client_drops_out_by_its_own_coin() -> None:
    everybody = np.arange(2000)
    gone = [set(everybody) - set(staying(0.3, everybody, MANY, 1, round).tolist()) for round in (1, 2)]
    for one in gone:
        assert stats.binomtest(len(one), 2000, 0.3).pvalue > 1e-3
    # Rounds are independent, and a coin does not depend on who else is drawn.
    assert stats.binomtest(len(gone[0] & gone[1]), 2000, 0.09).pvalue > 1e-3
    some = np.array([5, 70, 900, 1500])
    assert set(staying(0.3, some, MANY, 1, 1).tolist()) == set(some.tolist()) - gone[0]
    assert staying(0.0, some, MANY, 1, 1) is some


def test_who_drops_out_is_counted_and_the_others_give_the_bits_of_a_cohort_without_them(tmp_path: Path) -> None:
    run = federation(PROBLEM, tmp_path / "a", rounds=4, failures=HALF)
    records = run.run()
    for record in records:
        stay = len(run.plan.staying(record.round, np.arange(7)))
        assert record.clients == {"sampled": 7, "dropped": 7 - stay, "ok": stay, "failed": 0}
        assert record.failures == []
        assert record.bytes["down"] == 7 * run.plan.traffic(np.arange(1), np.arange(1))["down"]
        assert record.bytes["up"] == stay * run.plan.traffic(np.arange(1), np.arange(1))["up"]
    assert len({record.clients["ok"] for record in records}) > 1

    class Listed(Full):
        """Those who stay."""

        def cohort(self, sizes: Ints, seed: int, round: int) -> Ints:
            return run.plan.staying(round, super().cohort(sizes, seed, round))

    asked = federation(PROBLEM, tmp_path / "b", rounds=4, sampler=Listed()).run()
    assert [record.model_sha256 for record in asked] == [record.model_sha256 for record in records]


def test_dropouts_never_end_a_run_and_a_round_without_anybody_leaves_the_model(tmp_path: Path) -> None:
    failures = FailuresSection(dropout=0.95, min_share=1.0)
    run = federation(PROBLEM, tmp_path, rounds=6, failures=failures, sampler=Uniform(2))
    before, records = run.vector.clone(), run.run()
    nobody = [record for record in records if not record.clients["ok"]]
    assert nobody, "of 2 clients each stays in a round with probability 0.05"
    assert records[0] in nobody
    assert [r.model_sha256 for r in nobody if r.round == 1] == [records[0].model_sha256]
    if len(nobody) == len(records):
        assert torch.equal(run.vector, before)


@pytest.mark.parametrize(("min_share", "ends"), [(0.6, True), (0.5, False)])
def test_the_share_that_must_survive_is_one_of_those_who_stayed(min_share: float, ends: bool, tmp_path: Path) -> None:
    """Four of seven stay, and two of those are given up: half of those who stayed, less than a third of the cohort."""
    everybody = np.arange(7)
    seed = next(seed for seed in range(99) if len(staying(0.5, everybody, PROBLEM.data, seed, 1)) == 4)
    run = federation(PROBLEM, tmp_path, rounds=1, seed=seed, failures=replace(HALF, min_share=min_share))
    stay = run.plan.staying(1, everybody).tolist()
    run.plan = replace(run.plan, left_out={1: frozenset(stay[2:])})
    if ends:
        with pytest.raises(RunFailed, match=r"only 2 of 4 clients survived, failures\.min_share is 0\.6"):
            run.run()
    else:
        assert run.run()[0].clients == {"sampled": 7, "dropped": 3, "ok": 2, "failed": 2}


def test_noise_is_for_the_expected_number_of_those_who_stay(tmp_path: Path) -> None:
    run = federation(PROBLEM, tmp_path, rounds=2, failures=HALF, transforms=[Clip(1.0), Gaussian(0.1, noise="seeded")])
    assert run.plan.expected == 3.5
    assert len(run.run()) == 2


@pytest.mark.parametrize("wrong", [-0.1, 1.0])
def test_a_share_that_is_none_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match=rf"dropout={wrong}: it must be at least 0 and below 1"):
        FailuresSection(dropout=wrong)

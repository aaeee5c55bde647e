"""What follows from a plan for each round: cohorts, blocks, weights, bytes, and when to evaluate."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedray.algorithms import FedAvg, Scaffold
from fedray.core.noise import NoiseKeys
from fedray.privacy.central import Central
from fedray.privacy.section import Privacy
from fedray.run.plan import Plan, evaluated
from fedray.sampling import Poisson, Sampler, Separated, Uniform
from fedray.transforms import SecureSum, Transform
from tests.helpers import class_problem, federation


@pytest.mark.parametrize(("every", "due"), [(0, []), (1, [1, 2, 3, 4, 5, 6, 7]), (3, [3, 6, 7]), (7, [7]), (9, [7])])
def test_evaluation_is_due_every_few_rounds_and_after_the_last(every: int, due: list[int]) -> None:
    assert [round for round in range(8) if evaluated(every, round, 7)] == due


def test_blocks_hold_the_cohort_once_and_halve(tmp_path: Path) -> None:
    run = federation(class_problem((7, 3, 12, 9, 1, 5)), tmp_path, stack=4)
    plan, store = run.plan, run.state.store
    cohort = plan.cohort(1)
    for halvings, size in ((0, 4), (1, 2), (2, 1), (5, 1)):
        blocks = plan.blocks(1, cohort, store, halvings)
        assert max(len(block.clients) for block in blocks) == plan.block_size(halvings) == size
        assert sorted(np.concatenate([block.clients for block in blocks])) == sorted(cohort)
        assert [block.index for block in blocks] == list(range(len(blocks)))


def test_clients_left_out_are_told_to_their_block_in_their_round_only(tmp_path: Path) -> None:
    run = federation(class_problem((7, 3, 12, 9)), tmp_path, stack=2)
    plan = replace(run.plan, left_out={2: frozenset({1, 3})})
    told = [{c for block in plan.blocks(r, plan.cohort(r), run.state.store) for c in block.left_out} for r in (1, 2)]
    assert told == [set(), {1, 3}]


def test_weights_are_examples_or_clients(tmp_path: Path) -> None:
    problem = class_problem((7, 3, 12))
    by_examples = federation(problem, tmp_path, FedAvg()).plan
    by_clients = federation(problem, tmp_path, FedAvg(weight="uniform")).plan
    cohort = np.array([0, 2])
    assert (by_examples.weight(cohort), by_clients.weight(cohort)) == (19.0, 2.0)


def test_bytes_are_those_of_all_that_travels(tmp_path: Path) -> None:
    problem = class_problem()
    plain, control = federation(problem, tmp_path).plan, federation(problem, tmp_path, Scaffold()).plan
    size = plain.layout.size * 4
    assert plain.traffic(np.arange(5), np.arange(3)) == {"down": 5 * size, "up": 3 * size}
    assert control.traffic(np.arange(5), np.arange(3)) == {
        "down": 10 * size,
        "up": 6 * size,
    }  # the model, and a control variate as long


def private(folder: Path, sampler: Sampler, *more: Transform, **said: Any) -> Plan:
    transforms = [Central(Privacy(noise_multiplier=1.0, **said)), *more]
    return federation(class_problem((5,) * 40), folder, transforms=transforms, sampler=sampler).plan


@pytest.mark.parametrize("sampler", [Poisson(0.5), Uniform(20)])
def test_who_knows_the_seed_does_not_know_a_cohort_that_hides_clients(tmp_path: Path, sampler: Sampler) -> None:
    plan, key = private(tmp_path, sampler), bytes(32)
    rounds = range(1, 4)

    def cohorts(key: bytes) -> list[list[int]]:
        keys = NoiseKeys(plan.task.seed, key)
        return [plan.cohort(round, keys).tolist() for round in rounds]

    by_seed = [plan.cohort(round).tolist() for round in rounds]
    assert cohorts(key) == cohorts(key), "as after a kill, from the key of a checkpoint"
    found = [cohort for one in (by_seed, cohorts(key), cohorts(bytes([1] * 32))) for cohort in one]
    assert len(set(map(tuple, found))) == 9
    later = NoiseKeys(plan.task.seed, key)
    later.forget(3)
    assert plan.cohort(3, later).tolist() == cohorts(key)[2]
    with pytest.raises(RuntimeError, match="the key of round 2 is forgotten"):
        plan.cohort(2, later)


@pytest.mark.parametrize(
    ("sampler", "more", "said"),
    [
        (Poisson(0.5), (), {"noise": "seeded"}),
        (Separated(5, 4), (), {}),
        (Uniform(20), (), {"mechanism": "tree"}),
        (Poisson(0.5), (SecureSum(rounding="zero"),), {}),
    ],
    ids=["seeded", "turns", "correlated", "ring"],
)
def test_where_draws_hide_nothing_cohorts_are_those_of_the_seed(
    tmp_path: Path, sampler: Sampler, more: tuple[Transform, ...], said: dict[str, Any]
) -> None:
    plan = private(tmp_path, sampler, *more, **said)
    assert plan.cohort(1, NoiseKeys(plan.task.seed, bytes(32))).tolist() == plan.cohort(1).tolist()

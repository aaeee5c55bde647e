"""What follows from a plan for each round: cohorts, blocks, weights, bytes, and when to evaluate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from fedray.aggregators import Krum, Median
from fedray.algorithms import FedAvg, Scaffold
from fedray.config.sections import FailuresSection
from fedray.core.errors import ConfigError
from fedray.run.plan import Plan, check_cohort, check_cohorts, check_least, evaluated
from fedray.sampling import Full, Poisson, Uniform
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


def test_more_clients_than_there_are_is_a_mistake_of_the_config() -> None:
    with pytest.raises(ConfigError, match=r"^sampler: "):
        check_cohort(Uniform(9), np.array([3, 4]))


def test_a_cohort_too_small_for_an_aggregator_is_a_mistake_of_the_config() -> None:
    @dataclass(frozen=True)
    class Wary(Median):
        least: ClassVar[int] = 3

    check_least(Wary(), Uniform(3), np.full(9, 4))
    check_least(Median(), Poisson(1e-9), np.full(9, 4))
    words = r"^aggregator: .*Wary\(\) needs 3 updates at least, and a cohort has 2: take a larger cohort"
    with pytest.raises(ConfigError, match=words):
        check_least(Wary(), Uniform(2), np.full(9, 4))


def test_a_round_that_will_be_too_small_is_refused_before_the_run(tmp_path: Path) -> None:
    """Poisson draws, dropouts and those left out are known beforehand; a round of nobody is none."""

    def plan(**options: Any) -> Plan:
        return federation(class_problem((5,) * 12), tmp_path, aggregator=Krum(1), rounds=9, **options).plan

    fine = plan(sampler=Poisson(0.9))
    sizes = [len(fine.cohort(round)) for round in range(1, 10)]
    assert min(sizes) >= 5
    check_cohorts(fine)
    few = plan(sampler=Poisson(0.5))
    sizes = [len(few.cohort(round)) for round in range(1, 10)]
    first = next(number for number, size in enumerate(sizes, 1) if 0 < size < 5)
    words = (
        rf"^aggregator: Krum\(byzantine=1\) needs 5 updates at least, and round {first} will have {sizes[first - 1]}:"
    )
    with pytest.raises(ConfigError, match=words):
        check_cohorts(few)
    rare = plan(sampler=Poisson(1e-6))
    check_cohorts(rare)
    with pytest.raises(ConfigError, match=r"and round 1 will have 4: take a larger cohort"):
        check_cohorts(replace(fine, sampler=Full(), left_out={1: frozenset(range(8))}))
    dropping = replace(fine, sampler=Full(), failures=FailuresSection(dropout=0.6))
    with pytest.raises(ConfigError, match=r"needs 5 updates at least, and round \d will have [1-4]:"):
        check_cohorts(dropping)

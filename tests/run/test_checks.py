"""What of a run is known to fail before it begins."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from fedray.aggregators import Krum, Median
from fedray.config.sections import FailuresSection
from fedray.core.errors import ConfigError
from fedray.run.checks import check_cohort, check_cohorts, check_least
from fedray.run.plan import Plan
from fedray.sampling import Full, Poisson, Uniform
from tests.helpers import class_problem, federation


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

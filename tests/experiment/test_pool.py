"""One client with everybody's rows: how much it does in a round, and where it cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fedray.aggregators import Mean
from fedray.algorithms import Centralized
from fedray.algorithms.composition import compose
from fedray.config.sections import FailuresSection, LocalSection
from fedray.core.errors import ConfigError
from fedray.experiment.pool import Last, pooled
from fedray.sampling import Full, Poisson, Sampler, Uniform
from tests.helpers import class_problem

DATA = class_problem((8, 4, 12, 16)).data


@pytest.mark.parametrize(
    ("sampler", "args", "steps"),
    [
        (Full(), LocalSection(1, 4), 10),
        (Full(), LocalSection(3, 4), 30),
        (Uniform(2), LocalSection(3, 4), 15),
        (Poisson(0.5), LocalSection(1, 4), 5),
        (Full(), LocalSection(steps=7), 28),
        (Uniform(1), LocalSection(1, "full"), 1),
    ],
)
def test_it_takes_the_steps_of_a_cohort_together(sampler: Sampler, args: LocalSection, steps: int) -> None:
    algorithm = compose(Centralized(), [], Mean(), args)
    data, changed, alone = pooled(DATA, algorithm, sampler, 1, FailuresSection(), None)
    assert changed.args == replace(args, steps=steps)
    assert alone.cohort(data.sizes, 1, 5).tolist() == [4]
    assert (alone, alone.expected(data.sizes), data.sizes[4]) == (Last(), 1.0, 40)


def test_rows_of_silos_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    silos: Any = {"north": None, "south": None}
    monkeypatch.setattr(type(DATA), "silos", silos)
    with pytest.raises(ConfigError, match="needs all rows in one place, and those of north, south stay"):
        pooled(DATA, compose(Centralized(), [], Mean(), LocalSection()), Full(), 1, FailuresSection(), None)

"""Laws of regions: any algorithm goes with layers that stay with their client, and with layers that never change."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedray.algorithms.base import Algorithm
from fedray.sampling import Uniform
from tests.helpers import class_problem, federation, personal, relative
from tests.laws.parts import ALGORITHMS, every

PROBLEM = class_problem((7, 3, 12, 9, 5))
HEAD = ("3.*",)


# Of models of different size nothing can stay at home, which is said before a run.
@every("algorithm", [algorithm for algorithm in ALGORITHMS if not algorithm.variants()])
@pytest.mark.one_in(4)
def test_layers_at_home_never_travel_and_stacked_is_alone(algorithm: Algorithm, tmp_path: Path) -> None:
    runs = [
        federation(
            PROBLEM,
            tmp_path / str(stack),
            algorithm,
            rounds=2,  # in the second, who was there in the first goes on with what stayed at home
            stack=stack,
            sampler=Uniform(4),
            at_home=HEAD,
        )
        for stack in (3, "off")
    ]
    layout = runs[0].plan.layout
    assert layout.personal >= 27
    first = runs[0].vector.clone()
    for run in runs:
        run.run()
        assert torch.equal(layout.personal_of(run.vector), layout.personal_of(first))
        sent = run.plan.algorithm.sends(layout)
        fragments = run.plan.task.fragments
        assert sent["delta"] == (layout.shared if fragments is None else fragments.width)
    assert relative(runs[0].vector, runs[1].vector) <= 1e-5
    assert relative(personal(runs[0]), personal(runs[1])) <= 1e-5
    if layout.shared and algorithm.name not in ("lg-fedavg",):
        assert not torch.equal(runs[0].vector, first)

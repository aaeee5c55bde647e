"""The laws can fail: two programs that are wrong on purpose, run in a stack although the trial refuses them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fedray.algorithms.base import Algorithm
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError
from fedray.local.clients import Clients
from fedray.local.task import Stacking
from tests.helpers import Federation, class_problem, federation, relative


class CountsPadding(Algorithm):
    """Its penalty is a mean over padding, too."""

    def client(self, c: Clients) -> None:
        c.fit(objective=lambda step: step.loss() + step.forward().logits.square().mean(dim=(1, 2)))


class JoinsClients(Algorithm):
    """Its penalty is one number for all clients of a block."""

    def client(self, c: Clients) -> None:
        c.fit(objective=lambda step: step.loss() * (1.0 + step.forward().logits.square().mean()))


def in_stacks(folder: Path, algorithm: Algorithm, size: int) -> Federation:
    """A run in stacks of this size, whatever the trial says."""
    run = federation(class_problem(), folder, algorithm, args=LocalSection(2, 4), stack="off")
    task = replace(run.plan.task, stacking=Stacking(size, size > 1, "forced"))
    run.plan, run.job = replace(run.plan, task=task), replace(run.job, task=task)
    run.run()
    return run


@pytest.mark.parametrize("wrong", [CountsPadding(), JoinsClients()], ids=lambda wrong: wrong.name)
def test_a_wrong_program_is_refused_and_would_break_the_law(wrong: Algorithm, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="stacked is not what it is alone, though it is with a plain fit"):
        federation(class_problem(), tmp_path, wrong, stack=3)
    alone, two, three = (in_stacks(tmp_path / str(size), wrong, size).vector for size in (1, 2, 3))
    assert relative(two, alone) > 1e-3
    assert relative(three, alone) > 1e-3

"""The memory of a pass over a model of shapes alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from fedray.core.errors import ConfigError
from fedray.experiment.build import Config
from fedray.experiment.estimate.memory import activation_bytes
from fedray.experiment.estimate.step import Live, evaluation_bytes, of_shapes, step_bytes
from fedray.local.task import LocalTask
from tests.experiment.estimate.plans import prepared

LM = """\
data: {name: tokens, clients: 2, examples: 8, length: 24, vocabulary: 40, test: 5}
model: {name: decoder, dim: 32, heads: 2, layers: 3}
task: causal_lm
local: {batch_size: 4}
"""


@pytest.fixture
def lm(tmp_path: Path) -> Path:
    path = tmp_path / "lm.yaml"
    path.write_text(LM)
    return path


def task(path: Path, *overrides: str) -> LocalTask:
    return Config.load(path, overrides).plan(sizes=True).task


def test_what_lives_is_counted_and_what_is_freed_is_not() -> None:
    with Live() as live:
        first = torch.zeros(100)
        second = first.view(10, 10)[0]  # on the same memory
        third = first + 1.0
        del first, second
        fourth = torch.zeros(50)
    assert (live.now, live.most) == (600, 800)  # the view held the first one, and is gone
    del third, fourth


def test_a_model_of_shapes_takes_what_one_with_values_takes(lm: Path) -> None:
    found = task(lm)
    assert of_shapes(found)
    _, plan, _ = prepared(lm, "local.stack=off")
    assert not of_shapes(plan.task)
    with Live() as live:
        module = plan.task.model_fn()
        for parameter in module.parameters():
            parameter.register_post_accumulate_grad_hook(lambda p: setattr(p, "grad", None))
        x = torch.zeros(4, 24, dtype=torch.int64)
        before = live.now
        live.most = before
        plan.task.loss_fn(module(x), x).backward()
    taken = live.most - before
    assert 0.95 * taken <= step_bytes(found) <= 1.05 * taken
    assert step_bytes(found) > activation_bytes(plan) * 0.9


def test_pieces_of_a_batch_and_layers_that_are_computed_again_take_less(lm: Path) -> None:
    whole = step_bytes(task(lm))
    # As many examples in a step, of which one at a time goes through the model.
    pieces = step_bytes(task(lm, "local.batch_size=1", "local.accumulate=4"))
    assert 0.2 * whole < pieces < 0.35 * whole


def test_an_evaluation_is_counted_where_there_is_a_test_set(lm: Path) -> None:
    assert evaluation_bytes(task(lm)) >= 5 * 24 * 40 * 4  # the logits
    assert evaluation_bytes(task(lm, "data.test=0")) == 0


class Looks(nn.Module):
    """A module that goes by the values of its inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(x)
        return out * 2.0 if float(x.sum()) > 0.0 else out


def test_a_model_that_looks_at_values_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "looks.yaml"
    path.write_text(f"data: synthetic\nmodel: {{name: '{__name__}:Looks'}}\n")
    with pytest.raises(ConfigError, match="cannot be counted without its values"):
        step_bytes(task(path))

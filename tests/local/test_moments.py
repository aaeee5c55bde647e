"""Optimizers that go on: stacked, alone, from fit to fit, from round to round, over a resume; against plain torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedray import optim
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.core.messages import OPTIMIZER
from fedray.local.clients import Clients
from fedray.local.moments import Kept, moments_of
from fedray.local.program import ClientProgram
from fedray.local.schedule import Schedule
from fedray.optim import OptimizerFn
from fedray.sampling import Uniform
from tests.helpers import Federation, class_problem, federation, local_task, relative, remembered, train

PROBLEM = class_problem((7, 3, 12, 9, 1, 5, 8))
KEEP = LocalSection({"name": "uniform", "low": 0, "high": 3}, 4, keep_optimizer=True, clip_grad_norm=2.0)
OPTIMIZERS: dict[str, OptimizerFn] = {
    "sgd": optim.SGD(0.1, momentum=0.9),
    "dampened": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, eps=1e-4),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, eps=1e-4),
    "nadam": lambda p: torch.optim.NAdam(p, lr=0.01, eps=1e-4),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05, initial_accumulator_value=0.1),
    "adadelta": lambda p: torch.optim.Adadelta(p, lr=1.0, eps=1e-3),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, eps=1e-3, momentum=0.5, centered=True),
}
EVERY = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


def made(folder: Path, optimizer: OptimizerFn, stack: Any = 3, args: LocalSection = KEEP) -> Federation:
    return federation(PROBLEM, folder, optimizer=optimizer, args=args, sampler=Uniform(4), rounds=5, stack=stack)


@EVERY
def test_stacked_is_alone_and_it_differs_from_beginning_afresh(optimizer: OptimizerFn, tmp_path: Path) -> None:
    runs = {str(stack): made(tmp_path / str(stack), optimizer, stack) for stack in (3, 7, "off")}
    afresh = made(tmp_path / "afresh", optimizer, 3, LocalSection(KEEP.epochs, 4, clip_grad_norm=2.0))
    for run in (*runs.values(), afresh):
        run.run()
    kept = {stack: remembered(run)[OPTIMIZER] for stack, run in runs.items()}
    for stack in ("3", "7"):
        assert relative(runs[stack].vector, runs["off"].vector) <= 1e-5
        assert relative(kept[stack], kept["off"]) <= 1e-5
    assert relative(afresh.vector, runs["off"].vector) > 1e-3


@EVERY
def test_a_resumed_run_has_the_same_bits(optimizer: OptimizerFn, tmp_path: Path) -> None:
    whole = made(tmp_path / "whole", optimizer)
    expected = [record.model_sha256 for record in whole.run()]
    first, second = (made(tmp_path / "parts", optimizer) for _ in "ab")
    early = [record.model_sha256 for record in first.run(2)]
    second.restore(first.save())
    assert [*early, *(record.model_sha256 for record in second.run())] == expected
    assert torch.equal(remembered(second)[OPTIMIZER], remembered(whole)[OPTIMIZER])


@pytest.mark.parametrize("stack", [3, "off"])
@EVERY
def test_it_is_one_torch_optimizer_that_is_never_made_anew(optimizer: OptimizerFn, stack: Any, tmp_path: Path) -> None:
    """A single client that does everything: its rounds are a plain loop, on the model as it is."""
    problem = class_problem((11,))
    args = LocalSection(2, 4, keep_optimizer=True)
    run = federation(problem, tmp_path, optimizer=optimizer, args=args, rounds=3, stack=stack)
    run.run()
    module, (data, layout) = problem.model_fn(), (problem.data, run.plan.layout)
    plain = optimizer(module.parameters())
    rows = data.rows(np.array([0]))
    for round in (1, 2, 3):
        schedule = Schedule.draw(args, data.sizes, data.keys(np.array([0])), 7, round)
        for step in range(schedule.index.shape[1]):
            x, y = rows.take(schedule.index[:, step, : schedule.count[0, step]])
            plain.zero_grad()
            problem.loss_fn(module(x[0]), y[0]).backward()
            plain.step()
    assert relative(run.vector, layout.pack(dict(module.state_dict()))) <= 1e-5


@pytest.mark.parametrize("stack", [3, "off"])
def test_fits_of_the_models_go_on_and_those_of_others_begin_afresh(stack: Any) -> None:
    class Two(ClientProgram):
        def client(self, c: Clients) -> None:
            other = c.down["model"].repeat(len(c), 1)
            for _ in range(2):
                c.fit(epochs=1, only=lambda entry: entry.name.endswith("weight"))
            c.fit(other, epochs=1)
            c.fit(epochs=1, where=torch.from_numpy(c.index == 0))

    task = local_task(
        class_problem((8, 6, 4)),
        optimizer=OPTIMIZERS["adam"],
        args=LocalSection(1, 4, keep_optimizer=True),
        stack=stack,
        program=Two(),
    )
    assert task.moments is not None
    state = {OPTIMIZER: torch.zeros(3, task.moments.width)}
    update = train(task, [0, 1, 2], state=state)
    steps = {
        (client, entry.name): task.moments.load(update.state[OPTIMIZER][client : client + 1], entry, entry.shape).get(
            "step"
        )
        for client in range(3)
        for entry in task.layout.parameters
    }
    for (client, name), count in steps.items():
        passes = (2 if name.endswith("weight") else 0) + (client == 0)
        assert (None if count is None else float(count)) == (passes * [2, 2, 1][client] or None)


class Odd(torch.optim.SGD):
    """Remembers something of its own."""

    what: Any = torch.zeros(3)

    def step(self, closure: Any = None) -> Any:
        for param in self.param_groups[0]["params"]:
            self.state[param]["odd"] = self.what
        return super().step(closure)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (optim.SGD(0.1), "SGD remembers nothing that could be kept"),
        (lambda p: torch.optim.LBFGS(p), "the optimizer takes no plain step"),
        (lambda p: Odd(p, lr=0.1), r"Odd remembers 'odd' of 1\.weight, which is \[3\] of torch\.float32: neither"),
        (lambda p: torch.optim.Adafactor(p), r"Adafactor remembers 'row_var' of 1\.weight"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_words(optimizer: OptimizerFn, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^local.keep_optimizer: {message}"):
        moments_of(optimizer, Layout.of(PROBLEM.model_fn()))


def test_what_is_saved_is_loaded_bit_for_bit() -> None:
    layout = Layout.of(PROBLEM.model_fn())
    moments = moments_of(torch.optim.Adam, layout)
    params = [torch.randn(entry.shape, requires_grad=True) for entry in layout.parameters]
    first, second = torch.optim.Adam(params), torch.optim.Adam(params)
    for _ in range(3):
        for param in params:
            param.grad = torch.randn(param.shape)
        first.step()
    kept = Kept(moments, torch.zeros(1, moments.width))
    kept.leave(first, params, layout.parameters)
    kept.enter(second, params, layout.parameters)
    for param in params:
        assert first.state[param].keys() == second.state[param].keys()
        for name, value in first.state[param].items():
            found: Tensor = second.state[param][name]
            assert torch.equal(found, value)
            assert found.dtype == value.dtype

"""Optimizers that go on: stacked, alone, from fit to fit, from round to round, over a resume; against plain torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fedray import optim
from fedray.algorithms import Ditto
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.core.messages import OPTIMIZER, Broadcast
from fedray.local.clients import Clients
from fedray.local.moments import Kept, moments_of
from fedray.local.program import ClientProgram
from fedray.local.schedule import Schedule
from fedray.optim import OptimizerFn
from fedray.sampling import Uniform
from tests.helpers import Federation, class_problem, federation, local_task, personal, relative, remembered, train

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
# Those with one moment, two, three and a centred one; relatives of theirs are slow.
RELATIVES = {"dampened", "adamw", "adagrad", "adadelta"}
EVERY = pytest.mark.parametrize(
    "optimizer",
    [
        pytest.param(made, id=name, marks=pytest.mark.slow if name in RELATIVES else [])
        for name, made in OPTIMIZERS.items()
    ],
)


def made(folder: Path, optimizer: OptimizerFn, stack: Any = 3, args: LocalSection = KEEP) -> Federation:
    return federation(PROBLEM, folder, optimizer=optimizer, args=args, sampler=Uniform(4), rounds=5, stack=stack)


@EVERY
@pytest.mark.one_in(2)
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
@pytest.mark.one_in(2)
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
def test_fits_of_the_models_go_on_and_so_does_each_fit_of_others(stack: Any) -> None:
    class Two(ClientProgram):
        def client(self, c: Clients) -> None:
            other = c.down["model"].repeat(len(c), 1)
            c.fit(other.clone(), steps=1)
            c.fit(other.clone(), steps=1, optimizer=OPTIMIZERS["adam"])  # a program's own begins afresh
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
    width = task.moments.width
    assert task.profile.others == 2
    state = {OPTIMIZER: torch.zeros(3, 3 * width)}
    for _ in range(2):
        update = train(task, [0, 1, 2], state=state)
        state = {OPTIMIZER: update.state[OPTIMIZER].clone()}
    for place, taken in ((1, [1, 1, 1]), (2, [2, 2, 1])):
        own = update.state[OPTIMIZER][:, place * width : (place + 1) * width]
        loaded = [task.moments.load(row[None], entry, entry.shape) for row in own for entry in task.layout.parameters]
        assert [float(one["step"]) for one in loaded] == [2.0 * n for n in taken for _ in task.layout.parameters]
    steps = {
        (client, entry.name): task.moments.load(update.state[OPTIMIZER][client : client + 1], entry, entry.shape).get(
            "step"
        )
        for client in range(3)
        for entry in task.layout.parameters
    }
    for (client, name), count in steps.items():
        passes = (2 if name.endswith("weight") else 0) + (client == 0)
        assert (None if count is None else float(count)) == (2 * passes * [2, 2, 1][client] or None)


@pytest.mark.parametrize("stack", [3, "off"])
def test_dittos_own_model_goes_on_with_its_momentum(stack: Any, tmp_path: Path) -> None:
    """Against torch: one optimizer of the own model for all rounds, and a gradient towards the global one."""
    problem, lam = class_problem((8, 6, 4)), 0.3
    run = federation(
        problem,
        tmp_path,
        Ditto(lam=lam),
        optimizer=OPTIMIZERS["sgd"],
        args=LocalSection(1, None, 2, keep_optimizer=True),
        rounds=3,
        stack=stack,
    )
    layout, anchors = run.plan.layout, [run.vector.clone()]
    for number in range(1, 4):
        run.run(number)
        anchors.append(run.vector.clone())
    own = personal(run)
    for client in range(3):
        module = problem.model_fn()
        plain = OPTIMIZERS["sgd"](module.parameters())
        x, y = problem.data.rows(np.array([client])).take(np.arange(problem.data.sizes[client])[None])
        for anchor in anchors[:3]:
            towards = layout.unpack(anchor, layout.parameters)
            for _ in range(2):
                plain.zero_grad()
                problem.loss_fn(module(x[0]), y[0]).backward()
                for name, param in module.named_parameters():
                    assert param.grad is not None
                    param.grad.add_(lam * (param.detach() - towards[name]))
                plain.step()
        assert relative(own[client], layout.pack(dict(module.state_dict()))) <= 1e-5


def test_more_fits_of_others_than_in_the_trial_are_refused_in_words() -> None:
    class Growing(ClientProgram):
        def client(self, c: Clients) -> None:
            for _ in range(1 + (c.round > 1)):
                c.fit(c.down["model"].repeat(len(c), 1))
            c.fit()

    task = local_task(
        class_problem((8, 6)),
        optimizer=OPTIMIZERS["adam"],
        args=LocalSection(1, 4, keep_optimizer=True),
        program=Growing(),
    )
    assert task.moments is not None
    state = {OPTIMIZER: torch.zeros(2, 2 * task.moments.width)}
    down = Broadcast(2, {"model": task.layout.pack(dict(task.model_fn().state_dict()))}, 1.0)
    with pytest.raises(RuntimeError, match=r"^local\.keep_optimizer: fit number 2 of other models .* 1 in the trial"):
        train(task, [0, 1], down, state)


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

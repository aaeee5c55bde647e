"""Fits of programs where the work of clients is drawn or their own: the same in all fits that say nothing of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fedray
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError
from fedray.local.clients import Clients
from fedray.local.orders import Orders
from fedray.local.program import ClientProgram, Profile
from fedray.local.schedule import Schedule
from fedray.local.step import Step
from fedray.local.task import LocalTask
from tests.helpers import Problem, class_problem, local_task, relative, seeded, train
from tests.local.test_clients import Dropping

PROBLEM = class_problem((11, 11, 11, 11))
DRAWN = {"name": "uniform", "low": 1, "high": 4}


UNEQUAL = class_problem((5, 13, 9, 2))
DROPPING = class_problem((11, 11, 11, 11), model_fn=Dropping)
WORK = (
    LocalSection(DRAWN, 4),
    LocalSection(1, 4, DRAWN, clip_grad_norm=0.5),
    LocalSection(1, 4, 3, by_client={"0": {"batch_size": 11}, "3": {"epochs": 4}}),
)


def task(program: Callable[[Clients], object], stack: Any, args: LocalSection, problem: Problem = PROBLEM) -> LocalTask:
    class Own(ClientProgram):
        def client(self, c: Clients) -> None:
            program(c)

    return local_task(problem, stack=stack, args=args, program=Own())


def in_order(task: LocalTask) -> list[int]:
    """The clients, most steps first, as a block has them."""
    examples = train(replace(task, program=ClientProgram(), profile=Profile()), [0, 1, 2, 3]).examples
    return [int(client) for client in np.argsort(-examples, kind="stable")]


def test_all_fits_of_a_round_and_fresh_batches_do_the_same_drawn_work() -> None:
    steps: list[list[int]] = []

    def twice(c: Clients) -> None:
        own = c.down["model"].repeat(len(c), 1)
        for params in (None, None, own):
            trace = c.fit(params, gradient=lambda step, grad: grad.add_(step.gradient(batch=step.fresh_batch())))
            steps.append(trace.steps.flatten().int().tolist())

    alone = task(twice, "off", LocalSection(DRAWN, 4))
    order = in_order(alone)
    steps.clear()
    expected = train(alone, order)
    found = [steps[3 * place] for place in range(4)]
    assert all(steps[3 * place : 3 * place + 3] == [steps[3 * place]] * 3 for place in range(4))
    assert len({one for (one,) in found}) > 1, "the draws of this seed differ"
    together = task(twice, 4, LocalSection(DRAWN, 4))
    steps.clear()  # of what was tried before
    stacked = train(together, order)
    assert steps == [[one for (one,) in found]] * 3
    assert relative(stacked.parts["delta"], expected.parts["delta"]) <= 1e-5


def test_a_number_that_a_fit_says_is_that_of_every_client() -> None:
    def two(c: Clients) -> None:
        c.fit(epochs=2)

    own = LocalSection(1, 4, by_client={"1": {"epochs": 3}, "2": {"steps": 5}, "3": {"batch_size": 11}})
    update = train(task(two, "off", own), [0, 1, 2, 3])
    assert update.examples.tolist() == [22] * 4


def changed(c: Clients, own: Tensor) -> Tensor:
    c.send("delta", c.delta + own[:, : c.layout.trained] - c.anchor)
    return own


def longer(c: Clients) -> None:
    """A fit in which the clients stand in another order than in the block, with a row of its own for each."""
    own, seen = c.down["model"].repeat(len(c), 1), torch.zeros(len(c), 2)
    pull = c.sizes.unsqueeze(1) / 50

    def gradient(step: Step, grad: Tensor) -> None:
        grad.copy_(step.gradient(batch=step.fresh_batch()) + pull[step.rows] * (step.params - c.anchor))
        seen[step.rows] = seen[step.rows] + torch.stack([grad.norm(dim=1), step.params.sum(dim=1)], dim=1)

    c.fit()
    trace = c.fit(own, epochs=2, gradient=gradient)
    assert trace.count.sum(axis=1).tolist() == (2 * c.counts).tolist()
    c.send("seen", torch.cat([seen, trace.loss.unsqueeze(1).float()], dim=1))
    changed(c, own)


def plainly(c: Clients) -> None:
    changed(c, c.down["model"].repeat(len(c), 1))
    own = c.down["model"].repeat(len(c), 1)
    c.fit(own, epochs=2)
    changed(c, own)


def some(c: Clients) -> None:
    chosen = torch.from_numpy(c.index % 2 == 1)
    c.fit()
    before = c.params.clone()
    trace = c.fit(where=chosen, gradient=lambda step, grad: grad.add_(step.params))
    assert torch.equal(before[~chosen], c.params[~chosen])
    assert (trace.steps.flatten() > 0).tolist() == chosen.tolist()
    c.fit(epochs=1)


def each_its_own(c: Clients) -> None:
    """Epochs and steps that a program says for each client, some of them none."""
    own = c.down["model"].repeat(len(c), 1)
    epochs = torch.from_numpy(c.index) % 3
    c.fit()
    trace = c.fit(own, epochs=epochs, gradient=lambda step, grad: grad.add_(step.params - step.anchor))
    assert trace.count.sum(axis=1).tolist() == (c.counts * epochs.numpy()).tolist()
    steps = [int(size) % 4 for size in c.counts]
    trace = c.fit(own, steps=steps, gradient=lambda step, grad: grad.add_(step.gradient(batch=step.fresh_batch())))
    assert trace.steps.flatten().tolist() == steps
    trace = c.fit(own, steps=steps, where=torch.from_numpy(c.index % 2 == 0))
    assert trace.steps.flatten().tolist() == [n * (i % 2 == 0) for n, i in zip(steps, c.index.tolist(), strict=True)]
    c.fit(epochs=1)
    changed(c, own)


PROGRAMS = [longer, plainly, some, each_its_own]


@pytest.mark.parametrize(
    ("program", "args", "model_fn"),
    [
        # Each program meets each kind of work, with a model that draws or one that does not; the others are slow.
        pytest.param(
            program,
            args,
            model_fn,
            id=f"{program.__name__}-{kind}-{model_fn.__name__ if model_fn else 'mlp'}",
            marks=pytest.mark.slow if (row + kind + (model_fn is None)) % 2 else [],
        )
        for row, program in enumerate(PROGRAMS)
        for kind, args in enumerate(WORK)
        for model_fn in (None, Dropping)
    ],
)
@pytest.mark.one_in(4)
def test_a_fit_may_have_an_order_of_its_own(
    program: Callable[[Clients], object], args: LocalSection, model_fn: Callable[[], nn.Module] | None
) -> None:
    sizes = replace(UNEQUAL, model_fn=seeded(model_fn)) if model_fn else UNEQUAL
    stacked, alone = (task(program, stack, args, sizes) for stack in (4, "off"))
    order = in_order(alone)
    together, expected = train(stacked, order), train(alone, order)
    for name, part in expected.parts.items():
        assert relative(together.parts[name], part) <= 1e-5
    assert together.loss == pytest.approx(expected.loss, rel=1e-5)
    assert together.examples.tolist() == expected.examples.tolist()


@pytest.mark.parametrize("stack", [4, "off"])
def test_a_fit_of_some_changes_nothing_for_the_others(stack: Any) -> None:
    """Nor for the fits that they have later, in what they draw: as if the fit had not been, but for its number."""

    def rest(c: Clients) -> None:
        c.fit(where=torch.from_numpy(c.index == 1))
        c.fit()

    def nobody(c: Clients) -> None:
        c.fit(where=torch.zeros(len(c), dtype=torch.bool))
        c.fit()

    one, none = (train(task(program, stack, LocalSection(1, 4), DROPPING), [0, 1, 2, 3]) for program in (rest, nobody))
    for client in (0, 2, 3):
        assert torch.equal(one.parts["delta"][client], none.parts["delta"][client])
        assert one.examples[client] == none.examples[client]
    assert not torch.equal(one.parts["delta"][1], none.parts["delta"][1])


@pytest.mark.parametrize("where", [torch.zeros(2, dtype=torch.bool), torch.zeros(4)], ids=["length", "dtype"])
def test_the_clients_of_a_fit_are_one_bool_for_each(where: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"RuntimeError: fit\(where=\): one bool for each client is needed"):
        task(lambda c: c.fit(where=where), 4, LocalSection(1, 4))


def test_fits_of_the_same_order_draw_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first fit of the clients' models and that of others; a second one, other epochs, some clients have theirs."""
    drawn: list[int] = []
    ends: list[Tensor] = []

    def fits(c: Clients) -> None:
        models = [c.down["model"].repeat(len(c), 1) for _ in range(4)]
        c.fit()
        c.fit(models[0])
        c.fit(models[1], epochs=2)
        c.fit()
        c.fit(models[2], where=c.sizes > 5)
        ends.append(torch.cat([c.model, *models], dim=1).clone())

    once = task(fits, "on", LocalSection(1, 4), UNEQUAL)
    draw = Schedule.draw

    def counted(*args: Any) -> Schedule:
        drawn.append(1)
        return draw(*args)

    monkeypatch.setattr(Schedule, "draw", counted)
    train(once, [1, 2, 0, 3])
    assert len(drawn) == 4
    monkeypatch.setattr(Orders, "same", lambda self, other: False)
    train(once, [1, 2, 0, 3])
    assert len(drawn) == 4 + 5
    assert torch.equal(ends[-2], ends[-1])


@pytest.mark.parametrize("stack", [4, "off"])
@pytest.mark.one_in(2)
def test_the_same_number_for_each_client_is_that_number(stack: Any) -> None:
    def by(**work: Any) -> Callable[[Clients], object]:
        return lambda c: [c.fit(**{name: of(len(c)) for name, of in work.items()}), c.fit(epochs=1)]

    own = LocalSection(1, 4, by_client={"1": {"epochs": 3}, "2": {"steps": 5}, "3": {"batch_size": 11}})
    for one, each in (
        (by(epochs=lambda count: 2), by(epochs=lambda count: [2] * count)),
        (by(steps=lambda count: 3), by(steps=lambda count: torch.full((count,), 3))),
        (by(steps=lambda count: 3), by(epochs=lambda count: [7] * count, steps=lambda count: 3)),
    ):
        found, expected = (
            train(task(program, stack, own), [3] if stack == "off" else range(4)) for program in (each, one)
        )
        assert torch.equal(found.parts["delta"], expected.parts["delta"])
        assert found.examples.tolist() == expected.examples.tolist()


@pytest.mark.parametrize("value", [[1, 2], [1.5], torch.tensor([[1]]), torch.tensor([-1]), np.array([True])], ids=str)
@pytest.mark.parametrize("name", ["epochs", "steps"])
def test_what_is_no_amount_of_work_is_refused(name: str, value: Any) -> None:
    with pytest.raises(
        ConfigError, match=rf"fit\({name}=\): a whole number, or one of at least 0 for each client, \[1\]"
    ):
        train(task(lambda c: c.fit(**{name: value}), "off", LocalSection(1, 4)), [0])


@pytest.mark.parametrize(("batch", "shared"), [(11, True), ("full", True), (10, False)])
@pytest.mark.parametrize("stack", [4, "off"])
def test_fits_that_take_all_examples_in_each_step_gather_them_once(stack: Any, batch: Any, shared: bool) -> None:
    """The order of a whole batch shows in rounding alone; the first fit of the models keeps its own."""
    seen: list[list[Tensor]] = []

    def twice(c: Clients) -> None:
        def fit(only: str) -> list[Tensor]:
            inputs: list[Tensor] = []
            c.fit(only=lambda entry: entry.name.endswith(only), gradient=lambda step, _: inputs.append(step.batch.x))
            return inputs

        seen.append([*fit("bias"), *fit("weight")])

    train(task(twice, stack, LocalSection(1, batch)), [0, 1, 2, 3])
    both = seen[-1]
    assert (both[0] is both[-1]) == shared
    plain: list[Tensor] = []
    train(
        task(
            lambda c: c.fit(gradient=lambda step, _: plain.append(step.batch.x)),
            stack,
            LocalSection(1, batch),
        ),
        [0, 1, 2, 3],
    )
    assert torch.equal(plain[-len(both) // 2], both[0])


def test_clients_whose_batches_are_of_like_lengths_learn_the_same_stacked_and_alone(tmp_path: Path) -> None:
    draws = np.random.default_rng(1)
    words = [draws.integers(0, 9, size) for size in draws.integers(2, 30, 36)]
    text = fedray.Ragged.of(words, multiple=4, pad=0)
    data = fedray.FederatedData.from_arrays(text, text, np.repeat(["a", "b", "c"], [16, 13, 7]))
    model = fedray.FederatedModel({"name": "decoder", "dim": 8, "heads": 2, "layers": 1}, task="causal_lm")
    found = {}
    for together, stack in ((None, 3), (3, 3), (3, "off")):
        args = fedray.TrainArgs(rounds=2, epochs=2, batch_size=3, group_by_length=together, stack=stack)
        folder = tmp_path / f"{together}{stack}"
        result = fedray.train(model, data, args, cluster="inline", run_dir=folder, progress=False)
        found[together, stack] = torch.cat([p.detach().flatten() for p in result.model.parameters()])
    assert relative(found[3, 3], found[3, "off"]) < 1e-5
    assert relative(found[3, 3], found[None, 3]) > 1e-4


def test_who_has_no_lengths_is_told_so(tmp_path: Path) -> None:
    args = fedray.TrainArgs(rounds=1, batch_size=4, group_by_length=3)
    model = fedray.FederatedModel(PROBLEM.model_fn, loss_fn=PROBLEM.loss_fn)
    with pytest.raises(ConfigError, match=r"local.group_by_length: inputs must be sequences of different lengths"):
        fedray.train(model, PROBLEM.data, args, cluster="inline", run_dir=tmp_path / "run", progress=False)
    for said, words in ((1, "at least 2 batches"), (4, "a batch has all rows")):
        with pytest.raises(ValueError, match=words):
            LocalSection(batch_size="full" if said > 1 else 4, group_by_length=said)

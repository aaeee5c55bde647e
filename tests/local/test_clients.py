"""A block of clients: fits of their models and of others, and what a step offers, against plain torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from fedray import optim
from fedray.algorithms.base import Algorithm
from fedray.config.sections import LocalSection
from fedray.core.messages import BlockUpdate, Broadcast, Parts
from fedray.local.clients import Clients
from fedray.local.program import ClientProgram
from fedray.local.stacking import Stack
from fedray.local.step import Step
from tests.cluster.work.within import Deaths, workers_within
from tests.helpers import class_problem, federation, local_task, relative, remembered, train

SIZES = (11, 6, 3)
STEPS = (9, 5, 4)
PATHS = pytest.mark.parametrize("stack", [3, 1], ids=["stacked", "alone"])


class Dropping(nn.Module):
    """LayerNorm and dropout, through vmap."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm, self.drop, self.head = nn.Linear(6, 8), nn.LayerNorm(8), nn.Dropout(0.3), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.drop(torch.tanh(self.norm(self.body(x)))))
        return out


def elsewhere(c: Clients) -> None:
    c.fit(gradient=lambda step, grad: grad.copy_(step.gradient(step.params + 0.1 * grad)))


def taught(c: Clients) -> None:
    def objective(step: Step) -> Tensor:
        out, teacher = step.forward(), step.forward(c.down["model"], train=False)
        assert out.features is not None
        assert teacher.features is not None
        near = functional.cosine_similarity(out.features, teacher.features, dim=-1)
        return step.loss(out) + step.mean(1 - near) + 0.01 * step.params.square().sum(1)

    c.fit(objective=objective)


def bounded(c: Clients) -> None:
    c.fit(after=lambda step: step.params.clamp_(-0.3, 0.3))


def second(c: Clients) -> None:
    own = c.down["model"].repeat(len(c), 1)
    c.fit()
    c.fit(own, epochs=2, gradient=lambda step, grad: grad.add_(step.params - c.anchor))
    c.send("delta", c.delta + own[:, : c.layout.trained] - c.anchor)


def fresh(c: Clients) -> None:
    c.fit(gradient=lambda step, grad: grad.copy_(step.gradient(step.params - 0.1 * grad, step.fresh_batch())))


def weighed(c: Clients) -> None:
    before = c.losses(c.down["model"])
    c.fit(steps=2)
    c.send("delta", c.delta * before.unsqueeze(1) + 0.1 * c.gradients())


def times(count: int) -> Callable[[Clients], object]:
    return lambda c: [c.fit() for _ in range(count)]


PROGRAMS = [elsewhere, taught, bounded, second, fresh, weighed]


def run(
    program: Callable[[Clients], object], model_fn: Callable[[], nn.Module] | None, stack: int
) -> list[BlockUpdate]:
    class Own(ClientProgram):
        def client(self, c: Clients) -> None:
            program(c)

    problem = class_problem(SIZES, (6,), 3, model_fn)
    task = local_task(problem, optimizer=optim.SGD(0.1, 0.5), args=LocalSection(2, 4), stack=stack, program=Own())
    assert task.stacking.stacked == (stack > 1), task.stacking.reason
    blocks = [range(3)] if stack > 1 else [[0], [1], [2]]
    found = []
    for block in blocks:
        update = train(task, block)
        found.append(replace(update, parts={name: part.clone() for name, part in update.parts.items()}))
    return found


@pytest.mark.parametrize("model_fn", [None, Dropping], ids=["mlp", "dropping"])
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.__name__)
@pytest.mark.one_in(3)
def test_a_stack_is_what_each_client_is_alone(
    program: Callable[[Clients], object], model_fn: Callable[[], nn.Module] | None
) -> None:
    (stacked,), alone = run(program, model_fn, 3), run(program, model_fn, 1)
    for client, update in enumerate(alone):
        assert relative(stacked.parts["delta"][client], update.parts["delta"][0]) <= 1e-5
        assert stacked.loss[client] == pytest.approx(update.loss[0], rel=1e-5)
        assert stacked.examples[client] == update.examples[0]


@PATHS
@pytest.mark.one_in(2)
def test_each_program_differs_from_a_plain_fit(stack: int) -> None:
    """So that the law above can fail."""
    plain = run(lambda c: c.fit(), Dropping, stack)[0].parts["delta"][0]
    for program in PROGRAMS:
        assert relative(run(program, Dropping, stack)[0].parts["delta"][0], plain) > 1e-3


@PATHS
def test_a_fit_of_another_model_changes_nothing_of_the_clients_own(stack: int) -> None:
    def beside(c: Clients) -> None:
        other = c.down["model"].repeat(len(c), 1)
        c.fit(other)
        assert torch.equal(c.params, c.anchor.expand(len(c), -1))
        c.fit()

    plain, both = run(lambda c: c.fit(), Dropping, stack), run(beside, Dropping, stack)
    for one, other in zip(plain, both, strict=True):
        assert torch.equal(one.parts["delta"], other.parts["delta"])


@PATHS
def test_a_second_fit_of_the_models_draws_anew_and_counts_as_work(stack: int) -> None:
    once, twice = (run(times(n), Dropping, stack) for n in (1, 2))
    assert (twice[0].examples == 2 * once[0].examples).all()
    assert not torch.allclose(twice[0].parts["delta"], 2 * once[0].parts["delta"])


@PATHS
def test_a_fit_in_which_nobody_takes_a_step_is_no_work(stack: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def still(c: Clients) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(type(c.stepper), "fit", None)
            nobody = torch.zeros(len(c), dtype=torch.bool)
            for trace in (c.fit(epochs=0), c.fit(where=nobody), c.fit(steps=[0] * len(c))):
                assert not trace.steps.any()
                assert not trace.loss.any()
                assert trace.lr == 0.1
        assert torch.equal(c.params, c.anchor.expand(len(c), -1))

    for update in run(still, Dropping, stack):
        assert not update.parts["delta"].any()
        assert not update.examples.any()


@PATHS
def test_losses_and_gradients_are_those_of_all_examples(stack: int) -> None:
    seen: list[tuple[int, Tensor, Tensor]] = []

    def look(c: Clients) -> None:
        seen.extend(zip(c.index.tolist(), c.losses(), c.gradients(c.anchor), strict=True))
        c.fit()

    run(look, None, stack)
    problem = class_problem(SIZES, (6,), 3)
    for client, loss, gradient in seen[-3:]:
        module = problem.model_fn()
        rows = torch.arange(SIZES[client]).numpy()[None]
        x, y = (part[0] for part in problem.data.rows(torch.tensor([client]).numpy()).take(rows))
        loss_there = functional.cross_entropy(module(x), y)
        grads = torch.autograd.grad(loss_there, list(module.parameters()))
        assert float(loss) == pytest.approx(loss_there.item(), rel=1e-5)
        assert relative(gradient, torch.cat([grad.flatten() for grad in grads])) <= 1e-5


@PATHS
def test_a_fit_inside_a_fit_is_refused(stack: int) -> None:
    class Inside(ClientProgram):
        def client(self, c: Clients) -> None:
            c.fit(gradient=lambda step, grad: c.fit())

    task = replace(local_task(class_problem(SIZES, (6,), 3), stack=stack), program=Inside())
    with pytest.raises(RuntimeError, match="a fit inside a fit"):
        train(task, range(3) if stack > 1 else [0])


class Net(nn.Module):
    """A model that is no plain ``nn.Sequential``, so that it goes through vmap."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.body(x)))
        return out


def _looking(look: Callable[[Step], object], stack: int, model_fn: Callable[[], nn.Module] = Net) -> None:
    """Run ``look`` in the first step of every block, of batches of 4."""

    class Looks(ClientProgram):
        def client(self, c: Clients) -> None:
            def gradient(step: Step, grad: Tensor) -> None:
                if step.number == 1 and begun:
                    with torch.enable_grad():
                        look(step)
                    seen.append(step)

            c.fit(gradient=gradient)

    seen: list[Step] = []
    begun: list[bool] = []
    task = local_task(class_problem(STEPS, (6,), 3, model_fn), args=LocalSection(2, 4), stack=stack, program=Looks())
    assert task.stacking.stacked == (stack > 1), task.stacking.reason
    begun.append(True)  # the trial before draws nothing
    for block in [range(3)] if stack > 1 else [[0], [1], [2]]:
        train(task, block)
    assert seen


def plain(step: Step, row: int, params: Tensor) -> Tensor:
    """The loss of one client at ``params`` ``[D]``, by plain torch."""
    count, module = int(step.batch.count[row]), Net()
    tensors = {name: tensor[0] for name, tensor in step.c.layout.split(params[None]).items()}
    return functional.cross_entropy(
        functional_call(module, tensors, (step.batch.x[row, :count],)), step.batch.y[row, :count]
    )


@PATHS
def test_losses_and_gradients_elsewhere_are_plain_torchs(stack: int) -> None:
    def look(step: Step) -> None:
        there = (step.params * 0.5).detach()
        expected = there.clone().requires_grad_()
        losses = torch.stack([plain(step, row, expected[row]) for row in range(len(there))])
        (grad,) = torch.autograd.grad(losses.sum(), expected)
        torch.testing.assert_close(step.loss(step.forward(there)), losses.detach())
        assert relative(step.gradient(there), grad) <= 1e-5
        one = step.c.anchor
        alone = torch.stack([plain(step, row, one) for row in range(len(there))])
        torch.testing.assert_close(step.loss(step.forward(one, train=False)), alone)

    _looking(look, stack)


@PATHS
@pytest.mark.parametrize("model_fn", [Net, None], ids=["vmapped", "batched"])
def test_features_come_before_the_head(stack: int, model_fn: Callable[[], nn.Module] | None) -> None:
    def look(step: Step) -> None:
        out = step.forward()
        assert out.features is not None
        head = list(step.c.layout.split(step.params).values())[-2:]
        rows = torch.einsum("abf,akf->abk", out.features, head[0]) + head[1].unsqueeze(1)
        torch.testing.assert_close(rows, out.logits)

    _looking(look, stack, model_fn or (lambda: nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))))


@PATHS
def test_a_gradient_can_be_differentiated_again(stack: int) -> None:
    """The product of the Hessian with a vector, against differences of gradients."""

    def look(step: Step) -> None:
        here = step.params.detach().requires_grad_()
        grad = step.gradient(here, graph=True)
        (product,) = torch.autograd.grad(grad.sum(), here)
        ahead, behind = (step.gradient(here.detach() + move) for move in (1e-2, -1e-2))
        assert relative(product, (ahead - behind) / 2e-2) <= 2e-2

    _looking(look, stack)


@PATHS
def test_a_fresh_batch_has_other_examples_of_the_same_number(stack: int) -> None:
    def look(step: Step) -> None:
        fresh = step.fresh_batch()
        assert fresh.x.shape == step.batch.x.shape
        assert np.array_equal(fresh.count, step.batch.count)
        assert not torch.equal(fresh.x, step.batch.x)
        assert torch.equal(fresh.x, step.fresh_batch().x)

    _looking(look, stack)


@PATHS
@pytest.mark.parametrize("wrong", [lambda step: step.loss().sum(), lambda step: step.forward().logits.mean(dim=-1)])
def test_an_objective_that_is_not_one_loss_for_each_client_is_refused(
    stack: int, wrong: Callable[[Step], Tensor]
) -> None:
    class Wrong(ClientProgram):
        def client(self, c: Clients) -> None:
            c.fit(objective=wrong)

    problem = class_problem(STEPS, (6,), 3, Net)
    task = local_task(problem, args=LocalSection(1, 4), stack=stack)
    with pytest.raises(ValueError, match=r"an objective gives one loss for each client .* step\.mean"):
        train(replace(task, program=Wrong()), range(3) if stack > 1 else [0])


@pytest.mark.parametrize("optimizer", [optim.SGD(0.1), optim.Adam(0.01)], ids=["sgd", "adam"])
@pytest.mark.parametrize("hooked", [False, True])
def test_a_model_of_a_single_tensor_steps_in_a_stack_too(optimizer: optim.TorchOptimizer, hooked: bool) -> None:
    class Own(ClientProgram):
        def client(self, c: Clients) -> None:
            c.fit(gradient=(lambda step, grad: None) if hooked else None)

    updates = []
    for stack in (3, 1):
        problem = class_problem(SIZES, (6,), 3, lambda: nn.Linear(6, 3, bias=False))
        task = local_task(problem, optimizer=optimizer, args=LocalSection(2, 4), stack=stack, program=Own())
        assert task.stacking.stacked == (stack == 3), task.stacking.reason
        updates += [
            train(task, block).parts["delta"].clone() for block in ([range(3)] if stack == 3 else [[0], [1], [2]])
        ]
    assert relative(updates[0], torch.cat(updates[1:])) <= 1e-5


@PATHS
def test_each_fit_of_a_round_has_an_order_of_its_own_and_fits_of_other_models_theirs(stack: int) -> None:
    seen: dict[str, list[list[float]]] = {}

    def orders(c: Clients) -> None:
        def fit(name: str, params: Tensor | None = None) -> None:
            took: list[float] = []
            c.fit(params, gradient=lambda step, grad: took.extend(step.batch.x[0, :, 0].tolist()))
            if c.index[0] == 0:
                seen.setdefault(name, []).append(took)

        for _ in range(2):
            fit("own")
            fit("other", c.down["model"].repeat(len(c), 1))

    run(orders, None, stack)
    first, second = seen["own"][-2:]
    assert sorted(first) == sorted(second)
    assert first != second
    assert seen["other"][-2:] == [first, second]  # those of fits are counted apart


class Drawn(Algorithm):
    """The update of a client is what it draws; in a survey it tells the same draws, and those of another turn."""

    def survey(self, c: Clients) -> None:
        c.send("same", c.uniform(3))
        c.send("other", c.uniform(3, turn=1))

    def client(self, c: Clients) -> None:
        c.fit()
        c.send("delta", c.uniform(c.layout.shared))


def test_draws_of_a_program_are_the_clients_own() -> None:
    tasks = [local_task(class_problem(SIZES), stack=stack, program=Drawn()) for stack in (3, 1)]
    assert [task.stacking.stacked for task in tasks] == [True, False]
    asked = {"same": torch.zeros(3), "other": torch.zeros(3)}
    start = tasks[0].layout.pack(dict(tasks[0].model_fn().state_dict()))
    found = {}
    for round in (1, 2):
        down = Broadcast(round, {"model": start, **asked}, 1.0)
        stacked, alone = (train(task, range(3), down).parts["delta"] for task in tasks)
        assert torch.equal(stacked, alone)
        # Two of them, in another order, in another block.
        assert torch.equal(train(tasks[0], [2, 0], down).parts["delta"], stacked[[2, 0]])
        found[round] = stacked
    assert torch.equal(found[1], found[1].clamp(0.0, 1.0))
    values = torch.cat(list(found.values())).flatten()
    assert len(values.unique()) > 0.99 * len(values)  # of all clients and rounds
    assert abs(float(values.mean()) - 0.5) < 0.05


class Kept(Drawn):
    """Clients remember what they drew."""

    def initial_state(self, c: Clients) -> Parts:
        return {"drawn": c.sizes.new_zeros(5)}

    def client(self, c: Clients) -> None:
        super().client(c)
        c.state["drawn"] = c.uniform(5)


def test_draws_of_a_program_do_not_tell_workers_and_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(name: str, stack: Stack, dies: Deaths | None = None) -> tuple[Tensor, Tensor]:
        run = federation(class_problem((7, 3, 12, 9, 1, 5)), tmp_path / name, Kept(), stack=stack)
        if dies is not None:
            run.executor = workers_within(monkeypatch, len(dies), dies)
        run.run()
        return run.vector, remembered(run)["drawn"]

    vector, kept = drawn("two", 2)
    again, on_workers = drawn("workers", 2, {0: [False, True], 1: []})
    assert torch.equal(vector, again)
    assert torch.equal(kept, on_workers)
    for stack in (3, "off"):
        assert torch.equal(kept, drawn(str(stack), stack)[1])


def test_turns_are_draws_of_their_own_and_within_their_range() -> None:
    said = {}

    class Turns(ClientProgram):
        def client(self, c: Clients) -> None:
            said["first"], said["again"], said["second"] = c.uniform(4), c.uniform(4), c.uniform(4, turn=1)
            for count, turn in ((4, -1), (4, 2**32), (-1, 0)):
                with pytest.raises(ValueError, match=rf"^c\.uniform\({count}, turn={turn}\): count is from 0 on, turn"):
                    c.uniform(count, turn)

    train(local_task(class_problem(SIZES), program=Turns()), range(3))
    assert torch.equal(said["first"], said["again"])
    assert not (said["first"] == said["second"]).any()

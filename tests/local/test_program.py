"""Client programs, each against its equation written out for one client."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fedray import optim
from fedray.algorithms import FedNova, FedProx, Scaffold
from fedray.config.sections import LocalSection
from fedray.core.messages import Broadcast, Parts
from fedray.local.clients import Clients
from fedray.local.program import ClientProgram
from fedray.local.stacking import Stack
from fedray.local.step import Step
from fedray.local.task import LocalTask
from fedray.local.trainer import Trainer
from tests.helpers import class_problem, linear_problem, local_task, relative, train

ROWS = [0, 1, 2]
PATHS = pytest.mark.parametrize("stack", [3, 1], ids=["stacked", "alone"])


def full_batch(program: ClientProgram, stack: int, momentum: float = 0.0) -> LocalTask:
    """Three steps on all of a client's rows of a least-squares problem."""
    args = LocalSection(1, None, 3)
    return local_task(
        linear_problem(3, sizes=(5, 9, 7)), optimizer=optim.SGD(0.1, momentum), args=args, stack=stack, program=program
    )


def gradient(task: LocalTask, client: int, vector: Tensor) -> Tensor:
    """The gradient of a client's whole loss at ``vector``, by autograd."""
    size = int(task.data.sizes[client])
    x, y = task.data.rows(np.array([client])).take(np.arange(size)[None])
    leaf = vector.clone().requires_grad_()
    weight, bias = leaf[:-1], leaf[-1]
    loss = 0.5 * (x[0] @ weight + bias - y[0][:, 0]).square().mean()
    return torch.autograd.grad(loss, leaf)[0]


def start_of(task: LocalTask) -> Tensor:
    return task.layout.pack(dict(task.model_fn().state_dict()))


@PATHS
def test_fedprox_adds_the_proximal_gradient(stack: int) -> None:
    mu = 0.7
    task = full_batch(FedProx(mu=mu), stack)
    update = train(task, ROWS)
    for client in ROWS:
        anchor = start_of(task)
        w = anchor.clone()
        for _ in range(3):
            w -= 0.1 * (gradient(task, client, w) + mu * (w - anchor))
        assert relative(update.parts["delta"][client], w - anchor) <= 1e-5


@PATHS
def test_scaffold_steps_along_the_corrected_gradient_and_renews_the_control_variate(stack: int) -> None:
    task = full_batch(Scaffold(), stack)
    anchor = start_of(task)
    draw = torch.Generator().manual_seed(1)
    server, own = torch.randn(5, generator=draw), torch.randn(3, 5, generator=draw)
    update = train(task, ROWS, Broadcast(1, {"model": anchor, "control": server}, 1.0), {"control": own})
    for client in ROWS:
        w = anchor.clone()
        for _ in range(3):
            w -= 0.1 * (gradient(task, client, w) - own[client] + server)
        renewed = own[client] - server + (anchor - w) / (3 * 0.1)
        assert relative(update.parts["delta"][client], w - anchor) <= 1e-5
        assert relative(update.state["control"][client], renewed) <= 1e-5
        assert relative(update.parts["control"][client], renewed - own[client]) <= 1e-5


@PATHS
@pytest.mark.parametrize(
    ("momentum", "nesterov"),
    [(0.0, False), (0.5, False), (0.5, True), (0.9999, False), (1.0, False), (1.0, True)],
)
@pytest.mark.one_in(4)
def test_fednova_divides_by_the_weights_with_which_gradients_entered(
    stack: int, momentum: float, nesterov: bool
) -> None:
    args = LocalSection(2, 3)
    task = local_task(
        class_problem((11, 6, 3)),
        # Torch's own, as a user may give it: a config's momentum is below 1.
        optimizer=lambda params: torch.optim.SGD(params, 0.1, momentum, nesterov=nesterov),
        args=args,
        stack=stack,
        program=FedNova(),
    )
    plain = train(local_task(class_problem((11, 6, 3)), optimizer=task.optimizer_fn, args=args, stack=stack), ROWS)
    update = train(task, ROWS)
    for client, steps in enumerate([8, 4, 2]):
        # The weights themselves: run the optimizer on a unit gradient in each step alone.
        weights = []
        for unit in range(steps):
            w = torch.zeros(1, requires_grad=True)
            optimizer = torch.optim.SGD([w], 1.0, momentum, nesterov=nesterov)
            for step in range(steps):
                w.grad = torch.ones(1) * (step == unit)
                optimizer.step()
            weights.append(-float(w.detach()))
        assert float(update.parts["tau"][client]) == pytest.approx(sum(weights), rel=1e-5)
        assert relative(update.parts["delta"][client] * sum(weights), plain.parts["delta"][client]) <= 1e-5


def test_hooks_see_the_clients_of_a_block_that_still_train() -> None:
    calls: list[str] = []

    class Spy(ClientProgram):
        def client(self, c: Clients) -> None:
            assert c.index.tolist() == ROWS
            assert c.lr == 0.1
            assert torch.equal(c.params, c.anchor.expand(3, -1))

            def gradient(step: Step, grad: Tensor) -> None:
                calls.append(f"gradient of {len(grad)}")
                assert grad.shape == step.params.shape
                assert step.rows == slice(0, len(grad))
                assert (step.number, step.lr) == (3 - len(grad), 0.1)
                c.state["seen"][step.rows] += 1.0

            def after(step: Step) -> None:
                calls.append("after")
                assert not step.params.requires_grad or not torch.is_grad_enabled()

            trace = c.fit(gradient=gradient, after=after)
            assert trace.steps.flatten().tolist() == [3, 2, 1]
            assert c.state["seen"].flatten().tolist() == [3.0, 2.0, 1.0]
            c.send("delta", 2.0 * c.delta)

    task = local_task(class_problem((12, 7, 3)), args=LocalSection(1, 4), stack=3)
    doubled = train(replace(task, program=Spy()), ROWS, state={"seen": torch.zeros(3, 1)})
    assert calls == ["gradient of 3", "after", "gradient of 2", "after", "gradient of 1", "after"]
    assert torch.equal(doubled.parts["delta"], 2.0 * train(task, ROWS).parts["delta"])
    assert (Spy().plain, ClientProgram().plain) == (False, True)


@pytest.mark.parametrize("stack", [2, "off"])
def test_newcomers_begin_with_the_first_state_and_the_others_with_their_own(stack: Stack) -> None:
    class Counts(ClientProgram):
        def initial_state(self, c: Clients) -> Parts:
            return {"times": torch.full((1,), 5.0), "own": c.sizes.unsqueeze(1)}

        def client(self, c: Clients) -> None:
            c.fit()
            c.state["times"] = c.state["times"] + 1.0

    problem = class_problem((4, 4))
    task = local_task(problem, program=Counts(), stack=stack)
    trainer = Trainer(task, [torch.device("cpu")])
    model = task.layout.pack(dict(task.model_fn().state_dict()))
    down, found = Broadcast(1, {"model": model}, 1.0), []
    for some in [[0, 1]] if stack == 2 else [[0], [1]]:
        state = {"times": torch.tensor([[1.0], [0.0]])[some], "own": torch.tensor([[9.0], [0.0]])[some]}
        known = torch.tensor([True, False])[some]
        found.append(trainer.train(np.array(some), down, state, known=known).state)
    assert torch.cat([state["times"] for state in found]).tolist() == [[2.0], [6.0]]
    assert torch.cat([state["own"] for state in found]).tolist() == [[9.0], [4.0]]

"""Local rules, each against its equation written out for one client."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from fedray import optim
from fedray.algorithms import FedNova, FedProx, Scaffold
from fedray.config.sections import LocalSection
from fedray.core.layout import Layout
from fedray.core.messages import Broadcast
from fedray.local.rules import LocalRule, LocalRun, width_of
from fedray.local.task import LocalTask
from tests.helpers import class_problem, linear_problem, local_task, relative, train

ROWS = [0, 1, 2]
PATHS = pytest.mark.parametrize("stack", [3, 1], ids=["stacked", "alone"])


def full_batch(rule: LocalRule, stack: int, momentum: float = 0.0) -> LocalTask:
    """Three steps on all of a client's rows of a least-squares problem."""
    args = LocalSection(1, None, 3)
    return local_task(
        linear_problem(3, sizes=(5, 9, 7)), optimizer=optim.SGD(0.1, momentum), args=args, stack=stack, rule=rule
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
    task = full_batch(FedProx(mu=mu).rule(), stack)
    update = train(task, ROWS)
    for client in ROWS:
        anchor = start_of(task)
        w = anchor.clone()
        for _ in range(3):
            w -= 0.1 * (gradient(task, client, w) + mu * (w - anchor))
        assert relative(update.parts["delta"][client], w - anchor) <= 1e-5


@PATHS
def test_scaffold_steps_along_the_corrected_gradient_and_renews_the_control_variate(stack: int) -> None:
    task = full_batch(Scaffold().rule(), stack)
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
        rule=FedNova().rule(),
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


def test_hooks_run_in_order_and_see_the_clients_of_a_block() -> None:
    calls: list[str] = []

    class Spy(LocalRule):
        def start(self, run: LocalRun) -> None:
            calls.append("start")
            assert run.clients.tolist() == ROWS
            assert run.lr == 0.1
            assert run.steps.flatten().tolist() == [3, 2, 1]
            assert torch.equal(run.params.detach(), run.anchor.expand(3, -1))

        def gradient(self, run: LocalRun, grad: Tensor) -> None:
            calls.append(f"gradient of {len(run.clients)}")
            assert grad.shape == run.params.shape
            assert len(run.steps) == len(run.delta) == len(run.state["seen"]) == len(run.clients)
            run.state["seen"] += 1.0  # in place, so that it is there in the end

        def finish(self, run: LocalRun) -> None:
            calls.append("finish")
            run.delta.mul_(2.0)
            assert run.state["seen"].flatten().tolist() == [3.0, 2.0, 1.0]

    def task(rule: LocalRule) -> LocalTask:
        return local_task(class_problem((12, 7, 3)), args=LocalSection(1, 4), stack=3, rule=rule)

    doubled = train(task(Spy()), ROWS, state={"seen": torch.zeros(3, 1)})
    assert calls == ["start", "gradient of 3", "gradient of 2", "gradient of 1", "finish"]
    assert torch.equal(doubled.parts["delta"], 2.0 * train(task(LocalRule()), ROWS).parts["delta"])
    assert Spy().changes_gradient
    assert not LocalRule().changes_gradient


def test_widths() -> None:
    layout = Layout.of(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)))
    assert [width_of(w, layout) for w in ("trained", "all", "buffers", "scalar")] == [15, 22, 7, 1]

"""A step's anchor, and fits that move some tensors only, stacked and alone, against plain torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedray import optim
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError
from fedray.core.layout import Only
from fedray.core.messages import Broadcast
from fedray.core.regions import Entry, Region
from fedray.local.clients import Clients
from fedray.local.program import ClientProgram
from fedray.local.schedule import Schedule
from fedray.local.step import Step
from fedray.local.task import LocalTask
from fedray.optim import OptimizerFn
from tests.helpers import class_problem, local_task, relative, train

SIZES = (11, 6, 3)
PATHS = pytest.mark.parametrize("stack", [3, 1], ids=["stacked", "alone"])
OPTIMIZERS: dict[str, OptimizerFn] = {
    "sgd": optim.SGD(0.1),
    "momentum and decay": optim.SGD(0.1, 0.9, 0.05),
    "adam": optim.Adam(0.01, eps=1e-3),
}


class HeadAtHome(ClientProgram):
    """The head is personal; a fit moves what it is told to."""

    def __init__(self, only: Only | None = None, hooked: str = "") -> None:
        self.only, self.hooked = only, hooked

    def region(self, entry: Entry) -> Region:
        return "personal" if entry.head else "shared"

    def client(self, c: Clients) -> None:
        if self.hooked == "gradient":
            c.fit(only=self.only, gradient=lambda step, grad: grad.add_(0.01))
        elif self.hooked == "objective":
            c.fit(only=self.only, objective=lambda step: step.loss() + 0.01 * step.params.sum(dim=1))
        else:
            c.fit(only=self.only)


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5), nn.Tanh(), nn.Linear(5, 3))


def in_plain_torch(task: LocalTask, client: int, names: Callable[[str], bool], more: float) -> Tensor:
    """The vector of a client after a loop in which the other tensors have no gradient."""
    data, module = task.data, task.model_fn().train()
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(names(name))
    optimizer = task.optimizer_fn([p for p in module.parameters() if p.requires_grad])
    schedule = Schedule.draw(task.args, data.sizes[[client]], data.keys(np.array([client])), task.seed, 1)
    x, y = (t[0] for t in data.rows(np.array([client])).take(np.arange(data.sizes[client])[None]))
    for number in range(schedule.index.shape[1]):
        chosen = torch.from_numpy(schedule.index[0, number, : schedule.count[0, number]])
        optimizer.zero_grad()
        task.loss_fn(module(x[chosen]), y[chosen]).backward()
        for parameter in module.parameters():
            if parameter.grad is not None:
                parameter.grad += more
        if task.args.clip_grad_norm is not None:  # the norm of the tensors that move
            nn.utils.clip_grad_norm_([p for p in module.parameters() if p.requires_grad], task.args.clip_grad_norm)
        optimizer.step()
    return task.layout.pack(dict(module.state_dict()))


PARTS: dict[str, tuple[Only | None, Callable[[str], bool]]] = {
    "personal": ("personal", lambda name: name.startswith("4.")),
    "shared": ("shared", lambda name: not name.startswith("4.")),
    "some": (lambda entry: entry.name in ("0.bias", "4.weight"), lambda name: name in ("0.bias", "4.weight")),
    "all": (None, lambda name: True),
}


@PATHS
@pytest.mark.parametrize(
    ("only", "names", "optimizer", "hooked"),
    [
        # Each part of a model with each hook and each optimizer; the other products are slow.
        pytest.param(
            *PARTS[part],
            optimizer,
            hooked,
            id=f"{part}-{optimizer}-{hooked}",
            marks=pytest.mark.slow if (row + kind + hook) % 3 else [],
        )
        for row, part in enumerate(PARTS)
        for kind, optimizer in enumerate(OPTIMIZERS)
        for hook, hooked in enumerate(["", "gradient", "objective"])
    ],
)
@pytest.mark.one_in(4)
def test_a_fit_of_some_tensors_never_moves_the_others(
    only: Only | None, names: Callable[[str], bool], optimizer: str, hooked: str, stack: int
) -> None:
    problem = class_problem(SIZES, model_fn=net)
    program = HeadAtHome(only, hooked)
    args = LocalSection(2, 4, clip_grad_norm=None if hooked else 0.5)
    task = local_task(problem, optimizer=OPTIMIZERS[optimizer], args=args, stack=stack, program=program)
    assert task.stacking.stacked == (stack == 3), task.stacking.reason
    layout = task.layout
    first = layout.pack(dict(task.model_fn().state_dict()))
    update = train(task, range(3), state={"personal": layout.personal_of(first).repeat(3, 1)})
    for client in range(3):
        ours = first.clone()
        ours[: layout.shared] += update.parts["delta"][client]
        layout.put_personal(ours, update.state["personal"][client])
        theirs = in_plain_torch(task, client, names, 0.01 if hooked else 0.0)
        assert relative(ours - first, theirs - first) <= 1e-5
        for entry in layout.parameters:
            if not names(entry.name):
                assert torch.equal(ours[entry.start : entry.stop], first[entry.start : entry.stop]), entry.name


@PATHS
def test_what_is_personal_comes_back_and_the_anchor_has_it(stack: int) -> None:
    seen: list[Tensor] = []

    class Looks(HeadAtHome):
        def client(self, c: Clients) -> None:
            c.fit(gradient=lambda step, grad: seen.append(step.anchor.clone()))

    task = local_task(class_problem(SIZES, model_fn=net), args=LocalSection(1, 4), stack=stack, program=Looks())
    layout = task.layout
    model = layout.pack(dict(task.model_fn().state_dict()))
    own = torch.randn(3, layout.personal)
    seen.clear()
    train(task, range(3), Broadcast(1, {"model": model}, 1.0), {"personal": own})
    assert seen[0].shape == (len(own) if stack == 3 else 1, layout.trained)
    assert torch.equal(seen[0][0, layout.shared :], own[0])
    assert torch.equal(seen[0][0, : layout.shared], model[: layout.shared])
    if stack == 3:
        assert seen[-1].shape[0] == 1, "the anchor is that of the clients that still step"


def test_a_region_that_there_is_not_is_said() -> None:
    words = r"ValueError: only='head': it is 'shared', 'personal', or a function of an entry"
    with pytest.raises(ConfigError, match=words):
        local_task(class_problem(SIZES, model_fn=net), stack=1, program=HeadAtHome("head"))  # type: ignore[arg-type]


@PATHS
def test_the_gradient_elsewhere_is_that_of_the_fits_own_objective(stack: int) -> None:
    seen: list[tuple[int, Tensor, Tensor]] = []

    class Penalised(ClientProgram):
        def client(self, c: Clients) -> None:
            def objective(step: Step) -> Tensor:
                return 2.0 * step.loss() + 3.0 * step.params.square().sum(dim=1)

            def look(step: Step, grad: Tensor) -> None:
                at = step.params + 0.1
                own, plain = step.gradient(at), torch.zeros_like(grad)
                for row, client in enumerate(c.index[: len(at)]):
                    module = class_problem(SIZES).model_fn()
                    named = {n: t[0] for n, t in c.layout.split(at[row : row + 1]).items()}
                    count = int(step.batch.count[row])
                    leaves = {n: t.clone().requires_grad_() for n, t in named.items()}
                    with torch.enable_grad():
                        out = torch.func.functional_call(module, leaves, (step.batch.x[row, :count],))
                        loss = 2.0 * nn.functional.cross_entropy(out, step.batch.y[row, :count])
                    grads = dict(zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True))
                    for entry in c.layout.parameters:
                        plain[row, entry.start : entry.stop] = grads[entry.name].flatten()
                    seen.append((int(client), own[row].clone(), plain[row] + 6.0 * at[row]))

            c.fit(objective=objective, gradient=look)

    train(local_task(class_problem(SIZES), args=LocalSection(1, 4), stack=stack, program=Penalised()), range(3))
    assert len(seen) > 6
    assert max(relative(found, expected) for _, found, expected in seen) <= 1e-5


@PATHS
def test_a_fresh_batch_has_other_examples_of_the_same_pass(stack: int) -> None:
    first: dict[int, list[float]] = {}
    second: dict[int, list[float]] = {}

    class Looks(ClientProgram):
        def client(self, c: Clients) -> None:
            def look(step: Step, grad: Tensor) -> None:
                for held, batch in ((first, step.batch), (second, step.fresh_batch())):
                    for row, client in enumerate(c.index[: len(grad)].tolist()):
                        held.setdefault(client, []).extend(batch.x[row, : int(batch.count[row]), 0].tolist())

            c.fit(epochs=1, gradient=look)

    task = local_task(class_problem(SIZES), args=LocalSection(1, 4), stack=stack, program=Looks())
    first.clear()  # of the trial
    second.clear()
    train(task, range(3))
    assert all(sorted(first[client]) == sorted(second[client]) for client in range(3))
    assert any(first[client] != second[client] for client in range(3))


@PATHS
def test_the_anchor_of_a_step_is_where_its_clients_began_in_whatever_order_they_stand(stack: int) -> None:
    class Reversed(HeadAtHome):
        def client(self, c: Clients) -> None:
            def look(step: Step, grad: Tensor) -> None:
                if step.number == 0:
                    assert torch.equal(step.params, step.anchor)
                grad.add_(step.params - step.anchor)

            c.fit(steps=[1 + int(client) for client in c.index], gradient=look)

    problem = class_problem(SIZES, model_fn=net)
    task = local_task(problem, args=LocalSection(2, 4), stack=stack, program=Reversed())
    first = task.layout.pack(dict(task.model_fn().state_dict()))
    home = task.layout.personal_of(first).repeat(3, 1) * torch.tensor([[0.5], [1.0], [2.0]])
    train(task, range(3), state={"personal": home})

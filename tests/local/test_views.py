"""The views of a client: against plain PyTorch, and apart from training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fedray.algorithms import Ditto, FedAvg, FedPer
from fedray.algorithms.base import Algorithm
from fedray.config.sections import EvaluateSection, LocalSection
from fedray.core.messages import Broadcast
from fedray.core.record import RoundRecord
from fedray.local.clients import Clients
from fedray.local.program import ClientProgram
from fedray.local.step import Step
from fedray.local.trainer import Trainer
from fedray.local.views import Views, views_of, whole_models
from fedray.sampling import Uniform
from tests.helpers import Federation, class_problem, federation, local_task, personal

PROBLEM = class_problem((7, 3, 12, 9, 6, 5), test=20, holdout=0.4)
EVALUATE = EvaluateSection(1, 1, finetune={"epochs": 1})
STACKS = pytest.mark.parametrize("stack", [3, "off"])


def ran(folder: Path, algorithm: Algorithm, **options: Any) -> tuple[Federation, list[RoundRecord]]:
    run = federation(PROBLEM, folder, algorithm, **{"evaluate": EVALUATE, **options})
    return run, run.run()


def judged(
    run: Federation, models: Tensor, rows: list[tuple[Tensor, Tensor]] | None = None
) -> dict[str, np.ndarray[Any, Any]]:
    """Loss and accuracy of each client's model on its held-out (or other) rows, one by one in plain float64 PyTorch."""
    losses, accuracies = [], []
    for client, row in enumerate(models.double()):
        x, y = rows[client] if rows else run.plan.task.data.holdout(np.array([client]))[:2]
        output = forward(run, row, x)
        losses.append(float(functional.cross_entropy(output, y)))
        accuracies.append(float((output.argmax(dim=1) == y).double().mean()))
    return {"loss": np.array(losses), "accuracy": np.array(accuracies)}


def forward(run: Federation, row: Tensor, x: Tensor) -> Tensor:
    module = run.plan.task.model_fn().double()
    output: Tensor = torch.func.functional_call(module, run.plan.layout.unpack(row), (x.double(),))
    return output


def tuned(run: Federation, models: Tensor, lr: float) -> Tensor:
    """One step of plain descent from each model on all of the client's training rows, in float64."""
    ends = []
    for client, row in enumerate(models.double()):
        rows = np.arange(run.plan.task.data.sizes[client])[None]
        x, y = run.plan.task.data.rows(np.array([client])).take(rows)
        leaf = row.clone().requires_grad_()
        (grad,) = torch.autograd.grad(functional.cross_entropy(forward(run, leaf, x[0]), y[0]), leaf)
        ends.append(row - lr * grad)
    return torch.stack(ends)


@STACKS
@pytest.mark.parametrize("algorithm", [Ditto(lam=0.5), FedPer(), FedAvg()], ids=lambda a: a.name)
def test_each_view_is_what_plain_pytorch_makes_of_the_model(algorithm: Algorithm, stack: Any, tmp_path: Path) -> None:
    """A cohort of half, so that some have never taken part; batches of all rows, so that a pass is one step."""
    whole = {"sampler": Uniform(2), "rounds": 2, "args": LocalSection(1, "full"), "stack": stack}
    run, records = ran(tmp_path, algorithm, **whole)
    own = personal(run)
    views = {"clients_finetuned": tuned(run, own, 0.1)}
    if type(algorithm) is not FedAvg:
        views["clients_personal"] = own
        assert float((own - own[0]).abs().max()) > 0.01
        assert records[-1].evaluated["taken_part"] == len(run.state.store.rows) < len(PROBLEM.data)
    sizes = PROBLEM.data.holdout_sizes
    for section, models in views.items():
        for metric, values in judged(run, models).items():
            found = getattr(records[-1], section)[metric]
            assert found["mean"] == pytest.approx(np.average(values, weights=sizes), rel=1e-5)
            assert found["client_mean"] == pytest.approx(values.mean(), rel=1e-5)
            assert found["std"] == pytest.approx(values.std(), rel=1e-4)
    assert records[-1].evaluated["fitted"] == PROBLEM.data.sizes.sum()


@STACKS
def test_an_evaluation_changes_nothing(stack: Any, tmp_path: Path) -> None:
    often, _ = ran(tmp_path / "often", Ditto(lam=0.5), stack=stack)
    never, _ = ran(tmp_path / "never", Ditto(lam=0.5), stack=stack, evaluate=EvaluateSection(0, 0))
    assert torch.equal(often.vector, never.vector)
    assert torch.equal(personal(often), personal(never))


class Fitted(FedAvg):
    """Evaluates clients with a model that it fits for the purpose, in orders that it remembers."""

    name = "fitted"
    orders: ClassVar[list[tuple[str, int, list[float]]]] = []

    def _fit(self, c: Clients, what: str) -> None:
        c.fit(gradient=lambda step, grad: self.orders.append((what, c.round, step.batch.x[0, 0].tolist())))

    def client(self, c: Clients) -> None:
        """Fit, and remember."""
        self._fit(c, "training")

    def personal(self, c: Clients) -> Tensor:
        """Fit, and remember."""
        self._fit(c, "evaluation")
        return c.params


def test_fits_of_an_evaluation_draw_orders_of_their_own(tmp_path: Path) -> None:
    Fitted.orders.clear()
    _, records = ran(tmp_path, Fitted(), stack="off", evaluate=EvaluateSection(0, 1))
    training, evaluation = (
        [rows for what, round, rows in Fitted.orders if (what, round) == (wanted, 2)]
        for wanted in ("training", "evaluation")
    )
    assert len(training) == len(evaluation)
    assert training != evaluation
    assert records[-1].evaluated["fitted"] == PROBLEM.data.sizes.sum()
    assert "taken_part" not in records[-1].evaluated  # clients keep nothing: all are alike


class Contrary(FedAvg):
    """Predicts the opposite."""

    def predict(self, step: Step) -> Tensor:
        """Return the logits with the other sign."""
        return -super().predict(step)


@STACKS
def test_metrics_are_computed_from_what_the_program_predicts(stack: Any, tmp_path: Path) -> None:
    run, records = ran(tmp_path, Contrary(), stack=stack, evaluate=EvaluateSection(1, 1))
    model = run.vector.expand(len(PROBLEM.data), -1)
    expected = [float((forward(run, row, x).argmin(dim=1) == y).double().mean()) for row, x, y in held(run, model)]
    assert records[-1].clients_personal["accuracy"]["client_mean"] == pytest.approx(np.mean(expected))
    assert records[-1].clients_test["accuracy"] != records[-1].clients_personal["accuracy"]


def held(run: Federation, models: Tensor) -> list[tuple[Tensor, Tensor, Tensor]]:
    return [(row, *run.plan.task.data.holdout(np.array([client]))[:2]) for client, row in enumerate(models.double())]


class Nobodys(FedAvg):
    """Has a row on the server that is no model."""

    name = "nobodys"
    global_model = False


@pytest.mark.parametrize("algorithm", [FedPer(), Nobodys()], ids=lambda a: a.name)
def test_where_the_servers_row_is_no_model_nothing_is_evaluated_by_it(algorithm: Algorithm, tmp_path: Path) -> None:
    _, records = ran(tmp_path, algorithm)
    assert [(record.test, record.clients_test) for record in records] == [({}, {})] * 3
    assert records[-1].clients_finetuned


def test_views_are_named_in_order() -> None:
    kinds: list[tuple[Algorithm, tuple[str, ...]]] = [
        (FedAvg(), ("global",)),
        (Ditto(), ("global", "personal")),
        (FedPer(), ("personal",)),
        (Nobodys(), ()),
    ]
    for algorithm, names in kinds:
        assert views_of(local_task(PROBLEM, program=algorithm), EvaluateSection()).names == names
        assert views_of(local_task(PROBLEM, program=algorithm), EVALUATE).names == (*names, "finetuned")
    assert Views().names == ("global",)


@dataclass(frozen=True)
class _Buffered(Algorithm):
    """A program for a model with buffers."""


def test_models_are_made_whole_with_what_is_the_clients_own() -> None:
    def normed() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 3))

    task = local_task(class_problem(model_fn=normed), program=_Buffered(), stack="off")
    trainer, size, trained = Trainer(task, [torch.device("cpu")]), task.layout.size, task.layout.trained
    assert size > trained
    model = torch.arange(float(size))
    with trainer.block(np.array([1]), Broadcast(1, {"model": model}, 1.0), {}) as c:
        assert isinstance(task.program, ClientProgram)
        assert whole_models(c, task.program.personal(c)) is c.model
        for given in (torch.zeros(trained), torch.zeros(1, trained)):
            assert torch.equal(whole_models(c, given)[0], torch.cat([torch.zeros(trained), model[trained:]]))
        assert torch.equal(whole_models(c, torch.ones(size)), torch.ones(1, size))

"""Which losses fit which tasks: those whose descent makes the task's answers right, for whatever targets there are."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import fedray
from fedray.config.sections import LocalSection
from fedray.core.errors import ConfigError
from fedray.core.layout import Layout
from fedray.core.losses import LossFn, cross_entropy, mse
from fedray.data import DataSpec
from fedray.experiment.preflight import check_fit
from fedray.local.losses import UserLoss
from fedray.local.program import ClientProgram
from fedray.local.task import LocalTask
from fedray.optim import SGD
from fedray.tasks import (
    Binary,
    CausalLM,
    Classification,
    Multilabel,
    Regression,
    Segmentation,
    Task,
    TokenClassification,
)

VOID = 4
"""A target that does not count."""

Case = tuple[Task, int, tuple[int, ...], Tensor]
"""A task, its classes, the shape of a model's output for an example, and targets of which each has others."""


def numbers(*shape: int, classes: int) -> Tensor:
    """Whole numbers of every class."""
    return torch.arange(int(np.prod(shape))).reshape(shape) % classes


CASES: dict[str, Case] = {
    "binary": (Binary(), 2, (1,), numbers(4, classes=2)),
    "binary, no axis": (Binary(), 2, (), numbers(4, classes=2)),
    "binary, floats": (Binary(), 1, (1,), numbers(4, 1, classes=2).float()),
    "classes": (Classification(), 3, (3,), numbers(6, classes=3)),
    "two classes": (Classification(), 2, (2,), numbers(4, classes=2)),
    "classes of positions": (Classification(), 3, (3, 5), numbers(6, 5, classes=3)),
    "labels": (Multilabel(), 3, (3,), torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]])),
    "pixels": (Segmentation(), 3, (3, 2, 2), numbers(3, 2, 2, classes=3)),
    "pixels, void": (Segmentation(VOID), 5, (3, 2, 2), numbers(5, 2, 2, classes=3).masked_fill(torch.eye(2) > 0, VOID)),
    "tokens": (TokenClassification(), 3, (5, 3), numbers(6, 5, classes=3)),
    "as many tokens as classes": (TokenClassification(), 3, (3, 3), numbers(6, 3, classes=3).roll(1, 1)),
    "next tokens": (CausalLM(), 6, (5, 6), numbers(6, 5, classes=6)),
}
LOSSES: dict[str, Any] = {
    "cross_entropy": cross_entropy,
    "torch's": functional.cross_entropy,
    "module": nn.CrossEntropyLoss(),
    "module, void": nn.CrossEntropyLoss(ignore_index=VOID),
    "partial": partial(functional.cross_entropy, label_smoothing=0.1),
    "by its path": UserLoss("torch.nn:CrossEntropyLoss", {"ignore_index": VOID}),
    "a class too few": nn.CrossEntropyLoss(weight=torch.ones(2)),
    "its own": None,
}


class Fixed(nn.Module):
    """A model that gives outputs of one shape."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor) -> Tensor:
        return self.value.expand(len(x), *self.value.shape)


def refusal(loss: Any, task: Task, shape: tuple[int, ...], targets: Tensor) -> str:
    """The words of the preflight, whose batch has the first of some targets; nothing where it lets a run begin."""
    x = np.zeros((len(targets), 2), dtype=np.float32)
    data = fedray.FederatedData.from_arrays(x, targets.numpy(), np.arange(len(targets)))
    used = task.scaled(loss or task.loss_fn)
    model_fn = partial(Fixed, shape)
    layout = Layout.of(model_fn())
    problem = LocalTask(model_fn, SGD(0.1), used, data, layout, LocalSection(), ClientProgram(), 0, task=task)
    try:
        check_fit(problem, model_fn(), evaluated=False, said=loss)
    except ConfigError as error:
        return str(error)
    return ""


def learns(loss: LossFn, task: Task, shape: tuple[int, ...], targets: Tensor) -> bool:
    """True if outputs that descend the loss freely give the right answer wherever a target counts."""
    output = torch.full((len(targets), *shape), -0.1, requires_grad=True)
    try:
        for _ in range(30):
            (gradient,) = torch.autograd.grad(loss(output, targets), output)
            output = (output - 20.0 * gradient).detach().requires_grad_()
    except (IndexError, RuntimeError, ValueError):
        return False
    found = task.answers(output.detach(), targets)
    return bool((found.right if found.known is None else found.right | ~found.known).all())


@pytest.mark.parametrize("case", CASES)
def test_a_loss_is_refused_before_the_run_where_it_cannot_teach_the_task(case: str) -> None:
    about, classes, shape, targets = CASES[case]
    kind = "regression" if targets.is_floating_point() else "classification"
    task = about.of(DataSpec((2,), classes, kind), tuple(targets.shape))  # type: ignore[arg-type]
    for name, loss in LOSSES.items():
        said = refusal(loss, task, shape, targets)
        assert bool(said) != learns(loss or task.loss_fn, task, shape, targets), (name, said)
        if said:
            assert said.startswith("local.loss: "), said
            assert said.endswith(f"take another, or leave local.loss out, and it is that of task: {about.name}"), said
            assert str((2, *shape)) in said, "the shape of what the model gives, for two examples"
            assert str((2, *targets.shape[1:])) in said, "and that of the targets"
            assert "\n" not in said


@pytest.mark.parametrize(
    ("task", "classes", "shape", "targets", "fits"),
    [
        (Regression(), 2, (2,), torch.zeros(4, 2), True),
        (Binary(), 2, (1,), numbers(4, classes=2), False),
        (Classification(), 3, (3,), numbers(6, classes=3), False),
        (Classification(), 2, (2,), numbers(4, classes=2), False),
        (Segmentation(), 3, (3, 2, 2), numbers(3, 2, 2, classes=3), False),
        (TokenClassification(), 2, (2, 2), numbers(4, 2, classes=2), False),
    ],
)
def test_squared_errors_need_an_output_for_each_target(
    task: Task, classes: int, shape: tuple[int, ...], targets: Tensor, fits: bool
) -> None:
    kind = "regression" if targets.is_floating_point() else "classification"
    said = refusal(mse, task.of(DataSpec((2,), classes, kind), tuple(targets.shape)), shape, targets)  # type: ignore[arg-type]
    assert bool(said) != fits, said
    assert fits or (said.startswith("local.loss: ") and f"task: {task.name}" in said)
    assert fits or (str((2, *shape)) in said and str((2, *targets.shape[1:])) in said)


OF_YES_AND_NO: dict[str, Any] = {
    "its own": None,
    "with logits": functional.binary_cross_entropy_with_logits,
    "with logits, weighted": nn.BCEWithLogitsLoss(pos_weight=torch.ones(1)),
    "of one's own, Brier's": lambda output, target: functional.mse_loss(output.sigmoid(), target),
    "mse": mse,
    "squared error": functional.mse_loss,
    "squared error, module": nn.MSELoss(),
    "squared error by its path": UserLoss("torch.nn:MSELoss"),
    "absolute error": nn.L1Loss(),
    "absolute error, partial": partial(functional.smooth_l1_loss, beta=0.1),
    "Huber": functional.huber_loss,
    "probabilities": functional.binary_cross_entropy,
    "probabilities, module": nn.BCELoss(),
}


def best_output(loss: LossFn, yes: int, of: int) -> float:
    """The output for which a loss is least, where so many of some examples that look alike are a yes."""
    outputs = torch.linspace(-3.0, 3.0, 601)
    target = (torch.arange(of) < yes).float().unsqueeze(1)
    found = []
    for output in outputs:
        try:
            found.append(float(loss(output.expand(of, 1), target)))
        except RuntimeError:  # no probability
            found.append(np.inf)
    return float(outputs[int(np.argmin(found))])


@pytest.mark.parametrize("name", OF_YES_AND_NO)
@pytest.mark.parametrize("task", [Binary(), Multilabel()])
def test_a_loss_of_yes_and_no_is_refused_where_its_least_is_not_the_likelier_answer(name: str, task: Task) -> None:
    loss = OF_YES_AND_NO[name]
    about = task.of(DataSpec((2,), 1, "regression"), (4, 1))
    taught = loss or about.loss_fn
    teaches = best_output(taught, 1, 4) < -0.1 and best_output(taught, 3, 4) > 0.1
    said = refusal(loss, about, (1,), numbers(4, 1, classes=2).float())
    assert bool(said) != teaches, said
    if said:
        assert said.startswith("local.loss: it compares ")
        assert said.endswith(f"leave local.loss out, and it is that of task: {task.name}"), said
        assert "takes outputs above 0 for yes; the model gives (2, 1) for targets (2, 1)" in said

"""When clients step stacked: the reasons why not, and the size of a block."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import fedray
from fedray import optim
from fedray.config.sections import LocalSection
from fedray.core.losses import LossFn
from fedray.data.spec import DataSpec
from fedray.local import stacking
from fedray.local.stacking import (
    BLOCK_BYTES,
    CPU_PARAMETERS,
    GPU_PARAMETERS,
    LARGEST_BLOCK,
    STEP_WORK,
    Stack,
    decide,
    stacked_size,
)
from fedray.local.task import LocalTask, Stacking
from fedray.models import LSTM
from fedray.optim import OptimizerFn
from tests.helpers import class_problem, local_task, relative, train

SIZES = (7, 5, 3, 1)


def decision(
    model_fn: Callable[[], nn.Module] | None = None,
    *,
    optimizer: OptimizerFn | None = None,
    loss: LossFn | None = None,
    stack: Stack = 4,
    sizes: tuple[int, ...] = SIZES,
) -> LocalTask:
    problem = class_problem(sizes, model_fn=model_fn)
    if loss is not None:
        problem = replace(problem, loss_fn=loss)
    return local_task(problem, optimizer=optimizer, stack=stack)


class Orthogonal(torch.optim.SGD):
    """An optimizer that looks at a whole matrix, like Muon."""


def two_groups(params: Iterable[Tensor]) -> torch.optim.Optimizer:
    """No weight decay on biases, as many training scripts have it."""
    listed = list(params)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in listed if p.dim() > 1]},
        {"params": [p for p in listed if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.01, weight_decay=0.1)


class Branching(nn.Linear):
    """Takes another way when its input says so."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if float(x.sum().detach()) > 0 else -x)


class Centred(nn.Linear):
    """Looks at the whole batch without being a BatchNorm."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(dim=0))


class Counting(nn.Linear):
    """Counts its calls in a buffer."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.get_buffer("calls").add_(1.0)
        return super().forward(x)


class Unused(nn.Linear):
    """Has a parameter that the output does not depend on."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.spare = nn.Parameter(torch.ones(3))


def weighted(output: Tensor, target: Tensor) -> Tensor:
    """Class weights: torch divides by the weights in the batch, not by its size."""
    return functional.cross_entropy(output, target, weight=torch.tensor([1.0, 5.0, 0.2]))


def summed(output: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(output, target, reduction="sum")


def contrasting(output: Tensor, target: Tensor) -> Tensor:
    """Pulls the examples of a batch apart."""
    return functional.cross_entropy(output, target) - torch.cdist(output, output).mean()


def norm() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))


def bounded() -> nn.Module:
    """A hook that a trial step does not come to."""
    module = nn.Linear(6, 3)
    module.weight.register_hook(lambda gradient: gradient.clamp(-1e6, 1e6))
    return module


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (lambda: decision(norm), r"batch statistics in 1$"),
        (lambda: decision(optimizer=torch.optim.LBFGS), r"optimizer LBFGS is not known to be elementwise"),
        (
            lambda: decision(optimizer=lambda p: Orthogonal(p, 0.1)),
            r"optimizer Orthogonal is not known to be elementwise",
        ),
        (lambda: decision(optimizer=two_groups), r"the optimizer has several parameter groups"),
        (lambda: decision(bounded), r"weight has hooks"),
        (lambda: decision(lambda: Branching(6, 3)), r"does not run under vmap \(RuntimeError: .*\.item\(\)"),
        (lambda: decision(lambda: Centred(6, 3)), r"stacked is not what it is alone"),
        (lambda: decision(lambda: Centred(6, 3), sizes=(1, 1, 40, 30)), r"client 3 stacked is not what it is alone"),
        (lambda: decision(lambda: Counting(6, 3)), r"stacked is not what it is alone"),
        (lambda: decision(lambda: Unused(6, 3), optimizer=optim.AdamW()), r"stacked is not what it is alone"),
        (lambda: decision(loss=weighted), r"loss of a batch is not the mean of its examples' losses"),
        (lambda: decision(loss=summed), r"loss of a batch is not the mean of its examples' losses"),
        (lambda: decision(loss=contrasting), r"loss of a batch is not the mean of its examples' losses"),
        (lambda: decision(stack="off"), r"local\.stack turns it off"),
        (lambda: decision(sizes=(5, 5), stack="auto"), r"a cohort of 2 make stacks of one client"),
        (lambda: decision(stack=1), r"local\.stack turns it off"),
        (
            lambda: decision(lambda: nn.Linear(6, 40_000), stack="auto"),
            r"280,000 parameters: above 262,144 stacking does not pay on a cpu",
        ),
    ],
)
def test_what_cannot_stack_says_why_and_still_trains(task: Callable[[], LocalTask], reason: str) -> None:
    decided = task().stacking
    assert not decided.stacked
    assert re.search(reason, decided.reason), decided.reason


@pytest.mark.parametrize(
    "task",
    [
        decision,
        lambda: decision(lambda: Unused(6, 3)),
        lambda: decision(optimizer=optim.Adam()),
        lambda: decision(optimizer=lambda p: torch.optim.RMSprop(p, 0.01, momentum=0.5)),
        lambda: decision(sizes=(1, 1)),
        lambda: decision(sizes=(1,)),
        lambda: decision(sizes=(2, 1)),
    ],
)
def test_what_stacks_says_how_many(task: Callable[[], LocalTask]) -> None:
    decided = task().stacking
    assert decided.stacked, decided.reason
    assert decided.size == 4
    assert decided.reason.startswith("4 clients step at once")


def test_a_trial_leaves_the_data_the_model_and_the_global_generator_as_they_are() -> None:
    torch.default_generator.manual_seed(3)
    before = torch.get_rng_state()
    task = decision()
    assert torch.equal(torch.get_rng_state(), before)
    assert task.data.sizes.tolist() == list(SIZES)


@pytest.mark.parametrize("width", [1, 14, 1_400, CPU_PARAMETERS // 7])
def test_stacks_are_worth_a_step_fit_a_cache_and_leave_half_the_cohort(width: int) -> None:
    task = local_task(
        class_problem((9,) * 6, model_fn=lambda: nn.Linear(6, width)), stack="off", args=LocalSection(1, 4)
    )
    parameters = task.layout.trained
    size = stacked_size(task, 1e6, "cpu")
    assert 1 <= size <= LARGEST_BLOCK["cpu"]
    assert size == 1 or 4 * parameters * size <= BLOCK_BYTES["cpu"]
    limits = (LARGEST_BLOCK["cpu"], BLOCK_BYTES["cpu"] // (4 * parameters))
    assert size in limits or parameters * 4 * (size - 1) < STEP_WORK["cpu"] <= parameters * 4 * size
    assert stacked_size(task, 2.0, "cpu") == 1
    assert stacked_size(task, 9.0, "cpu") <= 5
    assert stacked_size(task, 1e6, "cuda") >= size
    assert stacked_size(task, 9.0, "cuda") <= 9


@pytest.mark.parametrize("wanted", ["off", "auto", 4])
def test_clients_that_step_alone_are_a_block_each(wanted: Any) -> None:
    def model() -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))

    task = local_task(class_problem(SIZES, model_fn=model), stack="off")
    decided = decide(task, wanted, 100.0, "cpu")
    assert not decided.stacked
    assert decided.size == 1


def test_auto_depends_on_the_device_and_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    def wide() -> nn.Module:
        return nn.Linear(6, 50_000)

    task = local_task(class_problem(SIZES, model_fn=wide), stack="off")
    assert CPU_PARAMETERS < task.layout.trained < GPU_PARAMETERS
    assert not decide(task, "auto", 40, "cpu").stacked
    on_gpu = decide(task, "auto", 40, "cuda")
    assert on_gpu.stacked
    assert on_gpu == decide(task, "auto", 40, "cuda")
    monkeypatch.setattr(stacking, "GPU_PARAMETERS", 300_000)
    assert "above 300,000 stacking does not pay on a cuda" in decide(task, "auto", 40, "cuda").reason
    # A number is an order: size does not count.
    assert decide(task, 2, 40, "cpu") == Stacking(2, True, decide(task, 2, 40, "cpu").reason)


def test_a_recurrent_model_stacks_where_that_beats_its_fused_kernel() -> None:
    """Not on a CPU, and on a GPU in larger stacks only; on request everywhere."""

    spec = DataSpec((5,), 3, vocabulary=7)
    problem = class_problem((3,) * 20, (5,), 3, partial(LSTM(embedding=3, hidden=4).build, spec), vocabulary=7)
    task = local_task(problem, stack="auto")
    assert "is recurrent" in task.stacking.reason
    assert "is recurrent" in decide(task, "auto", 15, "cuda").reason
    assert decide(task, "auto", 16, "cuda").size == 16
    assert decide(task, 2, 20, "cpu").stacked


def test_bfloat16_stacks_like_float32() -> None:
    """Its rounding is no reason: stacked, a client is what it is alone up to eight bits."""
    task = local_task(class_problem(SIZES), stack=4, precision="bf16")
    assert task.stacking.stacked, task.stacking.reason
    alone = train(replace(task, stacking=Stacking(1, False, "")), range(4))
    assert relative(train(task, range(4)).parts["delta"], alone.parts["delta"]) <= 2**-5


def test_sequential_training_takes_what_does_not_stack() -> None:
    for task in (decision(optimizer=two_groups), decision(lambda: Branching(6, 3)), decision(loss=weighted)):
        update = train(task, range(len(SIZES)))
        assert bool(update.parts["delta"].isfinite().all())
        assert bool((update.parts["delta"].abs().amax(dim=1) > 1e-4).all())


def test_attention_stacks_without_a_warning() -> None:
    # A warning is an error in this suite: torch warns where vmap has to run a kernel row by row.
    def attention() -> nn.Module:
        layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
        return nn.Sequential(nn.Unflatten(1, (1, 6)), layer, nn.Flatten(), nn.Linear(6, 3))

    task = decision(attention)
    assert task.stacking.stacked, task.stacking.reason
    alone = train(replace(task, stacking=Stacking(1, False, "")), range(4))
    assert relative(train(task, range(4)).parts["delta"], alone.parts["delta"]) <= 1e-5


def lenet() -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 10)),
    )


def encoder(places: int) -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 8, dropout=0.0, batch_first=True)
    return nn.Sequential(layer, nn.Flatten(), nn.Linear(8 * places, 3))


def operations_task(shape: tuple[int, ...], build: Callable[[], nn.Module], batch: int, rows: int = 40) -> LocalTask:
    problem = class_problem((rows,) * 6, shape, model_fn=build)
    return local_task(problem, args=LocalSection(1, batch), stack="off")


def test_on_a_cpu_auto_knows_the_convolutions_of_a_step_and_its_attention() -> None:
    """Few parameters do not make a small step: an image has thousands of places, a sequence scores by the square."""
    image, sequence = (3, 32, 32), (128, 8)
    for task, heavy in (
        (operations_task(image, lenet, 10), "a convolution unfolds 369,000 numbers in a step: above 262,144"),
        (operations_task(image, lenet, 4), None),
        # The median client has three rows, whatever the batch may hold.
        (operations_task(image, lenet, 4_000, rows=3), None),
        (operations_task(sequence, partial(encoder, 128), 8), "an attention has 262,144 scores in a step"),
        (operations_task(sequence, partial(encoder, 128), 4), None),
    ):
        decided = decide(task, "auto", 40, "cpu")
        assert decided.stacked == (heavy is None)
        assert (heavy or "step at once") in decided.reason
        assert decide(task, "auto", 40, "cpu") == decided  # counted, so that it repeats
        assert decide(task, 2, 40, "cpu").stacked  # a number is an order
        assert decide(task, "auto", 40, "cuda").stacked


class Weighted(nn.CrossEntropyLoss):
    """A loss that leaves out a class, of a kind that nobody knows."""


@pytest.mark.parametrize("kind", [nn.CrossEntropyLoss, Weighted])
def test_a_class_that_the_loss_leaves_out_trains_to_finite_numbers(kind: Any, tmp_path: Path) -> None:
    problem = class_problem((3, 4), test=6)
    x = torch.randn(7, 6).numpy()
    y, clients = np.array([2, 2, 2, 0, 1, 2, 1]), [0] * 3 + [1] * 4
    data = fedray.FederatedData.from_arrays(x, y, clients, test=(x, np.full(7, 2)))
    model = fedray.FederatedModel(problem.model_fn, None, kind(ignore_index=2))
    args = fedray.TrainArgs(rounds=2, batch_size=2, stack=2)
    result = fedray.train(model, data, args, cluster="inline", run_dir=tmp_path / "run", progress=False)
    assert [record.clients["failed"] for record in result.history] == [0, 0]
    assert np.isfinite([record.train["loss"] for record in result.history]).all()
    log = (tmp_path / "run" / "log.txt").read_text()
    if kind is Weighted:
        assert result.history[-1].test["loss"] == 0.0
        assert stacking.COUPLED in log
    else:
        assert np.isnan(result.history[-1].test["loss"]), "none of the test set counts"
        assert "clients step at once" in log


def test_sparse_embeddings_train_as_dense_ones(tmp_path: Path) -> None:
    def hashes(sparse: bool) -> list[str | None]:
        def net() -> nn.Module:
            return nn.Sequential(nn.Embedding(9, 4, sparse=sparse), nn.Flatten(), nn.Linear(24, 3))

        problem = class_problem(vocabulary=9)
        model = fedray.FederatedModel(net, fedray.optim.Adam(), problem.loss_fn)
        where = tmp_path / str(sparse)
        args = fedray.TrainArgs(rounds=2)
        return [
            r.model_sha256 for r in fedray.train(model, problem.data, args, cluster="inline", run_dir=where).history
        ]

    assert hashes(True) == hashes(False)


def test_a_loss_that_fails_in_a_stack_at_a_batchs_usual_size_is_found_before_the_run() -> None:
    def picky(output: Tensor, target: Tensor) -> Tensor:
        if len(target) > 5 and bool((output > 100).any()):  # looks at values, which vmap cannot
            return output.sum()
        return functional.cross_entropy(output, target)

    problem = class_problem((12, 11, 12))
    for size, stacked in ((4, True), (8, False)):
        task = local_task(replace(problem, loss_fn=picky), args=LocalSection(1, size), stack=3)
        assert task.stacking.stacked is stacked
    assert "does not run under vmap" in task.stacking.reason

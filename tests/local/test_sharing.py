"""A client's batch shared out over devices: what one device does, up to rounding, or a reason why not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from fedray import optim
from fedray.algorithms import FedProx, Scaffold
from fedray.config.sections import LocalSection
from fedray.core.losses import LossFn
from fedray.core.messages import BlockUpdate, Broadcast
from fedray.data.spec import DataSpec
from fedray.local.program import ClientProgram
from fedray.local.sharing import decide_sharing, pieces_told
from fedray.local.task import LocalTask, Sharing
from fedray.models import CNN, MLP, Transformer
from fedray.models.resnet import ResNet18GN
from tests.helpers import class_problem, local_task, relative, seeded, train

CPU = torch.device("cpu")
SIZES = (23, 14, 2, 1)
FEATURES = DataSpec(shape=(6,), outputs=3)
IMAGE = DataSpec(shape=(1, 8, 8), outputs=3)
SEQUENCE = DataSpec(shape=(5, 3), outputs=3)


def shared_task(
    model_fn: Callable[[], nn.Module],
    spec: DataSpec = FEATURES,
    *,
    program: ClientProgram | None = None,
    optimizer: optim.OptimizerFn | None = None,
    loss: LossFn | None = None,
    stack: int | str = "off",
) -> LocalTask:
    """A task whose sharing is decided for workers of three devices."""
    problem = class_problem(SIZES, spec.shape, spec.outputs, model_fn)
    problem = replace(problem, loss_fn=loss or problem.loss_fn)
    args, program = LocalSection(1, 8), program or ClientProgram()
    task = local_task(problem, optimizer=optimizer, args=args, stack=stack, program=program)  # type: ignore[arg-type]
    return replace(task, sharing=decide_sharing(task, 3))


def both(task: LocalTask, **given: Tensor) -> tuple[BlockUpdate, BlockUpdate]:
    """The clients' updates on one device, and on three."""
    assert task.sharing.devices == 3, task.sharing.reason
    draw = torch.Generator().manual_seed(1)
    state = {name: torch.randn(len(SIZES), len(vector), generator=draw) for name, vector in given.items()}
    model = task.layout.pack(dict(task.model_fn().state_dict()))
    down = Broadcast(1, {"model": model, **given}, 1.0)
    one, three = (train(task, range(len(SIZES)), down, state, [CPU] * count) for count in (1, 3))
    return one, three


MODELS: dict[str, tuple[DataSpec, Callable[[], nn.Module]]] = {
    "mlp": (FEATURES, partial(MLP([8, 5]).build, FEATURES)),
    "cnn": (IMAGE, partial(CNN([3, 4], 6).build, IMAGE)),
    "resnet": (IMAGE, partial(ResNet18GN(width=2, groups=1).build, IMAGE)),
    "transformer with dropout": (SEQUENCE, partial(Transformer(dim=8, heads=2, layers=1, dropout=0.3).build, SEQUENCE)),
}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.one_in(2)
def test_three_devices_do_what_one_does(model: str) -> None:
    """An epoch in batches of 8, the last of 7, 6, 2 and 1 rows."""
    spec, model_fn = MODELS[model]
    one, three = both(shared_task(model_fn, spec, optimizer=optim.SGD(0.1, momentum=0.9)))
    for client in range(len(SIZES)):
        assert float(one.parts["delta"][client].abs().max()) > 1e-3
        # Ten roundings of float32: which of them differ depends on the processor's matrix kernels.
        assert relative(three.parts["delta"][client], one.parts["delta"][client]) <= 3e-6
    torch.testing.assert_close(torch.from_numpy(three.loss), torch.from_numpy(one.loss), rtol=1e-6, atol=0.0)
    assert three.examples.tolist() == one.examples.tolist() == list(SIZES)


def test_a_rule_sees_the_whole_gradient() -> None:
    """FedProx, and SCAFFOLD with its controls."""
    spec, model_fn = MODELS["mlp"]
    one, three = both(shared_task(model_fn, spec, program=FedProx(mu=0.7)))
    assert relative(three.parts["delta"], one.parts["delta"]) <= 1e-6
    task = shared_task(model_fn, spec, program=Scaffold())
    one, three = both(task, control=torch.randn(task.layout.trained))
    for name in ("delta", "control"):
        assert relative(three.parts[name], one.parts[name]) <= 2e-6
    assert relative(three.state["control"], one.state["control"]) <= 2e-6


def test_a_device_works_on_its_rows() -> None:
    """Batches reach the copies in shares, and their order is that of the devices."""
    batches: list[tuple[int, int]] = []
    models: list[nn.Module] = []

    class Watched(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            if self.training and torch.is_grad_enabled():
                if self not in models:
                    models.append(self)
                batches.append((models.index(self), len(x)))
            return super().forward(x)

    task = shared_task(lambda: Watched(6, 3))
    train(task, [1, 2, 3], devices=[CPU] * 3)
    assert batches == [(0, 3), (1, 3), (2, 2), (0, 2), (1, 2), (2, 2), (0, 1), (1, 1), (0, 1)]


def test_a_worker_with_fewer_devices_uses_those() -> None:
    """Nobody has to have as many as the largest worker."""
    spec, model_fn = MODELS["mlp"]
    task = shared_task(model_fn, spec)
    one, two = (train(task, range(4), devices=[CPU] * count) for count in (1, 2))
    assert relative(two.parts["delta"], one.parts["delta"]) <= 1e-6
    alone = train(replace(task, sharing=Sharing()), range(4), devices=[CPU] * 3)
    assert torch.equal(alone.parts["delta"], one.parts["delta"])


@pytest.mark.parametrize(
    ("loss", "accumulate", "told"),
    [
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 5.0])), 2, True),
        (nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 5.0])), 1, False),
        (nn.CrossEntropyLoss(ignore_index=1), 2, False),
        (nn.CrossEntropyLoss(), 2, False),
    ],
)
def test_a_loss_that_cannot_be_cut_says_so(loss: LossFn, accumulate: int, told: bool) -> None:
    problem = replace(class_problem(SIZES), loss_fn=loss)
    task = local_task(problem, args=LocalSection(1, 2, accumulate=accumulate), stack="off")
    words = r"local\.accumulate=2: the loss of a batch is not the mean .* pieces' losses, weighted by their rows"
    assert [bool(re.match(words, one)) for one in pieces_told(task)] == [True] * told


def test_a_parameter_that_the_loss_does_not_use_stays() -> None:
    """Weight decay moves what has a gradient of zero, and not what has none."""

    class Unused(nn.Linear):
        def __init__(self) -> None:
            super().__init__(6, 3)
            self.spare = nn.Parameter(torch.ones(3))

    task = shared_task(Unused, optimizer=optim.AdamW(0.01, weight_decay=0.1))
    one, three = both(task)
    spare = next(entry for entry in task.layout.entries if entry.name == "spare")
    assert not three.parts["delta"][:, spare.start : spare.stop].any()
    assert relative(three.parts["delta"], one.parts["delta"]) <= 1e-5


@pytest.mark.gpu
@pytest.mark.parametrize("model", MODELS)
def test_gpus_do_what_one_does(model: str) -> None:
    found = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    if len(found) < 2:
        pytest.skip("needs two CUDA devices, torch sees one")
    spec, model_fn = MODELS[model]
    task = shared_task(model_fn, spec, optimizer=optim.SGD(0.1, momentum=0.9))
    one, several = (train(task, range(len(SIZES)), devices=devices) for devices in (found[:1], found))
    assert relative(several.parts["delta"], one.parts["delta"]) <= 1e-4


class Noisy(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x + torch.randn_like(x))


class Centred(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x - x.mean(dim=0))


class Averaging(nn.Linear):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("average", torch.zeros(inputs))
        self.average: Tensor

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.average = 0.5 * self.average + 0.5 * x.detach().mean(dim=0)
        return super().forward(x)


class BatchLast(nn.Linear):
    """Drops from a tensor in which the batch does not come first."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(functional.dropout(x.t().contiguous(), 0.5, self.training).t())


def batch_last() -> nn.Module:
    return nn.Sequential(nn.Dropout(0.1), BatchLast(6, 3))


def weighted(output: Tensor, target: Tensor) -> Tensor:
    return functional.cross_entropy(output, target, weight=torch.tensor([1.0, 5.0, 0.2]))


@pytest.mark.parametrize(
    ("task", "reason"),
    [
        (
            lambda: shared_task(lambda: nn.Linear(6, 3), stack=3),
            r"clients step stacked, which gains more from a worker",
        ),
        (lambda: shared_task(lambda: nn.Sequential(nn.BatchNorm1d(6), nn.Linear(6, 3))), r"batch statistics in 0$"),
        (lambda: shared_task(lambda: nn.Linear(6, 3), loss=weighted), r"the loss of a batch is not the mean"),
        (lambda: shared_task(lambda: Noisy(6, 3)), r"draws at random, and not by nn\.Dropout$"),
        (
            lambda: shared_task(
                lambda: nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Dropout1d(0.5), nn.Flatten(), nn.Linear(6, 3))
            ),
            r"draws at random, and not by nn\.Dropout$",
        ),
        (lambda: shared_task(lambda: Centred(6, 3)), r"not in shares what they are together$"),
        (lambda: shared_task(batch_last), r"not in shares what they are together$"),
        (lambda: shared_task(lambda: Averaging(6, 3)), r"training changes the buffer average$"),
        (lambda: shared_task(lambda: nn.Linear(6, 3), loss=lambda output, target: [][0]), r"IndexError: list index"),
    ],
)
def test_what_cannot_be_shared_out_says_why(task: Callable[[], LocalTask], reason: str) -> None:
    sharing = task().sharing
    assert sharing.devices == 1
    assert sharing.reason.startswith("of several GPUs a worker uses the first alone: ")
    assert re.search(reason, sharing.reason), sharing.reason


def test_one_device_needs_no_decision() -> None:
    task = shared_task(lambda: nn.Linear(6, 3))
    assert decide_sharing(task, 1) == Sharing(1, "")
    assert task.sharing == Sharing(3, "a client's batch is shared out over the GPUs of its worker, 3 at most")


def test_the_decision_leaves_the_generator_and_the_first_model_alone() -> None:
    before = torch.get_rng_state()
    model_fn = seeded(lambda: nn.Sequential(nn.Dropout(0.5), Noisy(6, 3)))
    shared_task(model_fn)
    assert torch.equal(torch.get_rng_state(), before)

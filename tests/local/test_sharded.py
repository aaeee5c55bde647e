"""A client on several ranks: with one the bits of one process, with more the same up to rounding, twice the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from fedray import optim
from fedray.algorithms import FedProx
from fedray.config.sections import LocalSection
from fedray.core.layout import Layout
from fedray.core.messages import BlockUpdate, Broadcast
from fedray.core.shards import Shard
from fedray.data.spec import DataSpec
from fedray.local.program import ClientProgram
from fedray.local.sharded import ShardedStepper, units
from fedray.local.steppers import stepper_for
from fedray.local.task import LocalTask, Sharing
from fedray.models import CNN, MLP, Transformer
from fedray.models.bare import not_bare
from fedray.models.shapes import shapes_alone
from tests.helpers import class_problem, local_task, relative, train

CPU = torch.device("cpu")
FEATURES, IMAGE = DataSpec(shape=(6,), outputs=3), DataSpec(shape=(1, 8, 8), outputs=3)
SEQUENCE = DataSpec(shape=(5, 3), outputs=3)
SIZES = (11, 7, 1)


class Tied(nn.Module):
    """Layers in a list, the first and the last of which have one matrix, and a frozen one."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)])
        self.layers[2].weight = self.layers[0].weight
        self.layers[1].requires_grad_(False)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x).tanh()
        out: Tensor = self.head(x)
        return out


class Written(nn.Module):
    """Layers whose outputs are views, into which the model writes."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(6, 6), nn.Flatten(0)) for _ in range(2)])
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            own = layer(x)
            own += 1.0
            x = own.view(-1, 6).tanh()
        out: Tensor = self.head(x)
        return out


Case = tuple[DataSpec, Callable[[], nn.Module], dict[str, Any]]

CASES: dict[str, Case] = {
    "mlp": (FEATURES, partial(MLP([8, 5]).build, FEATURES), {}),
    "adam, clipped, accumulated": (
        FEATURES,
        partial(MLP([8, 5]).build, FEATURES),
        {"optimizer": optim.AdamW(0.01), "args": LocalSection(2, 5, clip_grad_norm=0.05, accumulate=2)},
    ),
    "fedprox": (IMAGE, partial(CNN([3, 4], 6).build, IMAGE), {"program": FedProx(mu=0.5)}),
    "dropout": (
        SEQUENCE,
        partial(Transformer(dim=8, heads=2, layers=2, dropout=0.3).build, SEQUENCE),
        {"optimizer": optim.SGD(0.1, momentum=0.9)},
    ),
    "written": (FEATURES, Written, {}),
    "tied": (FEATURES, Tied, {"optimizer": optim.SGD(0.1, weight_decay=0.1)}),
}


def task_of(name: str) -> LocalTask:
    """A task of clients that step one by one."""
    spec, model_fn, options = CASES[name]
    seeded = partial(built, model_fn)
    options = {"args": LocalSection(2, 4), **options}
    task = local_task(class_problem(SIZES, spec.shape, spec.outputs, seeded), stack="off", **options)
    return replace(task, sharing=Sharing(bare=not_bare(seeded, seeded()) is None))


def built(model_fn: Callable[[], nn.Module]) -> nn.Module:
    """The same numbers in every process."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return model_fn()


def model(task: LocalTask) -> Tensor:
    return task.layout.pack(dict(task.model_fn().state_dict()))


def whole(task: LocalTask) -> BlockUpdate:
    """The update of all clients, in one process."""
    return train(task, range(len(SIZES)))


def own(task: LocalTask, rank: int, ranks: int) -> BlockUpdate:
    """A rank's part of the same, where the others do the same."""
    shard = Shard(task.layout, rank, ranks)
    return train(task.on_rank(rank, ranks), range(len(SIZES)), Broadcast(1, {"model": shard.take(model(task))}, 1.0))


def on_rank(rank: int, names: tuple[str, ...], ranks: int, folder: Path) -> None:
    """A rank's part of each case twice, in a process of its own, to a file."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=ranks)
    found = {name: [own(task_of(name), rank, ranks) for _ in range(2)] for name in names}
    parts = {name: [(one.parts["delta"], torch.from_numpy(one.loss)) for one in twice] for name, twice in found.items()}
    torch.save(parts, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of this process."""
    dist.init_process_group("gloo", f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


# A copy of what is written into has its gradient in another order of memory, and sums over that have other bits.
@pytest.mark.parametrize("name", [name for name in CASES if name != "written"])
@pytest.mark.one_in(2)
def test_one_rank_has_the_bits_of_one_process(name: str, alone: None) -> None:
    task = task_of(name)
    one, rank = whole(task), own(task, 0, 1)
    assert torch.equal(rank.parts["delta"], one.parts["delta"])
    assert float(one.parts["delta"].abs().max()) > 1e-3
    assert rank.loss.tolist() == one.loss.tolist()
    assert rank.examples.tolist() == one.examples.tolist()
    assert task.sharing.bare == (name != "tied")  # which has a frozen layer
    built_whole = own(replace(task, sharing=Sharing()), 0, 1)
    assert torch.equal(built_whole.parts["delta"], one.parts["delta"])


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "names"), [(2, tuple(CASES)), (3, ("mlp", "dropout"))])
def test_ranks_do_what_one_process_does_and_twice_the_same(ranks: int, names: tuple[str, ...], tmp_path: Path) -> None:
    """A client of one row has less of them than there are ranks."""
    spawn(on_rank, (names, ranks, tmp_path), nprocs=ranks)
    found = [torch.load(tmp_path / f"{rank}.pt") for rank in range(ranks)]
    for name in names:
        task = task_of(name)
        one, parts = whole(task), [part[name] for part in found]
        for (first, loss), (second, _) in parts:
            assert torch.equal(first, second)
            np.testing.assert_allclose(loss.numpy(), one.loss, rtol=1e-6)
        for client, delta in enumerate(one.parts["delta"]):
            together = torch.empty_like(delta)
            for rank, ((first, _), _) in enumerate(parts):
                Shard(task.layout, rank, ranks).put(first[client], together)
            assert relative(together, delta) < (1e-3 if "adam" in name else 1e-5)


def test_a_rank_is_made_without_the_model() -> None:
    """One of sixteen has twice its rows of 34 million numbers, and one of the four tensors at a time."""
    import torch.distributed.fsdp  # which takes tens of megabytes
    import torch.testing._internal.distributed.fake_pg  # noqa: F401  a group of one process that says it is sixteen

    model_fn = partial(MLP([2896] * 4).build, DataSpec(shape=(2896,), outputs=3))
    with shapes_alone():
        layout = Layout.of(model_fn())
    task = replace(task_of("mlp"), model_fn=model_fn, layout=layout, sharing=Sharing(bare=True)).on_rank(3, 16)
    dist.init_process_group("fake", rank=3, world_size=16, store=dist.HashStore())  # type: ignore[attr-defined]
    try:
        before = peak(anew=True)
        stepper = ShardedStepper.of(task, [CPU])
        held = peak() - before
    finally:
        dist.destroy_process_group()
    assert len(stepper.row) == task.layout.size < layout.size / 15
    assert held < 4 * layout.size / 2


def peak(anew: bool = False) -> int:
    """The largest memory that this process has had, in bytes."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return 1024 * int(line.split()[1])


def test_layers_that_share_a_parameter_are_gathered_with_the_whole() -> None:
    module = Tied()
    assert units(module) == [module.layers[1]]
    assert units(nn.Sequential(nn.Linear(2, 2), nn.ReLU())) != []


def test_a_fit_that_looks_at_the_whole_model_is_refused(alone: None) -> None:
    class Looks(ClientProgram):
        """Its loss is of the whole model."""

        def client(self, c: Any) -> None:
            """Train by an objective."""
            c.fit(objective=lambda step: step.loss())

    task = replace(task_of("mlp"), program=Looks())
    with pytest.raises(ValueError, match=r"with worker\.ranks a fit has gradient hooks at most"):
        own(task, 0, 1)


def test_a_process_with_a_shard_has_this_stepper_and_any_other_has_not(alone: None) -> None:
    task = task_of("mlp")
    assert isinstance(stepper_for(task.on_rank(0, 1), [CPU]), ShardedStepper)
    assert ShardedStepper.fits(task, [CPU]) == "its worker is one process"

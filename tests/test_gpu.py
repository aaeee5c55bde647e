"""The same code on a GPU; and what happens when its memory runs out, which needs none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

import fedray
from fedray.algorithms import Scaffold
from fedray.config.sections import EvaluateSection, LocalSection
from fedray.core.errors import RunFailed
from fedray.core.messages import BlockReport, BlockUpdate, Broadcast
from fedray.core.record import RoundRecord
from fedray.local.trainer import Trainer
from fedray.models.prototype import Prototype
from fedray.models.shared import placed, share_frozen
from fedray.run.executor import InlineExecutor
from tests.helpers import Federation, class_problem, federation, relative, seeded


def fold(one: Federation, device: str = "cpu") -> tuple[torch.Tensor, list[int]]:
    """The accumulator of one round, and who was trained."""
    plan = one.plan
    cohort = plan.cohort(1)
    executor = InlineExecutor(one.job, [torch.device(device)])
    executor.publish(Broadcast(1, {"model": one.state.vector}, plan.weight(cohort)))
    reports = executor.run(plan.blocks(1, cohort, one.state.store), lambda: False)
    assert reports is not None
    clients = [int(client) for report in reports if isinstance(report, BlockReport) for client in report.clients]
    total = executor.collect()["delta"].cpu().clone()
    executor.close()
    return total, clients


def of_a_gpu() -> None:
    raise torch.cuda.OutOfMemoryError("by hand")


def of_the_host() -> None:
    torch.empty(1 << 50, dtype=torch.uint8)


def short_of_memory(most: int, monkeypatch: pytest.MonkeyPatch, run_out: Callable[[], None] = of_a_gpu) -> list[int]:
    """No more than so many clients fit; returns how many were tried, each time."""
    asked: list[int] = []
    train = Trainer.train

    def limited(self: Trainer, clients: Any, *rest: Any) -> BlockUpdate:
        asked.append(len(clients))
        if len(clients) > most:
            run_out()
        return train(self, clients, *rest)

    monkeypatch.setattr(Trainer, "train", limited)
    return asked


@pytest.mark.parametrize("run_out", [of_a_gpu, of_the_host])
def test_out_of_memory_halves_every_block_from_there_on(
    run_out: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which worker ran out does not matter: the run is that of a smaller stack, also after a resume."""
    problem = class_problem(sizes=(5, 5, 4, 4, 3, 3, 2, 2))
    small = federation(problem, tmp_path / "small", Scaffold(), args=LocalSection(2, 2), stack=2, rounds=4)
    expected = [record.model_sha256 for record in small.run()]
    halved, again = (
        federation(problem, tmp_path / "halved", Scaffold(), args=LocalSection(2, 2), stack=8, rounds=4)
        for _ in range(2)
    )
    asked = short_of_memory(3, monkeypatch, run_out)
    records = halved.run(2)
    assert asked == [8, 4, 4, *[2] * 8]
    again.restore(halved.save())
    records += again.run()
    assert [record.model_sha256 for record in records] == expected
    assert [record.stack for record in records] == [2] * 4
    assert all(record.clients == {"sampled": 8, "ok": 8, "failed": 0} for record in records)


def test_one_client_that_has_no_room_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One client cannot be halved: the policy decides."""
    short_of_memory(0, monkeypatch)
    one = federation(class_problem(), tmp_path, stack=4)
    with pytest.raises(RunFailed, match=r"client '0' failed in round 1 \(memory\): OutOfMemoryError: by hand"):
        one.run()


def test_evaluation_out_of_memory_is_done_in_smaller_pieces(tmp_path: Path) -> None:
    """The metrics are sums over examples, whatever the pieces; one example that has no room ends the run."""
    most, problem = [1 << 20], class_problem((9, 30, 14), test=1500, holdout=0.4)

    class Narrow(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if not self.training and len(x) > most[0]:
                raise torch.cuda.OutOfMemoryError("by hand")
            return super().forward(x)

    problem = replace(problem, model_fn=seeded(lambda: Narrow(6, 3)))
    records = []
    for limit in (1 << 20, 100, 7):
        one = federation(problem, tmp_path, rounds=1, evaluate=EvaluateSection(1, 1))
        most[0] = limit
        records += one.run()
    for record in records:
        assert record.test == pytest.approx(records[0].test, rel=1e-6)
        assert record.clients_test["loss"] == pytest.approx(records[0].clients_test["loss"], rel=1e-6)
    most[0] = 0
    with pytest.raises(RunFailed, match="round 1: the evaluation on the test set failed: OutOfMemoryError: by hand"):
        federation(problem, tmp_path, stack="off", rounds=1).run()


@pytest.mark.gpu
@pytest.mark.parametrize("stack", [4, "off"])
def test_a_gpu_folds_what_a_cpu_folds(stack: Any, tmp_path: Path) -> None:
    """Float32 on both: equal up to rounding."""
    problem = class_problem()
    expected, _ = fold(federation(problem, tmp_path / "cpu", stack=stack))
    total, _ = fold(federation(problem, tmp_path / "gpu", stack=stack), "cuda")
    assert relative(total, expected) < 1e-4


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_training_on_a_gpu(precision: Any, tmp_path: Path) -> None:
    """One worker on a card, or two and the driver; the global vector stays float32, and the runs agree in bits."""
    problem = class_problem(sizes=(20,) * 8, test=50)
    model = fedray.FederatedModel(problem.model_fn, lambda p: torch.optim.SGD(p, lr=0.1), problem.loss_fn)
    runs = [
        fedray.train(
            model,
            problem.data,
            fedray.TrainArgs(rounds=5, batch_size=5, precision=precision, tracking=[]),
            cluster=fedray.Cluster(workers=workers, cpus=1, gpus=0.25, driver_gpus=0.25 * (workers - 1)),
            run_dir=tmp_path / f"{workers}",
            progress=False,
        )
        for workers in (1, 2)
    ]
    assert [r.model_sha256 for r in runs[0].history] == [r.model_sha256 for r in runs[1].history]
    assert runs[0].history[-1].train["loss"] < runs[0].history[0].train["loss"]
    assert all(p.dtype == torch.float32 for p in runs[0].model.parameters())
    usage = runs[1].history[-1].usage
    assert min(usage["gpu_memory"]) > 0
    assert usage["gpu_seconds"] == pytest.approx(0.75 * runs[1].history[-1].seconds, rel=0.01)
    if find_spec("pynvml"):
        assert sum(record.usage["joules"] for record in runs[1].history) > 0


@pytest.mark.gpu
def test_a_process_has_a_shared_base_once_on_a_gpu() -> None:
    prototype = Prototype(lambda: share_frozen(torch.nn.Linear(1024, 1024).requires_grad_(False)))
    before = torch.cuda.memory_allocated()
    modules = [placed(prototype(), torch.device("cuda", 0)) for _ in range(3)]
    assert len({next(module.parameters()).data_ptr() for module in modules}) == 1
    assert torch.cuda.memory_allocated() - before < 2 * 4 * 1024 * 1024


@pytest.mark.gpu
def test_blocks_are_halved_until_they_fit_a_gpu(tmp_path: Path) -> None:
    """The process may have 200 MB of the card, the parameters of sixteen clients alone are 134 MB."""

    def model() -> torch.nn.Module:
        return torch.nn.Sequential(torch.nn.Linear(1024, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 1024))

    problem = class_problem((4,) * 16, (1024,), 1024, model)
    cuda = torch.device("cuda")

    def run(stack: int, folder: str) -> list[RoundRecord]:
        torch.cuda.empty_cache()
        one = federation(problem, tmp_path / folder, stack=stack, rounds=3)
        one.executor = partial(InlineExecutor, devices=[cuda])
        return one.run()

    torch.cuda.set_per_process_memory_fraction(200e6 / torch.cuda.get_device_properties(cuda).total_memory)
    try:
        halved = run(16, "halved")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert halved[-1].stack in (2, 4, 8)
    fitting = run(halved[-1].stack, "fitting")
    assert [record.model_sha256 for record in halved] == [record.model_sha256 for record in fitting]
    assert all(record.clients == {"sampled": 16, "ok": 16, "failed": 0} for record in halved)


@pytest.mark.gpu
def test_the_switches_of_a_process_are_put_back(tmp_path: Path) -> None:
    """Those of the notebook that trains inline on its GPU."""
    torch.backends.cudnn.benchmark = True
    try:
        worker = InlineExecutor(federation(class_problem(), tmp_path).job, [torch.device("cuda")])
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
        worker.close()
        assert not torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.benchmark
    finally:
        torch.backends.cudnn.benchmark = False


def test_an_operation_without_a_deterministic_kernel_says_what_to_do(tmp_path: Path) -> None:
    """Which holds for one of the CPU's, too, once somebody asks for it."""

    class Puts(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.use_deterministic_algorithms(True)
            try:
                x.clone().put_(torch.tensor([0]), x[0, :1])
            finally:
                torch.use_deterministic_algorithms(False)
            return super().forward(x)

    one = federation(replace(class_problem(), model_fn=seeded(lambda: Puts(6, 3))), tmp_path, stack="off")
    with pytest.raises(RunFailed, match=r"put_ has no deterministic CUDA kernel: with local\.deterministic=false it"):
        one.run()

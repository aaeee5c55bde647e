"""pfl-research: FederatedAveraging by SimulatedBackend on PyTorch, in processes that torch.distributed joins.

They are started as its guide says (docs: fast distributed simulations), by variables that it reads when it is imported;
hence the imports inside.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from itertools import count
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.peers.task import WORKERS, Clock, Task, read, vector

_ADDRESSES, _RANK = "PFL_WORKER_ADDRESSES", "PFL_WORKER_RANK"


def measure(task: Task) -> tuple[list[float], Tensor]:
    """Return the seconds of each round, and the parameters after the last one: this process is the first worker."""
    os.environ |= {"PFL_PYTORCH_DEVICE": "cpu", _ADDRESSES: ",".join(f"localhost:{port}" for port in _ports(WORKERS))}
    command = [sys.executable, "-m", "benchmarks.peers.pfl_research", str(task.folder)]
    others = [
        subprocess.Popen(command, env=os.environ | {_RANK: str(rank)}, stdout=subprocess.DEVNULL)
        for rank in range(1, WORKERS)
    ]
    os.environ[_RANK] = "0"
    try:
        found = work(task)
    except BaseException:
        for other in others:
            other.kill()
        raise
    for other in others:
        other.wait()
    return found


def work(task: Task) -> tuple[list[float], Tensor]:
    """Do a worker's share of all rounds."""
    from pfl.aggregate.simulate import SimulatedBackend
    from pfl.aggregate.weighting import WeightByDatapoints
    from pfl.algorithm.base import NNAlgorithmParams
    from pfl.algorithm.federated_averaging import FederatedAveraging
    from pfl.callback.base import TrainingProcessCallback
    from pfl.data.federated_dataset import FederatedDataset
    from pfl.data.pytorch import PyTorchTensorDataset
    from pfl.hyperparam.base import NNTrainHyperParams
    from pfl.metrics import Metrics, Weighted
    from pfl.model.pytorch import PyTorchModel

    class Judged(nn.Module):
        """A model with the loss and metrics that pfl asks for."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = task.model()

        def loss(self, x: Tensor, y: Tensor) -> Tensor:
            return cross_entropy(self.inner(x), y)

        @torch.no_grad()
        def metrics(self, x: Tensor, y: Tensor) -> dict[str, Weighted]:
            return {"loss": Weighted(self.loss(x, y).item() * len(x), len(x))}

    class Timed(TrainingProcessCallback):  # type: ignore[misc]
        """The time at which each round ends."""

        def on_train_begin(self, *, model: PyTorchModel) -> Metrics:
            clock.stamp()
            return Metrics()

        def after_central_iteration(
            self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
        ) -> tuple[bool, Metrics]:
            clock.stamp()
            return False, Metrics()

    def client(turn: int) -> PyTorchTensorDataset:
        rows = task.orders.flatten(0, 1)[turn]
        return PyTorchTensorDataset((task.x[rows], task.y[rows]))

    workload, clock, turns, module = task.workload, Clock(), count(), Judged()
    # A user is a turn: which client that is, and in which order it takes its rows, the task says.
    data = FederatedDataset(client, lambda: next(turns))
    model = PyTorchModel(module, torch.optim.SGD, torch.optim.SGD(module.parameters(), lr=1.0))
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=task.rounds,
            evaluation_frequency=task.rounds + 1,  # once, before the first round, which warms up
            train_cohort_size=workload.cohort,
            val_cohort_size=0,
        ),
        SimulatedBackend(training_data=data, val_data=data, postprocessors=[WeightByDatapoints()]),
        model,
        NNTrainHyperParams(
            local_batch_size=workload.batch, local_num_epochs=workload.epochs, local_learning_rate=workload.lr
        ),
        callbacks=[Timed()],
    )
    return clock.seconds, vector(module)


def _ports(number: int) -> list[int]:
    """Return ports of this machine that are free."""
    sockets = [socket.create_server(("localhost", 0)) for _ in range(number)]
    found = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    work(read(Path(sys.argv[1])))

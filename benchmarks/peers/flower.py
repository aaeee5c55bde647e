"""Flower: its simulation on Ray, where a ServerApp with FedAvg sends messages to the ClientApps of the cohort."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MessageType, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks.peers.task import WORKERS, Clock, Task, read, vector

client_app = ClientApp()

_REGISTERING = 120.0
"""Seconds that all clients may take to be there."""


@cache
def _held(folder: str) -> tuple[Task, nn.Module]:
    """Return the task and a model, once in each of Ray's processes."""
    torch.set_num_threads(1)
    task = read(Path(folder))
    return task, task.model()


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Train the client that the message names."""
    content: Any = message.content
    config = content["config"]
    task, model = _held(config["folder"])
    model.load_state_dict(content["arrays"].to_torch_state_dict())
    optimizer = torch.optim.SGD(model.parameters(), lr=task.workload.lr)
    for x, y in task.batches(config["number"], config["place"]):
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
    metrics = MetricRecord({"num-examples": task.workload.examples})
    answer = RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics})
    return Message(content=answer, reply_to=message)


class GivenCohorts(FedAvg):
    """FedAvg of the cohorts of a task, timed; nothing is evaluated.

    Args:
        task: the rounds; client ``i`` is the ``i``-th node.
    """

    def __init__(self, task: Task) -> None:
        super().__init__(fraction_evaluate=0.0)
        self.task, self.clock = task, Clock()
        self.nodes: list[int] = []

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return a message to each client of the cohort; rounds count from 1."""
        if not self.clock.stamps:
            self.clock.stamp()
        messages = []
        for place, client in enumerate(self.task.cohorts[server_round - 1].tolist()):
            named = ConfigRecord({"folder": str(self.task.folder), "number": server_round - 1, "place": place})
            content = RecordDict({"arrays": arrays, "config": named})
            messages.append(Message(content=content, dst_node_id=self.nodes[client], message_type=MessageType.TRAIN))
        return messages

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Average as FedAvg does, and note when that was done."""
        found = super().aggregate_train(server_round, replies)
        self.clock.stamp()
        return found


def measure(task: Task) -> tuple[list[float], Tensor]:
    """Return the seconds of each round, and the parameters after the last one."""
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    strategy, model = GivenCohorts(task), task.model()
    server_app = ServerApp()

    @server_app.main()
    def main(grid: Grid, context: Context) -> None:
        deadline = time.monotonic() + _REGISTERING
        while len(strategy.nodes) < task.workload.clients:  # they register while this already runs, and tell nobody
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(strategy.nodes)} of {task.workload.clients} clients in {_REGISTERING:g} s")
            time.sleep(0.1)
            strategy.nodes = sorted(grid.get_node_ids())
        result = strategy.start(grid=grid, initial_arrays=ArrayRecord(model.state_dict()), num_rounds=task.rounds)
        model.load_state_dict(result.arrays.to_torch_state_dict())

    run_simulation(
        server_app=server_app,
        client_app=client_app,
        num_supernodes=task.workload.clients,
        backend_config={
            "init_args": {"num_cpus": WORKERS, "include_dashboard": False},
            "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
        },
    )
    return strategy.clock.seconds, vector(model)

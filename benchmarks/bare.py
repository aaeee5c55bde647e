"""The yardstick: federated averaging as a bare PyTorch loop, written by hand, with nothing of fedray in it.

A round is ``theta <- theta + sum_i (m_i / M) (theta_i - theta)`` over the cohort, where ``theta_i`` is client ``i``'s
model after its local SGD from ``theta`` (McMahan et al., arXiv:1602.05629).  The weights add up to one, so the loop
averages the ``theta_i`` themselves, which is the same and saves a pass.  The model and its optimizer are made once: SGD
without momentum keeps nothing between clients.

With ``--processes N`` the cohort is split over N persistent processes of ``--threads`` threads that share the data and
the global model in memory; the parent adds their N sums.  With ``--device cuda`` data, model and permutations are on
the GPU, and one process drives it.

    python -m benchmarks.bare tiny --threads 1 --rounds 5
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

Data = tuple[Tensor, Tensor]
Vector = list[Tensor]
"""A model's parameters, or a sum of them, one tensor each in the module's order."""

WARMUP = 1
"""Rounds that are not timed."""


@dataclass(frozen=True)
class Workload:
    """What to train on what.

    Args:
        name: as given on the command line.
        model_fn: makes the model; classification, cross-entropy.
        shape: of one float32 input.
        clients: number of clients.
        examples: examples per client; with ``fewest`` the most.
        cohort: clients per round.
        batch: examples per step; an epoch's last batch may be smaller.
        epochs: passes over a client's data; 0 returns the model unchanged.
        lr: learning rate of the clients' SGD.
        classes: number of classes.
        fewest: the fewest examples of a client, uniform from there up to ``examples``; None: all have as many.
    """

    name: str
    model_fn: Callable[[], nn.Module]
    shape: tuple[int, ...]
    clients: int
    examples: int
    cohort: int
    batch: int
    epochs: int = 1
    lr: float = 0.05
    classes: int = 10
    fewest: int | None = None

    @cached_property
    def sizes(self) -> list[int]:
        """The examples of each client."""
        if self.fewest is None:
            return [self.examples] * self.clients
        draw = torch.Generator().manual_seed(0)
        sizes: list[int] = torch.randint(self.fewest, self.examples + 1, (self.clients,), generator=draw).tolist()
        return sizes

    @cached_property
    def starts(self) -> list[int]:
        """The row at which each client's examples begin."""
        return [0, *accumulate(self.sizes)][:-1]


def tiny_model() -> nn.Module:
    """MLP 64-64-10: 4,810 parameters."""
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def cnn_model() -> nn.Module:
    """Two unpadded 3x3 convolutions, a pool and two layers on 3x32x32: 1,626,442 parameters."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * 14 * 14, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
    )


def wide_model() -> nn.Module:
    """Twelve layers of 2,048 and a head: 50,376,714 parameters."""
    layers = [layer for _ in range(12) for layer in (nn.Linear(2048, 2048), nn.ReLU())]
    return nn.Sequential(*layers, nn.Linear(2048, 10))


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("tiny", tiny_model, (64,), clients=5000, examples=20, cohort=500, batch=20),
        Workload("ragged", tiny_model, (64,), clients=5000, examples=59, cohort=500, batch=4, fewest=2),
        Workload("cnn", cnn_model, (3, 32, 32), clients=1000, examples=50, cohort=50, batch=10),
        Workload("wide", wide_model, (2048,), clients=8, examples=4, cohort=8, batch=4),
        Workload("noop", tiny_model, (64,), clients=5000, examples=20, cohort=1000, batch=20, epochs=0),
    )
}


def make_data(workload: Workload, seed: int = 0) -> Data:
    """Synthetic examples, client after client: x ``[N, *shape]`` standard normal, y int64 ``[...]``.

    The label of an example is the largest of ``classes`` of its inputs, so there is something to learn.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(sum(workload.sizes), *workload.shape, generator=generator)
    return x, x.flatten(1)[:, : workload.classes].argmax(1)


def make_cohort(workload: Workload, generator: torch.Generator) -> list[int]:
    """One round's clients, uniform without replacement."""
    return torch.randperm(workload.clients, generator=generator)[: workload.cohort].tolist()


class Trainer:
    """One process's model and optimizer, used for client after client.

    Args:
        workload: what to train.
        data: of all clients, as from :func:`make_data`.
    """

    def __init__(self, workload: Workload, data: Data) -> None:
        self.workload, self.data = workload, data
        self.model = workload.model_fn().to(data[0].device)
        self.params = list(self.model.parameters())
        self.values = [param.detach() for param in self.params]
        self.optimizer = torch.optim.SGD(self.params, lr=workload.lr)

    def load(self, start: Vector) -> None:
        """Set the model's parameters to ``start``."""
        for value, entry in zip(self.values, start, strict=True):
            value.copy_(entry)

    def train(self, client: int, generator: torch.Generator) -> None:
        """Local SGD on one client's data from where the model is."""
        x, y = self.data
        start, size = self.workload.starts[client], self.workload.sizes[client]
        for _ in range(self.workload.epochs):
            order = torch.randperm(size, generator=generator, device=x.device) + start
            for rows in torch.split(order, self.workload.batch):
                self.optimizer.zero_grad()
                cross_entropy(self.model(x[rows]), y[rows]).backward()
                self.optimizer.step()

    def add(self, total: Vector, start: Vector, cohort: list[int], weights: list[float], seed: int) -> None:
        """Set ``total`` to the weighted sum of the models that ``cohort`` makes of ``start``."""
        generator = torch.Generator(start[0].device).manual_seed(seed)
        for entry in total:
            entry.zero_()
        for client, weight in zip(cohort, weights, strict=True):
            self.load(start)
            self.train(client, generator)
            for entry, value in zip(total, self.values, strict=True):
                entry.add_(value, alpha=weight)


def example_weights(workload: Workload, cohort: list[int]) -> list[float]:
    """``m_i / M`` of each client of a cohort."""
    sizes = [workload.sizes[client] for client in cohort]
    return [size / sum(sizes) for size in sizes]


def bare_round(trainer: Trainer, model: Vector, total: Vector, cohort: list[int], seed: int) -> None:
    """One round in this process: ``model`` becomes the weighted mean of what the cohort makes of it.

    Args:
        trainer: trains one client at a time.
        model: the global parameters, replaced in place.
        total: scratch of the same shapes.
        cohort: the clients.
        seed: of the round's permutations.
    """
    trainer.add(total, model, cohort, example_weights(trainer.workload, cohort), seed)
    for param, entry in zip(model, total, strict=True):
        param.copy_(entry)


def peak_memory() -> int:
    """The most resident memory this process has had, in bytes; pages it shares are counted in full."""
    # By hand, as psutil has no peaks on Linux.
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _serve(pipe: Connection, workload: Workload, data: Data, model: Vector, total: Vector, threads: int) -> None:
    torch.set_num_threads(threads)
    trainer = Trainer(workload, data)
    pipe.send(peak_memory())
    while (work := pipe.recv()) is not None:
        cohort, weights, seed = work
        trainer.add(total, model, cohort, weights, seed)
        pipe.send(peak_memory())


class Pool:
    """Persistent processes that each train a share of the cohort; data, model and sums in shared memory.

    Args:
        workload: what to train.
        data: of all clients; moved to shared memory.
        model: the global parameters; moved to shared memory, replaced in place by :meth:`round`.
        processes: how many.
        threads: torch threads of each.
    """

    def __init__(self, workload: Workload, data: Data, model: Vector, processes: int, threads: int) -> None:
        self.workload, self.model = workload, model
        self.totals = [[torch.zeros_like(param) for param in model] for _ in range(processes)]
        for tensor in (*data, *model, *(entry for total in self.totals for entry in total)):
            tensor.share_memory_()
        spawn = mp.get_context("spawn")
        self.pipes: list[Connection] = []
        for total in self.totals:
            pipe, theirs = spawn.Pipe()
            spawn.Process(target=_serve, args=(theirs, workload, data, model, total, threads), daemon=True).start()
            self.pipes.append(pipe)
        self.peaks = [pipe.recv() for pipe in self.pipes]

    def round(self, cohort: list[int], seed: int) -> None:
        """One round, as :func:`bare_round`, the cohort split into one stretch per process."""
        weights = example_weights(self.workload, cohort)
        share = -(-len(cohort) // len(self.pipes))
        for rank, pipe in enumerate(self.pipes):
            stretch = slice(rank * share, (rank + 1) * share)
            pipe.send((cohort[stretch], weights[stretch], seed + rank))
        self.peaks = [pipe.recv() for pipe in self.pipes]
        for param, first, *others in zip(self.model, *self.totals, strict=True):
            param.copy_(first)
            for entry in others:
                param.add_(entry)

    def close(self) -> None:
        """End the processes."""
        for pipe in self.pipes:
            pipe.send(None)
        for process in mp.active_children():
            process.join()


def measure(
    workload: Workload,
    rounds: int,
    threads: int = 1,
    processes: int = 1,
    warmup: int = WARMUP,
    device: str = "cpu",
) -> dict[str, Any]:
    """Time ``rounds`` rounds, after some that warm up.

    Args:
        workload: what to train.
        rounds: how many to time.
        threads: torch threads of each process that trains.
        processes: 1 trains in this one.
        warmup: rounds before the timed ones.
        device: where; a GPU takes one process.

    Returns:
        ``workload, device, threads, processes, parameters``, ``seconds_per_round`` of each round with its ``median``
        and ``min``, ``clients_per_second`` at the median, the mean ``loss`` on the first 1,000 examples before and
        after, and ``peak_memory_mb`` of the host, summed over processes (shared pages once per process, so an upper
        bound for several).
    """
    torch.set_num_threads(threads)
    torch.default_generator.manual_seed(0)
    x, y = make_data(workload)
    data = x.to(device), y.to(device)
    trainer = Trainer(workload, data)
    model = [param.detach().clone() for param in trainer.params]
    total = [torch.empty_like(param) for param in model] if processes == 1 else []
    pool = Pool(workload, data, model, processes, threads) if processes > 1 else None
    generator = torch.Generator().manual_seed(0)
    before = loss_of(trainer, model)
    seconds = []
    for number in range(warmup + rounds):
        start = time.perf_counter()
        cohort = make_cohort(workload, generator)
        if pool is None:
            bare_round(trainer, model, total, cohort, seed=number)
        else:
            pool.round(cohort, seed=number * processes)
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = peak_memory() + (sum(pool.peaks) if pool else 0)
    if pool is not None:
        pool.close()
    median = statistics.median(seconds[warmup:])
    return {
        "workload": workload.name,
        "device": device,
        "threads": threads,
        "processes": processes,
        "parameters": sum(param.numel() for param in model),
        "seconds_per_round": [round(second, 5) for second in seconds[warmup:]],
        "median": round(median, 5),
        "min": round(min(seconds[warmup:]), 5),
        "clients_per_second": round(workload.cohort / median, 1),
        "loss": [round(before, 4), round(loss_of(trainer, model), 4)],
        "peak_memory_mb": round(peak / 2**20),
    }


@torch.no_grad()
def loss_of(trainer: Trainer, model: Vector, rows: int = 1000) -> float:
    """Mean cross-entropy of ``model`` on the first ``rows`` examples."""
    trainer.load(model)
    x, y = trainer.data
    return cross_entropy(trainer.model(x[:rows]), y[:rows]).item()


def main() -> None:
    """Measure one workload and print the figures as JSON."""
    parser = argparse.ArgumentParser(description="A hand-written FedAvg loop, timed.")
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="torch threads of each process")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    options = parser.parse_args()
    if options.device == "cuda" and options.processes > 1:
        parser.error("--device cuda takes one process")
    workload = WORKLOADS[options.workload]
    print(json.dumps(measure(workload, options.rounds, options.threads, options.processes, device=options.device)))


if __name__ == "__main__":
    main()

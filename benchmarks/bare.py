"""The yardstick: federated averaging as a bare PyTorch loop, written by hand, with nothing of fedray in it.

A round is ``theta <- theta + sum_i (m_i / M) (theta_i - theta)`` over the cohort, where ``theta_i`` is client ``i``'s
model after its local SGD from ``theta`` (McMahan et al., arXiv:1602.05629).  The weights add up to one, so the loop
averages the ``theta_i`` themselves, which is the same and saves a pass.  The model and its optimizer are made once: SGD
without momentum keeps nothing between clients.  What is frozen is in no sum.  ``stateful`` is SCAFFOLD, whose controls
are kept in memory.

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
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector

from benchmarks.workloads import WORKLOADS, Data, Workload, make_cohort, make_data

Vector = list[Tensor]
"""A model's trained parameters, or a sum of them, one tensor each in the module's order."""

WARMUP = 1
"""Rounds that are not timed."""

JUDGED = 200
"""The examples that the loss is taken on, before the rounds and after them."""


class Trainer:
    """One process's model and optimizer, used for client after client.

    Args:
        workload: what to train.
        data: of all clients, as from :func:`make_data`.
    """

    def __init__(self, workload: Workload, data: Data) -> None:
        self.workload, self.data = workload, data
        self.model = workload.model_fn().to(data[0].device)
        self.params = [param for param in self.model.parameters() if param.requires_grad]
        self.values = [param.detach() for param in self.params]
        self.optimizer = torch.optim.SGD(self.params, lr=workload.lr)

    def load(self, start: Vector) -> None:
        """Set the model's parameters to ``start``."""
        for value, entry in zip(self.values, start, strict=True):
            value.copy_(entry)

    def gradient(self, rows: Tensor) -> None:
        """Set the gradients to those of the mean loss of some rows."""
        x, y = self.data
        self.optimizer.zero_grad()
        cross_entropy(self.model(x[rows]), y[rows]).backward()

    def train(self, client: int, generator: torch.Generator) -> int:
        """Local SGD on one client's data from where the model is; return the steps."""
        start, size, steps = self.workload.starts[client], self.workload.sizes[client], 0
        for _ in range(self.workload.epochs):
            order = torch.randperm(size, generator=generator, device=self.data[0].device) + start
            for rows in torch.split(order, self.workload.batch):
                self.gradient(rows)
                self.optimizer.step()
                steps += 1
        return steps

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


class Fast(Trainer):
    """Channels-last images and bf16 autocast: the fastest loop for convolutions on a CPU that has bf16."""

    def gradient(self, rows: Tensor) -> None:
        """Set the gradients to those of the mean loss of some rows, computed in bfloat16."""
        x, y = self.data
        self.optimizer.zero_grad()
        images = x[rows].contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, dtype=torch.bfloat16):
            loss = cross_entropy(self.model(images), y[rows])
        loss.backward()


class Scaffold(Trainer):
    """SCAFFOLD (arXiv:1910.06378, option II): all controls are in the memory of this process, which trains alone.

    Attributes:
        control: the server's, c.
        own: those of the clients that have taken part, c_i.
    """

    def __init__(self, workload: Workload, data: Data) -> None:
        super().__init__(workload, data)
        self.control, self.own = self._zeros(), dict[int, Vector]()
        self._pull, self._change = self._zeros(), self._zeros()

    def _zeros(self) -> Vector:
        return [torch.zeros_like(value) for value in self.values]

    def gradient(self, rows: Tensor) -> None:
        """Set the gradients to those of the mean loss of some rows, plus ``c - c_i``."""
        super().gradient(rows)
        for param, pull in zip(self.params, self._pull, strict=True):
            assert param.grad is not None
            param.grad.add_(pull)

    def train(self, client: int, generator: torch.Generator) -> int:
        """Local SGD by corrected gradients, and ``c_i <- c_i - c + (x - y_i) / (K lr)``."""
        if client not in self.own:
            self.own[client] = self._zeros()
        own, start = self.own[client], [value.clone() for value in self.values]
        for pull, control, mine in zip(self._pull, self.control, own, strict=True):
            torch.sub(control, mine, out=pull)
        steps = super().train(client, generator)
        for mine, change, control, before, value in zip(
            own, self._change, self.control, start, self.values, strict=True
        ):
            moved = before.sub_(value).div_(steps * self.workload.lr).sub_(control)
            mine.add_(moved)
            change.add_(moved)
        return steps

    def add(self, total: Vector, start: Vector, cohort: list[int], weights: list[float], seed: int) -> None:
        """As :meth:`Trainer.add`, and ``c <- c + sum_i (change of c_i) / N``."""
        super().add(total, start, cohort, weights, seed)
        for control, change in zip(self.control, self._change, strict=True):
            control.add_(change, alpha=1 / self.workload.clients)
            change.zero_()


TRAINERS: dict[str, type[Trainer]] = {"fedavg": Trainer, "scaffold": Scaffold}


def trainer_of(workload: Workload, data: Data) -> Trainer:
    """Make the trainer of a workload."""
    return (Fast if workload.fast else TRAINERS[workload.algorithm])(workload, data)


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
    torch.default_generator.manual_seed(0)  # what is frozen is the same in all processes
    trainer = trainer_of(workload, data)
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
    save: Path | None = None,
) -> dict[str, Any]:
    """Time ``rounds`` rounds, after some that warm up.

    Args:
        workload: what to train.
        rounds: how many to time.
        threads: torch threads of each process that trains.
        processes: 1 trains in this one.
        warmup: rounds before the timed ones.
        device: where; a GPU takes one process.
        save: a file for the trained parameters after the last round, as one vector.

    Returns:
        ``workload, device, threads, processes, parameters``, ``seconds_per_round`` of each round with its ``median``
        and ``min``, ``clients_per_second`` at the median, the mean ``loss`` on the first examples before and
        after, and ``peak_memory_mb`` of the host, summed over processes (shared pages once per process, so an upper
        bound for several).
    """
    torch.set_num_threads(threads)
    torch.default_generator.manual_seed(0)
    x, y = make_data(workload)
    data = x.to(device), y.to(device)
    trainer = trainer_of(workload, data)
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
    if save is not None:
        np.save(save, parameters_to_vector(model).numpy(force=True))
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
def loss_of(trainer: Trainer, model: Vector) -> float:
    """Mean cross-entropy of ``model`` on the first :data:`JUDGED` examples."""
    trainer.load(model)
    x, y = trainer.data
    return cross_entropy(trainer.model(x[:JUDGED]), y[:JUDGED]).item()


def main() -> None:
    """Measure one workload and print the figures as JSON."""
    parser = argparse.ArgumentParser(description="A hand-written FedAvg loop, timed.")
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="torch threads of each process")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--fast", action="store_true", help="images channels-last, bf16 autocast: not the yardstick")
    parser.add_argument("--save", type=Path, help="a file for the parameters after the last round")
    options = parser.parse_args()
    if options.device == "cuda" and options.processes > 1:
        parser.error("--device cuda takes one process")
    workload = replace(WORKLOADS[options.workload], fast=options.fast)
    if workload.fast and (workload.algorithm != "fedavg" or len(workload.shape) != 3):
        parser.error("--fast takes images, and FedAvg")
    if workload.algorithm != "fedavg" and options.processes > 1:
        parser.error(f"{workload.algorithm} takes one process, which has the state of all clients")
    sizes = options.rounds, options.threads, options.processes
    print(json.dumps(measure(workload, *sizes, device=options.device, save=options.save)))


if __name__ == "__main__":
    main()

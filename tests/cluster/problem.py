"""A small federation for the tests of this folder, and ways to be cruel to it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from torch import nn

import fedray
from fedray.optim import SGD, OptimizerFn


def data(clients: int = 60) -> fedray.FederatedData:
    """Clients of 1 to 30 examples, with a test set."""
    generator = np.random.default_rng(0)
    sizes = generator.integers(1, 31, clients)
    x = generator.standard_normal((int(sizes.sum()) + 200, 12)).astype(np.float32)
    y = (x @ generator.standard_normal((12, 3))).argmax(axis=1)
    rows = int(sizes.sum())
    return fedray.FederatedData.from_arrays(
        x[:rows], y[:rows], np.repeat(np.arange(clients), sizes), test=(x[rows:], y[rows:])
    )


OPTIMIZER = SGD(lr=0.1, momentum=0.5)


def model(optimizer_fn: OptimizerFn = OPTIMIZER) -> fedray.FederatedModel:
    """Lambdas: they must reach the workers."""
    return fedray.FederatedModel(
        lambda: nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 3)),
        optimizer_fn,
        lambda output, target: nn.functional.cross_entropy(output, target),
    )


def train(
    run_dir: Path,
    cluster: Any,
    *,
    optimizer: OptimizerFn = OPTIMIZER,
    rounds: int = 4,
    every: int = 2,
    keep: int = 2,
    resume: bool = False,
    clients_every: int = 0,
    **parts: Any,
) -> fedray.Result:
    """A short run; where clients are evaluated, they hold a part of their rows out."""
    args = fedray.TrainArgs(
        rounds=rounds,
        epochs=2,
        batch_size=8,
        checkpoint_every=every,
        keep=keep,
        seed=5,
        tracking=[],
        evaluate_clients_every=clients_every,
    )
    parts.setdefault("sampler", fedray.Uniform(clients=40))
    there = data().with_holdout(0.3, seed=5) if clients_every else data()
    if clients_every:
        parts.setdefault("metrics", ["accuracy", "confusion_matrix"])  # a number and counts of each client
    return fedray.train(
        model(optimizer), there, args, cluster=cluster, run_dir=run_dir, resume=resume, progress=False, **parts
    )


def tables(run_dir: Path) -> dict[str, bytes]:
    """The parts of the table of clients, by name."""
    return {path.name: path.read_bytes() for path in (run_dir / "clients").iterdir()}


def hashes(result: fedray.Result) -> list[str | None]:
    """The model's hash after each round."""
    return [record.model_sha256 for record in result.history]


def processes(title: str) -> list[int]:
    """Ids of the processes of this one's Ray whose title begins with ``title`` (``ray::WorkerActor``).

    Not those of another suite on this machine, which would not expect to have them killed.
    """
    found = []
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has ended
            if " ".join(process.cmdline()).startswith(title):
                found.append(process.pid)
    return sorted(found)

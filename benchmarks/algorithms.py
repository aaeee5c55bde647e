"""What algorithms cost beside FedAvg: rounds of ``tiny`` in this process, taken in turn, in processor time.

    python -m benchmarks.algorithms --rounds 30

All train the same clients stacked; each round of each is timed by itself, so that a busy machine disturbs all alike.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

import fedray
from benchmarks.bare import WORKLOADS, make_data
from fedray.experiment.build import Config
from fedray.rundir.folder import RunFolder
from fedray.sampling import Uniform

WARMUP = 15
"""Rounds before the timed ones: by then about two thirds of the clients have a state to be read."""

ALGORITHMS: dict[str, tuple[Any, float | None]] = {
    "FedAvg": (fedray.FedAvg(), None),
    "FedPer": (fedray.FedPer(), 1.1),
    "FedRep": (fedray.FedRep(), 1.4),
    "SCAFFOLD": (fedray.Scaffold(), 2.0),
    "FedDyn": (fedray.FedDyn(), 2.0),
    "Ditto": (fedray.Ditto(), 2.2),
    "FedSAM": (fedray.FedSAM(), 2.5),
    "MOON": (fedray.MOON(), 2.5),
    "APFL": (fedray.APFL(), 3.0),
}
"""Each with the ratio to FedAvg's round that it is held to."""


def measure(rounds: int) -> dict[str, list[float]]:
    """Return the seconds of processor time of each timed round, by algorithm.

    Raises:
        RuntimeError: clients were not stacked.
    """
    workload = WORKLOADS["tiny"]
    x, y = make_data(workload)
    clients = torch.arange(workload.clients).repeat_interleave(torch.tensor(workload.sizes))
    data = fedray.FederatedData.from_arrays(x, y, clients)
    model = fedray.FederatedModel(workload.model_fn, fedray.optim.SGD(lr=workload.lr), cross_entropy)
    args = fedray.TrainArgs(
        rounds=WARMUP + rounds,
        epochs=workload.epochs,
        batch_size=workload.batch,
        evaluate_every=0,
        checkpoint_every=0,
        tracking=[],
    )
    seconds: dict[str, list[float]] = {name: [] for name in ALGORITHMS}
    with tempfile.TemporaryDirectory(prefix="fedray-bench-") as folder, contextlib.ExitStack() as opened:
        runs = {}
        for name, (algorithm, _) in ALGORITHMS.items():
            content = {
                **args.layer(),
                **fedray.Cluster("inline").layer(),
                "data": data,
                "model": model.part(),
                "algorithm": algorithm,
                "sampler": Uniform(workload.cohort),
            }
            content["local"] |= {"optimizer": model.optimizer_fn, "loss": model.loss_fn}
            experiment = Config.bind("bench", {}, content).experiment(RunFolder(Path(folder) / name))
            if not experiment.run.plan.task.stacking.stacked:
                raise RuntimeError(f"{name}: {experiment.run.plan.task.stacking.reason}")
            runs[name] = records = experiment.records()
            opened.callback(getattr(records, "close", lambda: None))
        for number in range(1, WARMUP + rounds):
            for name, run in runs.items():
                before = time.process_time()
                next(run)
                if number > WARMUP:
                    seconds[name].append(time.process_time() - before)
    return seconds


def main() -> None:
    """Measure, and print the seconds as JSON."""
    parser = argparse.ArgumentParser(description="The algorithms beside FedAvg, timed.")
    parser.add_argument("--rounds", type=int, default=30)
    print(json.dumps(measure(parser.parse_args().rounds)))


if __name__ == "__main__":
    main()

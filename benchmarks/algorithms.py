"""The cost of parts of a run beside FedAvg: rounds of ``tiny`` in this process, taken in turn, in processor time.

    python -m benchmarks.algorithms --turns 30
    python -m benchmarks.algorithms --of privacy --turns 60

All train the same clients stacked, with the memory of workers.  A turn of each is a few rounds, and what a run does
beside them counts, as the compaction of client state every few rounds; the order of a turn is that of the one before,
reversed, so that a busy machine disturbs all alike.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

import fedray
from benchmarks.workloads import WORKLOADS, make_data
from fedray.cluster.work.worker import _keep_freed_memory
from fedray.core.messages import Ints
from fedray.experiment.build import Config
from fedray.privacy import Privacy
from fedray.rundir.folder import RunFolder
from fedray.sampling import Poisson, Uniform

WARMUP = 15
"""Rounds before the timed ones: by then most clients have a state to be read."""

ROUNDS = 3
"""Rounds of a turn."""

ALGORITHMS: dict[str, tuple[dict[str, Any], float | None]] = {
    "FedAvg": ({"algorithm": fedray.FedAvg()}, None),
    "FedPer": ({"algorithm": fedray.FedPer()}, 1.1),
    "FedRep": ({"algorithm": fedray.FedRep()}, 1.4),
    "SCAFFOLD": ({"algorithm": fedray.Scaffold()}, 2.0),
    "FedDyn": ({"algorithm": fedray.FedDyn()}, 2.0),
    "Ditto": ({"algorithm": fedray.Ditto()}, 2.2),
    "FedSAM": ({"algorithm": fedray.FedSAM()}, 2.5),
    "MOON": ({"algorithm": fedray.MOON()}, 2.5),
    "APFL": ({"algorithm": fedray.APFL()}, 3.0),
    "Krum": ({"algorithm": fedray.FedAvg(), "aggregator": fedray.Krum(byzantine=50)}, 6.0),
}
"""The parts of each, and the ratio to the first one's round that it is held to."""


@dataclass(frozen=True)
class ByRound(Poisson):
    """Coins that the round alone names: privacy would draw them by its keys, and so other clients with it than without.

    Args:
        rate: sampling probability.
    """

    def cohort(self, sizes: Ints, seed: int, round: int) -> Ints:
        """Toss a coin for each client."""
        return super().cohort(sizes, 0, round)


COHORTS = ByRound(0.1)
PRIVACY: dict[str, tuple[dict[str, Any], float | None]] = {
    "no privacy": ({"sampler": COHORTS}, None),
    "privacy": ({"sampler": COHORTS, "privacy": Privacy(noise_multiplier=1.0)}, 1.1),
    "privacy, adaptive clip": ({"sampler": COHORTS, "privacy": Privacy(noise_multiplier=1.0, clip="adaptive")}, None),
}
"""The same for privacy with secure noise: each draws the same cohorts."""

GROUPS = {"algorithms": ALGORITHMS, "privacy": PRIVACY}


def measure(turns: int, group: Mapping[str, tuple[dict[str, Any], float | None]]) -> dict[str, list[float]]:
    """Return the seconds of processor time of a round in each turn, by the name of what is measured.

    Raises:
        RuntimeError: clients were not stacked.
    """
    workload = WORKLOADS["tiny"]
    x, y = make_data(workload)
    clients = torch.arange(workload.clients).repeat_interleave(torch.tensor(workload.sizes))
    data = fedray.FederatedData.from_arrays(x, y, clients)
    model = fedray.FederatedModel(workload.model_fn, fedray.optim.SGD(lr=workload.lr), cross_entropy)
    args = fedray.TrainArgs(
        rounds=WARMUP + ROUNDS * turns,
        epochs=workload.epochs,
        batch_size=workload.batch,
        evaluate_every=0,
        checkpoint_every=0,
        tracking=[],
    )
    seconds: dict[str, list[float]] = {name: [] for name in group}
    with tempfile.TemporaryDirectory(prefix="fedray-bench-") as folder, contextlib.ExitStack() as opened:
        runs = {}
        for name, (parts, _) in group.items():
            content = {
                **args.layer(),
                **fedray.Cluster("inline").layer(),
                "data": data,
                "model": model.part(),
                "sampler": Uniform(workload.cohort),
                **parts,
            }
            content["local"] |= {"optimizer": model.optimizer_fn, "loss": model.loss_fn}
            experiment = Config.bind("bench", {}, content).experiment(RunFolder(Path(folder) / name))
            if not experiment.run.plan.task.stacking.stacked:
                raise RuntimeError(f"{name}: {experiment.run.plan.task.stacking.reason}")
            runs[name] = records = experiment.records()
            opened.callback(getattr(records, "close", lambda: None))
        for run in runs.values():
            for _ in range(WARMUP):
                next(run)
        order = list(runs)
        for _ in range(turns):
            for name in order:
                before = time.process_time()
                for _ in range(ROUNDS):
                    next(runs[name])
                seconds[name].append((time.process_time() - before) / ROUNDS)
            order.reverse()
    return seconds


def main() -> None:
    """Measure, and print the seconds as JSON."""
    parser = argparse.ArgumentParser(description="Algorithms, or privacy, beside FedAvg, timed.")
    parser.add_argument("--of", choices=GROUPS, default="algorithms")
    parser.add_argument("--turns", type=int, default=30)
    options = parser.parse_args()
    _keep_freed_memory()
    print(json.dumps(measure(options.turns, GROUPS[options.of])))


if __name__ == "__main__":
    main()

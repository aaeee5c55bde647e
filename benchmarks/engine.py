"""A workload through fedray: ``fedray.train`` on two Ray workers of one thread, with what the bare loop is given.

With ``--device cuda`` one Ray worker and the driver share a GPU; with ``--inline`` this process does it all.

Model, data, optimizer and loss are those of ``bare.py``.  TensorBoard, evaluation and checkpoints between rounds are
off, as the bare loop has none; failure handling, the log, the record and the hash of every round stay on.

    python -m benchmarks.engine tiny --rounds 5
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import fedray
from benchmarks.bare import JUDGED, WARMUP
from benchmarks.workloads import WORKLOADS, Workload, make_data
from fedray.sampling import Uniform

JOINING = 5.0
"""Seconds in which workers may still be joining, about: a run begins with the first that is up."""

_ROUND = 0.0015
_CLIENT = {
    "tiny": 40e-6,
    "ragged": 120e-6,
    "noop": 8e-6,
    "cnn": 0.08,
    "wide": 0.2,
    "blaze": 0.05,
    "resnet": 1.0,
    "lora": 0.03,
    "stateful": 80e-6,
    "scale": 15e-6,
}
"""Seconds that a round and each of its clients take, about."""


def place(device: str, inline: bool) -> fedray.Cluster:
    """Return the place: two workers of one thread, or one worker and the driver on a GPU; or all in this process."""
    if inline:
        return fedray.Cluster("inline", gpus=1.0 if device == "cuda" else 0.0)
    return fedray.Cluster(workers=1, gpus=0.5, driver_gpus=0.5) if device == "cuda" else fedray.Cluster(workers=2)


def joining(workload: Workload, cluster: fedray.Cluster) -> int:
    """Return the number of those rounds; none for a single worker, which the first round waits for."""
    if cluster.name == "inline" or cluster.workers == 1:
        return 0
    return math.ceil(JOINING / (_ROUND + workload.cohort * _CLIENT[workload.name]))


def measure(
    workload: Workload,
    rounds: int,
    cluster: fedray.Cluster,
    warmup: int = WARMUP,
    data: fedray.FederatedData | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> dict[str, Any]:
    """Train until all workers have joined and ``warmup + rounds`` rounds more, and time the last ``rounds``.

    Args:
        workload: what to train.
        rounds: how many to time.
        cluster: where.
        warmup: rounds before the timed ones.
        data: of its clients; default: made here, as for the bare loop.
        precision: as ``local.precision``.

    Returns:
        ``workload, cluster, workers, parameters, cohort``, ``seconds_per_round`` of each timed round with its
        ``median`` and ``min``, ``clients_per_second`` at the median, ``warmup`` (seconds of the other rounds), the
        median ``phases``, the final model's mean ``loss`` on the first client, and ``stacking`` and its
        reason.

    Raises:
        RuntimeError: a round did less than it should.
    """
    if data is None:
        x, y = make_data(workload)
        clients = torch.arange(workload.clients).repeat_interleave(torch.tensor(workload.sizes))
        data = fedray.FederatedData.from_arrays(x, y, clients)
    model = fedray.FederatedModel(workload.model_fn, fedray.optim.SGD(lr=workload.lr), cross_entropy)
    before = joining(workload, cluster)
    workers = 1 if cluster.name == "inline" else cluster.workers
    args = fedray.TrainArgs(
        rounds=before + warmup + rounds,
        epochs=workload.epochs,
        batch_size=workload.batch,
        precision=precision,
        evaluate_every=0,
        checkpoint_every=0,
        tracking=[],
    )
    with tempfile.TemporaryDirectory(prefix="fedray-bench-") as folder:
        run_dir = Path(folder) / "run"
        result = fedray.train(
            model,
            data,
            args,
            algorithm=workload.algorithm,
            sampler=Uniform(workload.cohort),
            cluster=cluster,
            run_dir=run_dir,
            progress=False,
        )
        summary = json.loads((run_dir / "summary.json").read_text())
    timed = result.history[-rounds:]
    if any(record.workers != workers for record in result.history[-rounds - warmup :]):
        raise RuntimeError(f"{workload.name}: a worker had not joined after {before} rounds")
    least, most = (workload.cohort * workload.epochs * int(bound(data.sizes)) for bound in (np.min, np.max))
    for record in result.history:
        if record.clients["ok"] != workload.cohort or not least <= record.examples <= most:
            done = f"{record.clients['ok']} clients and {record.examples} examples"
            raise RuntimeError(
                f"{workload.name}, round {record.round}: {done} instead of {workload.cohort} and {least} to {most}"
            )
    seconds = [record.seconds for record in timed]
    median = statistics.median(seconds)
    return {
        "workload": workload.name,
        "cluster": cluster.name,
        "workers": workers,
        "parameters": summary["parameters"],
        "cohort": workload.cohort,
        "seconds_per_round": [round(second, 5) for second in seconds],
        "median": round(median, 5),
        "min": round(min(seconds), 5),
        "clients_per_second": round(workload.cohort / median, 1),
        "warmup": [round(record.seconds, 3) for record in result.history[-rounds - warmup : -rounds]],
        "phases": {
            name: round(statistics.median(record.phases[name] for record in timed), 5)
            for name in ("broadcast", "train", "aggregate")
        },
        "loss": round(_loss(result.model, data), 4),
        "stacking": summary["stacking"],
    }


@torch.no_grad()
def _loss(model: nn.Module, data: fedray.FederatedData) -> float:
    rows = np.arange(min(JUDGED, data.sizes[0]))
    x, y = data.rows(np.zeros(1, dtype=np.int64)).take(rows[None])
    return cross_entropy(model(x[0]), y[0]).item()


def main() -> None:
    """Measure one workload and print the figures as JSON."""
    parser = argparse.ArgumentParser(description="fedray on Ray, timed.")
    parser.add_argument("workload", choices=WORKLOADS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cohort", type=int, help="clients per round; default: the workload's")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--inline", action="store_true", help="without Ray")
    options = parser.parse_args()
    workload = WORKLOADS[options.workload]
    if options.cohort is not None:
        workload = dataclasses.replace(workload, cohort=options.cohort)
    where = place(options.device, options.inline)
    print(json.dumps(measure(workload, options.rounds, where, precision=options.precision)))


if __name__ == "__main__":
    main()

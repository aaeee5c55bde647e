"""Personal models against training alone, FedAvg and fine-tuning: ``make reference-personal``.

Digits, 20 clients, 12 of them a round, 30 rounds of 2 epochs in batches of 10 with sgd at 0.1, a quarter of each
client's rows held out; the mean accuracy over clients of the model that each would use, over the seeds.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

import fedray
from fedray.algorithms.base import algorithms
from fedray.data.columns.base import ClientData

CLIENTS = 20
LEAST = 0.93
"""The accuracy that personal models are known to reach where each client has two classes."""

FINETUNE = {"epochs": 5}

METHODS: dict[str, tuple[str, str]] = {
    "local only": ("local_only", "personal"),
    "centralized": ("centralized", "test"),
    "FedAvg": ("fedavg", "test"),
    "FedAvg, fine-tuned": ("fedavg", "finetuned"),
    "FedBABU, fine-tuned": ("fedbabu", "finetuned"),
    "FedPer": ("fedper", "personal"),
    "FedRep": ("fedrep", "personal"),
    "LG-FedAvg": ("lg-fedavg", "personal"),
    "Ditto": ("ditto", "personal"),
    "APFL": ("apfl", "personal"),
    "pFedMe": ("pfedme", "personal"),
    "Per-FedAvg": ("perfedavg", "personal"),
    "FedALA": ("fedala", "personal"),
    "Fed-RoD": ("fedrod", "personal"),
    "FedProto": ("fedproto", "personal"),
    "IFCA": ("ifca", "personal"),
}
"""The rows of the table: an algorithm, and the section of a record that judges it, ``clients_<section>``."""

REACHED = {"Ditto", "FedPer", "FedRep", "APFL", "FedALA", "FedAvg, fine-tuned"}
"""Those that must reach ``LEAST`` on two classes each."""


def digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the images ``[N, 64]`` and classes ``[N]`` that fedray comes with."""
    with np.load(Path(fedray.__file__).parent / "data" / "tables" / "digits.npz") as held:
        return held["x"].reshape(-1, 64) * 15, held["y"].astype(np.int64)


def two_classes(labels: NDArray[np.int64], seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw 35 to 75 rows of two classes for each client; return the rows, and the client of each.

    >>> labels = np.repeat(np.arange(10), 100)
    >>> rows, owner = two_classes(labels, seed=1)
    >>> {len(set(labels[rows[owner == client]])) for client in range(20)}
    {2}
    >>> set(np.bincount(owner).tolist()) <= {35, 45, 55, 65, 75}
    True
    """
    draw, rows = np.random.default_rng(seed), []
    for client in range(CLIENTS):
        own = np.flatnonzero(np.isin(labels, [client % 10, (client + 3) % 10]))
        rows.append(draw.permutation(own)[: 15 + 10 * int(draw.integers(2, 7))])
    return np.concatenate(rows), np.repeat(np.arange(CLIENTS), [len(piece) for piece in rows])


def data_of(split: str, seed: int) -> ClientData | dict[str, Any]:
    """Return the clients of a split."""
    if split == "dirichlet":
        partition = {"name": "dirichlet", "clients": CLIENTS, "alpha": 0.1}
        return {"name": "digits", "flat": True, "partition": partition, "holdout": 0.25, "test": 0.0}
    x, y = digits()
    rows, owner = two_classes(y, seed)
    return fedray.FederatedData.from_arrays(x[rows].astype(np.float32) / 240, y[rows], owner).with_holdout(0.25, seed)


def measured(split: str, method: str, seed: int) -> dict[str, Any]:
    """Run a method on a split, and return its accuracy and seconds."""
    algorithm, view = METHODS[method]
    args = fedray.TrainArgs(
        rounds=30,
        seed=seed,
        epochs=2,
        batch_size=10,
        optimizer={"name": "sgd", "lr": 0.1},
        evaluate_every=0,
        evaluate_clients_every=30,
        evaluate_finetune=FINETUNE if view == "finetuned" else None,
        checkpoint_every=0,
        tracking=[],
    )
    model, sampler = fedray.FederatedModel({"name": "mlp", "hidden": [32]}), fedray.Uniform(12)
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        result = fedray.train(
            model,
            data_of(split, seed),
            args,
            algorithm=algorithm,
            sampler=sampler,
            cluster="inline",
            run_dir=Path(folder) / "run",
            progress=False,
        )
        seconds = time.perf_counter() - started
    if result.stopped:
        raise SystemExit("stopped; --lines FILE keeps what is measured")
    spread = getattr(result.history[-1], f"clients_{view}")["accuracy"]
    told = {"accuracy": spread["client_mean"], "worst": spread["worst"], "seconds": seconds}
    return {"split": split, "method": method, "seed": seed, **told}


def interval(values: list[float]) -> tuple[float, float]:
    """Return the mean, and the half width of its 95 % interval by Student's t.

    >>> [round(value, 3) for value in interval([0.9, 0.92, 0.94])]
    [0.92, 0.05]
    """
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(np.mean(values)), float(stats.t.ppf(0.975, max(1, len(values) - 1))) * error


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table of what ``measured`` has returned."""
    for split in dict.fromkeys(one["split"] for one in found):
        yield f"| {split} | accuracy | worst tenth | seconds |"
        yield "|---|---|---|---|"
        for method in METHODS:
            own = [one for one in found if (one["split"], one["method"]) == (split, method)]
            if own:
                mean, half = interval([one["accuracy"] for one in own])
                worst, seconds = (float(np.mean([one[name] for one in own])) for name in ("worst", "seconds"))
                yield f"| {method} | {mean:.3f} ± {half:.3f} | {worst:.3f} | {seconds:.1f} |"
        yield ""


def missed(found: list[dict[str, Any]]) -> list[str]:
    """Return the methods that stay below what they are known to reach."""
    means = {
        method: float(np.mean(accuracies))
        for method in REACHED
        if (accuracies := [o["accuracy"] for o in found if (o["split"], o["method"]) == ("two classes", method)])
    }
    return sorted(method for method, mean in means.items() if mean < LEAST)


def main() -> int:
    """Measure what is asked for, and print the table; 1 if a method misses its threshold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--splits", nargs="+", default=["two classes", "dirichlet"])
    parser.add_argument("--methods", nargs="+", default=[m for m, (name, _) in METHODS.items() if name in algorithms])
    parser.add_argument("--lines", type=Path, help="a file of JSON lines: what it has is not measured again")
    asked = parser.parse_args()
    logging.getLogger("fedray").setLevel(logging.ERROR)
    found = [json.loads(line) for line in asked.lines.read_text().splitlines()] if _there(asked.lines) else []
    known = {(one["split"], one["method"], one["seed"]) for one in found}
    for split in asked.splits:
        for method in asked.methods:
            for seed in range(asked.seeds):
                if (split, method, seed) not in known:
                    found.append(measured(split, method, seed))
                    if asked.lines:
                        with asked.lines.open("a") as file:
                            file.write(json.dumps(found[-1]) + "\n")
    print("\n".join(table(found)))
    if short := missed(found):
        print(f"below {LEAST} on two classes each: {', '.join(short)}")
    return int(bool(short))


def _there(path: Path | None) -> bool:
    return path is not None and path.exists()


if __name__ == "__main__":
    sys.exit(main())

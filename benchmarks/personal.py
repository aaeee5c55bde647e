"""Personal models against training alone, FedAvg and fine-tuning: ``make reference-personal``.

Four settings, each over some seeds: digits on clients of two classes and split by Dirichlet(0.1), the 10,000 test
images of MNIST on a hundred clients of two classes, and FedAvg against FedProx on the FedProx authors' own data.  The
last two need data that fedray does not come with, in a folder ``--shared``, and are left out where it is not.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fedray
from benchmarks.rows import interval, keeping, kept, written
from benchmarks.settings import SETTINGS, Setting

LEAST = 0.93
"""The accuracy that personal models are known to reach where each client of digits has two classes."""

REACHED = {"Ditto", "FedPer", "FedRep", "APFL", "FedALA", "FedAvg, fine-tuned"}
"""Those that must reach ``LEAST`` there."""

SHARED = Path("../shared/data")
"""The folder of the data that fedray does not come with."""


def measured(setting: Setting, row: str, seed: int, shared: Path) -> dict[str, Any]:
    """Run a row of a setting, and return what it reached and its processor seconds."""
    how = setting.rows[row]
    options = {
        "rounds": setting.rounds,
        "seed": seed,
        "evaluate_every": 0 if setting.personal else setting.rounds,
        "evaluate_clients_every": setting.rounds if setting.personal else 0,
        "checkpoint_every": 0,
        "tracking": [],
        **setting.args,
        **how.args,
    }
    with tempfile.TemporaryDirectory() as folder:
        data = setting.data(seed, shared)
        started = time.process_time()
        result = fedray.train(
            fedray.FederatedModel(setting.model),
            data,
            fedray.TrainArgs(**options),
            algorithm=how.algorithm,
            sampler=fedray.Uniform(setting.cohort),
            cluster="inline",
            run_dir=Path(folder) / "run",
            progress=False,
        )
        seconds = time.process_time() - started
    if result.stopped:
        raise SystemExit("stopped; --lines FILE keeps what is measured")
    last = result.history[-1]
    if setting.personal:
        spread = getattr(last, f"clients_{how.view}")["accuracy"]
        told = {"accuracy": spread["client_mean"], "worst tenth": spread["worst"]}
    else:
        told = {"test accuracy": last.test["accuracy"], "test loss": last.test["loss"]}
    return {"split": setting.name, "method": row, "seed": seed, **told, "seconds": seconds}


def table(found: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the lines of a table of what ``measured`` has returned: the first figure with its interval.

    A row of fewer seeds than others of its table says of how many.
    """
    for name, setting in SETTINGS.items():
        there = [one for one in found if one["split"] == name]
        if not there:
            continue
        first, second = [key for key in there[0] if key not in ("split", "method", "seed", "seconds")]
        seeds = len({one["seed"] for one in there})
        yield f"| {name}, {seeds} seed{'s' * (seeds > 1)} | {first} | {second} | processor seconds |"
        yield "|---|---|---|---|"
        for row in setting.rows:
            own = [one for one in there if one["method"] == row]
            if own:
                mean, half = interval([one[first] for one in own])
                spread = f" ± {half:.3f}" if len(own) > 1 else ""
                fewer = f" ({len(own)} seed{'s' * (len(own) > 1)})" if len(own) < seeds else ""
                other, seconds = (float(np.mean([one[key] for one in own])) for key in (second, "seconds"))
                yield f"| {row}{fewer} | {mean:.3f}{spread} | {other:.3f} | {seconds:.1f} |"
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
    """Measure what is asked for, and print the tables; 1 if a method misses its threshold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--splits", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--methods", nargs="+", help="rows of the tables; all where it is not said")
    parser.add_argument("--shared", type=Path, default=SHARED, help="the folder with mnist10k and leaf_synthetic")
    parser.add_argument("--lines", type=Path, help="a file of JSON lines: what it has is not measured again")
    parser.add_argument("--write", type=Path, help="a page whose tables, which end it, are made anew")
    asked = parser.parse_args()
    found = kept(asked.lines)
    known = {(one["split"], one["method"], one["seed"]) for one in found}
    for setting in [SETTINGS[name] for name in asked.splits]:
        if setting.folder and not (asked.shared / setting.folder).is_dir():
            print(f"{setting.name}: {asked.shared / setting.folder} is not there; left out")
            continue
        for seed in range(asked.seeds):
            for row in setting.rows:
                if (asked.methods is None or row in asked.methods) and (setting.name, row, seed) not in known:
                    found.extend(keeping([measured(setting, row, seed, asked.shared)], asked.lines))
    print("\n".join(table(found)))
    if asked.write:
        asked.write.write_text(written(asked.write.read_text(), list(table(found))))
    if short := missed(found):
        print(f"below {LEAST} on two classes each: {', '.join(short)}")
    return int(bool(short))


if __name__ == "__main__":
    # Switches of the process, which is ours here alone.
    logging.getLogger("fedray").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    sys.exit(main())

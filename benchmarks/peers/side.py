"""One peer, in its own interpreter: does the rounds of a task, and says how long each took.

    .venv-peers/flower/bin/python -m benchmarks.peers.side flower.measure FOLDER

An adapter is a function of a module of this folder: of the task, it returns the seconds of the timed rounds and the
parameters ``[P]`` after the last one, which are left in the task's folder, to be compared.
"""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path

import numpy as np
import torch

from benchmarks.peers.task import read, versions

PACKAGES = ("flwr", "pfl", "blazefl", "torch", "ray", "numpy")


def main() -> None:
    """Measure, leave the parameters, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description="A peer, timed.")
    parser.add_argument("adapter", help="MODULE.FUNCTION of this folder")
    parser.add_argument("folder", type=Path, help="of the task")
    options = parser.parse_args()
    torch.set_num_threads(1)
    name, function = options.adapter.split(".")
    adapter = getattr(import_module(f"benchmarks.peers.{name}"), function)
    seconds, parameters = adapter(read(options.folder))
    np.save(options.folder / "end.npy", parameters.numpy())
    print(json.dumps({"seconds_per_round": seconds, "versions": versions(*PACKAGES)}))


if __name__ == "__main__":
    main()

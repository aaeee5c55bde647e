"""Ten million clients: rounds of 100,000 of them, and the memory of the process that starts the run.

The model is that of ``tiny``; each client has four examples of 64 bytes.  The rows of all are in a file that is mapped
into memory, as of data that a machine could not hold twice.

    python -m benchmarks.scale --clients 1000000 --cohort 10000 --rounds 5
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import fedray
from benchmarks.bare import peak_memory
from benchmarks.engine import measure, place
from benchmarks.models import tiny_model
from benchmarks.workloads import Workload
from fedray.data import DataSpec

SCALE = Workload("scale", tiny_model, (64,), clients=10_000_000, examples=4, cohort=100_000, batch=4)

_AT_ONCE = 1 << 18
"""Rows that are made together."""


def rows(workload: Workload, seed: int = 0) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    """Yield pieces of examples, client after client: bytes from 0 to 3 ``[N, *shape]``, and classes ``[N]``.

    The class of an example is the first largest of ``classes`` of its inputs.
    """
    draw, total = np.random.default_rng(seed), workload.clients * workload.examples
    for start in range(0, total, _AT_ONCE):
        x = draw.integers(0, 4, (min(_AT_ONCE, total - start), *workload.shape), dtype=np.uint8)
        yield x, x[:, : workload.classes].argmax(axis=1)


def mapped(workload: Workload, folder: Path) -> fedray.FederatedData:
    """Return the clients' data, whose rows are in files of a folder."""
    total = workload.clients * workload.examples
    columns = {"x": ((total, *workload.shape), "|u1"), "y": ((total,), "<i8")}
    with (folder / "x.npy").open("wb") as xs, (folder / "y.npy").open("wb") as ys:
        for file, (shape, kind) in zip((xs, ys), columns.values(), strict=True):
            header = {"descr": kind, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)  # so that this process has no page of it
        for pieces in rows(workload):
            for file, piece in zip((xs, ys), pieces, strict=True):
                file.write(np.ascontiguousarray(piece).data)
    x, y = (torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in columns)
    sizes = np.full(workload.clients, workload.examples)
    spec = DataSpec(workload.shape, workload.classes, "classification")
    return fedray.FederatedData(x, y, sizes, spec)


def scale(workload: Workload, rounds: int) -> dict[str, Any]:
    """Measure rounds on two Ray workers.

    Returns:
        What :func:`benchmarks.engine.measure` does, with ``data_mb``, and ``launcher_mb``: the most resident memory of
        this process, mapped pages included.
    """
    with tempfile.TemporaryDirectory(prefix="fedray-bench-") as folder:
        data = mapped(workload, Path(folder))
        held = data.nbytes + data.sizes.nbytes
        found = measure(workload, rounds, place("cpu", inline=False), data=data)
    return {
        **found,
        "clients": workload.clients,
        "data_mb": round(held / 1e6),
        "launcher_mb": round(peak_memory() / 1e6),
    }


def main() -> None:
    """Measure, and print the figures as JSON."""
    parser = argparse.ArgumentParser(description="Very many clients through fedray, timed.")
    parser.add_argument("--clients", type=int, default=SCALE.clients)
    parser.add_argument("--cohort", type=int, default=SCALE.cohort)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    workload = dataclasses.replace(SCALE, clients=options.clients, cohort=options.cohort)
    print(json.dumps(scale(workload, options.rounds)))


if __name__ == "__main__":
    main()

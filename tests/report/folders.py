"""Run folders as runs leave them, with numbers that a test can say beforehand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from fedray.report.told import Told
from fedray.rundir.client_table import ClientRows, ClientTable

CLASSES = ["benign", "malignant"]
NOW = 2_000_000_000.0


def write_run(
    folder: Path,
    seed: int = 1,
    algorithm: str = "fedavg",
    rounds: int = 4,
    config: str = "",
    sizes: tuple[int, ...] = (8, 5, 2),
    status: str | None = "finished",
    counts: bool = False,
    support: bool = False,
    **more: Any,
) -> Path:
    """Write a run whose accuracy in round r is ``r / 10 + seed / 100``, with as many clients as ``sizes``."""
    (folder / "checkpoints").mkdir(parents=True)
    text = f"seed: {seed}\nrounds: {rounds}\nalgorithm: {{name: {algorithm}}}\nrun: {{dir: {folder}}}\n{config}"
    (folder / "config.yaml").write_text(text)
    records = [record(round, seed, **more) for round in range(1, rounds + 1)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in records))
    if status:
        told = {"name": "heart", "status": status, "clients": len(sizes), "parameters": 62, "error": "it burst"}
        told |= {"versions": {"torch": "2.13"}, "machine": {"gpu": "none"}}
        (folder / "summary.json").write_text(json.dumps(told))
    clients = np.arange(len(sizes))
    values = {"loss": 1.0 - clients / 10, "accuracy": 0.5 + clients / 10 + seed / 100}
    cells: dict[str, list[list[dict[str, Any]] | None]] = {
        "confusion_matrix": [[{"true": CLASSES[0], "predicted": CLASSES[1], "count": size}] for size in sizes]
    }
    own = cells if counts else {}
    if support:
        own |= {"support": [[{"class": name, "count": size // 2} for name in CLASSES] for size in sizes]}
    rows = [ClientRows(view, clients, np.array(sizes), values, cells=own) for view in ("global", "personal")]
    ClientTable(folder / "clients", lambda client: f"<h{client}>").write(rounds, rows)
    labels = {"clients": [f"<h{n}>" for n in clients], "classes": CLASSES, "of": len(sizes)}
    (folder / "labels.json").write_text(json.dumps({**labels, "counts": [[n + 1, seed] for n in range(len(sizes))]}))
    return folder


def record(round: int, seed: int, **more: Any) -> dict[str, Any]:
    """Return a record of a round."""
    spread = dict.fromkeys(("client_mean", "std", "p50"), 0.5) | {"mean": 0.5, "p10": 0.25, "p90": 0.75, "worst": 0.25}
    table = {"confusion_matrix": {"classes": CLASSES, "counts": [[round, 1], [0, seed]]}}
    told = {
        "round": round,
        "seconds": 2.0,
        "phases": {"train": 1.5},
        "clients": {"sampled": 3, "ok": 3, "failed": 0},
        "train": {"loss": 1 / round, "lr": 0.1},
        "test": {"loss": 1 / round, "accuracy": round / 10 + seed / 100},
        "clients_test": {"accuracy": spread},
        "clients_personal": {"accuracy": spread},
        "bytes": {"down": 2_000_000, "up": 1_000_000, "network": 0},
        "tables": {"test": table, "clients_test": table},
        "usage": {"cpu_seconds": 3.0, "joules": 7200.0, "nodes": 1, "retries": 0},
    }
    return told | more


def told(*folders: Path) -> list[Told]:
    """Read run folders."""
    return [Told.of(folder, NOW) for folder in folders]

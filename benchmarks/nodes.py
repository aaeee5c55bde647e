"""The cost of nodes: rounds on 1, 2 and 4 Ray nodes of one machine, and a model of many nodes from the measured terms.

    python -m benchmarks.nodes              # about a quarter of an hour on two idle cores
    python -m benchmarks.nodes --quick      # does it work

The nodes are raylets that share the machine's cores and its memory bus, so the seconds of training say nothing here.
What counts is the **overhead** of a round: its seconds without those in which the busiest worker was at work.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn
from torch.nn.functional import cross_entropy

import fedray
from benchmarks.machine import BUSY, busy, machine, slug, versions
from benchmarks.processes import ROOT, measurement, module
from benchmarks.run import RESULTS, free

EXAMPLES, FEATURES, CLASSES = 20, 64, 10
MOST = 1_000_000
"""Rounds that no run comes to."""
FIRST, ENOUGH = 2, 5
"""Rounds with all workers that are not counted, and the fewest that must be left."""
BLOCKS = 16
"""Of a round, so that every worker has some."""
START = 3.0
"""Seconds of two cores in which a worker is started."""
LONGER = (1, 2, 4)
"""Times the seconds asked for, one after the other: how long workers take to start is the machine's."""


@dataclass(frozen=True)
class Setting:
    """One configuration.

    Args:
        nodes: Ray nodes.
        workers: on all nodes together.
        cohort: clients of a round.
        hidden: width of the MLP 64-hidden-10.
        epochs: local epochs; with 0 clients return the model unchanged.
        reduce: how vectors cross between nodes.
    """

    nodes: int
    workers: int
    cohort: int = 500
    hidden: int = 64
    epochs: int = 1
    reduce: str = "object_store"

    @property
    def parameters(self) -> int:
        """P of the model."""
        return (FEATURES + 1) * self.hidden + (self.hidden + 1) * CLASSES


GRID = [Setting(n, w) for n, w in ((1, 2), (1, 4), (1, 8), (2, 2), (2, 4), (2, 8), (4, 4), (4, 8))]
CLIENTS = [Setting(2, 4, cohort=cohort, epochs=0) for cohort in (100, 1000, 10_000)]
SIZES = [
    Setting(nodes, nodes, cohort=8, hidden=hidden, reduce=reduce)
    for reduce in ("object_store", "collective")
    for nodes in (2, 4)
    for hidden in (1_000, 20_000)
]


def measure(setting: Setting, seconds: float) -> dict[str, Any]:
    """Start the nodes and train for so many seconds and those that the workers need to start, longer where that is too
    short for all of them to join; medians over the rounds since they have.

    Returns:
        The setting, ``seconds``, ``overhead`` (see the module), ``broadcast`` and ``aggregate`` seconds, and
        ``network`` bytes of a round.
    """
    import ray
    from ray.cluster_utils import Cluster

    import fedray.cluster  # noqa: F401 - its settings come before Ray

    each = setting.workers // setting.nodes
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": each, "include_dashboard": False})
    for _ in range(setting.nodes - 1):
        cluster.add_node(num_cpus=each)
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)
    try:
        joined = _joined(setting, each, seconds + START * setting.workers)
    finally:
        ray.shutdown()
        cluster.shutdown()

    def median(value: Any) -> float:
        return round(float(statistics.median(value(record) for record in joined)), 6)

    return {
        **asdict(setting),
        "parameters": setting.parameters,
        "seconds": median(lambda r: r.seconds),
        "overhead": median(lambda r: r.seconds - r.phases["train"] + min(r.usage["idle"])),
        "broadcast": median(lambda r: r.phases["broadcast"]),
        "aggregate": median(lambda r: r.phases["aggregate"]),
        "network": median(lambda r: r.bytes["network"]),
    }


def _joined(setting: Setting, each: int, seconds: float) -> list[Any]:
    """The records that count."""
    for longer in LONGER:
        records = _train(setting, each, longer * seconds)
        joined = [r for r in records if r.workers == setting.workers and r.usage["nodes"] == setting.nodes][FIRST:]
        if len(joined) >= ENOUGH:
            return joined
    raise RuntimeError(
        f"{setting}: in {longer * seconds:g} s all workers took part in {len(joined) + FIRST} rounds only"
    )


def _train(setting: Setting, each: int, seconds: float) -> list[Any]:
    clients = max(1000, setting.cohort)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(clients * EXAMPLES, FEATURES, generator=generator)
    y = x[:, :CLASSES].argmax(1)
    hidden = setting.hidden
    model = fedray.FederatedModel(
        lambda: nn.Sequential(nn.Linear(FEATURES, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES)),
        fedray.optim.SGD(lr=0.1),
        cross_entropy,
    )
    # Nodes join while rounds run, the last of them after some seconds; the budget ends the run.
    args = fedray.TrainArgs(
        rounds=MOST,
        wall_hours=seconds / 3600,
        epochs=setting.epochs,
        batch_size=EXAMPLES,
        stack=max(1, setting.cohort // BLOCKS),
        evaluate_every=0,
        checkpoint_every=0,
        tracking=[],
    )
    with tempfile.TemporaryDirectory(prefix="fedray-bench-") as folder:
        return fedray.train(
            model,
            fedray.FederatedData.from_arrays(x, y, torch.arange(clients).repeat_interleave(EXAMPLES)),
            args,
            sampler=fedray.Uniform(setting.cohort),
            cluster=fedray.Cluster(workers=each, reduce=setting.reduce),  # type: ignore[arg-type]
            run_dir=Path(folder) / "run",
            progress=False,
        ).history


# A model of many nodes


@dataclass(frozen=True)
class Terms:
    """``overhead = start + call * (nodes - 1) + byte * network``, by least squares over measured rounds.

    Args:
        start: seconds of a round that no node can save.
        call: seconds for each further node: its calls and reports, made and read by the driver.
        byte: seconds for each byte of broadcasts and accumulators between nodes.
        error: largest relative error over the measured rounds.
    """

    start: float
    call: float
    byte: float
    error: float

    @classmethod
    def of(cls, rows: Sequence[dict[str, Any]]) -> Terms:
        """Fit them."""
        design = np.array([[1.0, row["nodes"] - 1.0, row["network"]] for row in rows])
        seconds = np.array([row["overhead"] for row in rows])
        # Relative errors, so that the large models do not decide everything; a cost cannot be negative.
        weights = 1.0 / seconds
        found = np.maximum(np.linalg.lstsq(design * weights[:, None], np.ones_like(seconds), rcond=None)[0], 0.0)
        error = float(np.abs(design @ found / seconds - 1.0).max())
        start, call, byte = map(float, found)
        return cls(start, call, byte, error)

    def overhead(self, nodes: int, parameters: int) -> float:
        """Seconds of a round of ``nodes`` nodes: accumulators of more than eight are added up among the nodes, so the
        driver reads eight, and ``ceil(log8(nodes))`` of them are on the way one after the other.
        """
        levels = max(1, math.ceil(math.log(max(nodes - 1, 1), 8)))
        broadcast = 4 * parameters * math.ceil(math.log2(nodes)) if nodes > 1 else 0
        reduce = 8 * parameters * min(8, nodes - 1) * levels
        return self.start + self.call * (nodes - 1) + self.byte * (broadcast + reduce)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    """A Markdown table."""
    lines = [list(map(str, header)), ["---"] * len(header), *([str(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines] + [""]


def page(report: dict[str, Any]) -> str:
    """The result as Markdown."""
    where, rows = report["machine"], report["rows"]
    lines = [f"# {report['date']}: nodes, {where['cpu']}, {where['cores']} cores", ""]
    if report["busy"] > BUSY:
        lines += ["**The machine was not idle: the figures are not to be trusted.**", ""]
    lines += [" ".join((__doc__ or "").partition("\n\n")[2].partition("\n\n")[2].split()), ""]
    lines += ["## Fixed work (tiny, 500 clients), more workers and nodes", ""]
    lines += table(
        ("nodes", "workers", "seconds a round", "overhead, ms", "network, kB"),
        [(r["nodes"], r["workers"], f"{r['seconds']:.4f}", _ms(r), f"{r['network'] / 1e3:.1f}") for r in rows["grid"]],
    )
    lines += ["## More clients, same nodes (2 nodes, 4 workers, 4,810 parameters, no training)", ""]
    lines += table(
        ("clients", "overhead, ms", "network, kB", "bytes a client"),
        [(r["cohort"], _ms(r), f"{r['network'] / 1e3:.1f}", f"{_a_client(r):.0f}") for r in rows["clients"]],
    )
    lines += ["## Larger models (one worker a node)", ""]
    lines += table(
        ("reduce", "nodes", "parameters", "broadcast, ms", "overhead, ms", "network, MB"),
        [
            (r["reduce"], r["nodes"], f"{r['parameters']:,}", f"{1e3 * r['broadcast']:.1f}", _ms(r), _mb(r))
            for r in rows["sizes"]
        ],
    )
    lines += ["## A model of many nodes", "", " ".join((Terms.__doc__ or "").split("Args:")[0].split()), ""]
    many = (8, 64, 512)
    header = ["reduce", "start, ms", "call, ms a node", "ns a byte", "largest error", *(f"{n} nodes, ms" for n in many)]
    lines += table(header, [_model(name, Terms(**t), many, report["model"]) for name, t in report["terms"].items()])
    lines += [
        f"The last columns: {report['model']:,} parameters. All nodes here share one memory bus and two cores; on a",
        "cluster `byte` is the network's, and `call` runs on a core of its own. It is a model, not a measurement.",
        "",
        f"Machine: {', '.join(f'{name} {value}' for name, value in where.items())}.  ",
        f"Versions: {', '.join(f'{name} {value}' for name, value in report['versions'].items())}.",
    ]
    return "\n".join(lines) + "\n"


def _model(name: str, terms: Terms, many: Sequence[int], parameters: int) -> list[str]:
    fitted = [f"{1e3 * terms.start:.2f}", f"{1e3 * terms.call:.2f}", f"{1e9 * terms.byte:.2f}", f"{terms.error:.0%}"]
    return [name, *fitted, *(f"{1e3 * terms.overhead(nodes, parameters):.0f}" for nodes in many)]


def _ms(row: dict[str, Any]) -> str:
    return f"{1e3 * row['overhead']:.1f}"


def _mb(row: dict[str, Any]) -> str:
    return f"{row['network'] / 1e6:.1f}"


def _a_client(row: dict[str, Any]) -> float:
    return float(row["network"]) / int(row["cohort"])


def _alone(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if row["nodes"] == 1]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every setting in a process of its own, print, write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nodes", description="What Ray nodes cost a round.")
    parser.add_argument("--quick", action="store_true", help="few settings and rounds: does it work, not how fast")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the dated files; default: %(default)s")
    parser.add_argument("--setting", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    seconds = 4.0 if options.quick else 8.0
    if options.setting:
        print(json.dumps(measure(Setting(**json.loads(options.setting)), seconds)))
        return
    console, share = Console(), busy()
    chosen = {"grid": GRID, "clients": CLIENTS, "sizes": SIZES}
    rows: dict[str, list[dict[str, Any]]] = {}
    for name, settings in chosen.items():
        rows[name] = []
        for setting in settings[::3] if options.quick else settings:
            words = [*(["--quick"] if options.quick else []), "--setting", json.dumps(asdict(setting))]
            rows[name].append(measurement(module("benchmarks.nodes", *words)))
            console.print(f"  {setting}: {rows[name][-1]['overhead'] * 1e3:.1f} ms over", style="dim", highlight=False)
    terms = {
        reduce: asdict(
            Terms.of([r for r in [*rows["grid"], *rows["sizes"]] if r["nodes"] == 1 or r["reduce"] == reduce])
        )
        for reduce in ("object_store", "collective")
    }
    report = {
        "date": date.today().isoformat(),
        "busy": share,
        "machine": machine(),
        "versions": versions(ROOT),
        "model": 1_600_000,
        "terms": terms,
        "rows": rows,
    }
    path = free(options.output, f"{report['date']}-{slug(machine())}-nodes{'-quick' if options.quick else ''}")
    path.write_text(page(report))
    path.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    console.print(page(report), markup=False, highlight=False)


if __name__ == "__main__":
    main()

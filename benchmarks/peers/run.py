"""fedray and other frameworks beside the bare loop, on the same clients, in the same minutes.

    python -m benchmarks.peers.run             # all workloads, all peers; the first time it installs them
    python -m benchmarks.peers.run cnn --quick

Each peer does the rounds of the bare loop: its cohorts, its order of batches, its start.  Where its parameters end
elsewhere, it has no time, as it did something else.  A peer that cannot be installed or run is a line that says why,
and no failure.  Writes a table, dated, with machine, versions and every value, as Markdown and JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.cases import CASES, Say, Speed
from benchmarks.figures import markdown_rows, shown
from benchmarks.machine import busy, machine, versions
from benchmarks.peers.environments import PEERS, NotInstalled, Peer, installed
from benchmarks.peers.task import write
from benchmarks.processes import ROOT, CommandFailed, measurement, module
from benchmarks.run import RESULTS, free, name_of, title, warning
from benchmarks.workloads import WORKLOADS

ROUNDS = {"tiny": 5, "cnn": 3, "blaze": 3, "noop": 5}
"""The workloads, and how many rounds of each are timed; one before them warms up."""

TOLERANCE = 1e-3
"""The largest distance of a peer's parameters from the bare loop's, by the way: float32, added in another order."""

BARE, FEDRAY = "bare loop", "fedray"

Found = dict[str, dict[str, "Side"]]
"""By workload, what each side was seen to do, by the title of its column."""


@dataclass(frozen=True)
class Side:
    """The measurements of one side on one workload.

    Args:
        seconds: of each timed round.
        distance: of its last parameters from those of the bare loop; None where they are not compared.
        error: why there are no seconds.
        versions: of its interpreter and packages.
    """

    seconds: list[float] = field(default_factory=list)
    distance: float | None = None
    error: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def why(self) -> str:
        """The reason why its seconds are no result; empty where they are one."""
        if self.error:
            return f"not measured: {self.error}"
        if self.distance is not None and not self.distance <= TOLERANCE:
            return f"its parameters end {self.distance:.2g} of the way from those of the bare loop"
        return ""

    def cell(self, bare: Side) -> str:
        """Return the median of its seconds and the ratio to the bare loop's, or in two words why there is none."""
        if self.why:
            return "not measured" if self.error else "differs"
        middle = statistics.median(self.seconds)
        return f"{shown(middle)} ({middle / statistics.median(bare.seconds):.2f})"


def distance(end: NDArray[np.float32], bare: NDArray[np.float32], start: NDArray[np.float32]) -> float:
    """Return how far two models are apart, as a share of the way that the second has come.

    To that way a tenth of the start's norm is added, as a mean of many that stay where they are is rounded as well.

    >>> start, bare = np.zeros(2), np.array([0.0, 2.0])
    >>> distance(bare, bare, start), distance(start, bare, start)
    (0.0, 1.0)
    """
    norm = np.linalg.norm
    return float(norm(end - bare) / (norm(bare - start) + norm(start) / 10))


def compared(name: str, rounds: int, homes: dict[str, Path | str], say: Say) -> dict[str, Side]:
    """Return what each side does on a workload: the bare loop, fedray, the peers in turn, and the bare loop again.

    Args:
        name: of the workload.
        rounds: timed ones.
        homes: by the name of a peer its interpreter, or why there is none.
        say: tells how it goes.

    Raises:
        CommandFailed: the bare loop or fedray fails.
    """
    case = CASES[name]
    assert isinstance(case, Speed)
    processes = int(case.bare[case.bare.index("--processes") + 1])
    with tempfile.TemporaryDirectory(prefix="fedray-bench-") as there:
        folder = Path(there)
        write(folder, WORKLOADS[name], rounds, processes)
        hand = module("benchmarks.bare", name, "--rounds", rounds, *case.bare, "--save", folder / "bare.npy")
        sides = {
            BARE: Side(measurement(hand)["seconds_per_round"]),
            FEDRAY: Side(measurement(module("benchmarks.engine", name, "--rounds", rounds))["seconds_per_round"]),
        }
        for peer in PEERS:
            for column, adapter in peer.adapters.items():
                sides[column] = _peer(homes[peer.name], adapter, folder)
                say(f"{name}, {column}: {sides[column].why or sides[column].cell(sides[BARE])}")
        sides[BARE].seconds.extend(measurement(hand)["seconds_per_round"])
    say(f"{name}, {BARE}: {sides[BARE].cell(sides[BARE])}; {FEDRAY}: {sides[FEDRAY].cell(sides[BARE])}")
    return sides


def _peer(home: Path | str, adapter: str, folder: Path) -> Side:
    if isinstance(home, str):
        return Side(error=home)
    try:
        said = measurement([str(home), "-m", "benchmarks.peers.side", adapter, str(folder)])
    except CommandFailed as error:
        return Side(error=reason(str(error)))
    end, bare, start = (np.load(folder / f"{one}.npy") for one in ("end", "bare", "start"))
    (folder / "end.npy").unlink()
    return Side(said["seconds_per_round"], distance(end, bare, start), versions=said["versions"])


def reason(said: str) -> str:
    """Return the last line that names an error, or the last one: processes that end badly go on to warn.

    >>> reason("Traceback:\\nZeroDivisionError: division by zero\\nwarning: leaked semaphores\\n")
    'ZeroDivisionError: division by zero'
    >>> reason("not done after 300 s")
    'not done after 300 s'
    """
    lines = said.strip().splitlines()
    return next((line for line in reversed(lines) if re.match(r"[\w.]*(Error|Exception)\b", line)), lines[-1])


def homes_of(peers: Sequence[Peer], folder: Path, say: Say) -> dict[str, Path | str]:
    """Return by the name of each peer its interpreter, or in words why there is none."""
    homes: dict[str, Path | str] = {}
    for peer in peers:
        say(f"{peer.name}: {' '.join(peer.requirements)}; the first time takes minutes")
        try:
            homes[peer.name] = installed(peer, folder)
        except NotInstalled as error:
            homes[peer.name] = str(error)
            say(f"{peer.name} is not measured: {error}")
    return homes


def markdown(found: Found) -> str:
    """Return the table, of which each row is a workload, the ranges, and what is to be said of single sides."""
    columns = list(next(iter(found.values())))
    lines = markdown_rows(
        ["s/round (ratio)", *columns],
        [[name, *(side.cell(sides[BARE]) for side in sides.values())] for name, sides in found.items()],
    )
    lines += ["", "Least to largest, and how far the parameters end from those of the bare loop:", ""]
    lines += markdown_rows(
        ["", *columns],
        [[name, *(_range(side) for side in sides.values())] for name, sides in found.items()],
    )
    reasons = [f"- **{name}, {column}**: {why}" for name, column, why in _reasons(found)]
    told = {column: side.versions for sides in found.values() for column, side in sides.items() if side.versions}
    with_versions = [f"- {column}: {', '.join(f'{n} {v}' for n, v in told[column].items())}" for column in told]
    return "\n".join([*lines, "", *reasons, *with_versions])


def _range(side: Side) -> str:
    if not side.seconds:
        return "-"
    apart = "" if side.distance is None else f"; {side.distance:.0e}"
    return f"{shown(min(side.seconds))} to {shown(max(side.seconds))}{apart}"


def _reasons(found: Found) -> Iterator[tuple[str, str, str]]:
    for name, sides in found.items():
        for column, side in sides.items():
            if side.why:
                yield name, column, side.why


def page(report: dict[str, Any], found: Found) -> str:
    """Return the result as Markdown."""
    where, load = report["machine"], report["load"]
    how = "Seconds of a round, median, and their ratio to the bare loop's."
    lines = [f"# {report['date']}: other frameworks, {title(where)}", ""]
    lines += [f"**{report['warning']}**", ""] if report["warning"] else []
    lines += ["**A quick run: it shows that it works, not how fast anything is.**", ""] if report["quick"] else []
    return "\n".join(
        [
            *lines,
            f"{how} How to read this: [README](../README.md#other-frameworks).",
            "",
            markdown(found),
            "",
            f"Machine: {', '.join(f'{name} {value}' for name, value in where.items())}.  ",
            f"Ours: {', '.join(f'{name} {value}' for name, value in report['versions'].items())}.  ",
            f"In use by others before each workload: {', '.join(f'{n} {s:.0%}' for n, s in load.items())}.  ",
            f"All took {report['seconds']} s, without installing.",
            "",
        ]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Install, measure, print, write; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.run", description="fedray beside its peers.")
    parser.add_argument("what", nargs="*", metavar="what", help=f"default all of: {', '.join(ROUNDS)}")
    parser.add_argument("--quick", action="store_true", help="one timed round each: does it work, not how fast")
    parser.add_argument("--environments", type=Path, default=ROOT / ".venv-peers", help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the dated files; default: %(default)s")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.what if name not in ROUNDS]:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(ROUNDS)}")
    console = Console()

    def say(line: str) -> None:
        console.print(f"  {line}", style="dim", markup=False, soft_wrap=True)

    homes = homes_of(PEERS, options.environments, say)
    began = time.monotonic()
    load: dict[str, float] = {}
    found: Found = {}
    failed = False
    for name in ROUNDS:
        if name in options.what or not options.what:
            load[name] = round(busy(), 3)
            try:
                found[name] = compared(name, 1 if options.quick else ROUNDS[name], homes, say)
            except CommandFailed as error:
                failed = True
                console.print(str(error), style="red", markup=False)
    if not found:
        return 1
    report = {
        "date": date.today().isoformat(),
        "quick": options.quick,
        "seconds": round(time.monotonic() - began),
        "machine": machine(),
        "versions": versions(ROOT),
        "load": load,
        "warning": warning(load),
        "found": {name: {column: asdict(side) for column, side in sides.items()} for name, sides in found.items()},
    }
    path = free(options.output, name_of(report, ["peers", *options.what]))
    path.write_text(page(report, found))
    path.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    console.print(markdown(found), markup=False, soft_wrap=True)
    console.print(f"written to {path} and .json", soft_wrap=True)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())

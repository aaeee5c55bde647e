"""Every figure fedray is held to, measured next to a bare PyTorch loop on the same machine in the same minutes.

    python -m benchmarks.run                  # everything, about a quarter of an hour on two idle cores
    python -m benchmarks.run tiny --quick     # one workload, few rounds
    python -m benchmarks.run --gpu            # the workloads on this machine's first GPU

Prints a table and writes it, dated, with machine, versions and every value, as Markdown and JSON.  A target that is
missed is said so and is no error; a measurement that fails is one (exit status 1).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.cases import CASES, FULL, GPU_CASES, ONCE, QUICK, Beside, Case, Effort, Memory, Scale
from benchmarks.figures import Figure, markdown, table
from benchmarks.machine import BUSY, busy, machine, slug, versions
from benchmarks.processes import ROOT, CommandFailed

RESULTS = Path(__file__).resolve().parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description="fedray against a bare PyTorch loop.")
    parser.add_argument("what", nargs="*", metavar="what", help=f"default all of: {', '.join(CASES)}")
    parser.add_argument("--gpu", action="store_true", help=f"instead, once each: {', '.join(GPU_CASES)}")
    parser.add_argument("--quick", action="store_true", help="one run of few rounds each: does it work, not how fast")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the dated files; default: %(default)s")
    options = parser.parse_args(arguments)
    cases = GPU_CASES if options.gpu else CASES
    effort = QUICK if options.quick else ONCE if options.gpu else FULL
    if unknown := [name for name in options.what if name not in cases]:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(cases)}")
    chosen = [name for name in cases if name in options.what or not options.what]

    console = Console()
    began = time.monotonic()
    before = os.getloadavg()[0]
    shares: dict[str, float] = {}
    figures: list[Figure] = []
    runs: dict[str, list[dict[str, Any]]] = {}
    for name in chosen:
        shares[name] = round(busy(), 3)
        measured, runs[name] = _measure(cases[name], effort, console)
        figures += measured

    where = machine(options.gpu)
    report = {
        "date": date.today().isoformat(),
        "quick": options.quick,
        "seconds": round(time.monotonic() - began),
        "machine": where,
        "versions": versions(ROOT),
        "load": {"before": before, "after": os.getloadavg()[0], "busy": shares},
        "warning": warning(shares),
        "figures": [figure.to_json() for figure in figures],
        "runs": runs,
    }
    console.print(table(figures, title(where)))
    for line in filter(None, (report["warning"], summary(figures))):
        console.print(line, style="yellow" if line == report["warning"] else "")
    path = free(options.output, name_of(report, options.what))
    path.write_text(page(report, figures))
    path.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    console.print(f"written to {path} and .json", soft_wrap=True)
    return 1 if any(figure.verdict == "failed" for figure in figures) else 0


def _measure(case: Case, effort: Effort, console: Console) -> tuple[list[Figure], list[dict[str, Any]]]:
    try:
        return case.measure(effort, lambda line: console.print(f"  {line}", style="dim"))
    except CommandFailed as error:
        console.print(str(error), style="red", markup=False)
        planned = case.figures if isinstance(case, Memory | Beside | Scale) else (case.figure,)
        return [replace(figure, error=str(error)) for figure in planned], []


def title(where: dict[str, str]) -> str:
    """Return the machine in a few words."""
    return ", ".join([*filter(None, [where.get("gpu")]), where["cpu"], f"{where['cores']} cores"])


def warning(shares: dict[str, float]) -> str | None:
    """One line if the machine was busy with something else before any of the measurements."""
    late = [f"{share:.0%} before {name}" for name, share in shares.items() if share > BUSY]
    return (
        f"The machine was not idle ({', '.join(late)} in use by others): the figures are not to be trusted."
        if late
        else None
    )


def summary(figures: Sequence[Figure]) -> str:
    """Return the targets that are met and those that are not, in one line."""
    by_verdict = {
        verdict: [figure.name for figure in figures if figure.verdict == verdict]
        for verdict in ("ok", "missed", "failed", "not judged")
    }
    parts = [f"{len(by_verdict['ok'])} of {len(figures)} targets met"]
    others = ("missed", "failed", "not judged")
    parts += [f"{verdict}: {', '.join(by_verdict[verdict])}" for verdict in others if by_verdict[verdict]]
    return "; ".join(parts)


def name_of(report: dict[str, Any], what: Sequence[str]) -> str:
    """The file's name without suffix: date, machine, and what makes it less than a whole run."""
    return "-".join([report["date"], slug(report["machine"]), *what, *(["quick"] if report["quick"] else [])])


def free(folder: Path, stem: str) -> Path:
    """Return a path that does not exist yet, in a folder that does: a second run of the day gets a number."""
    folder.mkdir(parents=True, exist_ok=True)
    path, number = folder / f"{stem}.md", 2
    while path.exists():
        path, number = folder / f"{stem}-{number}.md", number + 1
    return path


def page(report: dict[str, Any], figures: Sequence[Figure]) -> str:
    """The result as Markdown."""
    where, load = report["machine"], report["load"]
    lines = [f"# {report['date']}: {title(where)}", ""]
    if report["warning"]:
        lines += [f"**{report['warning']}**", ""]
    if report["quick"]:
        lines += ["**A quick run: it shows that the harness works, not how fast anything is.**", ""]
    lines += [
        f"{summary(figures)}. How to read this: [README](../README.md).",
        "",
        markdown(figures),
        "",
        f"Machine: {', '.join(f'{name} {value}' for name, value in where.items())}.  ",
        f"Versions: {', '.join(f'{name} {value}' for name, value in report['versions'].items())}.  ",
        (
            f"Load average {load['before']:.2f} before and {load['after']:.2f} after, our own work included; "
            f"in use by others before each measurement: {', '.join(f'{n} {s:.0%}' for n, s in load['busy'].items())}.  "
        ),
        f"All took {report['seconds']} s.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())

"""Draw docs/run.svg, the animation of a run in the README, from a run that this makes: python docs/animate.py."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path

from fedray import read_clients
from fedray.tracking import read_records

ROOT = Path(__file__).resolve().parent.parent
TARGET = ROOT / "docs" / "run.svg"
COMMAND = "fedray run configs/digits.yaml data.holdout=0.2 evaluate.clients_every=1"

WIDTH, HEIGHT, LINE = 880, 330, 17
SECONDS, TRAINS_FROM, TRAINS_TO = 14.0, 2.4, 8.4
LEFT, RIGHT, TOP, BOTTOM = 610, 860, 62, 286
DARK, EDGE, INK, FAINT, BLUE, ORANGE = "#0d1117", "#8b949e", "#e6edf3", "#8b949e", "#58a6ff", "#f0883e"


def main() -> None:
    """Run, and draw."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "first"
        words = [*COMMAND.split()[1:], "cluster.name=inline", f"run.dir={run_dir}"]
        done = subprocess.run(
            [sys.executable, "-m", "fedray", *words], cwd=ROOT, check=True, capture_output=True, text=True
        )
        records = read_records(run_dir / "metrics.jsonl")
        clients: dict[str, list[float]] = {}
        for row in read_clients(run_dir).select(["client", "view", "accuracy"]).to_pylist():
            if row["view"] == "global":
                clients.setdefault(row["client"], []).append(row["accuracy"])
    tested = [record["test"]["accuracy"] for record in records]
    TARGET.write_text(svg(done.stdout.splitlines(), tested, clients))
    sys.stdout.write(f"{TARGET.relative_to(ROOT)}: {TARGET.stat().st_size:,} bytes\n")


def svg(said: list[str], tested: list[float], clients: dict[str, list[float]]) -> str:
    """Return the animation of a run.

    Args:
        said: the lines that it printed.
        tested: the test accuracy after each round.
        clients: that of each client on its own rows.
    """
    rounds = len(tested)
    begin = next(place for place, line in enumerate(said) if " parameters, for " in line)
    table = next(place for place, line in enumerate(said) if line.startswith("rounds  "))
    shown = [line.rstrip()[:70] for line in said[table:] if line.startswith(("rounds", "test acc", "clients' acc"))]
    body = [*terminal(said[: begin + 1], tested, shown), *chart(tested, clients)]
    about = f"A run of {rounds} rounds in a terminal, and the accuracy of the model on the test set and at each client."
    style = f"text{{font:12px ui-monospace,Menlo,Consolas,monospace;fill:{INK}}}.f{{fill:{FAINT}}}.s{{font-size:11px}}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{about}">'
        f'<style>{style}</style><rect x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10" fill="{DARK}" '
        f'stroke="{EDGE}" stroke-opacity=".5"/>' + "\n".join(body) + "</svg>\n"
    )


def terminal(begins: list[str], tested: list[float], ends: list[str]) -> Iterator[str]:
    """Yield the left half: the command, what it says, a bar of its rounds, the table at the end."""
    y = 34
    yield f'<text x="20" y="{y}"><tspan fill="{BLUE}">$</tspan> {escape(COMMAND)}{seen(0.3)}</text>'
    for number, line in enumerate(begins):
        y += LINE
        yield f'<text x="20" y="{y}" class="f">{escape(line)}{seen(0.9 + number * 0.35)}</text>'
    y += LINE + 8
    rounds, span = len(tested), TRAINS_TO - TRAINS_FROM
    times = f"0;{TRAINS_FROM / SECONDS:.4f};{TRAINS_TO / SECONDS:.4f};1"
    yield f'<g>{seen(TRAINS_FROM)}<rect x="110" y="{y - 7}" width="300" height="4" fill="{FAINT}" fill-opacity=".35"/>'
    yield (
        f'<rect x="110" y="{y - 7}" width="300" height="4" fill="{ORANGE}"><animate attributeName="width" '
        f'values="0;0;300;300" keyTimes="{times}" dur="{SECONDS}s" repeatCount="indefinite"/></rect></g>'
    )
    for number, accuracy in enumerate(tested):
        since = TRAINS_FROM + span * number / rounds
        until = TRAINS_FROM + span * (number + 1) / rounds if number + 1 < rounds else None
        words = f"round {number + 1}/{rounds}"
        still = "" if until is None else ' visibility="hidden"'  # who draws no animation sees the end
        yield f'<g{still}>{seen(since, until)}<text x="20" y="{y}">{words}</text>'
        yield f'<text x="20" y="{y + LINE}" class="f">test.accuracy {accuracy:.4f}</text></g>'
    y += LINE + 8
    for number, line in enumerate(ends):
        y += LINE
        yield f'<text x="20" y="{y}" xml:space="preserve">{escape(line)}{seen(TRAINS_TO + 0.4 + number * 0.15)}</text>'
    last = TRAINS_TO + 1.6
    y += LINE + 8
    for number, words in enumerate(("fedray runs", "tensorboard --logdir runs")):
        told = f'<tspan fill="{BLUE}">$</tspan> {words}{seen(last + number * 0.5)}'
        yield f'<text x="20" y="{y + number * LINE}">{told}</text>'


def chart(tested: list[float], clients: dict[str, list[float]]) -> Iterator[str]:
    """Yield the right half: the accuracy on the test set and at each client, drawn from the left to the right."""
    rounds = len(tested)

    def line(values: list[float], style: str) -> str:
        pairs = (
            f"{LEFT + (RIGHT - LEFT) * number / max(1, rounds - 1):.1f},{BOTTOM - (BOTTOM - TOP) * value:.1f}"
            for number, value in enumerate(values)
        )
        return f'<polyline points="{" ".join(pairs)}" fill="none" {style}/>'

    yield f'<text x="{LEFT}" y="34">accuracy after each round</text>'
    yield f'<text x="{LEFT}" y="50" class="s" fill="{ORANGE}" style="fill:{ORANGE}">test set</text>'
    yield f'<text x="{LEFT + 72}" y="50" class="s" style="fill:{BLUE}">each of {len(clients)} clients</text>'
    for tick in (0.0, 0.5, 1.0):
        y = BOTTOM - (BOTTOM - TOP) * tick
        yield f'<path d="M{LEFT} {y}H{RIGHT}" stroke="{FAINT}" stroke-opacity=".35"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end" class="f s">{tick:g}</text>'
    yield f'<text x="{LEFT}" y="{BOTTOM + 18}" class="f s">1</text>'
    yield f'<text x="{RIGHT}" y="{BOTTOM + 18}" text-anchor="end" class="f s">round {rounds}</text>'
    times = f"0;{TRAINS_FROM / SECONDS:.4f};{TRAINS_TO / SECONDS:.4f};1"
    width = RIGHT - LEFT + 4
    yield (
        f'<clipPath id="c"><rect x="{LEFT - 2}" y="{TOP - 4}" width="{width}" height="{BOTTOM - TOP + 8}">'
        f'<animate attributeName="width" values="0;0;{width};{width}" keyTimes="{times}" dur="{SECONDS}s" '
        'repeatCount="indefinite"/></rect></clipPath><g clip-path="url(#c)" stroke-linejoin="round">'
    )
    for values in clients.values():
        yield line(values, f'stroke="{BLUE}" stroke-opacity=".4"')
    yield line(tested, f'stroke="{ORANGE}" stroke-width="2.5"') + "</g>"


def seen(since: float, until: float | None = None) -> str:
    """Return what shows an element from one second to another, in each turn of the animation."""
    values, times = ["hidden", "visible"], [0.0, since / SECONDS]
    if until is not None:
        values, times = [*values, "hidden"], [*times, until / SECONDS]
    shown = ";".join(values), ";".join(f"{time:.4f}" for time in times)
    return (
        f'<animate attributeName="visibility" values="{shown[0]}" keyTimes="{shown[1]}" calcMode="discrete" '
        f'dur="{SECONDS}s" repeatCount="indefinite"/>'
    )


if __name__ == "__main__":
    main()

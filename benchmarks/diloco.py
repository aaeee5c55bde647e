"""DiLoCo against synchronous training with the same tokens: ``make reference-diloco``.

A small language model of characters learns the sources of Python's standard library: four sites have different
packages, and one more set of files is held out.  The yardstick is a bare loop, in which the four exchange gradients in
each step: AdamW on the mean of four batches.  From its model after some steps on, the same recipe goes on as DiLoCo,
which exchanges once in H steps, or one of P fragments of the model in each P-th of them, through ``fedray.train``.
Losses are means over the held-out characters.

    python -m benchmarks.diloco --lines lines.jsonl --picture docs/diloco.svg
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import cross_entropy

import fedray
from fedray.core.rng import torch_generator
from fedray.data.spec import DataSpec
from fedray.models import Decoder
from fedray.optim import AdamW, LRSchedule

Tokens = NDArray[np.int64]

SITES = (
    ("asyncio", "concurrent", "multiprocessing", "http", "urllib", "wsgiref"),
    ("email", "html", "xml", "json", "logging", "importlib"),
    ("idlelib", "tkinter", "curses", "turtledemo"),
    ("unittest", "ctypes", "distutils", "lib2to3", "pydoc_data", "sqlite3", "venv", "zoneinfo"),
)
"""Packages of the standard library by site; the modules that stand beside them are held out."""

LENGTH = 65
"""Characters of an example: 64 are to be said."""

TOKENS = 128
"""The characters that are told apart, the lowest of Unicode that there are, and one for all others."""

WINDOWS, HELD_OUT = 6_000, 400
"""Examples of a site, and of the held-out files, at most."""

BATCH, STEPS, WARM = 8, 1_200, 400
"""Examples of a site in a step, steps in all, and those of them before DiLoCo takes over."""

PEAK, CLIP, DECAY, BETAS = 4e-3, 1.0, 0.1, (0.9, 0.95)
"""AdamW's learning rate, from which a cosine goes down to 0, the norm of a gradient, weight decay and betas."""

MODEL = Decoder(dim=96, heads=4, layers=3)


@dataclass(frozen=True)
class Row:
    """A way to go on from the warm model.

    Args:
        algorithm: the algorithm.
        steps: the steps from one exchange to the next: H, or, of P fragments, H / P.
        transforms: of outer gradients.
        sites: the sites that take part.
    """

    algorithm: fedray.DiLoCo
    steps: int = 50
    transforms: list[Any] = field(default_factory=list)
    sites: int = len(SITES)


OURS = fedray.DiLoCo(momentum=0.7)
"""DiLoCo with less momentum than its default, 0.9, which remembers ten exchanges: here there are sixteen in all."""


def streaming(fragments: int, **options: Any) -> fedray.DiLoCo:
    """Return the same of so many fragments, of which each round exchanges one."""
    return fedray.StreamingDiLoCo(momentum=OURS.momentum, fragments=fragments, **options)


ROWS = {
    "DiLoCo, H = 50": Row(OURS),
    "DiLoCo, H = 50, int8": Row(OURS, transforms=[fedray.Int8()]),
    "DiLoCo, H = 50, int4": Row(OURS, transforms=[fedray.Int4()]),
    "DiLoCo, H = 50, moments reset": Row(replace(OURS, keep=False)),
    "DiLoCo, H = 50, momentum 0.9": Row(fedray.DiLoCo()),
    "DiLoCo, H = 100": Row(OURS, steps=100),
    "streaming DiLoCo, H = 100, 2 fragments": Row(streaming(2), steps=50),
    "streaming DiLoCo, H = 100, 4 fragments": Row(streaming(4), steps=25),
    "streaming DiLoCo, H = 100, 4 fragments, alpha 0.5, delay 5": Row(streaming(4, alpha=0.5, delay=5), steps=25),
    "one site alone": Row(fedray.DiLoCo(server_lr=1.0, momentum=0.0), sites=1),
}
SYNCHRONOUS = "synchronous"


@dataclass(frozen=True)
class Cosine(LRSchedule):
    """The rest of a cosine over ``STEPS``, of which ``WARM`` are over: each round has the rate of its middle.

    >>> f"{Cosine().at(1.0, 0, 16):.3f}"  # in the middle of steps 400 to 450 of 1,200
    '0.721'
    """

    def at(self, lr: float, t: int, rounds: int) -> float:
        return lr * decayed(WARM + (STEPS - WARM) * (t + 0.5) / rounds)


def decayed(step: float) -> float:
    """Return the share of the learning rate that is left at a step."""
    return 0.5 * (1.0 + math.cos(math.pi * step / STEPS))


@cache
def texts() -> tuple[list[Tokens], Tokens, int]:
    """Return the examples of each site and those that are held out, ``[n, LENGTH]``, and how many tokens there are."""
    library = Path(sysconfig.get_paths()["stdlib"])
    read = [_read(sorted(path for name in names for path in (library / name).rglob("*.py"))) for names in SITES]
    held = _read(sorted(library.glob("*.py")))
    codes = [np.frombuffer(text.encode("utf-32-le"), dtype="<u4") for text in (*read, held)]
    known = np.unique(np.concatenate(codes[: len(SITES)]))[: TOKENS - 1]
    # 0: any other.
    rows = [np.where(np.isin(code, known), 1 + np.searchsorted(known, code), 0).astype(np.int64) for code in codes]
    *sites, out = [_windows(row, HELD_OUT if place == len(SITES) else WINDOWS) for place, row in enumerate(rows)]
    return sites, out, TOKENS


def _read(paths: list[Path]) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="ignore") for path in paths)


def _windows(row: Tokens, most: int) -> Tokens:
    """Return at most so many pieces of a text, from all of it."""
    pieces = row[: len(row) // LENGTH * LENGTH].reshape(-1, LENGTH)
    return pieces[:: max(1, -(-len(pieces) // most))]


def loss_of(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Return the mean loss of the characters of a batch behind their first."""
    return cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


@torch.no_grad()
def held_out(module: nn.Module) -> float:
    """Return the mean loss of the held-out characters."""
    rows = torch.from_numpy(texts()[1])
    return float(np.mean([float(loss_of(module(part), part)) for part in rows.split(100)]))


def built(seed: int) -> nn.Module:
    """Build the model with the first parameters of a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return MODEL.build(DataSpec((LENGTH,), texts()[2], vocabulary=texts()[2]))


def synchronous(seed: int, every: int = 50) -> tuple[list[tuple[int, float]], dict[str, torch.Tensor]]:
    """Train in one bare loop on a batch of all sites in each step.

    Returns:
        Steps and held-out losses, and the model after ``WARM`` steps.
    """
    module, sites, warm = built(seed), [torch.from_numpy(site) for site in texts()[0]], dict[str, torch.Tensor]()
    optimizer = torch.optim.AdamW(module.parameters(), lr=PEAK, betas=BETAS, weight_decay=DECAY)
    draws, curve = torch_generator(seed, "order", 0), []
    for step in range(STEPS):
        chosen = [site[torch.randint(len(site), (BATCH,), generator=draws)] for site in sites]
        for group in optimizer.param_groups:
            group["lr"] = PEAK * decayed(step)
        optimizer.zero_grad()
        tokens = torch.cat(chosen)
        loss_of(module(tokens), tokens).backward()
        nn.utils.clip_grad_norm_(module.parameters(), CLIP)
        optimizer.step()
        if step + 1 == WARM:
            warm = copy.deepcopy(module.state_dict())
        if (step + 1) % every == 0:
            curve.append((step + 1, held_out(module)))
    return curve, warm


def diloco(row: Row, seed: int, warm: dict[str, torch.Tensor]) -> tuple[list[tuple[int, float]], int]:
    """Go on from the warm model as a row says; return steps and held-out losses, and the bytes that a site sends."""

    def model() -> nn.Module:
        module = built(seed)
        module.load_state_dict(warm)
        return module

    sites, out, _ = texts()
    x = np.concatenate(sites[: row.sites])
    clients = np.repeat(np.arange(row.sites), [len(site) for site in sites[: row.sites]])
    args = fedray.TrainArgs(
        rounds=(STEPS - WARM) // row.steps,
        steps=row.steps,
        batch_size=BATCH,
        clip_grad_norm=CLIP,
        lr_schedule=Cosine(),
        seed=seed,
        evaluate_every=max(1, 50 // row.steps),
        checkpoint_every=0,
        tracking=[],
    )
    with tempfile.TemporaryDirectory() as folder:
        result = fedray.train(
            fedray.FederatedModel(model, AdamW(PEAK, list(BETAS), weight_decay=DECAY), task="causal_lm"),
            fedray.FederatedData.from_arrays(x, x, clients, test=(out, out)),
            args,
            algorithm=row.algorithm,
            transforms=row.transforms,
            cluster="inline",
            run_dir=Path(folder) / "run",
            progress=False,
        )
    if result.stopped:
        raise SystemExit("stopped; --lines FILE keeps what is measured")
    curve = [(WARM + record.round * row.steps, record.test["loss"]) for record in result.history if record.test]
    return curve, sum(record.bytes["up"] for record in result.history) // row.sites


def table(found: dict[str, dict[str, Any]], size: int) -> Iterator[str]:
    """Yield the lines of a table: the last loss, against the synchronous one, exchanges and bytes of a site."""
    last = found[SYNCHRONOUS]["curve"][-1][1]
    yield "| from step 400 on | exchanges | megabytes that a site sends | held-out loss | against synchronous |"
    yield "|---|---|---|---|---|"
    for name, one in found.items():
        loss = one["curve"][-1][1]
        exchanges = STEPS - WARM if name == SYNCHRONOUS else (STEPS - WARM) // ROWS[name].steps
        sent = 4 * size * exchanges if name == SYNCHRONOUS else one["sent"] * (ROWS[name].sites > 1)
        exchanges = 0 if name in ROWS and ROWS[name].sites == 1 else exchanges
        yield f"| {name} | {exchanges} | {sent / 1e6:.3g} | {loss:.4f} | {100 * (loss / last - 1):+.2f} % |"


def draw(found: dict[str, dict[str, Any]], path: Path) -> None:
    """Draw the held-out losses by steps."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "diloco"
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for name in (SYNCHRONOUS, "DiLoCo, H = 50", "DiLoCo, H = 50, int4", "one site alone"):
        steps, losses = zip(*found[name]["curve"], strict=True)
        # Four bits cover the curve of float32 otherwise.
        axes.plot(steps, losses, "--" if name.endswith("int4") else "-", label=name, linewidth=1.5)
    axes.axvline(WARM, color="0.7", linewidth=1, linestyle=":")
    axes.set(xlabel="steps", ylabel="held-out loss (nats a character)", ylim=(None, found[SYNCHRONOUS]["curve"][2][1]))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def main() -> int:
    """Measure what is not known yet, and print the table; 1 if DiLoCo or its codecs lose more than they may."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lines", type=Path, help="a file of JSON lines: what it has is not measured again")
    parser.add_argument("--picture", type=Path, help="an SVG of the losses by steps")
    asked = parser.parse_args()
    lines = asked.lines.read_text().splitlines() if asked.lines and asked.lines.exists() else []
    found: dict[str, dict[str, Any]] = {(one := json.loads(line))["name"]: one for line in lines}
    warm_file = asked.lines and asked.lines.with_suffix(".pt")
    warm: dict[str, torch.Tensor] = torch.load(warm_file) if found and warm_file else {}
    for name in (SYNCHRONOUS, *ROWS):
        if name in found:
            continue
        started, sent = time.process_time(), 0
        if name == SYNCHRONOUS:
            curve, warm = synchronous(asked.seed)
            if warm_file:
                torch.save(warm, warm_file)
        else:
            curve, sent = diloco(ROWS[name], asked.seed, warm)
        found[name] = {"name": name, "curve": curve, "sent": sent, "seconds": time.process_time() - started}
        print(f"{name}: {curve[-1][1]:.4f} after {found[name]['seconds']:.0f} s of the processor", file=sys.stderr)
        if asked.lines:
            with asked.lines.open("a") as file:
                file.write(json.dumps(found[name]) + "\n")
    size = sum(parameter.numel() for parameter in built(asked.seed).parameters())
    print("\n".join(table(found, size)))
    if asked.picture:
        draw(found, asked.picture)
    return int(bool(missed(found)))


def missed(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return the rows that lose more than 2.5 % against synchronous training, or 0.2 % against DiLoCo in float32."""
    last = {name: one["curve"][-1][1] for name, one in found.items()}
    plain = last["DiLoCo, H = 50"]
    short = ["DiLoCo, H = 50"] if plain > 1.025 * last[SYNCHRONOUS] else []
    return short + [name for name in ("DiLoCo, H = 50, int8", "DiLoCo, H = 50, int4") if last[name] > 1.002 * plain]


if __name__ == "__main__":
    # Switches of the process, which is ours here alone.
    logging.getLogger("fedray").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    sys.exit(main())

"""Check that ``local.stack: auto`` chooses well: clients stepped one by one against stacked, over a grid of models.

Both ways do the same work, a worker's training and folding of a cohort, in this process on one thread, in turn; what
counts is processor time, which neighbours on a busy machine disturb least.  ``auto`` should be within ``BOUND`` of the
better of the two, on every line.

    python -m benchmarks.stacks                 # the whole grid, some ten minutes; writes a dated file
    python -m benchmarks.stacks lenet --pairs 9 # the lines whose name holds the word
"""

from __future__ import annotations

import argparse
import copy
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import fedray
from benchmarks.figures import interval
from benchmarks.machine import machine, slug, versions
from benchmarks.pretrained import pretrained
from benchmarks.processes import ROOT
from benchmarks.run import RESULTS, free
from benchmarks.stack_models import Adapters, attention, convolutions, lenet, logistic, mlp, series
from fedray.aggregators import Mean
from fedray.algorithms import FedAvg
from fedray.algorithms.composition import compose
from fedray.config.sections import LocalSection
from fedray.core.layout import Layout
from fedray.core.losses import cross_entropy
from fedray.core.messages import Block, Broadcast
from fedray.local.stacking import decide, stacked_size
from fedray.local.task import LocalTask, Stacking
from fedray.run.blocks import cut
from fedray.run.worker import Job, Worker
from fedray.tasks.language import CausalLM

BOUND = 1.10
"""The time that ``auto`` may take, as a multiple of the better of the two."""


@dataclass(frozen=True)
class Line:
    """A line of the grid.

    Args:
        name: what it is.
        build: makes the model.
        shape: of an example.
        batch: examples in a step.
        rows: examples of each client.
        cohort: clients.
        lanes: its clients are stacked in lanes, not by vmap.
        size: clients in a stack; 0: as many as ``auto`` would take.
        tokens: the vocabulary, where inputs are tokens, and targets the next ones; 0: inputs are numbers.
        classes: targets are one of two classes, also of tokens.
        faster: the stack is to be so many times as fast; 0: nothing is asked of it.
    """

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int
    rows: int
    cohort: int = 24
    lanes: bool = False
    size: int = 0
    tokens: int = 0
    classes: bool = False
    faster: float = 0.0


GRID = (
    Line("logistic 784-10, batch 10", logistic, (784,), 10, 50),
    Line("mlp 64-64-10, batch 20", mlp(64, 64, 10), (64,), 20, 40, 64),
    Line("mlp 784-200-10, batch 10", mlp(784, 200, 10), (784,), 10, 50),
    Line("mlp 784-200-10, batch 50", mlp(784, 200, 10), (784,), 50, 200),
    Line("mlp 784-300-10, batch 10", mlp(784, 300, 10), (784,), 10, 50),
    Line("mlp 784-400-10, batch 10", mlp(784, 400, 10), (784,), 10, 50),
    Line("mlp of 9 layers of 64, batch 16", mlp(*[64] * 9, 10), (64,), 16, 48),
    Line("cnn 8-16 on 1x8x8, batch 10", convolutions(1, 8, 16, side=8), (1, 8, 8), 10, 40),
    Line("cnn 8-16 with group norm on 1x8x8, batch 20", convolutions(1, 8, 16, side=8, norm=True), (1, 8, 8), 20, 40),
    Line("cnn 8-16 on 1x16x16, batch 10", convolutions(1, 8, 16, side=16), (1, 16, 16), 10, 40),
    Line("cnn 16-32 on 1x28x28, batch 10", convolutions(1, 16, 32, side=28), (1, 28, 28), 10, 40),
    Line("cnn 16-32 on 1x28x28, batch 32", convolutions(1, 16, 32, side=28), (1, 28, 28), 32, 96),
    Line("cnn 4-8 on 1x28x28, batch 50", convolutions(1, 4, 8, side=28), (1, 28, 28), 50, 100),
    Line("cnn 16-16-16-16 on 3x16x16, batch 10", convolutions(3, 16, 16, 16, 16, side=16), (3, 16, 16), 10, 40),
    Line("lenet on 1x28x28, batch 10", lenet(1, 28), (1, 28, 28), 10, 40),
    Line("lenet on 3x32x32, batch 10", lenet(3, 32), (3, 32, 32), 10, 50),
    Line("lenet on 3x32x32, batch 50", lenet(3, 32), (3, 32, 32), 50, 100),
    Line("cnn 32-64 on 3x32x32, batch 10", convolutions(3, 32, 64, side=32, hidden=32), (3, 32, 32), 10, 20),
    Line("series 9x128, batch 16", series, (9, 128), 16, 48),
    Line("transformer layer of 32 on 16, batch 10", attention(32, 16), (16, 32), 10, 40),
    Line("transformer layer of 64 on 16, batch 32", attention(64, 16), (16, 64), 32, 64),
    Line("transformer layer of 64 on 64, batch 16", attention(64, 64), (64, 64), 16, 32, 12),
    Line("transformer layer of 64 on 128, batch 4", attention(64, 128), (128, 64), 4, 8, 12),
    Line("adapters of 2 layers of 32 on 16, batch 4", functools.partial(Adapters, 32, 2), (16, 32), 4, 8, 16, True),
    Line("adapters of 4 layers of 64 on 32, batch 4", functools.partial(Adapters, 64, 4), (32, 64), 4, 8, 16, True),
    Line("adapters of 4 layers of 256 on 32, batch 4", functools.partial(Adapters, 256, 4), (32, 256), 4, 4, 16, True),
    Line("adapters of 7 layers of 512 on 32, batch 1", functools.partial(Adapters, 512, 7), (32, 512), 1, 1, 16, True),
    Line(
        "adapters of 7 layers of 512 on 64, batch 8", functools.partial(Adapters, 512, 7), (64, 512), 8, 8, 16, True, 8
    ),
)


_TINY = 32, 2, 4, 64, 99
_BASE = 512, 6, 8, 1376, 4000
_LARGE = functools.partial(pretrained, "llama", *_BASE, 8, "q_proj k_proj v_proj o_proj gate_proj up_proj down_proj")
_ROW = functools.partial(Line, lanes=True, size=8, cohort=8)
_LLAMA, _BERT = (
    functools.partial(_ROW, tokens=99, shape=(16,)),
    functools.partial(_ROW, tokens=99, shape=(16,), classes=True),
)

PRETRAINED = (
    _LLAMA(
        "Llama of 32, rank 4, batch 4", pretrained("llama", *_TINY, 4, "q_proj v_proj"), batch=4, rows=8, faster=2.5
    ),
    _BERT("BERT of 32, rank 4, batch 4", pretrained("bert", *_TINY, 4, "query value"), batch=4, rows=8, faster=2.5),
    _ROW("ViT of 32, rank 4, batch 4", pretrained("vit", *_TINY, 4, "q_proj v_proj"), (3, 8, 8), 4, 8, faster=2.5),
    _LLAMA("Llama of 32, all of it, batch 4", pretrained("llama", *_TINY), batch=4, rows=8, faster=2.2),
    _BERT("BERT of 32, all of it, batch 4", pretrained("bert", *_TINY), batch=4, rows=8, faster=2.2),
    _LLAMA("GPT-2 of 32, all of it, batch 4", pretrained("gpt2", *_TINY), batch=4, rows=8, faster=2.2),
    _ROW("Llama of 21 million, rank 8, 1 x 32", _LARGE(), (32,), 1, 1, tokens=4000, faster=1.5),
    _ROW("Llama of 21 million, rank 8, 8 x 64", _LARGE(), (64,), 8, 8, tokens=4000),
)
"""Models of transformers in lanes of 8 clients: the figures that were wanted of lanes."""


def task_of(line: Line) -> LocalTask:
    """The line's local problem, its stacking as ``auto`` decides."""
    draw = np.random.default_rng(0)
    count = line.cohort * line.rows
    x: Any = draw.standard_normal((count, *line.shape), dtype=np.float32)
    y: Any = draw.integers(0, 2 if line.classes else 6, count)
    if line.tokens:
        text = draw.integers(0, line.tokens, (count, line.shape[0] + 1))
        x, y = text[:, :-1], y if line.classes else text[:, 1:]
    data = fedray.FederatedData.from_arrays(x, y, np.repeat(range(line.cohort), line.rows))
    about = CausalLM().of(data.spec, (line.shape[0],)) if line.tokens and not line.classes else None
    torch.default_generator.manual_seed(0)
    module = line.build()
    args = LocalSection(batch_size=line.batch)
    optimizer = fedray.optim.SGD(lr=0.01)
    task = LocalTask(
        functools.partial(copy.deepcopy, module),
        optimizer,
        cross_entropy if about is None else about.loss_fn,
        data,
        Layout.of(module),
        args,
        FedAvg(),
        0,
        task=about,
    )
    return replace(task, stacking=decide(task, "auto", float(line.cohort), "cpu"))


class Cohort:
    """A worker that trains and folds the whole cohort, again and again."""

    def __init__(self, task: LocalTask, stacking: Stacking, folder: Path) -> None:
        algorithm = compose(FedAvg(), [], Mean(), task.args)
        task = replace(task, stacking=stacking)
        self.worker = Worker(Job(task, algorithm, folder), [torch.device("cpu")])
        vector = task.layout.pack(dict(task.model_fn().state_dict()))
        everyone = np.arange(len(task.data))
        self.down = Broadcast(1, {"model": vector}, float(task.data.sizes.sum()))
        pieces = cut(everyone, np.ones_like(everyone), stacking.size, np.zeros_like(everyone))
        self.blocks = [Block(1, index, piece) for index, piece in enumerate(pieces)]

    def seconds(self) -> float:
        """Processor time of one round of it."""
        began = time.process_time()
        self.worker.begin(self.down)
        for block in self.blocks:
            report = self.worker.train(block)
            assert not report.failures, report.failures[0].error
        return time.process_time() - began


@dataclass(frozen=True)
class Measured:
    """A line's figures: processor time in milliseconds for a client, medians, and the ratio over pairs.

    Args:
        name: the line's.
        parameters: of its model.
        size: clients in a stack, as ``auto`` would stack.
        alone, stacked: milliseconds for a client.
        ratio: stacked / alone, the median over pairs.
        low, high: bounds of that median.
        auto: what ``auto`` chooses.
        reason: why.
        faster: how many times as fast the stack is to be; 0: nothing is asked of it.
    """

    name: str
    parameters: int
    size: int
    alone: float
    stacked: float
    ratio: float
    low: float
    high: float
    auto: str
    reason: str
    faster: float = 0.0

    @property
    def met(self) -> bool:
        """True where the stack is as fast as it is to be, and ``auto`` chooses well."""
        return self.loss <= BOUND and self.ratio * self.faster <= 1.0

    @property
    def loss(self) -> float:
        """The time of the choice, as a multiple of the better one."""
        return max(1.0, 1.0 / self.ratio if self.auto == "alone" else self.ratio)


def measure(line: Line, pairs: int, folder: Path) -> Measured:
    """Both ways in turn, ``pairs`` times."""
    task = task_of(line)
    size = line.size or max(2, stacked_size(task, float(line.cohort), "cpu"))
    together = Stacking(size, True, "")
    if line.lanes:
        wanted: Any = f"lanes:{line.size}" if line.size else "lanes"
        together = decide(task, wanted, float(line.cohort), "cpu")
        assert together.lanes is not None, together.reason
        size = together.size
    ways = {"alone": Cohort(task, Stacking(1, False, ""), folder), "stacked": Cohort(task, together, folder)}
    spent: dict[str, list[float]] = {way: [] for way in ways}
    for pair in range(pairs + 1):
        for way in sorted(ways, reverse=bool(pair % 2)):
            seconds = ways[way].seconds()
            if pair:
                spent[way].append(1000 * seconds / line.cohort)
    ratios = [s / a for s, a in zip(spent["stacked"], spent["alone"], strict=True)]
    return Measured(
        line.name,
        task.layout.trained,
        size,
        statistics.median(spent["alone"]),
        statistics.median(spent["stacked"]),
        statistics.median(ratios),
        *interval(ratios),
        "alone" if not task.stacking.stacked else "lanes" if task.stacking.lanes is not None else "stacked",
        task.stacking.reason,
        line.faster,
    )


def page(found: Sequence[Measured], pairs: int) -> str:
    """The result as Markdown."""
    where = machine()
    worst = max(found, key=lambda one: one.loss)
    lines = [
        f"# {date.today().isoformat()}: does `local.stack: auto` choose well? {where['cpu']}, {where['cores']} cores",
        "",
        f"`python -m benchmarks.stacks`: processor time of training and folding, one thread, {pairs} pairs in turn,",
        "milliseconds for a client; beside the ratio the interval of its median (95 %). `loss` is how much longer the",
        f"choice takes than the better one; it should be at most {BOUND:.2f}. The largest is {worst.loss:.2f}",
        f"({worst.name}).",
        "",
        "`faster` is how many times as fast a stack was, and was to be.",
        "",
        "| model and batch | trained | at once | one by one | stacked | stacked / one by one | faster | auto | loss |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.name} | {one.parameters:,} | {one.size} | {one.alone:.2f} | {one.stacked:.2f} | {one.ratio:.2f} "
        f"({one.low:.2f} to {one.high:.2f}) | {_faster(one)} | {one.auto} | {one.loss:.2f}"
        f"{'' if one.met else ' (missed)'} |"
        for one in found
    ]
    lines += ["", *(f"- {one.name}: {one.reason}" for one in found), ""]
    lines += [f"Machine: {', '.join(f'{k} {v}' for k, v in where.items())}.  "]
    lines += [f"Versions: {', '.join(f'{k} {v}' for k, v in versions(ROOT).items())}."]
    return "\n".join(lines) + "\n"


def _faster(one: Measured) -> str:
    return f"{1 / one.ratio:.1f}, {one.faster:g} wanted" if one.faster else f"{1 / one.ratio:.1f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write; 1 if ``auto`` misses on a line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stacks", description="Does local.stack=auto choose well?"
    )
    parser.add_argument("what", nargs="?", default="", help="only lines whose name holds this")
    parser.add_argument("--pairs", type=int, default=30, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the dated files; default: %(default)s")
    options = parser.parse_args(arguments)
    found = []
    for line in (*GRID, *PRETRAINED):
        if options.what in line.name:
            with tempfile.TemporaryDirectory(prefix="fedray-bench-") as folder:
                found.append(measure(line, options.pairs, Path(folder)))
            one = found[-1]
            print(
                f"{one.name}: {one.alone:.2f} ms one by one, {one.stacked:.2f} ms stacked by {one.size}, ratio "
                f"{one.ratio:.2f}; auto: {one.auto}, {one.loss:.2f} ({one.reason})",
                flush=True,
            )
    if not options.what:
        path = free(options.output, f"{date.today().isoformat()}-{slug(machine())}-stacks")
        path.write_text(page(found, options.pairs))
        path.with_suffix(".json").write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
        print(f"written to {path}")
    return int(not all(one.met for one in found))


if __name__ == "__main__":
    raise SystemExit(main())

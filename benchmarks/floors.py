"""The least that algorithms cost beside FedAvg: loops over stacks of ``tiny`` by hand, without engine, store or server.

    python -m benchmarks.floors --turns 30

Each is a block of clients as somebody would write it who knows that all have 20 examples: their own models lie in a
matrix in memory, rows are drawn by one sort, and updates are added up in float32.  What an engine adds (draws by name,
checks, exact sums, rows on disk) it adds to both sides of the ratio.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.workloads import WORKLOADS, Workload, make_data
from fedray.cluster.work.worker import _keep_freed_memory
from fedray.core.layout import Layout
from fedray.local.batched import batched_forward

BLOCK = 125
"""Clients of a block, as the engine makes them."""


class Floor:
    """A block of clients, and the steps that algorithms are made of."""

    def __init__(self, work: Workload = WORKLOADS["tiny"], block: int = BLOCK) -> None:
        self.block = block
        self.x, self.y = make_data(work)
        self.examples, self.lr, self.count = work.examples, work.lr, work.clients
        model = work.model_fn()
        layout = Layout.of(model)
        forward = batched_forward(model)
        assert forward is not None
        self.forward, self.layout = forward, layout
        self.start = layout.pack(dict(model.state_dict()))
        self.head = [entry for entry in layout.parameters if entry.head]
        self.body = [entry for entry in layout.parameters if not entry.head]
        self.span = slice(self.head[0].start, self.head[-1].stop)
        self.own = self.start.repeat(self.count, 1)
        self.correction = torch.zeros(self.count, len(self.start))
        self.total = torch.zeros_like(self.start)

    def clients(self) -> Tensor:
        """Draw the clients of a block."""
        return torch.randperm(self.count)[: self.block]

    def batch(self, who: Tensor) -> tuple[Tensor, Tensor]:
        """Return the inputs ``[C, B, f]`` and targets ``[C, B]`` of an epoch, in an order of its own."""
        rows = who[:, None] * self.examples + torch.rand(len(who), self.examples).argsort(dim=1)
        x, y = (values.index_select(0, rows.flatten()) for values in (self.x, self.y))
        return x.view(*rows.shape, -1), y.view(rows.shape)

    def loss(self, logits: Tensor, y: Tensor) -> Tensor:
        """Return the sum of the clients' losses."""
        # The kernel over the last axis is slower.
        return functional.cross_entropy(logits.transpose(1, 2).contiguous(), y, reduction="sum") / self.examples

    def grads(self, models: Tensor, batch: tuple[Tensor, Tensor], names: list[str] | None = None) -> list[Tensor]:
        """Return the gradients of tensors, each ``[C, k]``."""
        leaves = self.layout.split(models.detach())
        moved = [leaves[name].requires_grad_() for name in names or leaves]
        found = torch.autograd.grad(self.loss(self.forward(leaves, batch[0]), batch[1]), moved)
        return [grad.flatten(1) for grad in found]

    def descend(self, models: Tensor, batch: tuple[Tensor, Tensor], only: list[str] | None = None) -> None:
        """Take a step of some tensors in place."""
        places = {entry.name: slice(entry.start, entry.stop) for entry in self.layout.parameters}
        for name, grad in zip(only or places, self.grads(models, batch, only), strict=True):
            models[:, places[name]].add_(grad, alpha=-self.lr)

    def whole(self, models: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Return one gradient ``[C, D]``."""
        return torch.cat(self.grads(models, batch), dim=1)

    def fold(self, models: Tensor, columns: slice = slice(None)) -> None:
        """Add the clients' changes up."""
        self.total[columns] += models[:, columns].sub_(self.start[columns]).sum(dim=0)


def fedavg(f: Floor) -> None:
    """One block of FedAvg."""
    models = f.start.repeat(f.block, 1)
    f.descend(models, f.batch(f.clients()))
    f.fold(models)


def fedper(f: Floor) -> None:
    """The heads are read and written."""
    who, models = f.clients(), f.start.repeat(f.block, 1)
    models[:, f.span] = f.own[who, f.span]
    f.descend(models, f.batch(who))
    f.own[who, f.span] = models[:, f.span]
    f.fold(models, slice(0, f.span.start))


def fedrep(f: Floor) -> None:
    """The heads are read, trained alone, and written; then the body."""
    who, models = f.clients(), f.start.repeat(f.block, 1)
    models[:, f.span] = f.own[who, f.span]
    f.descend(models, f.batch(who), [entry.name for entry in f.head])
    f.descend(models, f.batch(who), [entry.name for entry in f.body])
    f.own[who, f.span] = models[:, f.span]
    f.fold(models, slice(0, f.span.start))


def scaffold(f: Floor) -> None:
    """Corrections are read, added, moved, sent and written."""
    who, models = f.clients(), f.start.repeat(f.block, 1)
    own = f.correction[who]
    models.sub_(f.whole(models, f.batch(who)).sub_(own), alpha=f.lr)
    change = models.sub_(f.start).mul(-1.0 / f.lr)
    f.correction[who] = own.add_(change)
    f.total += models.sum(dim=0)
    f.total += change.sum(dim=0)


def feddyn(f: Floor) -> None:
    """Corrections are read, subtracted, moved and written."""
    who, models = f.clients(), f.start.repeat(f.block, 1)
    own = f.correction[who]
    models.sub_(f.whole(models, f.batch(who)).sub_(own), alpha=f.lr)
    models.sub_(f.start)
    f.correction[who] = own.sub_(models, alpha=0.1)
    f.total += models.sum(dim=0)


def ditto(f: Floor) -> None:
    """A second model is read, trained near the first, and written."""
    who, models = f.clients(), f.start.repeat(f.block, 1)
    batch, own = f.batch(who), f.own[who]
    f.descend(models, batch)
    grad = f.whole(own, batch)
    f.own[who] = own.sub_(grad.add_(own - f.start), alpha=f.lr)
    f.fold(models)


def moon(f: Floor) -> None:
    """Features of two more models; the last one is read and written."""
    who, models = f.clients(), f.start.repeat(f.block, 1)
    x, y = f.batch(who)
    with torch.no_grad():
        teachers = (f.start.expand(f.block, -1), f.own[who])
        first, last = (f.forward.with_features(f.layout.split(t), x)[1] for t in teachers)
        apart = functional.normalize(last, dim=-1) - functional.normalize(first, dim=-1)
    leaves = {name: leaf.requires_grad_() for name, leaf in f.layout.split(models.detach()).items()}
    logits, z = f.forward.with_features(leaves, x)
    cosine = (z * apart).sum(dim=-1) / torch.linalg.vector_norm(z, dim=-1).clamp_min(1e-8)
    loss = f.loss(logits, y) + functional.softplus(cosine / 0.5).sum() / f.examples
    for entry, grad in zip(f.layout.parameters, torch.autograd.grad(loss, list(leaves.values())), strict=True):
        models[:, entry.start : entry.stop].add_(grad.flatten(1), alpha=-f.lr)
    f.own[who] = models
    f.fold(models)


def apfl(f: Floor) -> None:
    """A second model is read, trained through a mixture, and written."""
    who, models = f.clients(), f.start.repeat(f.block, 1)
    batch, own = f.batch(who), f.own[who]
    share = torch.full((f.block, 1), 0.5)
    slope = f.whole(torch.lerp(models, own, share), batch)
    share -= f.lr * (own - models).mul_(slope).sum(dim=1, keepdim=True)
    f.descend(models, batch)
    f.own[who] = own.addcmul_(slope, share, value=-f.lr)
    f.fold(models)


BLOCKS: dict[str, Callable[[Floor], None]] = {
    "FedAvg": fedavg,
    "FedPer": fedper,
    "FedRep": fedrep,
    "SCAFFOLD": scaffold,
    "FedDyn": feddyn,
    "Ditto": ditto,
    "MOON": moon,
    "APFL": apfl,
}


def measure(turns: int, blocks: int = 12) -> dict[str, list[float]]:
    """Return the seconds of processor time of a block in each turn, by algorithm."""
    torch.set_num_threads(1)
    floors = {name: Floor() for name in BLOCKS}
    seconds: dict[str, list[float]] = {name: [] for name in BLOCKS}
    order = list(BLOCKS)
    for turn in range(turns + 1):
        for name in order:
            before = time.process_time()
            for _ in range(blocks):
                BLOCKS[name](floors[name])
            if turn:  # the first one warms up
                seconds[name].append((time.process_time() - before) / blocks)
        order.reverse()
    return seconds


def main() -> None:
    """Measure, and print the median milliseconds of a block and its ratio to FedAvg's as JSON."""
    parser = argparse.ArgumentParser(description="The least that algorithms cost beside FedAvg.")
    parser.add_argument("--turns", type=int, default=30)
    turns = parser.parse_args().turns
    _keep_freed_memory()
    seconds = measure(turns)
    for name, found in seconds.items():
        ratios = sorted(one / first for one, first in zip(found, seconds["FedAvg"], strict=True))
        spread = int(0.98 * turns**0.5)
        low, high = ratios[max(0, turns // 2 - spread)], ratios[min(turns - 1, turns // 2 + spread)]
        line = {"ms": statistics.median(found) * 1e3, "ratio": statistics.median(ratios), "low": low, "high": high}
        print(json.dumps({"algorithm": name} | {key: round(value, 3) for key, value in line.items()}))


if __name__ == "__main__":
    main()

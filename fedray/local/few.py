"""The few examples of two clients that a trial before a run trains on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np
import torch
from torch import Tensor

from fedray.core.losses import counts_of
from fedray.core.messages import Ints
from fedray.data.columns.base import ClientData
from fedray.data.columns.rows import CPU, Rows
from fedray.local.task import LocalTask

_PIECE, _SEARCHED = 64, 1 << 14

Counts = Callable[[Tensor], Tensor]


class Few:
    """The two largest clients, cut to so many examples each: where they are unequal a stacked step has padding.

    Of a loss that leaves out targets they are clients and examples of which it counts something: on others nothing is
    trained, so that whatever is compared is equal.

    Args:
        task: the local training problem.
        rows: the examples of the two.
    """

    def __init__(self, task: LocalTask, rows: tuple[int, int]) -> None:
        data, most = task.data, max(rows)
        self.keys, self.spec, self.label_counts, self.targets = data.keys, data.spec, data.label_counts, data.targets
        self.rows: Callable[..., Rows] = data.rows
        self.pair = np.resize(np.argsort(-data.sizes, kind="stable")[:2], 2)
        counts = counts_of(task.loss_fn)
        found = {}
        if counts is not None and not _trains(data, self.pair, rows, counts):
            found = dict(islice(_counted(data, counts, most), 2))
        if found:
            self.pair = np.resize(list(found), 2)
            self.rows = _those(data, {client: np.resize(some, most) for client, some in found.items()})
        self.sizes = data.sizes.copy()
        self.sizes[self.pair] = np.minimum(self.sizes[self.pair], rows if self.pair[0] != self.pair[1] else most)


def _trains(data: ClientData, pair: Ints, rows: tuple[int, int], counts: Counts) -> bool:
    """Tell if a loss counts something of the first examples of both clients."""
    _, y = data.rows(pair).take(np.tile(np.arange(max(rows)), (2, 1)))
    return all(bool(counts(own[:most]).any()) for own, most in zip(y, rows, strict=True))


def _counted(data: ClientData, counts: Counts, most: int) -> Iterator[tuple[int, list[int]]]:
    """Yield clients, the largest first, with those of their first examples that a loss counts, at most so many.

    After some thousands of examples the search is over.
    """
    searched = 0
    for client in np.argsort(-data.sizes, kind="stable").tolist():
        rows, found = data.rows(np.array([client])), list[int]()
        for start in range(0, int(data.sizes[client]), _PIECE):
            places = np.arange(start, min(start + _PIECE, int(data.sizes[client])))
            found += places[counts(rows.take(places[None])[1][0]).numpy() > 0].tolist()
            searched += len(places)
            if len(found) >= most or searched >= _SEARCHED:
                break
        if found:
            yield client, found[:most]
        if searched >= _SEARCHED:
            return


def _those(data: ClientData, places: dict[int, Ints]) -> Callable[..., Rows]:
    """Return the opening of some examples of clients, as many of each, as if they had no others."""
    clients, each = np.array(list(places)), np.stack(list(places.values()))
    count = each.shape[1]
    x, y = (one.flatten(0, 1) for one in data.rows(clients).take(each))

    def rows(some: Ints, device: torch.device = CPU) -> Rows:
        starts = np.array([count * list(places).index(client) for client in some.tolist()])
        return Rows(x, y, starts, np.full(len(some), count), device)

    return rows

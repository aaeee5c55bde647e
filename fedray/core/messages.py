"""The messages between server and workers: frozen, picklable, nothing else crosses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedray.core.columns import Columns
from fedray.core.noise import ClientNoise
from fedray.core.places import NO_PLACES, NOWHERE, Places
from fedray.core.places import Ints as Ints

Parts = dict[str, Tensor]
"""Named tensors: ``delta`` always, ``buffers`` if they travel, ``control``... as an algorithm needs."""

SHARE = ".share"
"""The end of the name of an accumulator's tensor that holds the weight in each slot of a part."""

STATISTICS = "statistics"
"""The change of a client's buffers where they stay with it or are dropped: for evaluations, never for the model."""

PERSONAL = "personal"
"""The state of a client that is a part of its model: parameters and buffers that stay with it."""

SENT = "sent."
"""The beginning of the name of a part that the server keeps of each client, among what is kept of it."""

OPTIMIZER = "optimizer"
"""The state of a client's optimizer, where it is kept: a part of the client state."""

VECTOR = DELTA, BUFFERS = "delta", "buffers"
"""The parts that together are the change of what travels: trained parameters, and statistics and counters.

Transforms measure and change the first alone.
"""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Broadcast:
    """The server's message of a round to its clients.

    Args:
        round: round number, from 1.
        parts: ``model`` ``[P]`` always; further parts ``[...]`` an algorithm adds.
        weight: total planned aggregation weight of the cohort: weights are divided by it before the sum, so that the
            sum has the magnitude of one update.
        key: on a worker, that of the noise which the clients in hand draw themselves; empty: they draw none.
        moved: the places of ``model`` that may differ from what it was in the round before; None: any.
    """

    round: int
    parts: Parts
    weight: float
    key: bytes = field(default=b"", repr=False)
    moved: tuple[slice, ...] | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """A fixed set of clients trained together, scheduled as one call and retried whole.

    Args:
        round: round number.
        index: position among the round's blocks.
        clients: client indices, ``[C]``, most local steps first.
        state: for clients that have state from an earlier round, where it lies.
        pin: the silo whose workers alone can read the clients' rows.
        left_out: those of the clients that are to be given up unasked.
        survey: they answer the survey of the round, and do not train.
        addressed: the places of the rows that the server sends to each of them alone.
        key: the key of the noise that they draw themselves; empty: they draw none.
        room: places for their new state in memory that workers share with the driver; too few: it goes to a file.
    """

    round: int
    index: int
    clients: Ints
    state: Places = field(default_factory=lambda: NOWHERE)
    pin: str | None = None
    left_out: tuple[int, ...] = ()
    survey: bool = False
    addressed: Places = field(default_factory=lambda: NOWHERE)
    key: bytes = field(default=b"", repr=False)
    room: Ints = field(default_factory=lambda: NO_PLACES)


@dataclass(frozen=True, slots=True)
class Failure:
    """A client that gave no update, or no metrics, as a value.

    Args:
        client: client index.
        name: the client's id.
        round: round number.
        stage: ``train`` (it raised), ``update`` (not finite or out of range), ``worker`` (its process died),
            ``deadline`` (it took too long), ``memory`` (too little for it), ``left_out`` (the config says so).
        error: one line.
        trace: traceback text, for the log.
    """

    client: int
    name: str
    round: int
    stage: str
    error: str
    trace: str = ""


@dataclass(slots=True)
class BlockUpdate:
    """The updates of a block, before they are folded.

    >>> import torch
    >>> deltas = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    >>> weight = np.array([10.0, 30.0])
    >>> update = BlockUpdate(1, np.array([4, 7]), {"delta": deltas}, {}, weight, np.zeros(2), np.array([10, 30]))
    >>> dict(zip(update.clients.tolist(), update.parts["delta"].tolist()))
    {4: [1.0, 0.0], 7: [0.0, 1.0]}

    Args:
        round: round number.
        clients: client indices ``[C]``.
        parts: each ``[C, k]``; ``delta`` ``[C, S]`` is local minus global for the trained parameters that travel,
            ``buffers`` is the same for buffers that are averaged; where none are, ``statistics`` is what ``buffers``
            would be.
        state: per-client state to be kept, each ``[C, k]``.
        weight: aggregation weight of each client, float64 ``[C]``.
        loss: mean training loss of each client over its local examples and epochs, or over those of their positions
            that count, float64 ``[C]``.
        examples: examples seen (with repetition over epochs), int64 ``[C]``.
        slots: of parts that are averaged by slots, the slot of each client, int64 ``[C]``.
        variant: the variant of the model that all of them trained; its parts are as long as that is.
        received: the broadcasts for the transform that has the update in hand, each ``[k]``.
        start: the parameters ``[S]`` that are still to be subtracted from ``delta``, which only an aggregator that
            ``subtracts`` is given; None: that is done.
        noise: the noise that the clients draw themselves; None: they draw none.
        released: the ids of what each client releases with noise of its own, ``[C]``; empty: none does.
        taken: the steps of each client in all fits of the round, ``[C]``, where each has noise of its own; else None.
        counted: the positions that ``loss`` is the mean over, int64 ``[C]``; None: it is one over ``examples``.
        across: adds numbers ``[C]`` up, in place, over the ranks that have a part of the update each; None: all of it
            is here.
    """

    round: int
    clients: Ints
    parts: Parts
    state: Parts
    weight: Floats
    loss: Floats
    examples: Ints
    slots: Parts = field(default_factory=dict)
    variant: int = 0
    received: Parts = field(default_factory=dict)
    start: Tensor | None = None
    noise: ClientNoise | None = None
    released: tuple[str, ...] = ()
    taken: Ints | None = None
    counted: Ints | None = None
    across: Callable[[Tensor], object] | None = None
    columns: Columns | None = None

    def norms(self, part: str) -> Tensor:
        """Return the Euclidean norm of a part of each client, float64 ``[C]``."""
        norms: Tensor = torch.linalg.vector_norm(self.parts[part], dim=1, dtype=torch.float64)
        if self.across is None:
            return norms
        squares = norms.square()
        self.across(squares)
        return torch.sqrt(squares)

    @property
    def seen(self) -> Ints:
        """The number of examples, or of positions, that ``loss`` is the mean over, ``[C]``."""
        return self.examples if self.counted is None else self.counted


@dataclass(frozen=True, slots=True)
class BlockReport:
    """A worker's report of a block that it has folded: scalars per client, no model-sized tensor.

    Args:
        index: the block's position in the round.
        clients: accepted clients ``[C']``.
        weight, loss, examples: one value for each accepted client.
        state: the place of each accepted client's new state.
        failures: clients given up.
        seconds: time the block took on the worker.
        released: by client, the id of what it released with noise of its own; also of those whose update the
            aggregator did not take.
        taken: by client, the steps in which it did so, where each step has noise of its own.
        counted: the positions that each loss is the mean over; None: it is one over ``examples``.
    """

    index: int
    clients: Ints
    weight: Floats
    loss: Floats
    examples: Ints
    state: Places
    failures: tuple[Failure, ...]
    seconds: float
    released: Mapping[int, str] = field(default_factory=dict)
    taken: Mapping[int, int] = field(default_factory=dict)
    counted: Ints | None = None

    @property
    def seen(self) -> Ints:
        """The number of examples, or of positions, that each loss is the mean over."""
        return self.examples if self.counted is None else self.counted


@dataclass(frozen=True, slots=True)
class Aggregate:
    """The aggregate of a round's accepted updates.

    >>> import torch
    >>> total = Aggregate({"delta": torch.ones(2)}, weight=40.0, count=2)
    >>> total
    Aggregate(parts={'delta': tensor([1., 1.])}, weight=40.0, count=2, expected=None)
    >>> total["delta"]
    tensor([1., 1.])

    Args:
        parts: each ``[k]``.
        weight: sum of the accepted clients' weights.
        count: number of accepted clients; where that is nobody's business, the number that was expected.
        expected: number of clients that a cohort is expected to have; None: as many as were accepted.
        shares: of parts that are averaged by slots, each ``[slots, k]``, the share of the weight in each slot,
            ``[slots]``; where it is 0 nobody was, and the part is 0.
    """

    parts: Parts
    weight: float
    count: float
    expected: float | None = None
    shares: Parts = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> Tensor:
        """Return a part."""
        return self.parts[name]

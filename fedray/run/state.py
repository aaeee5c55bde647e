"""The state of the server between rounds."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedray.core.layout import Layout
from fedray.core.messages import Parts
from fedray.core.noise import NoiseKeys
from fedray.core.record import RoundRecord
from fedray.run.budget import Totals
from fedray.run.sent import Ledger
from fedray.run.watch import Watch
from fedray.rundir.client_state import ClientStore
from fedray.rundir.client_table import ClientRows
from fedray.server import Server
from fedray.server.rows import StoredRows

COMPLETE = "evaluate"
"""The phase that a record has once its evaluation is in it."""


@dataclass
class ServerState:
    """The state of the server between rounds.

    Args:
        server: the global model, and what the algorithm and the server optimizer keep.
        round: last finished round.
        store: index of the clients' state.
        halvings: the number of times that blocks were halved because a device had too little memory for them.
        view_halvings: the further halvings of the number of clients that are evaluated at once by models of their own.
        whole: false from when the server's step begins until the round is finished: such a state is none to go on from.
        kept: the tensors that the aggregator keeps.
        transforms: those that the server keeps for transforms.
        statistics: the mean of the buffers ``[B]`` that the last cohort ended with, where evaluations need it.
        pending: record of the last finished round while it is not complete.
        trained: numbers of each client of the pending round, where clients are evaluated.
        watches: the metrics that decide between two rounds, as they stand, by their config keys.
        totals: the usage of all rounds so far.
        sent: the ledger of what has left each client.
        noise: the keys of the noise that protects privacy.
    """

    server: Server
    store: ClientStore
    round: int = 0
    halvings: int = 0
    view_halvings: int = 0
    whole: bool = True
    kept: Parts = field(default_factory=dict)
    transforms: Parts = field(default_factory=dict)
    statistics: Tensor | None = None
    pending: RoundRecord | None = None
    trained: ClientRows | None = None
    watches: dict[str, Watch] = field(default_factory=dict)
    totals: Totals = field(default_factory=Totals)
    sent: Ledger = field(default_factory=Ledger)
    noise: NoiseKeys = field(default_factory=lambda: NoiseKeys(seed=0), repr=False)

    def __post_init__(self) -> None:
        self.server.rows = StoredRows(self.store, self.vector.device)

    @property
    def vector(self) -> Tensor:
        """The global model ``[P]``."""
        return self.server.vector

    @property
    def to_evaluate(self) -> bool:
        """True while the record of the last round lacks its evaluation."""
        return self.pending is not None and COMPLETE not in self.pending.phases

    def is_finite(self, layout: Layout, beside: Parts) -> bool:
        """Return True if all trained parameters are finite; a buffer may be infinite, as masks are.

        Args:
            layout: of the model.
            beside: the tensors beside the vector, of :meth:`fedray.run.plan.Plan.beside`.
        """
        return all(bool(torch.isfinite(part.sum())) for part in (self.vector[: layout.trained], *beside.values()))

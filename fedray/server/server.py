"""The server as an algorithm sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from fedray.config.registry import name_of
from fedray.core.fragments import Fragments
from fedray.core.layout import Layout
from fedray.core.messages import Parts
from fedray.local.rate import LearningRate
from fedray.server.base import ServerOptimizer
from fedray.server.rows import HeldRows, SentRows
from fedray.server.sgd import SGD


@dataclass
class Server:
    """The server as the server's half of an algorithm sees it: the global model, and what is kept beside it.

    >>> import torch
    >>> x = torch.zeros(2)
    >>> s = Server(x, Layout.of(torch.nn.Linear(2, 1, bias=False)), clients=10, optimizer=SGD(lr=0.5))
    >>> s.move(torch.tensor([1.0, 2.0]))
    >>> x
    tensor([0.5000, 1.0000])

    Args:
        vector: the global model ``[P]``; changed in place.
        layout: of the model.
        clients: N, the clients of the federation.
        classes: of the targets; the number of outputs where they are no classes.
        seed: the run's seed.
        optimizer: the server optimizer.
        rate: its learning rate of each round; default: the optimizer's.
        round: of a broadcast the round that it begins, of a step the round that it ends; from 1, and 0 at the start.
        state: the algorithm's tensors, as ``start`` returned them and ``step`` has changed them; checkpointed.
        fragments: of the model, of which one moves in each round; None: all of it does.
        rows: the last parts that each client sent apart from the means, in the rounds before; on disk, checkpointed.

    Attributes:
        moments: the server optimizer's tensors; checkpointed.
        metrics: numbers that the server optimizer has told of this round; with its learning rate, where that changes.
        moved: the model was given to the server optimizer in this round.
    """

    vector: Tensor
    layout: Layout
    clients: int
    classes: int = 1
    seed: int = 0
    optimizer: ServerOptimizer = field(default_factory=SGD)
    rate: LearningRate = field(default_factory=LearningRate)
    round: int = 0
    state: Parts = field(default_factory=dict)
    rows: SentRows = field(default_factory=HeldRows)
    fragments: Fragments | None = None
    moments: Parts = field(init=False)
    metrics: dict[str, float] = field(init=False, default_factory=dict)
    moved: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        if self.fragments is None:
            self.moments = self.optimizer.start(self.params, self.layout)
            return
        self.moments = {}
        for number, part in enumerate(self.fragments.members):
            own = self.optimizer.start(part.columns.of(self.params), part.layout)
            self.moments |= {_of_fragment(number, name): tensor for name, tensor in own.items()}

    @property
    def params(self) -> Tensor:
        """The parameters that all clients share, ``[S]``: a view of the vector."""
        return self.vector[: self.layout.shared]

    @property
    def lr(self) -> float:
        """The server learning rate of the round."""
        rate = self.rate.of(self.round)
        return self.optimizer.lr if rate is None else rate

    def enter(self, round: int) -> None:
        """Begin the server's work of a round."""
        self.round, self.moved, self.metrics = round, False, {}

    def move(self, delta: Tensor) -> None:
        """Move the shared parameters by the mean update ``[S]``, as the server optimizer does.

        Of a model in fragments that of the round moves, by its update ``[width]``, and all else stays as it is.
        """
        self.moved = True
        step = self._step_fragment if self.fragments is not None else self._step
        self.metrics |= step(delta) or {}
        if self.rate.moves:
            self.metrics["lr"] = self.lr

    def _step(self, delta: Tensor) -> Mapping[str, float] | None:
        return self.optimizer.step(self.params, delta, self.lr, self.moments, self.layout)

    def _step_fragment(self, delta: Tensor) -> Mapping[str, float] | None:
        assert self.fragments is not None
        number = self.fragments.choose(self.round)
        part = self.fragments.members[number]
        start = _of_fragment(number, "")
        own = {name.removeprefix(start): moment for name, moment in self.moments.items() if name.startswith(start)}
        params = part.columns.of(self.params)
        told = self.optimizer.step(params, delta[: part.columns.size], self.lr, own, part.layout)
        part.columns.put(self.params, params)
        self.moments |= {start + name: moment for name, moment in own.items()}
        return told

    def state_dict(self) -> Parts:
        """Return all that is kept, the algorithm's tensors and the server optimizer's, for a checkpoint."""
        return {**self.state, **{self._name(name): tensor for name, tensor in self.moments.items()}}

    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """Take over what ``state_dict`` has returned."""
        for kept, name, key in [
            *((self.state, name, name) for name in self.state),
            *((self.moments, name, self._name(name)) for name in self.moments),
        ]:
            # Earlier versions made an optimizer's tensors in its first step.
            if key in saved:
                kept[name] = saved[key].to(kept[name].device, copy=True)

    def _name(self, name: str) -> str:
        """Return the name of a server optimizer's tensor among all that is kept."""
        return f"{name_of(self.optimizer)}.{name}" if name in self.state else name


def _of_fragment(number: int, name: str) -> str:
    """Return the name of an optimizer's tensor of a fragment."""
    return f"fragments[{number}].{name}"

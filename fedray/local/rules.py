"""The local rule: the changes that an algorithm makes to the one local training loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from torch import Tensor

from fedray.core.layout import Layout
from fedray.core.messages import Ints, Parts

Width = Literal["trained", "all", "buffers", "scalar"]
"""Length of a per-client vector: D trained parameters, P entries with buffers, the P - D others, or one number."""


def width_of(width: Width, layout: Layout) -> int:
    """Return the number that a :data:`Width` stands for."""
    sizes = {"trained": layout.trained, "all": layout.size, "buffers": layout.size - layout.trained, "scalar": 1}
    return sizes[width]


@dataclass(slots=True)
class LocalRun:
    """The live state of C clients in local training, as rules see it.

    >>> import numpy as np, torch
    >>> here = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> run = LocalRun(1, np.array([3, 5]), torch.zeros(2), here, {}, {}, torch.ones(2, 1), here, group={"lr": 0.1})
    >>> run.lr, run.leading(1).params
    (0.1, tensor([[1., 2.]]))

    Args:
        round: round number.
        clients: client indices ``[C]``.
        anchor: the global parameters the clients started from, ``[D]``; read-only.
        params: their parameters now, ``[C, D]``: the first columns of ``delta``, and so of no use in ``finish``.
        down: everything the server broadcast.
        state: the state of each client since its last participation, ``[C, D]`` or ``[C, P]``, zero for a newcomer; a
            rule's ``finish`` writes the new state here.
        steps: local steps of each client, float32 ``[C, 1]``.
        delta: their models while they train, ``[C, P]``; in ``finish`` the updates, local minus global.
        group: the client optimizer's hyperparameters (``lr``, ``momentum``...).
        parts: the parts that clients send besides ``delta``; filled by ``finish``.
    """

    round: int
    clients: Ints
    anchor: Tensor
    params: Tensor
    down: Parts
    state: Parts
    steps: Tensor
    delta: Tensor
    group: Mapping[str, Any] = field(default_factory=dict)
    parts: Parts = field(default_factory=dict)

    @property
    def lr(self) -> float:
        """The client learning rate."""
        return float(self.group["lr"])

    def leading(self, count: int) -> LocalRun:
        """Return the run of the first ``count`` clients alone: views, so that changes in place are changes here."""
        return replace(
            self,
            clients=self.clients[:count],
            params=self.params[:count],
            state={name: kept[:count] for name, kept in self.state.items()},
            steps=self.steps[:count],
            delta=self.delta[:count],
        )


class LocalRule:
    """The hooks of the local loop; each does nothing by default, which is FedAvg.

    A rule works on all clients of a block at once, ``[C, D]``, without knowing C; where their numbers of steps differ,
    those that have finished drop out of ``gradient``.  It holds no state of its own: what a client remembers stands in
    ``run.state`` under the names declared in ``state``; what it sends besides ``delta`` is declared in ``sends``.

    >>> class Decay(LocalRule):
    ...     def gradient(self, run, grad):
    ...         grad.add_(run.params * 0.01)
    >>> Decay().changes_gradient, LocalRule().changes_gradient
    (True, False)
    """

    state: ClassVar[Mapping[str, Width]] = {}
    sends: ClassVar[Mapping[str, Width]] = {}

    def start(self, run: LocalRun) -> None:
        """Prepare the run before its first step."""

    def gradient(self, run: LocalRun, grad: Tensor) -> None:
        """Change the gradients ``[A, D]`` in place, before each optimizer step.

        ``run`` has the rows of the A <= C clients that still train; ``run.state`` is to be read, or changed in place.
        """

    def finish(self, run: LocalRun) -> None:
        """End the run after its last step: may change ``run.delta``, fill ``run.parts`` and write ``run.state``."""

    @property
    def changes_gradient(self) -> bool:
        """True where ``gradient`` is overridden (if not, the loop need not gather a flat gradient)."""
        return type(self).gradient is not LocalRule.gradient

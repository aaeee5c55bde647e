"""The client program: the clients' half of an algorithm, over all clients of a block at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from torch import Tensor

from fedray.core.layout import Layout
from fedray.core.messages import Parts
from fedray.core.regions import Entry, Region
from fedray.local.clients import Clients, Step

Width = Literal["shared", "trained", "all", "buffers", "scalar"]
"""Length of a per-client vector: the S trained parameters that travel, all D, P with buffers, P - D, or one number."""


def width_of(width: Width, layout: Layout) -> int:
    """Return the number that a :data:`Width` stands for."""
    parameters = {"shared": layout.shared, "trained": layout.trained}
    sizes = {**parameters, "all": layout.size, "buffers": layout.size - layout.trained, "scalar": 1}
    return sizes[width]


class ClientProgram:
    """The base of algorithms, as a worker runs them: :meth:`client` trains the clients of a block.

    A program works on all C clients of a block at once and never knows C, nor whether they are stacked.  It keeps
    nothing in itself: what a client remembers stands in ``c.state`` under the names declared in ``state``; what it
    sends besides ``delta``, its change of the model, is declared in ``sends``.  ``global_model`` is False where the
    server's row is no model that anybody would use, so that nothing is evaluated by it.

    >>> class Decayed(ClientProgram):
    ...     def client(self, c):
    ...         c.fit(gradient=lambda step, grad: grad.add_(0.01 * step.params))
    >>> Decayed().plain, ClientProgram().plain
    (False, True)
    """

    def region(self, entry: Entry) -> Region:
        """Return the region of a tensor of the model; by default all are shared.

        A buffer that is shared here is what ``local.buffers`` says.
        """
        return "shared"

    state: ClassVar[Mapping[str, Width]] = {}
    sends: ClassVar[Mapping[str, Width]] = {}
    global_model: ClassVar[bool] = True

    def initial_state(self, c: Clients) -> Parts:
        """Return the state of newcomers, ``[k]`` for all of them or ``[C, k]``; a name that is left out begins at 0."""
        return {}

    def client(self, c: Clients) -> None:
        """Train the clients of a block; by default as FedAvg does."""
        c.fit()

    def personal(self, c: Clients) -> Tensor | None:
        """Return the models that clients would use in the coming round, for evaluations.

        ``c.down`` is that round's broadcast and ``c.state`` what clients kept in their last; nothing that is written
        there stays.  Fits draw their own orders and masks, and are counted as work.

        Returns:
            ``[C, D]``, or ``[C, P]`` with buffers; by default None: the broadcast model, with what of it is a client's.
        """
        return None

    def predict(self, step: Step) -> Tensor:
        """Return the outputs ``[A, B, ...]`` that metrics of a client's own model are computed from.

        By default those of the module at ``step.params``, which is what :meth:`personal` gives, in evaluation mode.
        """
        return step.forward(step.params, train=False).logits

    @property
    def plain(self) -> bool:
        """True where clients only fit the model, as in FedAvg."""
        return type(self).client is ClientProgram.client

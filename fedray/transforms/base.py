"""Transforms: changes of an update between client and server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fedray.config.registry import Registry
from fedray.core.messages import Aggregate, BlockUpdate
from fedray.core.now import Now


class Transform:
    """The base of transforms: three moments of an update's way, at each of which nothing happens by default.

    The client half runs on the rows of a block, in the order of the config; the server halves run in reverse order.
    The part ``delta`` holds the trained parameters alone: frozen ones, statistics and counters are a part of their own
    (``buffers``), which is to be left as it is.  One that changes the form in which an update travels is a
    :class:`~fedray.transforms.codec.Codec`.

    >>> import numpy as np, torch
    >>> class Signs(Transform):
    ...     def on_clients(self, update):
    ...         update.parts["delta"].sign_()
    >>> one, delta = np.ones(1), torch.tensor([[3.0, -0.5]])
    >>> Signs().on_clients(BlockUpdate(1, np.array([0]), {"delta": delta}, {}, one, one, one))
    >>> delta
    tensor([[ 1., -1.]])

    Attributes:
        linear_only: True if nobody may look at a single update after it (it needs a linear aggregator).
        needs_uniform: True if its guarantee holds for the plain mean only.
        hides_empty: True if a round in which nobody gave an update must look like any other: its aggregate, of zeros,
            is transformed and moves the model as well.
    """

    linear_only: ClassVar[bool] = False
    needs_uniform: ClassVar[bool] = False
    hides_empty: ClassVar[bool] = False

    @property
    def state(self) -> tuple[str, ...]:
        """The names of per-client vectors ``[S]``, as long as an update, that the transform keeps from round to round.

        They begin at 0, and no other transform sees them.
        """
        return ()

    @property
    def enlarges(self) -> bool:
        """True where an update may leave with a larger norm than it came with."""
        return False

    def prepare(self, before: tuple[Transform, ...]) -> Transform:
        """Return the transform as it works behind ``before``; ValueError if it cannot stand there."""
        return self

    def on_clients(self, update: BlockUpdate) -> None:
        """Change the updates ``[C, k]`` of a block in place, on the client's side; ``delta`` is ``[C, D]``."""

    def on_arrival(self, update: BlockUpdate, now: int) -> None:
        """Change single updates on the server's side before they are folded (weight by staleness)."""

    def on_aggregate(self, total: Aggregate, now: Now) -> Mapping[str, float] | None:
        """Change the aggregate in place, once a round, after the fold (noise, unmasking).

        Args:
            total: the aggregate.
            now: the round; it keeps no tensors for transforms.

        Returns:
            Numbers for the record of the round, which has them under the transform's name; or None.
        """
        return None


transforms = Registry("transform", package="fedray.transforms", base=Transform, such_as="fedray.Clip(1.0)")

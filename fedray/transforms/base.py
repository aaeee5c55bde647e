"""Transforms: changes of an update between client and server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from fedray.config.registry import Registry
from fedray.core.layout import Layout
from fedray.core.messages import Aggregate, BlockUpdate
from fedray.core.now import Now

Width = Literal["shared", "trained", "all", "buffers", "scalar"]
"""Length of a per-client vector: the S trained parameters that travel, all D, P with buffers, P - D, or one number."""


def width_of(width: Width, layout: Layout) -> int:
    """Return the number that a :data:`Width` stands for.

    >>> import torch
    >>> layout = Layout.of(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3)))
    >>> [width_of(width, layout) for width in ("shared", "trained", "all", "buffers", "scalar")]
    [15, 15, 22, 7, 1]
    """
    parameters = {"shared": layout.shared, "trained": layout.trained}
    sizes = {**parameters, "all": layout.size, "buffers": layout.size - layout.trained, "scalar": 1}
    return sizes[width]


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
    def state(self) -> Mapping[str, Width]:
        """Per-client vectors that the transform keeps from round to round, by name: no other transform sees them."""
        return {}

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

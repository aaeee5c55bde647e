"""Transforms: changes of an update between client and server."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np

from fedray.config.registry import Registry
from fedray.core.layout import Layout
from fedray.core.messages import Aggregate, BlockUpdate, Ints, Parts
from fedray.core.noise import Source
from fedray.core.now import Now
from fedray.sampling import Full, Sampler


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The run in which a transform works, as it is known before the first round.

    >>> Setting(sizes=np.array([30, 10])).expected
    2.0

    Args:
        before: the transforms that stand before it, prepared.
        sampler: of cohorts.
        sizes: the number of training examples of each client, ``[N]``.
        dropout: the share of a cohort that drops out, as ``failures.dropout`` has it.
        rounds: the number of rounds in all.
        layout: of the model; None: there is none yet.
        sends: lengths of all that a client sends, by name, without what transforms send.
        aggregator: the aggregator's name.
        linear: the aggregator takes sums alone, and looks at no single update.
        uniform: every client weighs the same.
        seed: the run's seed.
        private: some transform protects privacy by noise on what is summed.
        ring: the transform by which updates are summed in a ring, as the config has it; None: they are not.
    """

    before: tuple[Transform, ...] = ()
    sampler: Sampler = field(default_factory=Full)
    sizes: Ints = field(default_factory=lambda: np.ones(1, dtype=np.int64))
    dropout: float = 0.0
    rounds: int = 1
    layout: Layout | None = None
    sends: Mapping[str, int] = field(default_factory=dict)
    aggregator: str = "mean"
    linear: bool = True
    uniform: bool = True
    seed: int = 0
    private: bool = False
    ring: Transform | None = None

    @property
    def expected(self) -> float:
        """The number of clients that a cohort is expected to have, without those that drop out."""
        return self.sampler.expected(self.sizes) * (1.0 - self.dropout)


class Transform:
    """The base of transforms: moments of an update's way, at each of which nothing happens by default.

    The client half runs on the rows of a block, in the order of the config; the server halves run in reverse order.
    The part ``delta`` holds the trained parameters alone: frozen ones, statistics and counters are a part of their own
    (``buffers``), which is to be left as it is.  One that changes the form in which an update travels is a
    :class:`~fedray.transforms.codec.Codec`.

    A transform may also keep tensors on the server (:meth:`start`), tell clients something of them
    (:meth:`broadcast`), and hear from clients beside their updates (:attr:`sends`).  These names are its own: no other
    part of the run sees them, and two transforms may use the same.

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
        hides_empty: True if nobody may tell from a round how many gave an update: where nobody did, its aggregate, of
            zeros, is transformed and moves the model as well, and whoever comes after the transforms is told the
            expected number in the place of the true one.
        bounds_all: True if it works on all that clients send, and not on their updates alone.
        randomizes: True if all that clients send has been noised by them once it is through, so that whatever comes
            after costs no privacy.
        section: True for one that is made of a section of the config, and so has no place among the transforms there.
        scope: the part of an update that its half for clients, or its codec, has to see: each entry by itself
            (``elementwise``), the norm beside (``norm``, by ``update.norms``), or all of it (``whole``).  The ranks of
            a worker (``worker.ranks``) have a part of an update each.
        in_ring: True if it leaves all that clients send as whole numbers modulo 2**64 (masked, say), in which form they
            are summed before it opens the sum: :meth:`on_departure` and :meth:`opened`.
    """

    linear_only: ClassVar[bool] = False
    needs_uniform: ClassVar[bool] = False
    hides_empty: ClassVar[bool] = False
    bounds_all: ClassVar[bool] = False
    randomizes: ClassVar[bool] = False
    section: ClassVar[bool] = False
    in_ring: ClassVar[bool] = False
    scope: ClassVar[Literal["elementwise", "norm", "whole"]] = "whole"

    @property
    def noise(self) -> Source | None:
        """The origin of the key of ``now.noise``, where its server half protects privacy by some; None: it does not."""
        return None

    @property
    def state(self) -> tuple[str, ...]:
        """The names of per-client vectors ``[S]``, as long as an update, that the transform keeps from round to round.

        They begin at 0, and no other transform sees them.
        """
        return ()

    @property
    def changes_updates(self) -> bool:
        """True where its client half has anything to do."""
        return type(self).on_clients is not Transform.on_clients

    @property
    def enlarges(self) -> bool:
        """True where an update may leave with a larger norm than it came with."""
        return False

    @property
    def sends(self) -> Mapping[str, int]:
        """The lengths of what each client sends for the transform beside its update, by name.

        Its client half puts rows ``[C, k]`` of them into ``update.parts``; ``on_aggregate`` finds their mean.
        """
        return {}

    def prepare(self, setting: Setting) -> Transform:
        """Return the transform as it works in a run; ValueError, in one line, if it cannot work there."""
        return self

    def start(self) -> Parts:
        """Return the tensors that the server keeps for the transform from round to round, before the first.

        They are ``now.state`` from then on, and are saved in checkpoints.
        """
        return {}

    def broadcast(self, now: Now) -> Parts:
        """Return what clients receive for the transform: float32 vectors, the same names in each round.

        A client half finds them in ``update.received``.  ``now.state`` is left as it is: a checkpoint of the round
        before may be written meanwhile.
        """
        return {}

    def on_clients(self, update: BlockUpdate) -> None:
        """Change the updates ``[C, k]`` of a block in place, on the client's side; ``delta`` is ``[C, S]``."""

    def on_departure(self, update: BlockUpdate, keys: Sequence[int]) -> None:
        """Change the form of all that clients send, whatever it is for, as the last thing on their side.

        Of a transform that is ``in_ring``: each part becomes int64 ``[C, k]``, that of :attr:`sends` among them.

        Args:
            update: of a block, in place.
            keys: of its clients, ``[C]``, by which draws are named.

        Raises:
            UpdateOutOfRange: naming the clients that can send nothing, by their position.
        """

    def before_opening(self, sums: Parts, now: Now) -> None:
        """Prepare for the sum of a ring to be opened, such as by writing down that it is released.

        It is asked of all transforms of a run, also of those whose updates the ring of another one sums.

        Args:
            sums: the sums, which nobody has opened yet, int64 modulo 2**64, each part ``[k]``; they stay as they are.
            now: the round, with the clients whose updates were summed.
        """

    def opened(self, sums: Parts, now: Now) -> Parts:
        """Return the means, float32, of sums of what :meth:`on_departure` made, int64 modulo 2**64, by the same names.

        Args:
            sums: each part ``[k]``; what was sent for transforms has the names of the run.
            now: the round, with the clients whose updates were summed.

        Raises:
            RunFailed: the sum cannot be opened.
        """
        raise TypeError(f"{type(self).__name__} is no transform whose updates are summed in a ring")

    def least_of(self, sampled: int) -> int:
        """Return the number of clients, of a cohort of so many, without which it opens no sum."""
        return 0

    def beside(self, sampled: int, accepted: int) -> tuple[int, int]:
        """Return the bytes, down to clients and up from them, that a round takes beside broadcast and updates.

        Args:
            sampled: number of clients of the cohort.
            accepted: number of those whose updates arrived.
        """
        return 0, 0

    @property
    def value_bytes(self) -> int:
        """The bytes in which each value that a client sends leaves; 4, as they are float32, where it changes none."""
        return 4

    @property
    def words(self) -> Iterable[str]:
        """Lines for the head of the log."""
        return ()

    def on_arrival(self, update: BlockUpdate, now: int) -> None:
        """Change single updates on the server's side before they are folded (weight by staleness)."""

    def on_aggregate(self, total: Aggregate, now: Now) -> Mapping[str, float] | None:
        """Change the aggregate in place, once a round, after the fold (noise, unmasking).

        Args:
            total: the aggregate, with the means of what clients sent for the transform; zeros where nobody came.
            now: the round; ``now.state`` is what the server keeps for the transform, to be changed there.

        Returns:
            Numbers for the record of the round, which has them under the transform's name; or None.
        """
        return None


transforms = Registry("transform", package="fedray.transforms", base=Transform, such_as="fedray.Clip(1.0)")


def placed(position: int, name: str) -> str:
    """Return the name that a transform's own ``name`` has in messages and checkpoints, by its place in the chain."""
    return f"transforms[{position}].{name}"

"""The client program: the clients' half of an algorithm, over all clients of a block at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from fedray.core.fields import Field, Fields
from fedray.core.fragments import Fragments
from fedray.core.layout import Layout
from fedray.core.messages import SENT, Ints, Parts
from fedray.core.regions import Entry, Region
from fedray.local.clients import Clients
from fedray.local.step import Step
from fedray.local.variants import Variant, drawn


@dataclass(frozen=True)
class Profile:
    """The findings of a program's trial before the run: names, widths and types, the same in every round.

    Args:
        sends: the width of each part that clients send besides the update.
        keeps: each part of a client's state, in the order in which they lie on disk.
        slots: the number of slots of each part that is averaged by slots, the update among them.
        weighs: True if the program weighs clients itself.
        surveys: the width of each part that clients send in the survey of a round.
        apart: each part of which the server keeps each client's.
        others: the number of fits of other models than the clients' own, with the configured optimizer.
        works: the epochs and steps of each fit of a round whose gradients have noise, as the program says them for all
            clients; None: as the config does.
    """

    sends: Mapping[str, int] = field(default_factory=dict)
    keeps: Fields = field(default_factory=dict)
    slots: Mapping[str, int] = field(default_factory=dict)
    weighs: bool = False
    surveys: Mapping[str, int] = field(default_factory=dict)
    apart: Fields = field(default_factory=dict)
    others: int = 0
    works: tuple[tuple[int | None, int | None], ...] = ()

    @property
    def rows(self) -> dict[str, Field]:
        """All that is kept of a client, by it or by the server, in the order in which it lies on disk."""
        return {**self.keeps, **{SENT + name: each for name, each in self.apart.items()}}


class ClientProgram:
    """The base of algorithms, as a worker runs them: :meth:`client` trains the clients of a block.

    A program works on all C clients of a block at once and never knows C, nor whether they are stacked.  It keeps
    nothing in itself: what a client remembers stands in ``c.state`` under the names of :meth:`initial_state`; what it
    sends besides ``delta``, its change of the model, it gives to ``c.send``.  A trial before the run sees the names,
    widths and types of both, which are the same in every round.  ``global_model`` is False where the
    server's row is no model that anybody would use, so that nothing is evaluated by it; ``pools`` is True where one
    client has all training rows and takes part alone; ``elementwise`` is True where hooks on gradients work on each
    entry by itself, as they must where the ranks of a worker hold a shard of the model each (``worker.ranks``).

    >>> class Decayed(ClientProgram):
    ...     def client(self, c):
    ...         c.fit(gradient=lambda step, grad: grad.add_(0.01 * step.params))
    >>> Decayed().plain, ClientProgram().plain
    (False, True)
    """

    global_model: ClassVar[bool] = True
    pools: ClassVar[bool] = False
    elementwise: ClassVar[bool] = False

    def prepare(self, module: nn.Module) -> None:
        """Change the model in place, before it has any other use, or raise ConfigError where it lacks something.

        It is called for each module that is built from scratch, and does the same to each.  By default it does nothing.
        """

    def region(self, entry: Entry) -> Region:
        """Return the region of a tensor of the model; by default all are shared.

        A buffer that is shared here is what ``local.buffers`` says.  One that is ``kept`` is changed by the server's
        ``step`` alone, in ``s.vector``: clients receive it, and never send it.
        """
        return "shared"

    def initial_state(self, c: Clients) -> Parts:
        """Return all that clients keep, as newcomers have it: ``[k]`` for all of them or ``[C, k]``.

        Each part has a type of its own, floating point of 16, 32 or 64 bits, integers or bool, and keeps it.
        """
        return {}

    def survey(self, c: Clients) -> None:
        """Ask the clients of a round before any of them trains; by default nobody is asked.

        It sends at least one part by ``c.send``, under names of its own.  The means over all of the cohort, weighted as
        ``algorithm.weight`` says (by 1 where the program has its own), stand in ``c.down`` when :meth:`client` runs in
        the same round, and in ``total`` of the server's ``step``.  Who fails in it does not train in that round.  It
        keeps nothing: its models are dropped, ``c.state`` is read-only, and fits of the round draw as without it.
        """

    def client(self, c: Clients) -> None:
        """Train the clients of a block; by default as FedAvg does."""
        c.fit()

    def variants(self) -> tuple[Variant, ...]:
        """Return the narrower models that clients train; none: all train the whole one."""
        return ()

    def variant_of(self, seed: int, keys: Ints) -> Ints:
        """Return the variant that each client trains in all rounds, ``[C]``: its place in :meth:`variants`.

        By default it is drawn, each with the same chance.

        Args:
            seed: the run's seed.
            keys: the names of the clients in draws, ``[C]``.
        """
        return drawn(len(self.variants()), seed, keys)

    def split(self, layout: Layout) -> Sequence[Collection[str]]:
        """Return the names of the tensors in each fragment of the model, of which one travels in each round.

        Each tensor that travels is in one fragment.  Of ``c.delta``, or what ``c.send("delta", ...)`` is given, a
        client sends the columns of the round's fragment alone, and with its state of the server optimizer ``s.move``
        moves it alone: ``total["delta"]`` is as long as the longest one, zeros behind a shorter one.  What a client
        keeps of the others from round to round is in its state.  By default there are none: all travel in each round.
        """
        return ()

    def fragment_of(self, round: int, count: int) -> int:
        """Return the place of the fragment, of so many, that travels in a round, from 1 on; by default in turn."""
        return (round - 1) % count

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
        return type(self).client is ClientProgram.client and not self.surveyed

    @property
    def surveyed(self) -> bool:
        """True where rounds begin with a survey."""
        return type(self).survey is not ClientProgram.survey


def fragments_of(program: ClientProgram, layout: Layout) -> Fragments | None:
    """Return the fragments of a model as a program has them; None: all of it travels in each round.

    Raises:
        ConfigError: they do not share out the tensors that travel.
    """
    names = program.split(layout)
    return Fragments.of(layout, names, partial(_chosen, program, len(names))) if names else None


def _chosen(program: ClientProgram, count: int, round: int) -> int:
    return program.fragment_of(round, count)

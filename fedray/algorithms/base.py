"""An algorithm: a client program and a server's half."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from torch import Tensor
from torch.optim import Optimizer

from fedray.config.bounds import check_above_0 as check_above_0
from fedray.config.bounds import check_at_least_0 as check_at_least_0
from fedray.config.registry import Registry
from fedray.config.sections import LocalSection
from fedray.core.messages import DELTA, Aggregate, Parts
from fedray.local.program import ClientProgram
from fedray.server import SGD, PerClient, Server, ServerOptimizer

Weight = Literal["auto", "examples", "uniform", "tokens"]


@dataclass(frozen=True)
class Algorithm(ClientProgram):
    """Base of the registered algorithms: each is its client program and the server's half, FedAvg as it stands.

    On the server :meth:`start` says what is kept from round to round, :meth:`broadcast` what clients receive besides
    the model, and :meth:`step` moves the model by the clients' mean.

    >>> @dataclass(frozen=True)
    ... class Averaged(Algorithm):
    ...     beta: float = 0.5
    ...     def start(self, s):
    ...         return {"mean": s.params.new_zeros(len(s.params))}
    ...     def step(self, s, total):
    ...         s.move(s.state["mean"].mul_(self.beta).add_(total["delta"]))
    ...         return {"length": float(s.state["mean"].norm())}
    >>> import torch
    >>> from fedray.core.layout import Layout
    >>> averaged, layout = Averaged(), Layout.of(torch.nn.Linear(2, 1, bias=False))
    >>> s = Server(torch.zeros(2), layout, clients=10)
    >>> s.state = averaged.start(s)
    >>> averaged.step(s, Aggregate({"delta": torch.tensor([3.0, 4.0])}, weight=10.0, count=10))
    {'length': 5.0}
    >>> s.vector
    tensor([3., 4.])

    Args:
        weight: the clients' weights in the mean: ``examples`` (m_i), ``uniform`` (1), ``tokens`` (target positions that
            the loss counts, where an example has several), or ``auto``: the algorithm's own choice, and ``uniform``
            where a transform needs it.

    Attributes:
        needs_classes: it works for targets that are classes alone.
        of_positions: beside examples with a class each, it works for those with one at each position.
        uses_server: its step gives the update to ``s.move``; False where it moves the model itself, so that a section
            ``server`` would be ignored, and is refused.
    """

    weight: Weight = field(default="auto", kw_only=True)

    name: ClassVar[str]
    default_weight: ClassVar[Literal["examples", "uniform"]] = "examples"
    uniform_only: ClassVar[bool] = False
    needs_classes: ClassVar[bool] = False
    of_positions: ClassVar[bool] = False
    uses_server: ClassVar[bool] = True

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.name = cls.__name__  # until it is registered, if ever

    def __post_init__(self) -> None:
        # A value out of range is an error where it is given, not in the first round.
        if self._server_lr is not None:
            check_above_0(server_lr=self._server_lr)
        self.server()

    @property
    def _server_lr(self) -> float | None:
        """``server_lr`` of algorithms that know this other word for ``server.lr``, where it is given."""
        return getattr(self, "server_lr", None)

    def server(self) -> ServerOptimizer:
        """Return the server optimizer where the config has no section ``server``."""
        return SGD() if self._server_lr is None else SGD(self._server_lr)

    def start(self, s: Server) -> Parts:
        """Return the tensors that the server keeps from round to round, before the first; none by default.

        They are ``s.state`` from then on, of any shapes, and are saved in checkpoints.
        """
        return {}

    def broadcast(self, s: Server) -> Mapping[str, Tensor | PerClient]:
        """Return what clients receive besides ``model`` in round ``s.round``: the same names in each round.

        A vector is the same for all of them, a :class:`~fedray.server.PerClient` has a row for each.  What the server
        keeps is left as it is: a checkpoint of the round before may be written meanwhile.
        """
        return {}

    def step(self, s: Server, total: Aggregate) -> Mapping[str, float] | None:
        """End a round: move the model by the means of what clients sent, and change what is kept, in place.

        Args:
            s: the server.
            total: the means by name, ``total["delta"]`` ``[S]``, of ``total.count`` clients of the total weight
                ``total.weight``; to be left as they are.

        Returns:
            Numbers for the record of the round, which has them under the algorithm's name; or None.
        """
        s.move(total[DELTA])
        return None

    def local(self, args: LocalSection) -> LocalSection:
        """Return the local epochs and batches that the algorithm runs with."""
        return args

    def needs(self, optimizer: Optimizer, epochs: Any) -> str | None:
        """Return why the algorithm is not its paper's with such a local recipe, in one line; None or empty: it is.

        The line stands as a warning in the plan and the log.

        Args:
            optimizer: the clients' optimizer.
            epochs: as ``local.epochs`` has them.
        """
        return None

    def unused(self, args: LocalSection) -> Iterator[str]:
        """Say which options the algorithm puts its own in the place of.

        Args:
            args: as the user gave them; what is a default says nothing.
        """
        taken = self.local(args)
        for option in fields(LocalSection):
            given, own = getattr(args, option.name), getattr(taken, option.name)
            if given not in (own, option.default):
                takes = "none" if own in (None, {}) else own
                yield f"local.{option.name}={given} is not used: {self.name} takes {takes}"


algorithms = Registry(
    "algorithm",
    package="fedray.algorithms",
    base=Algorithm,
    such_as="fedray.FedAvg(), or one of your own (docs/write-your-own.md)",
)

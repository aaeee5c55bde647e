"""The evaluation of examples by a model: the same within a run and of a run that is over."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedray.core.draws import named
from fedray.core.hidden_state import HiddenState
from fedray.core.losses import LossFn
from fedray.core.messages import Failure, Floats, Ints
from fedray.core.metrics import Mean
from fedray.core.places import NOWHERE, Places
from fedray.core.rng import integer
from fedray.data.augment_chain import Augment
from fedray.data.columns.inputs import Inputs
from fedray.data.columns.rows import Examples
from fedray.local.kernels import lack_told, memory_told
from fedray.local.operations import largest
from fedray.local.task import MOST_ROWS, Precision, autocast
from fedray.local.views import Values, Views
from fedray.metrics.measures import States
from fedray.metrics.sums import State, on_host
from fedray.models.shared import shared_of
from fedray.run.generation import GoOn
from fedray.run.samples import Sample
from fedray.tasks import outputs_of

PIECE_BYTES = 256 << 20
"""Bytes of the largest tensor in the forward pass of a piece."""

_AS_THEY_ARE = Augment()

OutOfMemory = (torch.cuda.OutOfMemoryError, MemoryError)
"""The errors after which fewer rows, or fewer clients, must be taken at once."""

Take = Callable[[int, int], tuple[Inputs, Tensor]]
"""(start, stop) to the inputs and targets of these rows, on the device of the model."""


def rows_at_once(batch_size: int | Literal["auto"], module: nn.Module, x: Inputs) -> int:
    """Return the rows of a piece of an evaluation, the same on every machine.

    >>> rows_at_once("auto", nn.Linear(8, 3), torch.zeros(2, 8))
    1024
    >>> rows_at_once("auto", nn.Conv2d(3, 64, 1), torch.zeros(2, 3, 128, 128))  # 4 MiB an example
    64

    Args:
        batch_size: ``evaluate.batch_size``.
        module: the model; its buffers may move.
        x: inputs ``[B, ...]`` of some examples.
    """
    if batch_size != "auto":
        return batch_size
    try:
        numbers = largest(module, x)
    except Exception:  # of any kind: it runs on a GPU alone, where pieces without room are halved
        return MOST_ROWS
    return max(1, min(MOST_ROWS, PIECE_BYTES // (4 * max(1, numbers))))


def with_statistics(vector: Tensor, statistics: Tensor | None) -> Tensor:
    """Return the vector ``[P]`` that evaluations and exports take for the global one.

    Args:
        vector: the global vector.
        statistics: the buffers ``[B]`` that stand in for those of a server that keeps its own as they were, if it does.
    """
    return vector if statistics is None else torch.cat([vector[: len(vector) - len(statistics)], statistics])


@dataclass(frozen=True, slots=True)
class TestChunk:
    """Work item: evaluate the broadcast model on rows ``start`` to ``stop`` of the test set.

    Anybody can do it; where it is shared out, ``pin`` says by whose workers, as for a block.  A worker of several ranks
    does as many pieces at once: ``index`` is the number of the first.
    """

    __test__ = False

    index: int
    start: int
    stop: int
    pin: str | None = None

    @classmethod
    def cut(cls, examples: int, rows: int = MOST_ROWS, at_once: int = 1) -> list[TestChunk]:
        """Cut the test set into fixed pieces of ``rows``, so that the result does not depend on who evaluates what.

        >>> TestChunk.cut(5, rows=1, at_once=2)[1:]
        [TestChunk(index=2, start=2, stop=4, pin=None), TestChunk(index=4, start=4, stop=5, pin=None)]

        Args:
            examples: of the test set.
            rows: of a piece.
            at_once: the pieces of an item.
        """
        starts = range(0, examples, rows * at_once)
        return [cls(i * at_once, start, min(start + rows * at_once, examples)) for i, start in enumerate(starts)]

    def pieces(self, rows: int) -> list[TestChunk]:
        """Return its pieces of ``rows``, each under its own number."""
        starts = range(self.start, self.stop, rows)
        return [
            TestChunk(self.index + i, start, min(start + rows, self.stop), self.pin) for i, start in enumerate(starts)
        ]


@dataclass(frozen=True, slots=True)
class HoldoutChunk:
    """Work item: evaluate the broadcast model, and the clients' own, on what some clients are evaluated on.

    Args:
        index: its number among those of the round.
        clients: client indices ``[C]``.
        pin: as for a block.
        state: for clients that have state from an earlier round, where it lies.
        views: the views that are evaluated.
        stack: clients that step at once in views of their own models.
        addressed: the places of the rows that the server sends to each of them alone.
    """

    index: int
    clients: Ints
    pin: str | None = None
    state: Places = field(default_factory=lambda: NOWHERE)
    views: Views = field(default_factory=Views)
    stack: int = 1
    addressed: Places = field(default_factory=lambda: NOWHERE)


@dataclass(frozen=True, slots=True)
class TestReport:
    """Metric sums over a test chunk.

    Args:
        index: of the chunk.
        metrics: means, by name.
        seconds: the time that it took.
        states: the sums of the metrics that are no means, by their titles.
        samples: the completions of prompts, with the first chunk.
        rest: the reports of its pieces but the first, whose this is, if it has several.
    """

    __test__ = False

    index: int
    metrics: dict[str, Mean]
    seconds: float
    states: States = field(default_factory=dict)
    samples: tuple[Sample, ...] = ()
    rest: tuple[TestReport, ...] = ()

    @property
    def pieces(self) -> tuple[TestReport, ...]:
        """The reports of all its pieces, in their order, in which they are to be added up."""
        return (self, *self.rest)


@dataclass(frozen=True, slots=True)
class HoldoutReport:
    """Metric sums and numbers of examples of clients ``[C]``, or the reasons for which there are none.

    Args:
        index: of the chunk.
        clients: client indices ``[C]``.
        sums: of each view the metric sums, each ``[C]``.
        examples: the examples that each was evaluated on, ``[C]``.
        seconds: the time that it took.
        failures: the reasons.
        taken_part: the number of these clients that have kept something; None: none of them ever does.
        fitted: the training examples that fits of the evaluation used.
        short: the reason for which it must be done again, fewer clients at once: too little memory; empty: it need not.
        numbers: of each view the metrics that are no means, each ``[C]``, by name.
        states: of each view their sums over these clients together, by their titles.
        apart: of each view the sums of each client, ``[C]``, of the metrics that stand in the table of clients.
    """

    index: int
    clients: Ints
    sums: dict[str, dict[str, Floats]]
    examples: Ints
    seconds: float
    failures: tuple[Failure, ...] = ()
    taken_part: int | None = None
    fitted: int = 0
    short: str = ""
    numbers: dict[str, dict[str, Floats]] = field(default_factory=dict)
    states: dict[str, States] = field(default_factory=dict)
    apart: dict[str, dict[str, list[State]]] = field(default_factory=dict)

    @classmethod
    def without_room(cls, chunk: HoldoutChunk, reason: str, seconds: float) -> HoldoutReport:
        """Return the report of a chunk several of whose clients had too little memory at once."""
        none = np.zeros(0, dtype=np.int64)
        return cls(chunk.index, none, {}, none, seconds, short=reason)


def take_from(test: Examples, device: torch.device) -> Take:
    """Return the access of an evaluation to a test set."""

    def take(start: int, stop: int) -> tuple[Inputs, Tensor]:
        x, y = test.slice(start, stop, device)
        # Matrix products look at where rows lie in memory: a copy lies the same everywhere, a view of a file does not.
        return x.clone(), y

    return take


class Evaluator:
    """A model that evaluates examples, and keeps no trace of it.

    >>> evaluator = Evaluator(nn.Linear(2, 1), nn.functional.mse_loss, lambda output, y: {"error": (output - y)[:, 0]})
    >>> x, y = torch.ones(3, 2), torch.zeros(3, 1)
    >>> with evaluator.named(round=1, number=0):
    ...     values = evaluator.values(lambda start, stop: (x[start:stop], y[start:stop]), stop=3)
    >>> values["error"].shape
    (3,)

    Args:
        module: the model, on ``device``; in evaluation mode from here on.
        loss: the loss, for what it remembers.
        values: from outputs (float32) and targets to what is measured.
        seed: the run's seed.
        device: the device of the model.
        precision: ``local.precision``.
        placed: tensors of the model whose values the caller sets between evaluations.
        augment: the changes of inputs.
    """

    def __init__(
        self,
        module: nn.Module,
        loss: LossFn,
        values: Values,
        seed: int = 0,
        device: torch.device | None = None,
        precision: Precision = "fp32",
        placed: Iterable[Tensor] = (),
        augment: Augment = _AS_THEY_ARE,
    ) -> None:
        self._augment = augment
        self.module = module.eval()
        self._of, self._seed, self._precision = values, seed, precision
        self._device = device or torch.device("cpu")
        self._hidden = HiddenState({"model": module, "local.loss": loss}, [*placed, *shared_of(module)])

    @contextlib.contextmanager
    def named(self, round: int, number: int) -> Iterator[None]:
        """Name what the model draws inside by (seed, evaluate, round, number), and put back what it remembers."""
        devices = [self._device] if self._device.type == "cuda" else []
        remembered = self._hidden.put_back(integer(self._seed, "evaluate", round, number))
        with named(self._seed, "evaluate", round, number, devices), remembered:
            yield

    def outputs(self, x: Inputs) -> Tensor:
        """Return the outputs ``[B, ...]`` for inputs on the device of the model, float32."""
        x = self._augment.fixed(x)
        with torch.no_grad(), autocast(self._precision, self._device):
            return outputs_of(self.module, x).float()

    @property
    def go_on(self) -> GoOn | None:
        """The model where it keeps keys and values of tokens, see :func:`fedray.run.generation.generate`; else None."""
        module: Any = self.module
        if not getattr(module, "speaks", False):
            return None

        def go_on(ids: Tensor, mask: Tensor, choose: Callable[[Tensor], Tensor | None]) -> None:
            with torch.no_grad(), autocast(self._precision, self._device):
                module.go_on(ids.to(self._device), mask.to(self._device), choose)

        return go_on

    def values(self, take: Take, stop: int, start: int = 0) -> dict[str, NDArray[Any]]:
        """Return the values of each example; where memory is too short for all rows at once, by halves.

        Args:
            take: gives the rows.
            stop: end of the rows, exclusive.
            start: their beginning.

        Returns:
            Numbers in float64, keys as int64, each ``[B, ...]``.

        Raises:
            MemoryError: too little memory for a single row (on a GPU ``torch.cuda.OutOfMemoryError``).
        """
        try:
            return self.at_once(take, stop, start)
        except OutOfMemory:
            if stop - start < 2:
                raise
        # Not in the handler: the error holds the frames that hold the memory.
        torch.cuda.empty_cache()
        middle = (start + stop) // 2
        halves = [self.values(take, middle, start), self.values(take, stop, middle)]
        return {name: np.concatenate([half[name] for half in halves]) for name in halves[0]}

    def at_once(self, take: Take, stop: int, start: int = 0) -> dict[str, NDArray[Any]]:
        """Return the values of each example as :meth:`values` does, of all rows at once, or raise MemoryError."""
        with memory_told(), lack_told(), torch.no_grad():
            x, y = take(start, stop)
            values = self._of(self.outputs(x), y)
        return on_host(values)

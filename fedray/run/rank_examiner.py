"""The evaluations of a worker of several ranks: all of them run the model, of which each has a shard."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
import torch.distributed
from numpy.typing import NDArray
from torch import Tensor

from fedray.core.messages import Broadcast
from fedray.data.columns.inputs import Inputs
from fedray.local.sharded import ShardedReplica, ShardedStepper
from fedray.run.evaluation import Evaluator, Take
from fedray.run.examiner import Examiner, Outputs, Piece
from fedray.run.samples import Sample

dist: Any = torch.distributed  # of what is used here torch has no types


class ShardedEvaluator(Evaluator):
    """An evaluator of a sharded module, which is run by all ranks at the same time.

    Where memory is too short for all rows at once it raises, as the others wait for the same pass.
    """

    replica: ShardedReplica

    def outputs(self, x: Inputs) -> Tensor:
        """Return the outputs ``[B, ...]`` for inputs on the device of the model, float32."""
        found = super().outputs(x)
        self.replica.scatter()
        return found

    @property
    def go_on(self) -> None:
        """None: keys and values of tokens are kept by a part of the module, and a pass goes through all of it."""

    def values(self, take: Take, stop: int, start: int = 0) -> dict[str, NDArray[Any]]:
        """Return the values of each example, see :meth:`fedray.run.evaluation.Evaluator.at_once`."""
        return self.at_once(take, stop, start)


class RankExaminer(Examiner):
    """The evaluations of a rank, at the same time as those of the others, by the module that they train.

    Pieces are dealt out to the ranks in their order, one to each at a time, so that their rows, and with them the
    numbers of a model, are those of one process.  A rank without one runs the model on a row that counts nothing.
    All ranks have the values of all pieces in the end.
    """

    halves: ClassVar[bool] = False

    @contextmanager
    def showing(self, down: Broadcast) -> Iterator[Evaluator]:
        """Return the context with the evaluator of the broadcast model, of which the rank has heard its part."""
        stepper = self._models.stepper
        assert isinstance(stepper, ShardedStepper)
        replica = stepper.replica
        with replica.showing(down.parts["model"]):
            if self._evaluator is None:
                made = self.made(ShardedEvaluator, replica.module, replica.module.parameters())
                made.replica, self._evaluator = replica, made
            yield self._evaluator

    def dealt(self, pieces: Sequence[Piece]) -> list[dict[str, NDArray[Any]]]:
        """Return the values of the rows of each piece, one of which each rank does at a time."""
        rank, ranks = dist.get_rank(), dist.get_world_size()
        found: list[dict[str, NDArray[Any]]] = []
        for first in range(0, len(pieces), ranks):
            turn = pieces[first : first + ranks]
            idle = rank >= len(turn)
            every: list[Any] = [None] * ranks
            dist.all_gather_object(every, turn[0 if idle else rank](idle))
            found += every[: len(turn)]
        return found

    def said(
        self, outputs: Outputs, say: Callable[..., tuple[Sample, ...]], evaluator: Evaluator
    ) -> tuple[Sample, ...]:
        """Return the samples of the first rank, which draws the tokens; the others run the model on the same ones."""
        if dist.get_rank():
            while (x := _told(None)) is not None:
                outputs(x)
            return ()

        def told(x: Inputs) -> Tensor:
            return outputs(_told(x))

        found = super().said(told, say, evaluator)
        _told(None)
        return found


def _told(x: Inputs | None) -> Any:
    """Return what the first rank has here."""
    box = [x]
    dist.broadcast_object_list(box, src=0, device=torch.device("cpu"))
    return box[0]

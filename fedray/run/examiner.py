"""The evaluations that a worker does: of the broadcast model, and of what clients make of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedray.core.errors import one_line
from fedray.core.messages import STATISTICS, Broadcast, Failure, Floats, Ints
from fedray.core.metrics import Mean
from fedray.data.columns.inputs import Inputs
from fedray.data.columns.rows import Examples
from fedray.local.kernels import memory_told
from fedray.local.schedule import local_steps
from fedray.local.task import LocalTask
from fedray.local.views import Seen, see
from fedray.local.work import own_rates
from fedray.metrics.measures import States, together
from fedray.models.prototype import last_of
from fedray.models.shared import placed
from fedray.run.addressed import AddressedRows
from fedray.run.blocks import cut
from fedray.run.evaluation import (
    Evaluator,
    HoldoutChunk,
    HoldoutReport,
    OutOfMemory,
    TestChunk,
    TestReport,
    take_from,
)
from fedray.run.samples import Sample, Words, end_of, samples, sampling
from fedray.run.trained import Models
from fedray.rundir.state_rows import StateRows
from fedray.tasks import NextTokens

E = TypeVar("E", bound=Evaluator)

Piece = Callable[[bool], dict[str, NDArray[Any]]]
"""The evaluation of a piece of rows: gives the values of all of them, or, where told so, of the first alone."""

Outputs = Callable[[Inputs], Tensor]


class Examiner:
    """The evaluations of a worker, which change nothing of its training.

    Args:
        task: the local training problem.
        models: the models that clients train.
        rows: the clients' state.
        addressed: the rows that the server sends to single ones.
        keeps: True where clients keep something from round to round.
    """

    halves: ClassVar[bool] = True
    """Rows for which there is no memory are done by halves."""

    def __init__(
        self, task: LocalTask, models: Models, rows: StateRows, addressed: AddressedRows, *, keeps: bool
    ) -> None:
        self._task, self._models, self._rows, self._keeps = task, models, rows, keeps
        self._addressed, self._words = addressed, Words.of_task(task.about, task.data)
        self._device = models.device
        self._evaluator: Evaluator | None = None

    @contextmanager
    def showing(self, down: Broadcast) -> Iterator[Evaluator]:
        """Return the context with the evaluator of the broadcast model."""
        task = self._task
        if self._evaluator is None:
            module = placed(last_of(task.model_fn), self._device)
            self._evaluator = self.made(Evaluator, module, task.layout.tensors(module).values())
        task.layout.show(self._evaluator.module, down.parts["model"], down.parts.get(STATISTICS))
        yield self._evaluator

    def made(self, kind: type[E], module: nn.Module, tensors: Iterable[Tensor]) -> E:
        """Return an evaluator of a module, whose ``tensors`` are put there between evaluations."""
        task = self._task
        return kind(
            module,
            task.loss_fn,
            task.measures,
            task.seed,
            self._device,
            task.args.precision,
            tensors,
            task.augment,
        )

    def dealt(self, pieces: Sequence[Piece]) -> list[dict[str, NDArray[Any]]]:
        """Return the values of the rows of each piece: here of one after the other."""
        return [piece(False) for piece in pieces]

    def of_test(self, chunk: TestChunk, down: Broadcast) -> TestReport:
        """Evaluate the broadcast model on a chunk of the test set."""
        started = time.perf_counter()
        test, pieces = self._task.data.test, chunk.pieces(self._task.evaluated_rows)
        said: tuple[Sample, ...] = ()
        assert test is not None
        take = take_from(test, self._device)
        with self.showing(down) as evaluator:

            def values(piece: TestChunk, one: bool) -> dict[str, NDArray[Any]]:
                with evaluator.named(down.round, piece.index):
                    return evaluator.values(take, piece.start + 1 if one else piece.stop, piece.start)

            found = self.dealt([partial(values, piece) for piece in pieces])
            if chunk.index == 0 and (task := sampling(self._task.about)) is not None:
                with evaluator.named(down.round, 0):
                    said = self._samples(task, test, evaluator, down.round)
        first, *rest = [self._reported(piece, rows) for piece, rows in zip(pieces, found, strict=True)]
        return replace(first, seconds=time.perf_counter() - started, samples=said, rest=tuple(rest))

    def _reported(self, piece: TestChunk, values: dict[str, NDArray[Any]]) -> TestReport:
        """Return the sums of the values of all rows of a piece."""
        measures = self._task.measures
        means = {name: Mean(float(v.sum()), len(v)) for name, v in values.items() if name in measures.means}
        everybody = np.zeros(piece.stop - piece.start, dtype=np.int64)
        return TestReport(piece.index, means, 0.0, measures.states(values, everybody, 1)[0])

    def _samples(self, task: NextTokens, test: Examples, evaluator: Evaluator, round: int) -> tuple[Sample, ...]:
        """Return what the shown model says after prompts of the test set."""

        def outputs(x: Inputs) -> Tensor:
            return evaluator.outputs(x.to(self._device))

        return self.said(outputs, partial(samples, task, test, round=round), evaluator)

    def said(
        self, outputs: Outputs, say: Callable[..., tuple[Sample, ...]], evaluator: Evaluator
    ) -> tuple[Sample, ...]:
        """Return samples, for which ``outputs`` runs the shown model."""
        stops = self._words.stops
        return say(outputs, evaluator.go_on, end=end_of(self._task.data), seed=self._task.seed, stops=stops)

    def of_clients(self, chunk: HoldoutChunk, down: Broadcast) -> HoldoutReport:
        """Evaluate the broadcast model, and the clients' own, on what each client is evaluated on.

        Args:
            chunk: the clients.
            down: the broadcast.
        """
        started = time.perf_counter()
        data, views, sums = self._task.data, chunk.views, dict[str, dict[str, Floats]]()
        measures, states = self._task.measures, dict[str, list[States]]()
        if views.shared:
            count = len(chunk.clients)
            with self.showing(down) as evaluator, evaluator.named(down.round, -1 - chunk.index):
                values, segment = self._evaluated(evaluator, chunk.clients)
            means = {name: value for name, value in values.items() if name in measures.means}
            sums["global"] = {name: _sums(segment, value, count) for name, value in means.items()}
            states["global"] = measures.states(values, segment, count)
        fitted, taken_part, failures = 0, 0, list[Failure]()
        for piece in self._pieces(chunk, down.round) if views.own or views.finetune else ():
            found = self._seen(piece, chunk, down)
            if isinstance(found, str):
                if len(piece) > 1:
                    return HoldoutReport.without_room(chunk, found, time.perf_counter() - started)
                client, round = int(piece[0]), down.round - 1
                failures.append(Failure(client, data.client_id(client), round, "memory", found))
                continue
            places = np.searchsorted(chunk.clients, piece)
            for view, parts in found.sums.items():
                columns = sums.setdefault(view, {})
                for name, part in parts.items():
                    whole = columns.setdefault(name, np.zeros(len(chunk.clients)))
                    whole[places] = part
            for view, own in found.states.items():
                every = states.setdefault(view, [{} for _ in chunk.clients])
                for place, one in zip(places.tolist(), own, strict=False):
                    every[place] = one
            fitted, taken_part = fitted + found.fitted, taken_part + len(chunk.state.only(piece))
        told = taken_part if views.own and self._keeps else None
        left = np.isin(chunk.clients, [failure.client for failure in failures], invert=True)
        clients, sums = chunk.clients[left], _at(sums, left)
        seconds, examples = time.perf_counter() - started, data.evaluation_sizes[clients]
        kept = {view: [one for one, there in zip(every, left, strict=True) if there] for view, every in states.items()}
        numbers = {view: measures.columns(every) for view, every in kept.items()}
        total = {view: together(every) for view, every in kept.items()}
        apart = {view: measures.apart(every) for view, every in kept.items()}
        return HoldoutReport(
            chunk.index, clients, sums, examples, seconds, tuple(failures), told, fitted, "", numbers, total, apart
        )

    def _seen(self, piece: Ints, chunk: HoldoutChunk, down: Broadcast) -> Seen | str:
        """Return the evaluation of some clients by their own models, or the reason for which they have no room."""
        try:
            state, known = self._rows.read(piece, chunk.state, self._device)
            model = self._models.of(piece, down)
            others = model.down.parts.get(STATISTICS)
            heard = model.with_parts(self._addressed.of(piece, chunk.addressed))
            return see(model.trainer, piece, heard, state, known, others, chunk.views, self._task.measures)
        except OutOfMemory as error:
            reason = one_line(error)
        # Not in the handler: the error holds the frames that hold the memory.
        torch.cuda.empty_cache()
        return reason

    def _pieces(self, chunk: HoldoutChunk, round: int) -> list[Ints]:
        """Cut the clients of a chunk into blocks."""
        task, clients = self._task, chunk.clients
        keys = task.data.keys(clients)
        steps = local_steps(task.args, task.data.sizes[clients], keys, task.seed, round)
        return cut(
            clients, steps, chunk.stack, np.zeros_like(clients), own_rates(task.args, keys), task.variants(clients)
        )

    def _evaluated(self, evaluator: Evaluator, clients: Ints) -> tuple[dict[str, NDArray[Any]], Ints]:
        """Return the values of the rows that clients are evaluated on, and of each row the position of its client.

        Where memory is too short for the rows of all clients, those of one half after those of the other.
        """
        try:
            with memory_told():
                x, y, segment = self._task.data.evaluation(clients)
        except MemoryError:
            if len(clients) < 2 or not self.halves:
                raise
            middle = len(clients) // 2
            first, second = (self._evaluated(evaluator, half) for half in (clients[:middle], clients[middle:]))
            values = {name: np.concatenate([first[0][name], second[0][name]]) for name in first[0]}
            return values, np.concatenate([first[1], second[1] + middle])

        def of(piece: TestChunk, one: bool) -> dict[str, NDArray[Any]]:
            return evaluator.values(
                lambda start, stop: (x[start:stop].to(self._device), y[start:stop].to(self._device)),
                piece.start + 1 if one else piece.stop,
                piece.start,
            )

        pieces = TestChunk.cut(len(x), self._task.evaluated_rows)
        parts = self.dealt([partial(of, piece) for piece in pieces])
        return {name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else {})}, segment


def _sums(segment: Ints, values: Floats, count: int) -> Floats:
    return np.bincount(segment, weights=values, minlength=count).astype(np.float64)


def _at(sums: dict[str, dict[str, Floats]], which: NDArray[np.bool_]) -> dict[str, dict[str, Floats]]:
    return {view: {name: column[which] for name, column in columns.items()} for view, columns in sums.items()}

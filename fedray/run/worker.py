"""A worker: trains blocks, folds them, evaluates.  The same object runs inline and inside a Ray actor."""

from __future__ import annotations

import contextlib
import math
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from fedray.aggregators.base import Accumulator
from fedray.aggregators.exact import WIDE_LIMIT
from fedray.algorithms.composition import Composition
from fedray.core import inject
from fedray.core.errors import RunFailed, UpdateOutOfRange, listed, one_line, reason
from fedray.core.fields import Field, floats
from fedray.core.messages import (
    BUFFERS,
    OPTIMIZER,
    PERSONAL,
    SENT,
    STATISTICS,
    Block,
    BlockReport,
    BlockUpdate,
    Broadcast,
    Failure,
    Ints,
    Parts,
)
from fedray.core.noise import ClientNoise
from fedray.core.places import NO_PLACES, NOWHERE
from fedray.data.residence import resident
from fedray.local.kernels import cuda_kernels, lack_told, memory_told
from fedray.local.losses import loss_on
from fedray.local.task import LocalTask
from fedray.models.prototype import forget
from fedray.run.addressed import AddressedRows
from fedray.run.broken import broken_at_start, broken_example
from fedray.run.columns import ColumnRange, ColumnReport
from fedray.run.evaluation import HoldoutChunk, HoldoutReport, OutOfMemory, TestChunk, TestReport
from fedray.run.examiner import Examiner
from fedray.run.profiling import Profile
from fedray.run.trained import Models
from fedray.run.weights import weights
from fedray.rundir.held_rows import RowMemory
from fedray.rundir.state_rows import StateRows


def devices_of(gpus: float) -> tuple[torch.device, ...]:
    """Return the devices of a worker that reserves so many GPUs: all it sees, or the one it shares, or the CPU.

    >>> [[str(device) for device in devices_of(gpus)] for gpus in (0, 0.25, 2)]
    [['cpu'], ['cuda:0'], ['cuda:0', 'cuda:1']]
    """
    return tuple(torch.device("cuda", index) for index in range(math.ceil(gpus))) or (torch.device("cpu"),)


@dataclass(frozen=True)
class Job:
    """The workers' part of a run.

    Args:
        task: the local training problem.
        algorithm: the algorithm, which changes updates.
        state_folder: the folder of per-client state.
        threads: torch threads of a worker; the thread count changes bits, so it is part of the config.
        said: folder of the files with what clients' code prints; ``None``: it is not kept.
        profile: the rounds of which there are to be traces; None: of none.
    """

    task: LocalTask
    algorithm: Composition
    state_folder: Path
    threads: int = 1
    said: Path | None = None
    profile: Profile | None = None

    def state_fields(self) -> dict[str, Field]:
        """Return what is kept of a client under each name."""
        layout = self.task.layout
        fits = 1 + self.task.profile.others
        kept = {} if self.task.moments is None else {OPTIMIZER: self.task.moments.width * fits}
        return self.algorithm.state(layout) | floats(kept | ({PERSONAL: layout.personal} if layout.personal else {}))


Item = Block | TestChunk | HoldoutChunk | ColumnRange
Report = BlockReport | TestReport | HoldoutReport | ColumnReport


def without_room(item: Item) -> Item:
    """Return an item whose rows of client state all go to files."""
    return replace(item, room=NO_PLACES) if isinstance(item, Block) else item


class Worker:
    """The worker: does the work items of a round.

    Args:
        job: the run's work.
        devices: data, model and accumulator are on the first, further ones help it to train.
    """

    examiner: ClassVar[type[Examiner]] = Examiner

    def __init__(self, job: Job, devices: Sequence[torch.device]) -> None:
        torch.set_num_threads(job.threads)
        self.job = job
        self.device = devices[0]
        self._open = contextlib.ExitStack()
        if self.device.type == "cuda":
            self._open.enter_context(cuda_kernels(job.task.args.precision, job.task.args.deterministic))
            memory = torch.cuda.get_device_properties(self.device).total_memory
            data = resident(job.task.data, self.device, memory)
            loss = loss_on(job.task.loss_fn, self.device)
            job = self.job = replace(job, task=replace(job.task, data=data, loss_fn=loss))
        own = self.own(job.task)
        self._models = Models(own, job.algorithm, devices)
        if job.task.data.test is None and not job.task.data.evaluation_sizes.any():
            forget(job.task.model_fn)
        self.rows = StateRows(job.state_folder, job.state_fields())
        self._widths = job.algorithm.widths(own.layout)
        self._addressed = AddressedRows(job.algorithm.addressed, self.device)
        self._examiner = self.examiner(
            self.job.task, self._models, self.rows, self._addressed, keeps=bool(job.state_fields())
        )
        self._accumulator: Accumulator = {}
        self._down = Broadcast(0, {}, 1.0)
        self._surveyed: Parts = {}

    def own(self, task: LocalTask) -> LocalTask:
        """Return the part of the local training problem that this process trains: all of it."""
        return task

    def begin(self, down: Broadcast, into: Accumulator | None = None) -> None:
        """Start a round: take the broadcast, and fold into ``into`` (zeroed by the caller) or a fresh accumulator."""
        parts = {name: part.to(self.device) for name, part in down.parts.items()}
        # Evaluations see what all rounds begin with, whether or not the survey of one has been made.
        self._surveyed = {name: parts.pop(name) for name in self.job.task.profile.surveys}
        self._down = Broadcast(down.round, parts, down.weight)
        self._models.forget()
        self._addressed.close()
        if into is None:
            into = self.job.algorithm.aggregator.zero(self._widths, str(self.device))
        self._accumulator = into

    def finish(self) -> Accumulator:
        """Return all that was folded since ``begin``."""
        return self._accumulator

    def put(self, into: Accumulator) -> None:
        """Put all of that into an accumulator elsewhere."""
        for name, part in self.job.algorithm.aggregator.filled(self._accumulator).items():
            into[name].copy_(part)

    def hold(self, memory: RowMemory) -> None:
        """Leave rows of client state in memory from now on, which is the driver's."""
        self.rows.memory = memory

    def handle(self, item: Item) -> Report:
        """Do one work item.

        Raises:
            RunFailed: something raised that is no failure of a client's.
        """
        try:
            match item:
                case Block():
                    return self.train(item)
                case TestChunk():
                    return self._examiner.of_test(item, self._down)
                case HoldoutChunk():
                    return self._examiner.of_clients(item, self._down)
                case ColumnRange():
                    inject.point("worker.columns", self._down.round, item.index)
                    return item.reduced()
        except Exception as error:
            raise RunFailed(f"{self._words(item)} failed: {reason(error)}") from error

    def _words(self, item: Item) -> str:
        """Name an item in words; the model that a round evaluates is the one of the round before."""
        number = self._down.round
        match item:
            case Block():
                return f"round {number}: the block of {self._names(item.clients)}"
            case TestChunk():
                return f"round {number - 1}: the evaluation on the test set"
            case HoldoutChunk():
                return f"round {number - 1}: the evaluation of {self._names(item.clients)}"
            case ColumnRange():
                return f"round {number}: the aggregation of {item.part}, columns {item.start} to {item.stop},"

    def _names(self, clients: Ints) -> str:
        names = (repr(self.job.task.data.client_id(client)) for client in clients.tolist())
        return f"client{'s' if len(clients) > 1 else ''} {listed(names)}"

    # Training

    def train(self, block: Block) -> BlockReport:
        """Train a block and fold its updates; clients that fail are given up as values, the others counted once."""
        started = time.perf_counter()
        given_up = {client: self._failure(client, "left_out", "as the config says") for client in block.left_out}
        released, taken = dict[int, str](), dict[int, int]()
        while True:
            update = None
            try:
                inject.point("worker.block", block.round, block.index)
                update = self._updates(block, given_up)
                if update is not None:
                    released |= zip(update.clients.tolist(), update.released, strict=False)
                    if update.taken is not None:
                        taken |= zip(update.clients.tolist(), update.taken.tolist(), strict=True)
                    _check_apart(update)
                    self.job.algorithm.aggregator.add(self._accumulator, update, self._down.weight)
                break
            except UpdateOutOfRange as error:
                assert update is not None
                reason = f"{error}; {self._advice(update.clients, error, update)}"
                for client in update.clients[error.positions].tolist():
                    given_up[client] = self._failure(client, "update", reason)
            except OutOfMemory as error:
                if update is not None and len(update.clients) == 1:
                    raise  # one part of it may be folded, and another not
                torch.cuda.empty_cache()
                update, reason = None, one_line(error)
                for client in block.clients.tolist():
                    given_up.setdefault(client, self._failure(client, "memory", reason))
                break
        inject.point("worker.folded", block.round, block.index)
        state = NOWHERE
        if update is None:
            none = np.zeros(0)
            columns = none.astype(np.int64), none, none, none.astype(np.int64)
        else:
            columns = update.clients, update.weight, update.loss, update.examples
            state = self.rows.write(block.round, update.clients, update.state, block.room) if update.state else state
        failures = tuple(given_up[client] for client in sorted(given_up))
        seconds, counted = time.perf_counter() - started, None if update is None else update.counted
        return BlockReport(block.index, *columns, state, failures, seconds, released, taken, counted)

    def _updates(self, block: Block, given_up: dict[int, Failure]) -> BlockUpdate | None:
        """Return the transformed updates of a block's clients that are not given up; None if nobody is left.

        A client that raises is found and given up, and the block is done as if without it.
        """
        raised: Counter[int] = Counter()
        while True:
            clients = block.clients
            if given_up:
                clients = np.array([c for c in clients.tolist() if c not in given_up], dtype=np.int64)
            if not len(clients):
                return None
            try:
                update = self._update(clients, block)
            except UpdateOutOfRange as error:
                advice = f"{error}; {self._advice(clients, error)}"
                for client in clients[error.positions].tolist():
                    given_up[client] = self._failure(client, "update", advice)
            except _Raised as error:
                for client, reason in self._culprits(clients, error.reason, block):
                    raised[client] += 1
                    if raised[client] > 1:
                        given_up[client] = self._raised(client, reason)
            else:
                inject.point("worker.trained", block.round, block.index)
                return update

    def _culprits(self, clients: Ints, error: Exception, block: Block) -> list[tuple[int, Exception]]:
        """Return each client that raised, with its error: those that raise alone, or, if none does, all of them."""
        found: list[tuple[int, Exception]] = []
        for client in clients.tolist() if len(clients) > 1 else ():
            for _ in range(2):
                try:
                    self._update(np.array([client]), block)
                    break
                except UpdateOutOfRange:  # a failure of its own kind, when all are done again
                    break
                except _Raised as again:
                    found.append((client, again.reason))
        return found or [(client, error) for client in clients.tolist()]

    def _update(self, clients: Ints, block: Block) -> BlockUpdate:
        try:
            with memory_told(), lack_told():
                return self.sent(clients, block)
        except (*OutOfMemory, RunFailed, UpdateOutOfRange):
            raise
        except Exception as error:
            raise _Raised(error) from error

    def local(self, clients: Ints, block: Block, models: Models | None = None) -> BlockUpdate:
        """Return the updates of clients of a block as their training leaves them; nothing is folded or kept.

        Args:
            clients: client indices ``[C]``, in the order of the block.
            block: their block, of the round that was begun.
            models: the models that train them; default: the worker's own.
        """
        state, known = self.rows.read(clients, block.state, self.device)
        model = (models or self._models).of(clients, self._down)
        own = self._addressed.of(clients, block.addressed)
        if block.survey:
            return model.survey(clients, state, known, own)
        return model.train(clients, state, known, {**self._surveyed, **own}, block.key)

    def sent(self, clients: Ints, block: Block) -> BlockUpdate:
        """Return the updates of clients of a block as the server receives them; nothing is folded or kept.

        Arguments as for :meth:`local`.
        """
        algorithm = self.job.algorithm
        update = self.local(clients, block)
        if block.survey:
            update.weight = weights(algorithm.weight, self.job.task, update.clients)
            return update
        if (statistics := update.parts.get(STATISTICS)) is not None:
            # What cannot be averaged is no reason to lose an update that does not need it.
            statistics.masked_fill_(~(statistics.abs() < WIDE_LIMIT), 0.0)
        if algorithm.weight != "own":
            update.weight = weights(algorithm.weight, self.job.task, update.clients)
        task = self.job.task
        if block.key:
            update.noise = ClientNoise(block.key, task.data.keys(clients))
        with torch.no_grad():
            algorithm.transforms.on_clients(update, self._down.parts)
            if update.taken is not None:
                update.released = _digests(update)
            algorithm.transforms.on_the_way(update, task.seed, task.data.keys(clients).tolist())
        return update

    def _advice(self, clients: Ints, error: UpdateOutOfRange, update: BlockUpdate | None = None) -> str:
        """Return what to do about an update of one of ``clients`` that is out of range; None: it is gone."""
        task = self.job.task
        client, model = int(clients[error.positions[0]]), self._down.parts.get("model")
        name = task.data.client_id(client)
        if bad := broken_example(task, client, self.device):
            return f"{bad} of client {name!r}: mend it where the data are made, or leave the row out"
        if model is not None and (part := broken_at_start(task, model, client, self.device)):
            return (
                f"the {part} of the model that client {name!r} starts from is not finite, before any step: look for a "
                "logarithm, a root or a division of 0 in the model and the loss, or a very large number in a row"
            )
        if error.part == BUFFERS and update is not None:
            layout = self._models.layout(update.variant)
            peaks = update.parts[BUFFERS][error.positions].abs().amax(dim=0)
            worst = int(peaks.nan_to_num(nan=float("inf")).argmax()) + layout.spans[BUFFERS].start
            buffer = next(entry.name for entry in layout.rest if entry.start <= worst < entry.stop)
            if peaks.isnan().any():
                return f"{buffer} has become NaN: look at what comes into its layer, and scale the inputs"
            return f"the largest change is that of {buffer}; scale the inputs, or set local.buffers: keep"
        data = "the inputs and the targets" if task.data.spec.task == "regression" else "the inputs"
        return f"lower the learning rate, or scale {data}"

    def _raised(self, client: int, error: Exception) -> Failure:
        return self._failure(client, "train", one_line(error), "".join(traceback.format_exception(error)))

    def _failure(self, client: int, stage: str, error: str, trace: str = "") -> Failure:
        return Failure(client, self.job.task.data.client_id(client), self._down.round, stage, error, trace)

    def close(self) -> None:
        """Close the state files, and give the process its switches back."""
        self.rows.close()
        self._addressed.close()
        self._open.close()


def _digests(update: BlockUpdate) -> tuple[str, ...]:
    """Return the ids of what clients send whose gradients were noised: the same for the same bits alone."""
    found = []
    rows = {name: part.detach().cpu().numpy() for name, part in sorted(update.parts.items())}
    for place in range(len(update.clients)):
        said = sha256()
        for part in rows.values():
            said.update(np.ascontiguousarray(part[place]).data)
        found.append(said.hexdigest()[:24])
    return tuple(found)


def _check_apart(update: BlockUpdate) -> None:
    """Raise UpdateOutOfRange for rows of clients that reach others, and are not finite."""
    for name, rows in update.state.items():
        if name.startswith(SENT) and (bad := torch.nonzero(~rows.isfinite().all(dim=1)).flatten().tolist()):
            raise UpdateOutOfRange(bad, f"{name.removeprefix(SENT)} is not finite", name)


class _Raised(Exception):
    """The error that the user's model, loss, optimizer or data raised."""

    def __init__(self, reason: Exception) -> None:
        self.reason = reason

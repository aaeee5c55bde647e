"""The synchronous round loop, as a generator of records.

One round: broadcast, train the cohort's blocks, fold, move the model.  What need not delay the next round is done while
the workers train it: the evaluation of the new model (as further work items on the same broadcast), its hash, and its
checkpoint.  So the record of a round is finished, and yielded, during the round that follows.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from fedray import metrics
from fedray.algorithm import Algorithm
from fedray.blocks import cut
from fedray.errors import ConfigError, RunFailed
from fedray.executor import Executor
from fedray.layout import Layout
from fedray.local.task import LocalTask
from fedray.messages import Block, BlockReport, Broadcast, Failure, Ints
from fedray.record import RoundRecord
from fedray.sampling import Sampler
from fedray.store import ClientStore
from fedray.worker import HoldoutChunk, HoldoutReport, Item, Report, TestChunk, TestReport

HASHED_EVERY_ROUND = 10_000_000
"""Up to so many entries the model is hashed every round, above only where a checkpoint is written."""

_HOLDOUT_CLIENTS = 64
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvaluateArgs:
    """When to evaluate.

    Args:
        every: on the central test set after every so many rounds, and after the last; 0 never.
        clients_every: on the clients' held-out data after every so many rounds, and after the last; 0 never.
    """

    every: int = 1
    clients_every: int = 0

    def due(self, every: int, round: int, last: int) -> bool:
        """Whether the model after ``round`` is evaluated."""
        return every > 0 and (round % every == 0 or round == last) and round > 0


@dataclass(frozen=True)
class FailurePolicy:
    """What a client without an update means.

    Args:
        on_nonfinite: an update that is not finite, or out of range: ``drop`` the client for the round, or ``abort``
            the run.
        on_failure: a client that raised twice: ``drop`` or ``abort``.
        min_share: smallest share of the cohort, in [0, 1], that must survive a round.
    """

    on_nonfinite: Literal["drop", "abort"] = "drop"
    on_failure: Literal["drop", "abort"] = "abort"
    min_share: float = 0.5

    def verdict(self, failures: Sequence[Failure], sampled: int) -> str | None:
        """Why the run must end, or None."""
        for failure in failures:
            rule = self.on_nonfinite if failure.stage == "update" else self.on_failure
            if rule == "abort":
                return f"client {failure.name!r} failed in round {failure.round} ({failure.stage}): {failure.error}"
        survivors = sampled - len(failures)
        if failures and (survivors == 0 or survivors < self.min_share * sampled):
            first = failures[0]
            return (
                f"round {first.round}: only {survivors} of {sampled} clients survived, failures.min_share is "
                f"{self.min_share}; first failure: client {first.name!r} ({first.stage}): {first.error}"
            )
        return None


@dataclass
class ServerState:
    """What the server holds between rounds.

    Args:
        vector: the global model ``[P]``.
        round: last finished round.
        store: index of the clients' state.
        pending: record of the last finished round while it is not complete.
    """

    vector: Tensor
    store: ClientStore
    round: int = 0
    pending: RoundRecord | None = None


@dataclass(frozen=True)
class Plan:
    """What a run does, apart from where.

    Args:
        task: local training.
        algorithm: its parts; the server rule must be started.
        sampler: cohorts.
        rounds: how many in all.
        evaluate: when to evaluate.
        failures: what failures mean.
        checkpoint_every: rounds between checkpoints; 0: only at the end.
    """

    task: LocalTask
    algorithm: Algorithm
    sampler: Sampler
    rounds: int
    evaluate: EvaluateArgs = field(default_factory=EvaluateArgs)
    failures: FailurePolicy = field(default_factory=FailurePolicy)
    checkpoint_every: int = 0

    @property
    def layout(self) -> Layout:
        """The model's layout."""
        return self.task.layout

    def cohort(self, round: int) -> Ints:
        """The clients of a round."""
        return self.sampler.cohort(self.task.data.sizes, self.task.seed, round)

    def weight(self, clients: Ints) -> float:
        """Total aggregation weight of some clients."""
        return float(len(clients) if self.algorithm.weight == "uniform" else self.task.data.sizes[clients].sum())

    def blocks(self, round: int, cohort: Ints, store: ClientStore) -> list[Block]:
        """The round's blocks, longest first."""
        steps = self.task.args.local_steps(self.task.data.sizes[cohort])
        pieces = cut(cohort, steps, self.task.stacking.size)
        return [Block(round, index, clients, store.of(clients)) for index, clients in enumerate(pieces)]

    def traffic(self, sampled: int, accepted: int) -> dict[str, int]:
        """Bytes of a round: ``down`` to the sampled clients, ``up`` from the accepted ones."""
        down, up = self.algorithm.download(self.layout), self.algorithm.upload(self.layout)
        return {"down": down * sampled, "up": up * accepted}

    def checkpoint_due(self, round: int) -> bool:
        """Whether the state after ``round`` is checkpointed."""
        return round == self.rounds or (self.checkpoint_every > 0 and round % self.checkpoint_every == 0)


Save = Callable[[ServerState], None]


class Rounds:
    """Runs the rounds of a plan.

    Args:
        plan: what to do.
        state: where to start from; moved along.
        executor: where work runs.
        save: writes a checkpoint of the state; called in a background thread while the state does not change.
        stopping: asked between reports; once true, the round in progress is dropped and the loop ends.
    """

    def __init__(
        self,
        plan: Plan,
        state: ServerState,
        executor: Executor,
        save: Save,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._plan, self._state, self._executor = plan, state, executor
        self._save, self._stopping = save, stopping
        self._background: list[Future[None]] = []
        self.stopped = False

    def __iter__(self) -> Iterator[RoundRecord]:
        """The records of all rounds that are left, in order.

        Raises:
            RunFailed: the failure policy ends the run, with the state of the last finished round; or the model is no
                longer finite, and then only a checkpoint has that state.
        """
        self._executor.wait()
        with ThreadPoolExecutor(1, thread_name_prefix="fedray-state") as self._pool:
            while self._state.round < self._plan.rounds:
                yield from self._round()
                if self.stopped:
                    return
            yield from self._complete_last()

    def _round(self) -> Iterator[RoundRecord]:
        plan, state = self._plan, self._state
        started = time.perf_counter()
        number = state.round + 1
        cohort = plan.cohort(number)
        down = self._broadcast(number, plan.weight(cohort) or 1.0)
        self._executor.publish(down)
        published = time.perf_counter()
        blocks = plan.blocks(number, cohort, state.store)
        reports = self._work([*blocks, *self._evaluations()])
        if reports is None:
            return
        trained = time.perf_counter()
        if (finished := self._finish_pending(reports)) is not None:
            yield finished
        self._join()
        record = RoundRecord(number)
        done = [r for r in reports if isinstance(r, BlockReport)]
        self._aggregate(record, down, cohort, done)
        ended = time.perf_counter()
        record.seconds = ended - started
        record.phases = {"broadcast": published - started, "train": trained - published, "aggregate": ended - trained}
        state.round, state.pending = number, record
        self._start_background(record)

    def _complete_last(self) -> Iterator[RoundRecord]:
        if self._state.pending is None:
            return
        self._executor.publish(self._broadcast(self._state.round + 1, 1.0))
        reports = self._work(self._evaluations())
        if reports is not None:
            finished = self._finish_pending(reports)
            assert finished is not None
            yield finished
        self._join()

    def _broadcast(self, round: int, weight: float) -> Broadcast:
        return Broadcast(round, {"model": self._state.vector, **self._plan.algorithm.server.broadcast()}, weight)

    def _work(self, items: list[Item]) -> list[Report] | None:
        reports = self._executor.run(items, self._stopping)
        if reports is None:
            self.stopped = True
            self._join()
            return None
        # Arrival order depends on who is fast; everything below folds in the order of the work instead.
        return sorted(reports, key=lambda report: (type(report).__name__, report.index))

    # The model

    def _aggregate(self, record: RoundRecord, down: Broadcast, cohort: Ints, reports: list[BlockReport]) -> None:
        plan, state = self._plan, self._state
        failures = [failure for report in reports for failure in report.failures]
        for failure in failures:
            _log.warning("round %d: client %r gave no update (%s): %s\n%s", *_words(failure))
        clients = sum(len(report.clients) for report in reports)
        if len(cohort) and (verdict := plan.failures.verdict(failures, len(cohort))):
            raise RunFailed(verdict)
        if clients:
            weight = float(np.concatenate([report.weight for report in reports]).sum())
            total = plan.algorithm.aggregator.finish(self._executor.collect(), weight, down.weight, clients)
            with torch.no_grad():
                for transform in reversed(plan.algorithm.transforms):
                    transform.on_aggregate(total, plan.task.seed, record.round)
                if plan.task.buffers == "mean":
                    plan.layout.round_integers(total.parts["delta"])
                else:
                    total.parts["delta"][plan.layout.trained :] = 0.0
                plan.algorithm.server.step(state.vector, total)
            if not bool(torch.isfinite(state.vector.sum())):
                raise RunFailed(f"round {record.round}: the global model is no longer finite; lower the learning rates")
            for report in reports:
                state.store.commit(report.state)
        self._describe(record, cohort, reports, failures)

    def _describe(self, record: RoundRecord, cohort: Ints, reports: list[BlockReport], failures: list[Failure]) -> None:
        plan = self._plan
        examples = np.concatenate([report.examples for report in reports] or [np.zeros(0, dtype=np.int64)])
        loss = np.concatenate([report.loss for report in reports] or [np.zeros(0)])
        record.workers = self._executor.workers
        record.clients = {"sampled": len(cohort), "ok": len(examples), "failed": len(failures)}
        record.examples = int(examples.sum())
        if record.examples:
            record.train = {"loss": float((loss * examples).sum() / record.examples)}
        record.bytes = plan.traffic(len(cohort), len(examples))
        record.failures = [
            {"client": f.name, "stage": f.stage, "error": f.error} for f in sorted(failures, key=lambda f: f.client)
        ]

    # What runs beside the next round

    def _evaluations(self) -> list[Item]:
        plan, round = self._plan, self._state.round
        if self._state.pending is None:
            return []
        items: list[Item] = []
        test = plan.task.data.test
        if test is not None and plan.evaluate.due(plan.evaluate.every, round, plan.rounds):
            items += TestChunk.cut(len(test))
        if plan.evaluate.due(plan.evaluate.clients_every, round, plan.rounds):
            held = np.flatnonzero(plan.task.data.holdout_sizes > 0)
            items += [
                HoldoutChunk(i, held[start : start + _HOLDOUT_CLIENTS])
                for i, start in enumerate(range(0, len(held), _HOLDOUT_CLIENTS))
            ]
        return items

    def _finish_pending(self, reports: list[Report]) -> RoundRecord | None:
        record = self._state.pending
        if record is None:
            return None
        # A checkpoint in the background may be reading the record.
        self._join()
        tests = [r for r in reports if isinstance(r, TestReport)]
        holdouts = [r for r in reports if isinstance(r, HoldoutReport)]
        record.test = {name: mean.result for name, mean in metrics.merge([r.metrics for r in tests]).items()}
        if holdouts:
            record.clients_test = _spread(holdouts)
        seconds = sum(r.seconds for r in tests) + sum(r.seconds for r in holdouts)
        record.phases["evaluate"] = seconds / max(1, self._executor.workers)
        self._state.pending = None
        return record

    def _start_background(self, record: RoundRecord) -> None:
        due = self._plan.checkpoint_due(record.round)
        if due or self._plan.layout.size <= HASHED_EVERY_ROUND:
            self._background.append(self._pool.submit(self._hash, record))
        if due:
            self._background.append(self._pool.submit(self._checkpoint, record))

    def _hash(self, record: RoundRecord) -> None:
        record.model_sha256 = model_sha256(self._state.vector)

    def _checkpoint(self, record: RoundRecord) -> None:
        started = time.perf_counter()
        self._save(self._state)
        record.phases["checkpoint"] = time.perf_counter() - started

    def _join(self) -> None:
        waiting, self._background = self._background, []
        for future in waiting:
            future.result()


def model_sha256(vector: Tensor) -> str:
    """SHA-256 of a vector's float32 bytes, little-endian."""
    return hashlib.sha256(vector.detach().cpu().contiguous().numpy().data.cast("B")).hexdigest()


def check_cohort(sampler: Sampler, sizes: Ints) -> None:
    """ConfigError if the sampler cannot draw from these clients."""
    try:
        sampler.check(sizes)
    except ValueError as error:
        raise ConfigError(f"sampler: {error}") from None


def _words(failure: Failure) -> tuple[int, str, str, str, str]:
    return failure.round, failure.name, failure.stage, failure.error, failure.trace


def _spread(reports: list[HoldoutReport]) -> dict[str, dict[str, float]]:
    examples = np.concatenate([report.examples for report in reports])
    result: dict[str, dict[str, float]] = {}
    for name in reports[0].sums:
        sums = np.concatenate([report.sums[name] for report in reports])
        low, middle, high = np.percentile(sums / examples, [10, 50, 90])
        mean = float(sums.sum() / examples.sum())
        result[name] = {"mean": mean, "p10": float(low), "p50": float(middle), "p90": float(high)}
    return result

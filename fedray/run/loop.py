"""The synchronous round loop, as a generator of records.

One round: broadcast, train the cohort's blocks, fold, move the model.  What need not delay the next round is done while
the workers train it: the evaluation of the new model (as further work items on the same broadcast), its hash, and its
checkpoint.  So the record of a round is finished, and yielded, during the round that follows; unless somebody decides
by it whether there is to be another one, who then has it before the next cohort is drawn.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fedray.aggregators.stored import RowsLost, brought
from fedray.core import inject, metrics
from fedray.core.errors import RunFailed
from fedray.core.messages import STATISTICS, Aggregate, BlockReport, Broadcast, Failure, Ints
from fedray.core.noise import Journal, unwritten
from fedray.core.record import RoundRecord
from fedray.metrics.measures import together
from fedray.run.addressed import FOLDER, Addressed
from fedray.run.aggregation import aggregate, move, noise_of
from fedray.run.beside import Beside
from fedray.run.by_client import evaluated_in, of_training
from fedray.run.client_spending import ClientSpending
from fedray.run.ending import Ending, reason_to_end
from fedray.run.evaluation import HoldoutReport, TestReport
from fedray.run.executor import Executor
from fedray.run.failure_policy import listed, verdict
from fedray.run.halving import halve
from fedray.run.models import model_sha256
from fedray.run.plan import Plan, saved
from fedray.run.spending import BudgetExceeded, Spending
from fedray.run.state import COMPLETE, ServerState
from fedray.run.survey import Survey, surveyed
from fedray.run.usage import charge
from fedray.run.withheld import ABORTED, Withhold, nothing
from fedray.run.worker import Item, Report
from fedray.rundir.client_table import ClientRows

HASHED_EVERY_ROUND = 10_000_000
"""The entries of a model up to which it is hashed every round; a larger one only where a checkpoint is written."""

_AS_BEFORE = "(as before: its traceback stands above)"
_log = logging.getLogger(__name__)


Save = Callable[[ServerState], None]

Keep = Callable[[int, list[ClientRows]], None]
"""(round, rows of every view) to where what each client got is kept."""


class Rounds:
    """The rounds of a plan, run one by one.

    Args:
        plan: the plan.
        state: the state to start from; moved along.
        executor: the executor of the work.
        save: writes a checkpoint of the state; called in a background thread while the state does not change.
        stopping: asked between reports; once true, the round in progress is dropped and the loop ends.
        clock: seconds, rising; for checkpoints by time.
        awaited: whoever takes the records decides by each whether the run goes on. Then, and where a metric decides
            it, a round is evaluated and its record yielded before the next round begins, so that the round in which the
            run stops does not depend on who is faster.
        keep: keeps what each client got; called before the record is told, so that whoever reads that finds it.
        spending: the privacy that is spent, under ``privacy``.
        withhold: under ``privacy`` takes out of a record what the noise does not protect.
        ending: the reason for which whoever takes the records ends the run.
        addressed: the folder for what the server sends to single clients; default: below that of the clients' state.

    Attributes:
        stopped: it ended because it was asked to.
        ended: it ended before its last round: as ``budget`` or ``early_stopped``, and the reason in words, which begin
            with the config key of a limit.
        failures: those of the round in which the failure policy ended the run, as a record has them.
    """

    def __init__(
        self,
        plan: Plan,
        state: ServerState,
        executor: Executor,
        save: Save,
        stopping: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
        awaited: bool = False,
        keep: Keep = lambda round, rows: None,
        addressed: Path | None = None,
        spending: Spending | ClientSpending | None = None,
        withhold: Withhold = nothing,
        ending: Ending = lambda: None,
    ) -> None:
        self._plan, self._state, self._executor = plan, state, executor
        self._save, self._stopping, self._clock, self._keep = save, stopping, clock, keep
        self._spending, self._withhold, self._ending = spending, withhold, ending
        self._journal: Journal = spending.write if spending else unwritten
        self._awaited = awaited or bool(plan.monitors)
        self._addressed = Addressed(addressed or state.store.folder / FOLDER, plan.algorithm.addressed)
        self._beside = Beside()
        self._told: set[tuple[int, str]] = set()
        self.stopped = False
        self.ended: tuple[str, str] | None = None
        self.failures: list[dict[str, Any]] = []

    def __iter__(self) -> Iterator[RoundRecord]:
        """Run all rounds that are left, in order, and yield their records.

        Raises:
            RunFailed: the failure policy ends the run, with the state of the last finished round; or the model is no
                longer finite, or its step raised, and then only a checkpoint has that state.
        """
        self._executor.wait(self._stopping)
        inject.point("driver.start", 0)
        self._saved_at = self._clock()
        if self._plan.evaluate.before and not self._state.round and self._state.pending is None:
            self._state.pending = RoundRecord(0)
            if self._plan.layout.size <= HASHED_EVERY_ROUND:
                self._hash(self._state.pending)
        with self._beside:
            # Workers may take minutes to start; who asks for a stop meanwhile waits for none of them.
            self.stopped = self._state.round < self._plan.rounds and self._stopping()
            while not self.stopped:
                more = self._goes_on()
                if self._awaited or not more:
                    yield from self._complete(self._plan.rounds if more else self._state.round)
                    more = more and self._goes_on()
                if not more:
                    return
                self.stopped = self.stopped or (self._awaited and self._stopping())
                if not self.stopped:
                    yield from self._round()

    def _goes_on(self) -> bool:
        plan, state = self._plan, self._state
        self.ended = reason_to_end(plan, state, self._spending, self._ending)
        return state.round < plan.rounds and self.ended is None

    def _round(self) -> Iterator[RoundRecord]:
        plan, state = self._plan, self._state
        started = time.perf_counter()
        number = state.round + 1
        cohort = plan.cohort(number, state.noise)
        staying = plan.staying(number, cohort)
        down = self._broadcast(number, plan.weight(staying) or 1.0)
        survey = None
        if plan.task.profile.surveys and len(staying):
            survey = self._survey(down, staying)
            if survey is None:
                return
            down = survey.down
        while True:
            reports, published = self._train(down, staying if survey is None else survey.clients)
            if reports is None:
                return
            trained = time.perf_counter()
            yield from self._tell_pending(reports)
            self._beside.join()
            record = RoundRecord(number, stack=plan.block_size(state.halvings))
            done = [r for r in reports if isinstance(r, BlockReport)] + list(survey.failed if survey else ())
            record.clients = {"sampled": len(cohort)}
            if plan.failures.dropout:
                record.clients["dropped"] = len(cohort) - len(staying)
            try:
                self._aggregate(record, down, len(staying), done)
                break
            except RowsLost as error:
                # Its text: a handler that keeps the error keeps all memory of the frames that it passed.
                _log.warning("round %d: %s; the round is done again", number, str(error))
            except BudgetExceeded:
                state.whole = True  # nothing has moved: the run ends with the round before
                return
        accepted = np.concatenate([report.clients for report in done] or [cohort[:0]])
        record.bytes = plan.traffic(cohort, accepted, number, state.sent.last)
        ended = time.perf_counter()
        record.seconds = ended - started
        published = published if survey is None else survey.began
        record.phases = {"broadcast": published - started, "train": trained - published, "aggregate": ended - trained}
        self._measure(record, survey)
        state.round, state.pending = number, record
        state.trained = of_training(done) if plan.evaluate.clients_every else None
        state.sent.count(accepted, accepted[:0] if survey is None else survey.clients, number)
        self._withhold(record)
        state.noise.forget(number + 1)
        if state.totals.add(record):
            everything = ", ".join(state.totals.hardware)
            _log.warning("round %d: workers of more than one kind (%s): results may differ in bits", number, everything)
        state.whole = True
        best = plan.judge(state.watches, record)  # by what parts tell; evaluations are judged once they are there
        self._plan_beside(record, best)

    def _complete(self, last: int) -> Iterator[RoundRecord]:
        """Evaluate the model after the last finished round, with nothing beside it, and tell that round's record."""
        record, reports = self._state.pending, list[Report]()
        if record is None:
            return
        if self._evaluations(last):
            started = time.perf_counter()
            done: list[Report] | None = None
            while done is None or halve(self._plan, self._state, done):
                self._executor.publish(self._broadcast(record.round + 1, 1.0))
                done = self._work(self._evaluations(last))
                if done is None:
                    return
            reports = done
            self._beside.join()
            if self._awaited:
                extra = charge(record, self._executor.usage(), time.perf_counter() - started)
                self._state.totals.add(extra)
        yield from self._tell_pending(reports)

    def _broadcast(self, round: int, weight: float) -> Broadcast:
        state = self._state
        state.server.enter(round)
        parts, alone = self._plan.broadcast(state.server, state.transforms)
        self._addressed.begin(round, alone)
        if state.statistics is not None:
            parts[STATISTICS] = state.statistics
        return Broadcast(round, parts, weight, moved=self._plan.task.moved(round))

    def _train(self, down: Broadcast, clients: Ints, survey: bool = False) -> tuple[list[Report] | None, float]:
        """Let clients train, or answer a survey, in blocks that fit; return None if stopped, and when it began."""
        plan, state, reports = self._plan, self._state, None
        while reports is None or halve(plan, state, reports):
            self._executor.publish(down)
            published = time.perf_counter()
            inject.point("driver.round", down.round)
            key = b"" if survey else plan.client_key(down.round, state.noise, down.parts["model"])
            blocks = plan.blocks(down.round, clients, state.store, state.halvings, survey, key)
            reports = self._work([*blocks, *(() if survey else self._evaluations(plan.rounds))])
            if reports is None:
                break
        return reports, published

    def _survey(self, down: Broadcast, clients: Ints) -> Survey | None:
        """Ask the clients of a round before they train; None if stopped."""
        reports, began = self._train(down, clients, survey=True)
        if reports is None:
            return None
        folded = brought(self._executor.collect(), self._state.vector.device)
        done = [r for r in reports if isinstance(r, BlockReport)]
        return surveyed(self._plan, down, clients, folded, done, began, self._executor.usage())

    def _work(self, items: list[Item]) -> list[Report] | None:
        self._beside.begin()
        reports = self._executor.run([self._addressed.with_rows(item) for item in items], self._stopping)
        if reports is None:
            self.stopped = True
            self._beside.join()
            return None
        # Arrival order depends on who is fast; everything below folds in the order of the work instead.
        return sorted(reports, key=lambda report: (type(report).__name__, report.index))

    # The model

    def _aggregate(self, record: RoundRecord, down: Broadcast, asked: int, reports: list[BlockReport]) -> None:
        plan, state = self._plan, self._state
        failures = [failure for report in reports for failure in report.failures]
        if isinstance(self._spending, ClientSpending):
            self._spending.take(record.round, reports)
        for failure in failures if plan.privacy is None else ():
            words = failure.round, failure.name, failure.stage, failure.error, self._trace(failure)
            _log.warning("round %d: client %r gave no update (%s): %s\n%s", *words)
        if asked and (reason := verdict(plan.failures, failures, asked)):
            record.failures = listed(failures)
            if plan.privacy is not None:
                reason = ABORTED.format(record.round)
                self._withhold(record)
            self.failures = record.failures
            raise RunFailed(reason)
        if any(len(report.clients) for report in reports):
            inject.point("driver.fold", record.round)
            folded = brought(self._executor.collect(), state.vector.device)
            noise = noise_of(state, record.round, self._journal)
            total, kept = aggregate(plan, state.kept, folded, down.weight, reports, record, noise)
            total.parts.update({name: down.parts[name] for name in plan.task.profile.surveys})
            self._move(total, record)
            state.kept = kept
            state.store.commit(*(report.state for report in reports))
        elif any(transform.hides_empty for transform in plan.algorithm.transforms):
            sent = plan.algorithm.sends(plan.layout).items()
            zeros = {name: torch.zeros(width, device=state.vector.device) for name, width in sent}
            self._move(Aggregate(zeros, 0.0, 0), record)
        self._describe(record, reports, failures)

    def _trace(self, failure: Failure) -> str:
        """Return the traceback when a client first fails with this kind of error, later the place where to find it."""
        kind = failure.client, failure.error.partition(":")[0]
        known = bool(failure.trace) and kind in self._told
        self._told.add(kind)
        return _AS_BEFORE if known else failure.trace

    def _move(self, total: Aggregate, record: RoundRecord) -> None:
        """Transform the aggregate of a round, and move the model by it."""
        inject.point("driver.aggregate", record.round)
        self._state.whole = False
        with torch.no_grad():
            move(self._plan, self._state, total, record, self._journal)
        if self._spending:
            self._spending.tell(record)
        if not self._state.is_finite(self._plan.layout, self._plan.beside(self._state.server)):
            raise RunFailed(f"round {record.round}: the global model is no longer finite; lower the learning rates")

    def _describe(self, record: RoundRecord, reports: list[BlockReport], failures: list[Failure]) -> None:
        plan = self._plan
        examples = np.concatenate([report.examples for report in reports] or [np.zeros(0, dtype=np.int64)])
        loss = np.concatenate([report.loss for report in reports] or [np.zeros(0)])
        record.clients |= {"ok": len(examples), "failed": len(failures)}
        record.examples = int(examples.sum())
        if record.examples:
            seen = np.concatenate([report.seen for report in reports])
            record.train = {"loss": float((loss * seen).sum() / (int(seen.sum()) or float("nan")))}
            if (rate := plan.task.rate.of(record.round)) is not None:
                record.train["lr"] = rate
        record.weight = float(sum(report.weight.sum() for report in reports))
        record.failures = listed(failures)

    def _measure(self, record: RoundRecord, survey: Survey | None) -> None:
        usage = self._executor.usage()
        usage = usage if survey is None else survey.usage.plus(usage)
        record.workers = self._executor.workers
        record.bytes["network"] = usage.network
        record.usage = usage.section(record.phases["train"], record.seconds)
        if record.failures:
            record.usage["failures"] = dict(Counter(failure["stage"] for failure in record.failures))

    # What runs beside the next round

    def _evaluations(self, last: int) -> list[Item]:
        state = self._state
        if not state.to_evaluate:
            return []
        return [*self._plan.evaluations(state.round, last, state.store, state.halvings + state.view_halvings)]

    def _tell_pending(self, reports: list[Report]) -> Iterator[RoundRecord]:
        record = self._state.pending
        if record is None:
            return
        # A checkpoint in the background may be reading the record.
        self._beside.join()
        if COMPLETE not in record.phases:
            self._describe_evaluation(record, reports)
            if self._plan.judge(self._state.watches, record):
                self._saved_at = self._clock()
                self._checkpoint(record)
        yield record
        # Only now: where telling it fails, the last checkpoint still has it to tell.
        self._state.pending = self._state.trained = None

    def _describe_evaluation(self, record: RoundRecord, reports: list[Report]) -> None:
        tests = [piece for r in reports if isinstance(r, TestReport) for piece in r.pieces]
        holdouts = [r for r in reports if isinstance(r, HoldoutReport)]
        measures = self._plan.task.measures
        record.test = {name: mean.result for name, mean in metrics.merge([r.metrics for r in tests]).items()}
        states = together(r.states for r in tests)
        record.test |= measures.numbers(states)
        if tables := measures.tables(states):
            record.tables["test"] = tables
        record.samples = self._plan.words.of(sample for report in tests for sample in report.samples)
        if holdouts:
            found = evaluated_in(record, holdouts, measures, self._plan.task.data.unevaluated)
            of_round = self._state.trained
            self._state.sent.evaluated(found)
            if found and self._plan.privacy is None:
                self._keep(record.round, found if of_round is None else [of_round, *found])
        if tests or holdouts:
            self._withhold(record)
        seconds = sum(r.seconds for r in tests) + sum(r.seconds for r in holdouts)
        record.workers = record.workers or self._executor.workers  # round 0 has no other work
        record.phases[COMPLETE] = seconds / max(1, self._executor.workers)

    def _plan_beside(self, record: RoundRecord, best: bool) -> None:
        since = self._clock() - self._saved_at
        due = best or saved(self._plan.checkpoint, record.round, self._plan.rounds, since)
        if due:
            self._saved_at = self._clock()
        if due or self._plan.layout.size <= HASHED_EVERY_ROUND:
            self._beside.note(partial(self._hash, record))
        self._beside.note(partial(self._state.store.tidy, record.round))
        if due:
            self._beside.note(partial(self._checkpoint, record))

    def _hash(self, record: RoundRecord) -> None:
        record.model_sha256 = model_sha256(self._state.vector, self._plan.beside(self._state.server))

    def _checkpoint(self, record: RoundRecord) -> None:
        started = time.perf_counter()
        self._save(self._state)
        record.phases["checkpoint"] = time.perf_counter() - started

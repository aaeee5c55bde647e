"""A run: the rounds of a plan with a run folder, from fresh or from a checkpoint."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fedray.config.registry import made
from fedray.core import inject
from fedray.core.errors import ConfigError, RunFailed, listed, one_line, reason
from fedray.core.hardware import machine, versions
from fedray.core.record import RoundRecord
from fedray.local.views import has_own
from fedray.models.prototype import peek
from fedray.run.answers import Answers
from fedray.run.best import Best
from fedray.run.client_spending import claim, spending_of
from fedray.run.ending import ENDED_BY, Ending, ending_again, gone_on, lost_callbacks
from fedray.run.evaluation import with_statistics
from fedray.run.executor import Executor
from fedray.run.federation import Federation
from fedray.run.interrupt import StoppedEarly
from fedray.run.loop import Rounds
from fedray.run.meaning import Meaning
from fedray.run.models import check_frozen, frozen_in, keep_frozen, write_model
from fedray.run.origin import compare, origin, other_code, other_curves
from fedray.run.plan import Plan
from fedray.run.profiling import Profile
from fedray.run.sent import write_sent
from fedray.run.snapshot import check_rounds, first_state, restore, snapshot
from fedray.run.state import ServerState
from fedray.run.watch import BEST, Watch
from fedray.run.withheld import NotPrivate, nothing
from fedray.run.worker import Job
from fedray.rundir import checkpoint, configs, durable, worker_log
from fedray.rundir.checkpoint import Checkpoint, CheckpointError
from fedray.rundir.client_state import ClientStore
from fedray.rundir.client_table import ClientTable
from fedray.rundir.code import keep_code
from fedray.rundir.folder import RunFolder
from fedray.rundir.lock import driving, signalled_process
from fedray.rundir.log import logged
from fedray.rundir.names import COMPLETE, METRICS, MODEL, NOT_PRIVATE, SUMMARY, to_go_on
from fedray.tracking.base import RunInfo, Tracker
from fedray.tracking.guarded import Guarded
from fedray.tracking.jsonl import JsonLines
from fedray.tracking.labels import Labels

_log = logging.getLogger("fedray")


@dataclass(frozen=True)
class Run:
    """All that a driver needs, picklable.

    Args:
        plan: the plan.
        folder: the folder of the results; claimed already.
        name: the experiment's name.
        config: the resolved config as YAML.
        defaults: keys of the config that have their default value.
        threads: torch threads of a worker.
        resume: go on from the newest checkpoint.
        code: the SHA-256 of each file of the user's own code, as it is where the run is made.
        trackers: the trackers besides ``metrics.jsonl``; a failure of theirs does not end the run.
        callbacks: names of the functions that are called with each record before the next round, and may end the run.
        notes: lines for the head of the log.
        warnings: warnings raised while the data was read, before there was a log.
        started_by: token of the owner of the folder who starts the run's driver, see
            :func:`fedray.rundir.lock.starting_a_driver`.
        hardware: the hardware that the bits depend on, asked where the run is made: its driver, on the same node, may
            see no GPU.
        profile: the rounds of which there are to be traces; None: of none.
        launcher: the process that made the run, whose signals stop it; 0: it handles none.
    """

    plan: Plan
    folder: RunFolder
    name: str
    config: str
    threads: int = 1
    defaults: frozenset[str] = frozenset()
    resume: bool = False
    code: Mapping[str, str] = field(default_factory=dict)
    trackers: tuple[Tracker, ...] = ()
    callbacks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    started_by: str | None = None
    hardware: Mapping[str, str] = field(default_factory=machine)
    profile: Profile | None = None
    launcher: int = field(default_factory=signalled_process)

    def job(self) -> Job:
        """Return the workers' part of the run."""
        folder = self.folder
        return Job(self.plan.task, self.plan.algorithm, folder.state, self.threads, folder.workers, self.profile)

    def info(self, resumed_from: int | None = None) -> RunInfo:
        """Return the facts for trackers at the start; without ``resumed_from``, by the newest checkpoint there is."""
        if resumed_from is None:
            saved = checkpoint.rounds_in(self.folder.checkpoints) if self.resume else []
            resumed_from = saved[0] if saved else 0
        data = self.plan.task.data
        told = self.plan.privacy is None  # else of each client nothing
        wanted = told and data.counted and data.spec.task == "classification" and data.members <= 100_000
        return RunInfo(
            run_dir=self.folder.path,
            name=self.name,
            rounds=self.plan.rounds,
            resumed_from=resumed_from,
            clients=data.members,
            parameters=self.plan.layout.trained,
            config_yaml=self.config,
            label_counts=data.label_counts()[: data.members] if wanted else None,
            client_names=[data.client_id(i) for i in range(min(data.members, 1000))] if told else [],
            classes=list(data.spec.classes),
        )

    def hints(self) -> list[str]:
        """Return the lines for the end: what lacks, and how to look at what trackers of fedray's own have written."""
        known = (one for one in self.trackers if isinstance(one, Tracker))
        return [*self.plan.unevaluated, *(hint for one in known if (hint := one.hint(self.folder.path)))]

    def check_rounds(self) -> None:
        """Check that there are rounds enough for those that are done, so that a mistake is said before all else.

        Raises:
            ConfigError: there are not.
        """
        done = checkpoint.newest_state(self.folder.checkpoints).get("round", 0) if self.resume else 0
        if done > self.plan.rounds:  # unless that one turns out to be damaged
            saved = checkpoint.newest(self.folder.checkpoints, self.folder.state)
            check_rounds(self.plan, saved.round if saved else 0)

    def differences(self, saved: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
        """Yield what is to be said of a run that goes on from a checkpoint's state, each with its level.

        Raises:
            ConfigError: it cannot go on so, see ``fedray.run.origin.compare``.
        """
        yield from other_code(self.folder.path, saved, self.code)
        if not saved:
            return
        yield from compare(saved, self.plan.task.data, self.hardware, self.plan.sampler)
        first = saved["round"] + 1
        if keys := configs.config_changes(self.folder.path, self.config, first, self.defaults):
            yield logging.WARNING, f"the config is another one from round {first} on: {listed(keys)}"
        if self.plan.evaluate.before and saved["round"] and any("evaluate.before" in key for key in keys):
            yield logging.WARNING, "evaluate.before: the model before training is not evaluated any more, as it is gone"
        yield from ((logging.WARNING, words) for words in lost_callbacks(saved, self.callbacks))
        yield from other_curves(self.plan, configs.rounds_before(self.folder.path, first), first)

    def warn(self) -> None:
        """Warn, before it starts, of what differs where it goes on; the log of the run has the same.

        Raises:
            ConfigError: as for :meth:`differences`.
        """
        for level, words in self.differences(checkpoint.newest_state(self.folder.checkpoints)) if self.resume else ():
            if level >= logging.WARNING:
                _log.warning("%s", words)

    def records(
        self,
        start: Callable[[Job], Executor],
        stopping: Callable[[], bool] = lambda: False,
        ending: Ending = lambda: None,
    ) -> Iterator[RoundRecord]:
        """Run, yielding each round's record when it is complete.

        Args:
            start: makes the executor.
            stopping: asked often; once true the round in progress is dropped, a checkpoint saved, and the iterator
                ends.
            ending: asked between rounds; once there is a reason, the run has come to its end.

        Raises:
            RunFailed: with the state of the last finished round saved.
            StoppedEarly: it was stopped before there was an executor.
            ConfigError: nothing to resume from, or another process drives the run.
        """
        with logged(self.folder.path), driving(self.folder.path, self.launcher, self.started_by):
            for folder in (self.folder.path, self.folder.checkpoints):
                durable.sweep(folder)
            for note in self.notes:
                _log.info("%s", note)
            for warning in self.warnings:
                _log.warning("%s", warning)
            with self._told_if_it_fails():
                executor = start(self.job())
            try:
                with self._told_if_it_fails():
                    drive = _Drive(self, executor, stopping, ending)
                # Not before: a config that cannot go on with what there is must not take the place of the one that can.
                self.folder.keep_config(self.config, drive.first, self.defaults)
                keep_code(self.folder.path, self.code, drive.first)
                self.folder.keep_encoding(self.plan.task.data.encoding)
                self.folder.keep_inputs(self.plan.task.augment.told)
                if has_own(self.plan.task):
                    Federation.of(self.plan.task.data).write(self.folder.path)
                yield from drive.records()
            finally:
                executor.close()
                worker_log.sweep(self.folder.workers)

    @contextlib.contextmanager
    def _told_if_it_fails(self) -> Iterator[None]:
        """Write an error of the context into the summary.

        The code that drives the rounds writes a summary only once it is there itself.
        """
        try:
            yield
        except (ConfigError, StoppedEarly):
            raise
        except Exception as error:
            told = {"name": self.name, "status": "failed", "error": reason(error)} | gone_on(self.folder.summary())
            told["rounds"] = max(checkpoint.rounds_in(self.folder.checkpoints), default=0)
            durable.replace(self.folder.path / SUMMARY, json.dumps(told, indent=1).encode())
            raise


class _Drive:
    """The work of one process on a run."""

    def __init__(self, run: Run, executor: Executor, stopping: Callable[[], bool], ending: Ending) -> None:
        self._run, self._executor, self._ending = run, executor, ending
        self._saved = -1
        self._state = self._initial_state()
        self._started_at = self._state.round
        self.first = self._state.round + 1
        self._state.sent.ask(self.first, run.plan.task.data.asked)
        self._began = time.time() - self._state.totals.seconds
        self._clients = ClientTable(run.folder.clients, run.plan.task.data.client_id, run.plan.evaluate.keep_clients)
        withhold = nothing if run.plan.privacy is None else NotPrivate(run.folder.path / NOT_PRIVATE)
        begin = partial(Rounds, run.plan, self._state, executor, self._save, stopping, awaited=bool(run.callbacks))
        self._rounds = begin(keep=self._clients.write, spending=self._spending, withhold=withhold, ending=self._ending)
        guarded, self._answers = (Guarded(made(one)) for one in run.trackers), Answers(run.plan, self._clients)
        self._trackers: list[Tracker] = [JsonLines(run.folder.path / METRICS), Labels(), self._answers, *guarded]
        self._last: RoundRecord | None = None
        self._best, self._status = Best(run.plan, run.folder, self._state), "failed"
        self._error: str | None = None

    def _initial_state(self) -> ServerState:
        run, plan = self._run, self._run.plan
        vector = self._executor.global_vector(plan.layout.size)
        module = peek(plan.task.model_fn)  # inline, the worker evaluates with it
        vector.copy_(plan.layout.pack(dict(module.state_dict())))
        self._frozen = keep_frozen(run.folder.path, plan.layout, module)
        store = ClientStore(run.folder.state, run.job().state_fields(), self._executor.hold())
        state = first_state(plan, vector, store)
        saved = checkpoint.newest(run.folder.checkpoints, run.folder.state) if run.resume else None
        self._spending = spending_of(plan, run.folder.path, saved.state if saved else None)
        if run.resume:
            if saved is None:
                _log.info("no checkpoint yet: starting from the first round")
            else:
                self._restore(state, saved)
            for level, words in run.differences(saved.state if saved else {}):
                _log.log(level, "%s", words)
        return state

    def _restore(self, state: ServerState, saved: Checkpoint) -> None:
        check_frozen(saved.state, self._frozen)
        restore(self._run.plan, state, saved)
        checkpoint.drop_after(self._run.folder.checkpoints, saved.round)
        state.store.kept = frozenset(checkpoint.segments(self._run.folder.checkpoints))
        self._saved = saved.round
        self._ending = ending_again(saved, self._run.folder.summary()) or self._ending
        best = checkpoint.best_of(saved.state)
        if BEST in state.watches and best and best["round"] not in checkpoint.rounds_in(self._run.folder.checkpoints):
            _log.warning("the checkpoint of the best round, %d, is gone: the best from here on is kept", best["round"])
            state.watches[BEST] = Watch()
        _log.info("resumed after round %d", saved.round)

    def _save(self, state: ServerState) -> None:
        run = self._run
        state.totals.seconds = time.time() - self._began
        state.store.flush()
        kept, meaning = run.plan.checkpoint, Meaning.of(run.plan.task).to_json()
        begun = {**origin(run.plan.task.data, run.hardware, run.plan.sampler), ENDED_BY: self._ending()}
        wrote = {**begun, "callbacks": list(run.callbacks), "frozen": self._frozen, "meaning": meaning}
        content = snapshot(run.plan, state, wrote | ({"privacy": self._spending.to_json()} if self._spending else {}))
        try:
            checkpoint.write(run.folder.checkpoints, content, kept.keep, kept.every * kept.history)
            write_sent(run.folder.path, run.plan, state.sent, state.round)
        except (CheckpointError, OSError) as error:
            before = checkpoint.rounds_in(run.folder.checkpoints)
            whole = f"the checkpoint of round {before[0]} is whole" if before else "there is no earlier checkpoint"
            raise RunFailed(f"{error}; {whole}. Free space, then `{to_go_on(run.folder.path)}`") from error
        state.store.kept = frozenset(checkpoint.segments(run.folder.checkpoints))
        self._saved = state.round

    def records(self) -> Iterator[RoundRecord]:
        info = self._run.info(self._started_at)
        for tracker in self._trackers:
            tracker.start(info)
        if self._run.plan.secret and self._saved < 0:
            self._save(self._state)  # so that after a kill the first rounds, too, have the same noise
        first = self._state.round + (not self._state.to_evaluate)
        self._clients.begin(first, wanted=self._run.plan.evaluate.clients_every > 0 and self._run.plan.privacy is None)
        try:
            for record in self._rounds:
                self._tell(record)
                yield record
            if (left := self._untold()) is not None:
                # Stopped before it was evaluated: whoever goes on tells it again, with its evaluation.
                self._tell(left)
                yield left
            self._save_last()
            self._end()
        except BaseException as error:
            self._error = reason(error)
            self._save_last()
            if (left := self._untold()) is not None and self._last is not left:
                self._tell(left)
            if isinstance(error, Exception) and not isinstance(error, (RunFailed, ConfigError, OSError)):
                raise RunFailed(f"round {self._state.round + 1}: {one_line(error)}") from error
            raise
        finally:
            self._clients.close()
            self._close(self._summary() | gone_on(self._run.folder.summary()))

    def _untold(self) -> RoundRecord | None:
        """Return the record of the last round that is not told yet; of round 0 there is none before its evaluation."""
        state = self._state
        return None if not state.round and state.to_evaluate else state.pending

    def _tell(self, record: RoundRecord) -> None:
        self._last = record
        for tracker in self._trackers:
            tracker.round(record)

    def _save_last(self) -> None:
        if self._saved != self._state.round and self._state.whole:
            self._save(self._state)

    def _end(self) -> None:
        """Say how it ended, once everything that belongs to such an end is on disk."""
        state, rounds, folder = self._state, self._rounds, self._run.folder.path
        if rounds.stopped:
            _log.info("stopped as asked, after round %d; its checkpoint is saved", state.round)
            self._status = "stopped"
            return
        inject.point("driver.end", state.round)
        self._executor.close()  # first, as it holds memory of the model's size on each worker
        layout, vector = self._run.plan.layout, with_statistics(state.vector, state.statistics)
        write_model(layout, vector, folder / MODEL, frozen_in(folder, layout))
        self._best.write()
        checkpoint.forget_keys(self._run.folder.checkpoints)
        self._status, words = rounds.ended or ("finished", "")
        if words:
            _log.info("%s, after round %d", words, state.round)

    def _close(self, summary: dict[str, Any]) -> None:
        try:
            if self._spending:
                claim(self._run.folder.path, self._spending.ledger, summary["privacy"])
            durable.replace(self._run.folder.path / SUMMARY, json.dumps(summary, indent=1).encode())
            if self._saved == self._state.round:  # with the last evaluation, which came after the checkpoint
                write_sent(self._run.folder.path, self._run.plan, self._state.sent, self._state.round)
        finally:
            for tracker in self._trackers:
                if self._status in COMPLETE:
                    tracker.finish(summary)
                tracker.close()

    def _summary(self) -> dict[str, Any]:
        state, plan = self._state, self._run.plan
        state.totals.seconds = time.time() - self._began
        return {
            "name": self._run.name,
            "status": self._status,
            **({"error": self._error} if self._error else {}),
            **({"failures": self._rounds.failures} if self._rounds.failures else {}),
            **(dict([self._rounds.ended]) if self._rounds.ended else {}),
            **(self._best.told() | self._answers.told() | plan.not_private),
            **({"privacy": self._spending.statement()} if self._spending else {}),
            "rounds": state.round,
            "rounds_wanted": plan.rounds,
            "resumed_from": self._started_at,
            "seconds": round(state.totals.seconds, 3),
            "examples": state.totals.examples,
            "totals": state.totals.to_json(),
            "seed": plan.task.seed,
            "clients": plan.task.data.members,
            "parameters": plan.layout.trained,
            "workers": self._last.workers if self._last else 0,
            "stacking": plan.task.stacking.reason,
            "machine": self._run.hardware,
            "versions": versions(),
            "final": self._last.to_json() if self._last else None,
        }

"""A client in a round of a run, looked at: its block as it was, and the client alone, step by step."""

from __future__ import annotations

import bdb
import pdb
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from fedray.config.binding import nearest
from fedray.core.errors import ConfigError, RunFailed, listed, one_line, reason
from fedray.core.messages import DELTA, Block, BlockReport, BlockUpdate, Parts
from fedray.data import ClientData
from fedray.local.task import LocalTask, Sharing, Stacking
from fedray.replay.looked import Looked
from fedray.replay.recorded import Recorded
from fedray.replay.rounds import UNASKED, Replay
from fedray.replay.watched import Place, Trouble, Watched
from fedray.run.executor import InlineExecutor
from fedray.run.plan import Plan
from fedray.run.trained import Models
from fedray.run.worker import Item, Job, Report, Worker

_ALONE = Stacking(1, False, "alone, to be looked at")


def chosen(
    recorded: Recorded, round: int | None, client: str | None, given: Collection[str] = ()
) -> tuple[int, str | None]:
    """Return the round and the client to look at: by default those of the first failure that lies with a client.

    Args:
        recorded: the run.
        round: the round; None: that of the failure.
        client: the client's id; None: the first that failed in the round, as far as the run has recorded one.
        given: as for :meth:`Recorded.check_config`.

    Raises:
        ConfigError: there was none; the run has no such round.
    """
    recorded.check_config(given, "debug")
    if round is not None and not 1 <= round <= recorded.last + 1:
        raise ConfigError(f"round {round}: the run has recorded rounds 1 to {recorded.last}")
    for number in [*sorted(recorded.records), recorded.last + 1] if round is None else [round]:
        for failure in recorded.failures(number):
            if failure["stage"] not in UNASKED and client in (None, failure["client"]):
                return number, failure["client"]
    if round is None:
        if recorded.summary.get("status") == "failed":  # in the round after the last that is recorded
            return recorded.last + 1, client
        who = f"client {client!r}" if client else "no client"
        failed = "has not failed" if client else "has failed"
        such = f"say which round to look at, such as round {max(1, recorded.last)}"
        raise ConfigError(f"{recorded.folder.path}: {who} {failed} in it; {such}")
    return round, client


def debug(
    recorded: Recorded,
    round: int,
    client: str | None,
    debugger: bool = False,
    ready: Callable[[], None] = lambda: None,
    given: Mapping[str, Any] | None = None,
    progress: Callable[[], AbstractContextManager[Callable[[int], None]]] = lambda: nullcontext(lambda round: None),
) -> Looked:
    """Do the rounds before again, then the round, and look at a client in it.

    Args:
        recorded: the run.
        round: the round.
        client: the client's id; None: the first that fails.
        debugger: give the client's training alone to pdb, at the step that goes wrong, else at the first.
        ready: called before the debugger takes over.
        given: as for :class:`Replay`.
        progress: called once it is known that the client is in the round, for the context in which the rounds are done;
            what it gives is called with the number of each round that was.

    Raises:
        ConfigError: the client is not in the round; the run's config, data or code do not fit any more.
        RunFailed: a round before fails.
    """
    replay = Replay(recorded, lambda job, devices: _Watching(job, devices, look), given)
    plan = replay.plan(round)
    index = None if client is None else _index(plan, round, client)
    if index is None and round in recorded.records:
        raise _nobody(plan, round)  # its record says so
    seen: list[Looked] = []

    def look(worker: Worker, items: Sequence[Item], reports: Sequence[Report]) -> None:
        blocks = {item.index: item for item in items if isinstance(item, Block) and not item.survey}
        if seen or not blocks or next(iter(blocks.values())).round != round:
            return
        failures = {f.client: f for report in reports if isinstance(report, BlockReport) for f in report.failures}
        who = index
        if who is None:
            if not (found := [client for client in sorted(failures) if failures[client].stage not in UNASKED]):
                return
            who = found[0]
        block = next(block for block in blocks.values() if who in block.clients)
        data = worker.job.task.data
        together, training = [data.client_id(one) for one in block.clients.tolist()], int(data.sizes[who])
        rows = training + int(data.holdout_sizes[who])
        looked = Looked(round, data.client_id(who), together, rows, training)
        if who in failures:
            looked.failure = failures[who].stage, failures[who].error
        _look(worker, block, who, looked, debugger, ready)
        seen.append(looked)

    start, now, ended = recorded.before(round), None, None
    try:
        with progress() as tell:
            for one in replay.rounds(start, round):
                tell(one.record.round)
                if one.record.round == round:
                    now = one.record.model_sha256
    except RunFailed as error:
        if not seen:
            raise
        ended = reason(error)
    if not seen:
        raise _nobody(plan, round)
    (looked,) = seen
    looked.then, looked.now = recorded.records.get(round, {}).get("model_sha256"), now
    looked.error, looked.ended = recorded.error(round), ended
    for failure in recorded.failures(round):
        if failure["client"] == looked.client:
            looked.recorded = failure["stage"], failure["error"]
    looked.doubts = replay.doubts(start, round)
    return looked


def _nobody(plan: Plan, round: int) -> ConfigError:
    names = listed(plan.task.data.client_id(one) for one in plan.cohort(round).tolist())
    return ConfigError(f"client: nobody fails in round {round}; name one of its clients: {names}")


def _index(plan: Plan, round: int, client: str) -> int:
    """Return the index of a client that is in a round."""
    data: ClientData = plan.task.data
    known = {data.client_id(one): one for one in range(len(data))}
    if client not in known:
        raise ConfigError(f"client: no client {client!r}{nearest(client, known)}; there are {listed(known)}")
    index = known[client]
    if index not in plan.cohort(round):
        rounds = [number for number in range(1, plan.rounds + 1) if index in plan.cohort(number)]
        raise ConfigError(f"client: {client} is not in the cohort of round {round}; it is in those of {listed(rounds)}")
    if index not in plan.staying(round, plan.cohort(round)):
        raise ConfigError(f"client: {client} dropped out of round {round}, as failures.dropout has it")
    return index


class _Watching(InlineExecutor):
    """The executor that shows what it has done while the worker still knows the round."""

    def __init__(
        self,
        job: Job,
        devices: Sequence[torch.device],
        look: Callable[[Worker, Sequence[Item], Sequence[Report]], None],
    ) -> None:
        super().__init__(job, devices)
        self._look = look

    def run(self, items: Sequence[Item], stopping: Callable[[], bool]) -> list[Report] | None:
        """Do the items in order, and show them."""
        reports = super().run(items, stopping)
        if reports is not None:
            self._look(self._worker, items, reports)
        return reports


def _look(worker: Worker, block: Block, who: int, looked: Looked, debugger: bool, ready: Callable[[], None]) -> None:
    """Train a block once more, and the client alone."""
    together: dict[str, torch.Tensor] = {}
    try:
        update = worker.local(block.clients, block)
        together = _row(update, block.clients.tolist().index(who))
    except Exception:
        pass  # of any kind, from the user's code: which client raises is told by the round's own reports
    one = np.array([who])
    watched, update_alone, error = _alone(worker, one, block, None)
    looked.steps, looked.trouble = watched.seen, watched.trouble
    if error is not None:
        looked.trace = "".join(traceback.format_exception(error))
        looked.trouble = looked.trouble or Trouble(*watched.place, one_line(error))
    if update_alone is not None and together:
        looked.gap, looked.share = _difference(together, _row(update_alone, 0))
    if debugger:
        place = watched.place if error is not None else (1, 1)
        if looked.trouble is not None:
            place = looked.trouble.fit, looked.trouble.step
        ready()
        _, _, error = _alone(worker, one, block, place)
        if error is not None and not isinstance(error, bdb.BdbQuit):
            pdb.post_mortem(error.__traceback__)


def _alone(
    worker: Worker, client: np.ndarray[Any, np.dtype[np.int64]], block: Block, stop_at: Place | None
) -> tuple[Watched, BlockUpdate | None, Exception | None]:
    """Train one client of a block alone; returns who watched it, and its update or what it raised."""
    made: list[Watched] = []

    def stepper(task: LocalTask, devices: Sequence[torch.device]) -> Watched:
        made.append(Watched(task, task.model_fn(), devices[:1], stop_at))
        return made[-1]

    task = replace(worker.job.task, stacking=_ALONE, sharing=Sharing())
    models = Models(task, worker.job.algorithm, [worker.device], stepper)
    try:
        update = worker.local(client, block, models)
    except Exception as error:
        return made[-1], None, error
    return made[-1], update, None


def _row(update: BlockUpdate, place: int) -> Parts:
    """Return a copy of what one client's training gives: what it sends, and what it keeps."""
    parts = {**update.parts, **{f"state.{name}": part for name, part in update.state.items()}}
    found = {name: part[place].detach().clone() for name, part in parts.items()}
    if update.start is not None:  # still to be subtracted
        found[DELTA].sub_(update.start)
    return found


def _difference(one: Parts, other: Parts) -> tuple[float, float]:
    """Return the largest difference of all numbers, and the same as a share of the largest number."""
    gap, most = 0.0, 0.0
    for name in one.keys() & other.keys():
        a, b = one[name].double().flatten(), other[name].double().flatten()
        if a.shape != b.shape or not len(a):
            continue
        apart = torch.where((a == b) | (a.isnan() & b.isnan()), 0.0, (a - b).abs())
        gap = max(gap, float(apart.nan_to_num(nan=float("inf")).max()))
        most = max(most, float(a[a.isfinite()].abs().max()) if bool(a.isfinite().any()) else 0.0)
    return gap, gap / most if most else 0.0

"""The driver actor, Ray Train's controller: it owns the global model, aggregates, logs, and streams its records."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
import torch
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from fedray.cluster.place.placement import Size
from fedray.cluster.place.reservation import own_gpus, release
from fedray.cluster.place.slots import WorkerArgs
from fedray.cluster.unpicklable import refusal
from fedray.cluster.work.executor import RayExecutor
from fedray.core.errors import ConfigError, RunFailed, counted
from fedray.core.record import RoundRecord
from fedray.core.stages import stage
from fedray.run.driver import Run
from fedray.run.ending import Ending
from fedray.run.interrupt import StoppedEarly
from fedray.run.worker import Job
from fedray.rundir.names import to_go_on

_PERIOD = 0.1
_PATIENCE = 0.2
_fedray = logging.getLogger("fedray")
_of_cluster = logging.getLogger("fedray.cluster")


@dataclass(frozen=True)
class Ended:
    """The last message of a driver's stream.

    Args:
        error: the reason of a failure; None: the run did not fail.
        kind: the class of the error.
    """

    error: str | None = None
    kind: type[RunFailed | ConfigError] = RunFailed


class DriverActor:
    """The actor that drives one :class:`fedray.run.driver.Run` over the worker groups of a cluster."""

    def __init__(self, gpus: float) -> None:
        own_gpus(gpus)
        self._stop = threading.Event()
        self._ending: str | None = None
        self._answers = threading.Semaphore(0)
        self._executor: RayExecutor | None = None

    def up(self) -> None:
        """Answer once the process is there."""

    def ready(self) -> tuple[int, int]:
        """Return how many workers are up, and how many are to be; (0, 0) where that is not known yet."""
        return self._executor.nodes.ready() if self._executor else (0, 0)

    def _start(self, job: Job, workers: WorkerArgs) -> RayExecutor:
        self._executor = RayExecutor(job, workers, self._stop.is_set)
        return self._executor

    def stop(self) -> None:
        """Ask the run to end with a checkpoint."""
        self._stop.set()

    def answer(self, stop: bool, said: Sequence[tuple[int, str]] = (), ending: str | None = None) -> None:
        """Let a run with callbacks go on from a record that they were called with, or end if one of them says so.

        Args:
            stop: it is to stop with a checkpoint, as a signal has asked for it.
            said: lines of theirs for the log of the run, each with its level.
            ending: the reason for which it has come to its end, in words.
        """
        for level, words in said:
            _fedray.log(level, "%s", words)
        if stop:
            self._stop.set()
        self._ending = ending
        self._answers.release()

    def run(self, run: Run, workers: WorkerArgs) -> Iterator[list[RoundRecord | str] | Ended]:
        """Drive the run: yield its records, and warnings of its cluster, some at a time, and at last an
        :class:`Ended`.
        """
        torch.set_num_threads(run.threads)
        waiting: list[RoundRecord | str] = []
        sent = time.monotonic()
        ended = Ended()
        with _warnings(waiting):
            try:
                start = partial(self._start, workers=workers)
                for record in run.records(start, self._stop.is_set, lambda: self._ending):
                    waiting.append(record)
                    if run.callbacks or time.monotonic() - sent >= _PERIOD:
                        yield _taken(waiting)
                        sent = time.monotonic()
                    if run.callbacks:
                        self._answers.acquire()
            except (RunFailed, ConfigError) as error:
                ended = Ended(str(error), type(error))
        yield _taken(waiting)
        yield ended


class _Listener(logging.Handler):
    """A handler that hands each line of a log to a function."""

    def __init__(self, level: int, take: Callable[[logging.LogRecord], None]) -> None:
        super().__init__(level)
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        """Hand it on."""
        self._take(record)


@contextlib.contextmanager
def _warnings(to: list[RoundRecord | str]) -> Iterator[None]:
    """Append warnings of the cluster, as of a worker that died, to a list: the launcher has the terminal."""
    listener = _Listener(logging.WARNING, lambda record: to.append(record.getMessage()))
    _of_cluster.addHandler(listener)
    try:
        yield
    finally:
        _of_cluster.removeHandler(listener)


@contextlib.contextmanager
def _heard() -> Iterator[list[tuple[int, str]]]:
    """Give a list that fills with what fedray's log is told in the context, as by callbacks, each with its level."""
    said: list[tuple[int, str]] = []
    whole = logging.Formatter()  # with the traceback
    listener = _Listener(logging.INFO, lambda record: said.append((record.levelno, whole.format(record))))
    level = _fedray.level
    _fedray.addHandler(listener)
    _fedray.setLevel(logging.INFO)
    try:
        yield said
    finally:
        _fedray.removeHandler(listener)
        _fedray.setLevel(level)


def _taken(waiting: list[RoundRecord | str]) -> list[RoundRecord | str]:
    """Empty a list, to which other threads append, and return what was in it."""
    return [waiting.pop(0) for _ in range(len(waiting))]


@contextlib.contextmanager
def driver_actor(size: Size) -> Iterator[Any]:
    """Start a :class:`DriverActor` on this process's node, where its files are; kill it at the end of the context.

    Args:
        size: the resources that it reserves.
    """
    actor: Any = (
        ray.remote(DriverActor)
        .options(
            num_cpus=size.cpus,
            num_gpus=size.gpus,
            max_concurrency=2,
            enable_task_events=False,
            scheduling_strategy=NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False),
        )
        .remote(size.gpus)
    )
    try:
        yield actor
    finally:
        ray.kill(actor)
        with contextlib.suppress(RayError):
            release(actor._actor_id.hex())


def ask_to_stop(actor: Any) -> None:
    """Ask a driver actor to stop its run, if this process still is connected: a call without Ray would start one."""
    if ray.is_initialized():
        actor.stop.remote()


def stream(
    actor: Any, run: Run, workers: WorkerArgs, stopping: Callable[[], bool], ending: Ending = lambda: None
) -> Iterator[RoundRecord]:
    """Send a run to a driver actor, and yield its records as they come.

    Args:
        actor: of :func:`driver_actor`.
        run: the run.
        workers: the placement of its workers.
        stopping: asked often while the actor comes up; from then on it is the actor that is asked to stop. A run with
            callbacks goes on, or stops, by what it says when the next record is asked for.
        ending: likewise, the reason for which the run has come to its end.

    Raises:
        RunFailed: the run failed, or its driver died.
        StoppedEarly: it was stopped before it began.
        ConfigError: a mistake found when the run started.
    """
    try:
        _await_up(actor, workers, stopping)
        count = workers.workers
        stage(f"starting {counted(count, 'worker') if isinstance(count, int) else 'workers'}, then round 1 begins")
        try:
            refs = actor.run.options(num_returns="streaming").remote(run, workers)
        except RayError:
            raise
        except Exception as error:  # what pickling raises is of any kind
            raise refusal(run.plan.task, error) from error
        _tell_of_workers(actor, refs)
        for ref in refs:
            message = ray.get(ref)
            if isinstance(message, Ended):
                if message.error:
                    raise message.kind(message.error)
                return
            for one in message:
                if isinstance(one, str):
                    _of_cluster.warning("%s", one)
                elif not run.callbacks:
                    yield one
                else:
                    with _heard() as said:
                        yield one
                    actor.answer.remote(stopping(), said, ending())
    except RayTaskError as error:
        raise RunFailed(f"the driver failed: {error}") from error
    except RayError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise RunFailed(f"the driver died ({reason}); go on with `{to_go_on(run.folder.path)}`") from error


def _tell_of_workers(actor: Any, refs: Any) -> None:
    """Tell how many workers are up, each time that it changes, until a stream has its first message."""
    asked, told = None, (0, 0)
    while not ray.wait([refs], timeout=_PATIENCE)[0]:
        asked = asked or actor.ready.remote()
        if not ray.wait([asked], timeout=0)[0]:
            continue
        try:
            found = ray.get(asked)
        except RayError:
            return  # the stream says why
        if found not in (told, (0, 0)):
            up, every = told = found
            stage(f"{up:,} of {counted(every, 'worker')} {'is' if every == 1 else 'are'} ready")
        asked = None


def _await_up(actor: Any, workers: WorkerArgs, stopping: Callable[[], bool]) -> None:
    """Return when a driver actor is there."""
    up, last = actor.up.remote(), time.monotonic() + workers.patience
    while not ray.wait([up], timeout=_PATIENCE)[0]:
        if stopping():
            raise StoppedEarly("stopped before the driver was there")
        if time.monotonic() > last:
            free = Size(ray.available_resources().get("CPU", 0.0), ray.available_resources().get("GPU", 0.0))
            raise RunFailed(
                f"the driver, of {workers.driver}, did not come up on this node in {workers.patience:g} s; "
                f"in the whole cluster {free} are free"
            )

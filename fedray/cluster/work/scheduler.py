"""A round's items on the worker groups of all nodes: dealt out as they ask, done again when one is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from fedray.cluster.work.ledger import Ledger
from fedray.cluster.work.queue import Consumer, WorkQueue
from fedray.run.worker import Item, Report

Halt = Callable[[], bool]


class Group(Consumer, Protocol):
    """A group that does work: the worker group of a node, or, in tests, a fake."""

    def work(self, items: Mapping[int, Item], stopping: Halt) -> dict[int, Report] | None:
        """Do items; return the reports of those that were done, by position, or None if stopped."""


G = TypeVar("G", bound=Group)


class Scheduler:
    """The scheduler of a round: groups do items, longest first, and take more when they are done.

    Args:
        lost: the exception that a group raises when it is lost.
    """

    def __init__(self, lost: type[Exception]) -> None:
        self._lost = lost
        self._pool = ThreadPoolExecutor(thread_name_prefix="fedray-group")

    def run(
        self,
        ledger: Ledger[G],
        groups: Callable[[], Sequence[G]],
        nobody: Callable[[Item], Report],
        fetch: Callable[[Ledger[G]], None],
        drop: Callable[[G, Exception], None],
        stopping: Halt,
    ) -> bool:
        """Let groups do a round's items until each has its report, and what was folded lies in memory that is there.

        Args:
            ledger: of the round.
            groups: waits for those that can work; the first is served by this thread.
            nobody: makes the report of an item that no group may do.
            fetch: brings here what must not be lost with a group.
            drop: is told that a group was lost.
            stopping: asked often; once true, the work is left.

        Returns:
            False if it was stopped.
        """
        queue = WorkQueue(ledger)

        def lose(group: G, error: Exception) -> None:
            ledger.lose(group)
            drop(group, error)

        while not ledger.complete:
            there = groups()
            if stopping():
                return False
            for position, item in queue.open(there).items():
                ledger.accept(None, {position: nobody(item)})
            if there and not self._serve_all(ledger, queue, there, lose, stopping):
                return False
            fetch(ledger)
        return True

    def _serve_all(
        self,
        ledger: Ledger[G],
        queue: WorkQueue[G],
        groups: Sequence[G],
        lose: Callable[[G, Exception], None],
        stopping: Halt,
    ) -> bool:
        """Let all groups work until nothing is left to hand out; False: they were stopped."""
        broken = threading.Event()

        def halt() -> bool:
            return broken.is_set() or stopping()

        def serve(group: G) -> None:
            try:
                while not halt() and (share := queue.take(group)):
                    reports = group.work(share, halt)
                    if reports is None:
                        return
                    ledger.accept(group, reports)
            except self._lost as error:
                lose(group, error)
            except BaseException:
                broken.set()
                raise

        # The first group is served by this thread, without a detour through another.
        first, *others = groups
        futures = [self._pool.submit(serve, group) for group in others]
        try:
            serve(first)
        finally:
            results = [future.exception() for future in futures]
        _raise_first(results)
        return not stopping() or ledger.complete

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False)


def _raise_first(errors: Iterable[BaseException | None]) -> None:
    for error in errors:
        if error is not None:
            raise error

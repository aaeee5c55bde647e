"""Tickets that processes share: each is taken once, and whoever dies holding the lock gives it back."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numpy.typing import NDArray

from fedray.cluster.work.tickets import TicketQueue
from tests.cluster.work.forks import child, status


def test_every_ticket_is_taken_once(tmp_path: Path) -> None:
    buffer = TicketQueue.buffer(3)
    own = TicketQueue(buffer.handle)
    own.open()

    def take(rank: int) -> None:
        queue = TicketQueue(buffer.handle, rank)
        taken = []
        while (number := queue.take()) < 500:
            taken.append(number)
        (tmp_path / str(rank)).write_text(" ".join(map(str, taken)))

    for pid in [child(lambda rank=rank: take(rank)) for rank in range(3)]:  # type: ignore[misc]
        assert status(pid) == 0
    numbers = [int(word) for rank in range(3) for word in (tmp_path / str(rank)).read_text().split()]
    assert sorted(numbers) == list(range(500))
    assert own.taken() == 503
    assert all(own.at(rank)[0] >= 500 for rank in range(3))
    own.close()
    buffer.close()


def test_the_lock_of_a_dead_process_is_free() -> None:
    buffer = TicketQueue.buffer(2)
    own = TicketQueue(buffer.handle, 0)
    own.open()

    def die_in_the_middle() -> None:
        with TicketQueue(buffer.handle, 1)._locked():
            os.kill(os.getpid(), signal.SIGKILL)

    assert status(child(die_in_the_middle)) == -signal.SIGKILL
    assert own.take() == 0
    own.close()
    buffer.close()


def test_the_queue_says_who_is_at_what_since_when() -> None:
    buffer = TicketQueue.buffer(2)
    own, worker = TicketQueue(buffer.handle), TicketQueue(buffer.handle, 1)
    own.open()
    assert own.at(0)[0] == own.at(1)[0] == -1
    assert 0.0 <= own.at(1)[1] < 60.0
    assert (worker.take(), own.at(1)[0], own.at(0)[0]) == (0, 0, -1)
    own.end()
    assert worker.take() >= 1 << 62
    own.open()
    assert (own.at(1)[0], worker.take()) == (-1, 0)
    for one in (own, worker):
        one.close()
    buffer.close()


Numbers = NDArray[Any]


class Interrupted(dict[str, Numbers]):
    """A queue's memory, to which somebody else does something after so many looks at it."""

    def __init__(self, memory: dict[str, Numbers], looks: int, then: Callable[[], object]) -> None:
        super().__init__(memory)
        self._looks, self._then = looks, then

    def __getitem__(self, name: str) -> Numbers:
        found = super().__getitem__(name).copy()
        self._looks -= 1
        if self._looks == 0:
            self._then()
        return found


@pytest.mark.parametrize("looks", [1, 2, 3])
def test_a_worker_that_goes_on_meanwhile_is_not_at_the_next_item_for_the_time_of_the_last(looks: int) -> None:
    buffer = TicketQueue.buffer(2)
    own, worker = TicketQueue(buffer.handle), TicketQueue(buffer.handle, 1)
    own.open()
    worker.take()
    buffer.tensors["since"][1] -= 1000 * 10**9
    own._shared = Interrupted(own._shared, looks, worker.take)
    number, seconds = own.at(1)
    assert number == 0 or seconds < 500
    for one in (own, worker):
        one.close()
    buffer.close()

"""Memory that processes share: tickets are taken once, and whoever dies holding the lock gives it back."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from fedray.cluster.work import memory
from fedray.cluster.work.memory import Board, Buffer, anonymous_file
from fedray.cluster.work.pinning import pin
from fedray.core.errors import RunFailed


def child(work: Callable[[], None]) -> int:
    """Run something in a process of its own; its id."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, which this one does not use
        pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def status(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_every_ticket_is_taken_once(tmp_path: Path) -> None:
    buffer = Board.buffer(3)
    own = Board(buffer.handle)
    own.open()

    def take(seat: int) -> None:
        board = Board(buffer.handle, seat)
        taken = []
        while (number := board.take()) < 500:
            taken.append(number)
        (tmp_path / str(seat)).write_text(" ".join(map(str, taken)))

    for pid in [child(lambda seat=seat: take(seat)) for seat in range(3)]:  # type: ignore[misc]
        assert status(pid) == 0
    numbers = [int(word) for seat in range(3) for word in (tmp_path / str(seat)).read_text().split()]
    assert sorted(numbers) == list(range(500))
    assert own.taken() == 503
    assert all(own.at(seat)[0] >= 500 for seat in range(3))
    own.close()
    buffer.close()


def test_the_lock_of_a_dead_process_is_free() -> None:
    buffer = Board.buffer(2)
    own = Board(buffer.handle, 0)
    own.open()

    def die_in_the_middle() -> None:
        with Board(buffer.handle, 1)._locked():
            os.kill(os.getpid(), signal.SIGKILL)

    assert status(child(die_in_the_middle)) == -signal.SIGKILL
    assert own.take() == 0
    own.close()
    buffer.close()


def test_the_board_says_who_is_at_what_since_when() -> None:
    buffer = Board.buffer(2)
    own, worker = Board(buffer.handle), Board(buffer.handle, 1)
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


class Interrupted(dict[str, torch.Tensor]):
    """A board's memory, to which somebody else does something after so many looks at it."""

    def __init__(self, memory: dict[str, torch.Tensor], looks: int, then: Callable[[], object]) -> None:
        super().__init__(memory)
        self._looks, self._then = looks, then

    def __getitem__(self, name: str) -> torch.Tensor:
        found = super().__getitem__(name).clone()
        self._looks -= 1
        if self._looks == 0:
            self._then()
        return found


@pytest.mark.parametrize("looks", [1, 2, 3])
def test_a_worker_that_goes_on_meanwhile_is_not_at_the_next_item_for_the_time_of_the_last(looks: int) -> None:
    buffer = Board.buffer(2)
    own, worker = Board(buffer.handle), Board(buffer.handle, 1)
    own.open()
    worker.take()
    buffer.tensors["since"][1] -= 1000 * 10**9
    own._shared = Interrupted(own._shared, looks, worker.take)
    number, seconds = own.at(1)
    assert number == 0 or seconds < 500
    for one in (own, worker):
        one.close()
    buffer.close()


SOURCES = ["memfd", "memfd of the C library", "/dev/shm"]


@pytest.fixture(params=range(len(SOURCES)), ids=SOURCES)
def source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Where buffers live, as those before it in the list are missing."""
    if request.param > 0:
        monkeypatch.delattr(os, "memfd_create")
        monkeypatch.delattr(os, "MFD_CLOEXEC")
    if request.param > 1:

        def refuse() -> int:
            raise OSError("not permitted")

        monkeypatch.setattr(memory, "_memfd_of_libc", refuse)
    return SOURCES[int(request.param)]


def test_a_killed_process_leaves_no_buffer(source: str) -> None:
    before = set(Path("/dev/shm").glob("fedray-*"))

    def make_and_die() -> None:
        made = Buffer({"a": 1000}, torch.float64)
        assert made.handle.open()["a"].sum() == 0
        os.kill(os.getpid(), signal.SIGKILL)

    file, where = anonymous_file(10)
    os.close(file)
    assert where == source
    assert status(child(make_and_die)) == -signal.SIGKILL
    assert set(Path("/dev/shm").glob("fedray-*")) <= before


@pytest.mark.parametrize("source", [2], indirect=True)
def test_a_dev_shm_that_is_too_small_is_said_before_anything_is_written_there(source: str) -> None:
    with pytest.raises(RunFailed, match=r"no shared memory of 1000000000000\.0 MB: /dev/shm: No space left"):
        anonymous_file(10**18)


def test_tickets_and_buffers_work_wherever_they_live(source: str) -> None:
    buffer = Board.buffer(1)
    own, worker = Board(buffer.handle), Board(buffer.handle, 0)
    own.open()
    assert [worker.take(), worker.take(), own.at(0)[0]] == [0, 1, 1]
    for one in (own, worker):
        one.close()
    buffer.close()


def test_a_buffer_is_seen_by_others_and_leaves_nothing(source: str) -> None:
    buffer = Buffer({"a": 3, "b": 2, "none": 0}, torch.float64)
    assert {name: tensor.tolist() for name, tensor in buffer.tensors.items()} == {
        "a": [0] * 3,
        "b": [0] * 2,
        "none": [],
    }
    other = buffer.handle.open()

    def write() -> None:
        buffer.handle.open()["b"].fill_(7.0)

    assert status(child(write)) == 0
    assert other["b"].tolist() == buffer.tensors["b"].tolist() == [7.0, 7.0]
    buffer.close()
    buffer.close()
    with pytest.raises(OSError, match="No such file"):
        buffer.handle.open()
    assert other["b"].tolist() == [7.0, 7.0]  # what is mapped stays


@pytest.mark.gpu
def test_a_pinned_buffer_and_what_is_refused() -> None:
    """A refusal, here of what is pinned already, disturbs nothing that comes after it."""
    buffer = Buffer({"a": 5, "b": 3000, "none": 0}, torch.float64, pinned=True)
    assert buffer.tensors["b"].is_pinned()
    assert not pin(buffer.tensors)
    there = torch.arange(3000, dtype=torch.float64, device="cuda")
    buffer.tensors["b"].copy_(there)
    assert torch.equal(buffer.handle.open()["b"], there.cpu())
    for _ in range(2):
        buffer.close()
    assert not buffer.tensors["b"].is_pinned()
    assert not pin({"none": torch.empty(0)})

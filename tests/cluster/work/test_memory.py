"""Memory that processes share: seen by all of them, wherever it lives, and gone with them."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import torch

from fedray.cluster.work import memory
from fedray.cluster.work.memory import Buffer, Descriptor, anonymous_file
from fedray.cluster.work.tickets import TicketQueue
from fedray.core.errors import RunFailed
from tests.cluster.work.forks import child, status

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
    with pytest.raises(RunFailed, match=r"no shared memory of 1\.0 EB: /dev/shm: No space left"):
        anonymous_file(10**18)


def test_tickets_and_buffers_work_wherever_they_live(source: str) -> None:
    buffer = TicketQueue.buffer(1)
    own, worker = TicketQueue(buffer.handle), TicketQueue(buffer.handle, 0)
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


def test_a_descriptor_is_closed_once_and_with_its_owner() -> None:
    """The system gives its number to the next file that is opened, which a second call must not close."""
    read, write = os.pipe()
    one = Descriptor(read)
    assert one.fileno() == read
    one.close()
    assert one.fileno() == -1
    assert os.dup(write) == read
    one.close()
    os.fstat(read)
    del one
    os.fstat(read)
    two = Descriptor(read)
    del two
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)
    os.close(write)

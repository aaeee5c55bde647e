"""Jobs beside a round: noted, begun together, waited for, in their order."""

from __future__ import annotations

import threading

import pytest

from fedray.run.beside import Beside


def test_jobs_wait_until_they_are_begun_and_are_done_in_order_in_another_thread() -> None:
    done: list[tuple[str, bool]] = []
    here = threading.get_ident()
    with Beside() as beside:
        for name in "ab":
            beside.note(lambda name=name: done.append((name, threading.get_ident() != here)))  # type: ignore[misc]
        assert not done
        beside.join()
        assert done == [("a", True), ("b", True)]
        beside.join()
        assert len(done) == 2


def test_an_error_is_that_of_who_waits() -> None:
    with Beside() as beside:
        beside.note(lambda: [][0])
        with pytest.raises(IndexError):
            beside.join()
        beside.join()


def test_what_was_noted_is_done_also_where_a_round_fails() -> None:
    done: list[str] = []

    def fail() -> None:
        with Beside() as beside:
            beside.note(lambda: done.append("hash"))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert done == ["hash"]

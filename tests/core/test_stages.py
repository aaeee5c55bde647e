"""Stages before a round, told to whoever listens."""

from __future__ import annotations

import threading

import pytest

from fedray.core.stages import Stage, along, listening, stage


def test_nobody_need_listen() -> None:
    stage("reading data")
    assert list(along([1, 2], "reading")) == [1, 2]


def test_pieces_are_counted() -> None:
    told: list[Stage] = []
    with listening(told.append):
        assert list(along(["a", "b"], "reading")) == ["a", "b"]
        stage("trying")
    stage("later")
    assert told == [Stage("reading", 0, 2), Stage("reading", 1, 2), Stage("reading", 2, 2), Stage("trying")]


def test_the_inner_listener_hears_and_the_outer_one_hears_again() -> None:
    outer: list[Stage] = []
    inner: list[Stage] = []

    def fail() -> None:
        with listening(inner.append):
            stage("one")
            raise OSError("gone")

    with listening(outer.append):
        with pytest.raises(OSError, match="gone"):
            fail()
        stage("two")
    assert (inner, outer) == ([Stage("one")], [Stage("two")])


def test_other_threads_are_not_heard() -> None:
    told: list[Stage] = []
    with listening(told.append):
        thread = threading.Thread(target=stage, args=("there",))
        thread.start()
        thread.join()
    assert told == []

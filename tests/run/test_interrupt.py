"""Signals to this process: before, at the start of, and during a run."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from fedray.run.interrupt import STOPPED, StopSignals, starting

ALL = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]


@pytest.fixture(autouse=True)
def _handlers_as_before() -> Iterator[None]:
    before = [signal.getsignal(number) for number in ALL]
    yield
    assert [signal.getsignal(number) for number in ALL] == before


class Exited(BaseException):
    """What os._exit would have ended."""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_before_the_run_a_warning_ends_the_process_as_stopped(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended, starting():
        os.kill(os.getpid(), number)
    assert ended.value.code == STOPPED
    assert capfd.readouterr().err == "fedray: stopped before the run began\n"


def test_before_the_run_ctrl_c_acts_as_usual() -> None:
    # A shell starts background jobs with SIGINT ignored, and this test may be in one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        _interrupted()
    finally:
        signal.signal(signal.SIGINT, before)


def _interrupted() -> None:
    with pytest.raises(KeyboardInterrupt), starting(), StopSignals(lambda: None):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_until_it_is_armed_a_context_changes_nothing(number: signal.Signals) -> None:
    with pytest.raises(SystemExit) as ended, starting(), StopSignals(lambda: None):
        os.kill(os.getpid(), number)
    assert ended.value.code == STOPPED


@pytest.mark.parametrize("first", ALL)
@pytest.mark.parametrize("second", ALL)
def test_the_first_asks_the_run_to_stop_and_the_second_exits_at_once(
    first: signal.Signals, second: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    announced = threading.Event()

    def announce() -> None:
        asked.append("announced")
        announced.set()

    def leave(status: int) -> None:
        raise Exited(status)

    monkeypatch.setattr(os, "_exit", leave)
    with starting(), StopSignals(announce) as signals:
        signals.arm(lambda: asked.append("stop"))
        os.kill(os.getpid(), first)
        assert announced.wait(60)
        assert signals.stopped
        assert asked == ["stop", "announced"]
        with pytest.raises(Exited) as left:
            os.kill(os.getpid(), second)
        assert left.value.args == (128 + second,)
    assert asked == ["stop", "announced"]


def test_where_the_process_is_not_ours_the_second_acts_as_usual() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    announced = threading.Event()
    try:
        with StopSignals(announced.set, signal.raise_signal) as signals:
            signals.arm(lambda: None)
            os.kill(os.getpid(), signal.SIGINT)
            assert announced.wait(60)
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_nothing_is_touched() -> None:
    errors: list[BaseException] = []

    def inside() -> None:
        try:
            with starting(), StopSignals(lambda: None) as signals:
                signals.arm(lambda: None)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert errors == []

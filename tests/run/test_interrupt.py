"""Signals before a run, while what must not be torn is under way, and during a run: none is lost."""

from __future__ import annotations

import os
import signal
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from fedray.run.interrupt import NOT_BEGUN, STOPPED, StoppedEarly, StopSignals, held, starting

ALL = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1]
ENDS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: SystemExit, signal.SIGUSR1: SystemExit}


class Exited(Exception):
    """In the place of the end of the process."""


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    """Python's own handler of Ctrl-C: a shell starts background jobs with it ignored, and this test may be in one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(number: signal.Signals) -> None:
    """As from outside."""
    os.kill(os.getpid(), number)


def dropped(number: signal.Signals) -> None:
    """Let a signal come where Python drops what its handler raises, as in a fork hook: a weak reference's callback."""

    class Thing:
        pass

    thing = Thing()
    reference = weakref.ref(thing, lambda _: send(number))
    del thing
    assert reference() is None


@pytest.mark.parametrize("number", ALL)
def test_before_the_run_a_signal_ends_the_process(number: signal.Signals, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ENDS[number]) as ended, starting(NOT_BEGUN):
        send(number)
    assert number == signal.SIGINT or ended.value.args == (STOPPED,)
    assert capfd.readouterr().err == "fedray: stopped before the run began\n"


def test_who_starts_no_run_says_nothing_of_one(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit), starting():
        send(signal.SIGTERM)
    assert capfd.readouterr().err == ""


def test_who_leaves_nothing_to_go_on_with_ends_as_in_a_shell() -> None:
    with pytest.raises(SystemExit) as ended, starting(resumable=False):
        send(signal.SIGTERM)
    assert ended.value.args == (128 + signal.SIGTERM,)
    with pytest.raises(SystemExit) as ended, starting(resumable=False), held():
        send(signal.SIGTERM)
    assert ended.value.args == (128 + signal.SIGTERM,)


def test_a_handler_that_python_cannot_see_becomes_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """``signal.getsignal`` gives None for one that a library in C has installed, and None cannot be installed."""

    def foreign(*_: object) -> None:
        raise AssertionError

    python, before = signal.getsignal, signal.signal(signal.SIGUSR1, foreign)
    monkeypatch.setattr(signal, "getsignal", lambda number: None if python(number) is foreign else python(number))
    try:
        with held():
            pass
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("number", ALL)
def test_what_must_not_be_torn_is_finished_first(number: signal.Signals) -> None:
    done: list[str] = []

    @starting()
    def work() -> None:
        with held():
            with held():
                send(number)
                done.append("inner")
            done.append("outer")
        done.append("after")

    with pytest.raises(ENDS[number]):
        work()
    assert done == ["inner", "outer"]


def test_what_fails_while_a_signal_waits_does_not_hide_it() -> None:
    @starting()
    @held()
    def work() -> None:
        send(signal.SIGINT)
        raise ValueError

    with pytest.raises(KeyboardInterrupt):
        work()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", ALL)
def test_what_python_drops_is_raised_at_the_next_hold(number: signal.Signals) -> None:
    reached: list[str] = []

    @starting()
    def work() -> None:
        dropped(number)
        reached.append("dropped")
        with held():
            reached.append("held")

    with pytest.raises(ENDS[number]):
        work()
    assert reached == ["dropped"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("number", ALL)
def test_what_python_drops_stops_a_run_that_comes_next(number: signal.Signals) -> None:
    asked = threading.Event()
    with starting(), StopSignals(lambda: None) as signals:
        dropped(number)
        signals.arm(asked.set)
        assert asked.wait(60)


def test_what_waits_for_ray_stops_the_run_that_ray_is_started_for(capfd: pytest.CaptureFixture[str]) -> None:
    asked = threading.Event()
    with starting(NOT_BEGUN), StopSignals(lambda: None) as signals:
        with held("Ray is up"):
            send(signal.SIGINT)
            signals.arm(asked.set)
            assert not asked.is_set()
        assert asked.wait(60)
    assert capfd.readouterr().err == "fedray: stopping as soon as Ray is up (once more to stop at once)\n"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_second_signal_ends_the_process() -> None:
    second: list[int] = []
    with starting(again=second.append):
        dropped(signal.SIGINT)
        with pytest.raises(SystemExit):
            send(signal.SIGTERM)
    assert second == [signal.SIGTERM]


def test_a_second_signal_does_not_wait() -> None:
    left: list[BaseException] = []

    def leave(number: int) -> None:
        raise Exited(number)

    @starting(again=leave)
    @held()
    def work() -> None:
        send(signal.SIGINT)
        try:
            send(signal.SIGTERM)
        except Exited as error:
            left.append(error)

    with pytest.raises(Exited):
        work()
    assert left[0].args == (signal.SIGTERM,)


def test_ctrl_c_that_is_ignored_stays_ignored() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with starting(), held():
        send(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_every_handler_is_put_back() -> None:
    before = [signal.getsignal(number) for number in ALL]
    with starting(), held(), StopSignals(lambda: None) as signals:
        signals.arm(lambda: None)
    assert [signal.getsignal(number) for number in ALL] == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_until_it_is_armed_a_context_changes_nothing(number: signal.Signals) -> None:
    with pytest.raises(SystemExit) as ended, starting(), StopSignals(lambda: None):
        send(number)
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
        send(first)
        assert announced.wait(60)
        assert signals.stopped
        assert asked == ["stop", "announced"]
        with pytest.raises(Exited) as left:
            send(second)
        assert left.value.args == (128 + second,)
    assert asked == ["stop", "announced"]


def test_what_stands_there_at_the_first_signal_is_looked_at_before_anything_goes_on() -> None:
    heard: list[str] = []
    announced = threading.Event()
    with StopSignals(announced.set, signal.raise_signal, lambda: heard.append("heard")) as signals:
        signals.arm(lambda: None)
        send(signal.SIGTERM)
        assert heard == ["heard"], "by the handler, not by the thread that asks for the stop"
        assert announced.wait(60)
    assert heard == ["heard"]


def test_where_the_process_is_not_ours_the_second_acts_as_usual() -> None:
    announced = threading.Event()
    with StopSignals(announced.set, signal.raise_signal) as signals:
        signals.arm(lambda: None)
        send(signal.SIGINT)
        assert announced.wait(60)
        with pytest.raises(KeyboardInterrupt):
            send(signal.SIGINT)


@pytest.mark.parametrize("number", ALL)
def test_a_run_stopped_before_its_first_round_has_not_begun(
    number: signal.Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    @starting(NOT_BEGUN)
    def run() -> None:
        with StopSignals(lambda: None) as signals:
            signals.arm(lambda: None)
            send(number)
            raise StoppedEarly("nothing is left")

    with pytest.raises(ENDS[number]):
        run()
    assert capfd.readouterr().err == "fedray: stopped before the run began\n"


def test_a_run_stopped_early_by_something_else_says_so() -> None:
    def run() -> None:
        with StopSignals(lambda: None) as signals:
            signals.arm(lambda: None)
            raise StoppedEarly("nothing is left")

    with pytest.raises(StoppedEarly):
        run()


@pytest.mark.parametrize("enter", [starting, held])
def test_in_another_thread_nothing_is_touched(enter: Callable[[], ExitStack]) -> None:
    errors: list[BaseException] = []
    before = [signal.getsignal(number) for number in ALL]

    def inside() -> None:
        try:
            with enter(), StopSignals(lambda: None) as signals:
                signals.arm(lambda: None)
                errors.extend(KeyError(n) for n, b in zip(ALL, before, strict=True) if signal.getsignal(n) is not b)
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert errors == []

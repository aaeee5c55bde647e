"""Releases that are reserved: whatever is killed or lost, no fewer count than were made, and mostly no more.

The disk here is a file, of which only what ``fsync`` saw is sure: a machine that stops keeps any part of the rest.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.privacy import ledger as ledgers
from fedray.privacy.ledger import LOST, Circumstances, Cost, Ledger
from fedray.privacy.releases import Release

ONE = Release(1.0, 0.1)
COST = Cost(ONE, Circumstances(expected=20.0, norm=0.5, noise_std=0.025))
AHEAD, MOST = 3, 4


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(monkeypatch)


class Stopped(BaseException):
    """The machine stops while a process waits for its disk."""


class Machine:
    """A machine with its boot, which knows how much of a ledger its disk has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.boot: str | None = "first"
        self.synced = self.waits = 0
        self.stopping = False

        def seen(file: int) -> None:
            if self.stopping:
                raise Stopped
            self.waits += 1
            self.synced = os.fstat(file).st_size

        monkeypatch.setattr(os, "fsync", seen)
        monkeypatch.setattr(ledgers, "boot_id", lambda: self.boot)
        monkeypatch.setattr(ledgers, "keeping_boot", lambda folder: self.boot)

    def stops(self, path: Path, keeps: int = 0, hole: tuple[int, int] = (0, 0)) -> None:
        """Stop and boot again, with some bytes that the disk was not asked for, and zeros in some of them."""
        content = path.read_bytes()
        left = bytearray(content[: self.synced + keeps % (len(content) - self.synced + 1)])
        first, length = hole
        for place in range(self.synced + first, min(self.synced + first + length, len(left))):
            left[place] = 0
        path.write_bytes(left)
        self.stopping = False
        self.boot = f"{self.boot} again"


def made(path: Path, rounds: int, ahead: int = AHEAD) -> Ledger:
    ledger = Ledger.begin(path)
    for round in range(1, rounds + 1):
        ledger.write(round, f"id {round}", COST, ahead)
    return ledger


def rounds_of(ledger: Ledger) -> list[tuple[int, str]]:
    return [(entry.round, entry.id) for entry in ledger]


def test_one_wait_for_the_disk_is_for_a_release_and_those_reserved_with_it(machine: Machine, tmp_path: Path) -> None:
    ledger = made(tmp_path / "l", 0)
    before = machine.waits
    for round in range(1, 9):
        ledger.write(round, f"id {round}", COST, AHEAD)
    assert machine.waits - before == 2
    lines = [json.loads(line) for line in ledger.path.read_text().splitlines()[1:]]
    assert [line.get("reserved") for line in lines] == [3, None, None, None, 3, None, None, None]
    assert {line.get("boot") for line in lines} == {None, "first"}
    assert all(line["noise_multiplier"] == 1.0 for line in lines)


def test_a_process_that_is_killed_neither_loses_a_release_nor_pays_for_one_more(
    machine: Machine, tmp_path: Path
) -> None:
    ledger = made(tmp_path / "l", 2)
    assert rounds_of(Ledger.read(ledger.path)) == rounds_of(ledger)
    again = Ledger.resume(ledger.path, ledger.id, least=2)
    assert (rounds_of(again), again.lost) == (rounds_of(ledger), 0)
    machine.stops(ledger.path)  # what was resumed is on the disk, and reserves nothing
    assert rounds_of(Ledger.read(ledger.path)) == rounds_of(ledger)


@pytest.mark.parametrize("here", ["another", None])
def test_to_another_boot_and_to_a_machine_that_tells_none_all_that_is_reserved_was_made(
    machine: Machine, tmp_path: Path, here: str | None
) -> None:
    ledger = made(tmp_path / "l", 2)
    machine.boot = here
    found = Ledger.read(ledger.path)
    assert rounds_of(found) == [(1, "id 1"), (2, "id 2"), (3, LOST), (4, LOST)]
    assert (found.lost, found.releases) == (2, (Release(1.0, 0.1, 4),))
    assert [entry.circumstances for entry in found] == [COST.circumstances] * 4
    again = Ledger.resume(ledger.path, ledger.id, least=2)
    assert Ledger.read(ledger.path).entries == again.entries == found.entries
    assert b"reserved" not in ledger.path.read_bytes()


def test_a_run_that_stops_or_ends_pays_for_what_it_made_alone(machine: Machine, tmp_path: Path) -> None:
    ledger = made(tmp_path / "l", 2)
    ledger.settle()
    machine.stops(ledger.path)
    assert rounds_of(Ledger.read(ledger.path)) == [(1, "id 1"), (2, "id 2")]
    size = ledger.path.stat().st_size
    ledger.settle()
    assert ledger.path.stat().st_size == size


def test_what_comes_out_otherwise_is_not_what_was_reserved_and_waits_for_the_disk(
    machine: Machine, tmp_path: Path
) -> None:
    ledger = made(tmp_path / "l", 1)
    for round, id, cost in [(1, "other", COST), (2, "louder", Cost(Release(0.5, 0.1)))]:
        before = machine.waits
        ledger.write(round, id, cost, AHEAD)
        assert machine.waits == before + 1
    machine.stops(ledger.path)
    lost = [(2, LOST), (3, LOST), (4, LOST)]
    assert rounds_of(Ledger.read(ledger.path)) == [(1, "id 1"), (1, "other"), (2, "louder"), *lost]


def test_of_clients_who_take_turns_the_turn_of_each_round_is_reserved(machine: Machine, tmp_path: Path) -> None:
    turns = Release(1.0, sampling="fixed", relation="replace_one", turns=3)
    ledger = Ledger.begin(tmp_path / "l")
    for round in (1, 2):
        ledger.write(round, f"id {round}", Cost(turns.after(round - 1)), AHEAD)
    machine.stops(ledger.path)
    assert [entry.release.turn for entry in Ledger.read(ledger.path)] == [0, 1, 2, 0]


def test_where_no_boot_keeps_what_is_written_nothing_is_reserved(machine: Machine, tmp_path: Path) -> None:
    machine.boot = None
    ledger = made(tmp_path / "l", 0)
    before = machine.waits
    ledger.write(1, "a", COST, AHEAD)
    ledger.write(2, "b", COST, AHEAD)
    assert machine.waits == before + 2
    assert b"reserved" not in ledger.path.read_bytes()


def test_a_line_that_the_disk_does_not_take_leaves_its_release_unmade(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = made(tmp_path / "l", 1)
    whole = ledger.path.read_bytes()

    def half(file: int, content: bytes) -> int:
        return int(os.pwrite(file, content[: len(content) // 2], 0))

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space left"):
            ledger.write(2, "b", COST, AHEAD)
    assert not ledger.has(2, "b")
    assert ledger.path.read_bytes() == whole
    ledger.write(2, "b", COST, AHEAD)
    assert rounds_of(Ledger.read(ledger.path)) == [(1, "id 1"), (2, "b")]


def test_a_disk_that_has_failed_once_is_not_taken_to_have_what_was_written_before(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = made(tmp_path / "l", 3)

    def fails(file: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fails)
        with pytest.raises(OSError, match="Input/output"):
            ledger.write(3, "other", COST)
    ledger.settle()  # the disk would take the line now, and may have lost those of rounds 2 and 3
    machine.stops(ledger.path)
    assert rounds_of(Ledger.read(ledger.path)) == [(1, "id 1"), (2, LOST), (3, LOST), (4, LOST)]


def test_lines_that_a_machine_damaged_as_it_stopped_count_as_reserved(machine: Machine, tmp_path: Path) -> None:
    ledger = made(tmp_path / "l", 4)
    machine.stops(ledger.path, keeps=ledger.path.stat().st_size - machine.synced, hole=(20, 30))
    assert rounds_of(Ledger.read(ledger.path)) == [(1, "id 1"), (3, "id 3"), (4, "id 4"), (2, LOST)]


def test_of_a_line_that_a_machine_damaged_as_it_waited_for_the_disk_nothing_was_made(
    machine: Machine, tmp_path: Path
) -> None:
    ledger = made(tmp_path / "l", 4)
    machine.synced, machine.stopping = ledger.path.stat().st_size, True
    with pytest.raises(Stopped):
        ledger.write(5, "id 5", COST, AHEAD)
    machine.stops(ledger.path, keeps=ledger.path.stat().st_size - machine.synced, hole=(20, 30))
    assert rounds_of(Ledger.read(ledger.path)) == [(round, f"id {round}") for round in (1, 2, 3, 4)]


def test_damage_is_refused_where_nothing_says_that_the_machine_stopped(machine: Machine, tmp_path: Path) -> None:
    ledger = made(tmp_path / "l", 3)
    whole = ledger.path.read_bytes()
    cases = [("first", 1), ("first", 2), ("another", 1)]  # the line that reserves was on the disk
    for boot, line in cases:
        lines = whole.splitlines(keepends=True)
        lines[line] = b"\0" * (len(lines[line]) - 1) + b"\n"
        ledger.path.write_bytes(b"".join(lines))
        machine.boot = boot
        with pytest.raises(ConfigError, match="not a ledger of privacy, or a changed one"):
            Ledger.read(ledger.path)


DAMAGE = st.integers(0, 4000), st.tuples(st.integers(0, 900), st.integers(0, 400))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("release"), st.integers(0, MOST)),
        st.tuples(st.just("again"), st.integers(0, MOST)),
        st.just(("killed",)),
        st.tuples(st.just("stops"), st.none(), *DAMAGE),
        st.tuples(st.just("stops"), st.integers(0, MOST), *DAMAGE),  # in the middle of a release
        st.just(("settled",)),
    ),
    max_size=25,
)


@given(steps=STEPS)
@settings(max_examples=60, deadline=None)
def test_whatever_happens_no_release_is_lost_and_only_machines_that_stop_cost_some_more(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Any]
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        machine = Machine(patched)
        ledger = Ledger.begin(tmp_path_factory.mktemp("l") / "l")
        machine.synced = ledger.path.stat().st_size
        round, number, done = 0, 0, Counter[int]()
        for what, *rest in steps:
            if what in ("release", "again"):
                round, number = round + (what == "release" or not round), number + 1
                ledger.write(round, f"id {number}", COST, rest[0])
                done[round] += 1
                continue
            if what == "settled":
                ledger.settle()
                counted = ledger
            else:
                if what == "stops":
                    ahead, *damage = rest
                    if ahead is not None:
                        machine.stopping, round, number = True, round + 1, number + 1
                        with suppress(Stopped):
                            ledger.write(round, f"id {number}", COST, ahead)
                            done[round] += 1
                    machine.stops(ledger.path, *damage)
                counted = Ledger.read(ledger.path)
                ledger = Ledger.resume(ledger.path, ledger.id)
                machine.synced = ledger.path.stat().st_size
            assert ledger.entries == counted.entries
            found = Counter(entry.round for entry in ledger)
            if what == "stops":
                assert found >= done
                assert found.total() <= done.total() + MOST + 1  # with the one in the middle of which it stopped
                done = found  # what counts as made is not given back
            assert found == done
            assert len({(entry.round, entry.id) for entry in ledger if entry.id != LOST}) == len(ledger) - ledger.lost

"""What a team counts and whom it blames, with workers of this process that do at once what a test says."""

from __future__ import annotations

import multiprocessing
import pickle
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

from fedray.cluster.place.placement import Post, Seat, Size
from fedray.cluster.work import team as teams
from fedray.cluster.work.lines import Line
from fedray.cluster.work.memory import Board
from fedray.cluster.work.team import Team
from fedray.cluster.work.worker import Announcement
from fedray.run.usage import Reading
from fedray.run.worker import Report, TestChunk, TestReport
from tests import helpers

ITEMS = dict(enumerate(TestChunk.cut(3000)[:2]))


class Hand(Line):
    """A worker and the line to it.

    Args:
        team: whose it is.
        member: what the team knows of it.
    """

    def __init__(self, team: Team, member: Any) -> None:
        self.connection, self._far = multiprocessing.Pipe()
        self._board = Board(team._board_buffer.handle, member.seat, member.queue)
        self._since = team._board_buffer.tensors["since"][member.seat : member.seat + 1]
        self.asked: Callable[[Hand], object] = Hand.do_all
        self.read: Callable[[], object] = lambda: None
        self._taken: list[int] = []
        self._count = 0

    def send(self, *request: Any) -> None:
        """What it is asked it does now."""
        self._count, self._taken = len(pickle.loads(request[1])), []
        self.asked(self)

    def receive(self) -> bytes:
        """Something may happen while its answer is read."""
        self.read()
        return super().receive()

    def take(self) -> bool:
        """Begin with an item, if there is one."""
        self._taken.append(self._board.take())
        return self._taken[-1] < self._count

    def hang(self) -> None:
        """Be at it for a long time."""
        self._since -= 1000 * 10**9

    def begin_and_hang(self) -> None:
        """Begin with an item, and do not get to its end."""
        self.take()
        self.hang()

    def do_all(self) -> None:
        """Do all there is."""
        while self.take():
            pass
        self.answer()

    def answer(self) -> None:
        """Tell what was done, for a second of processor time."""
        done: dict[int, Report] = {index: TestReport(index, {}, 0.0) for index in self._taken if index < self._count}
        self._far.send(pickle.dumps((done, None, Reading("n/0", cpu_seconds=1.0))))

    def close(self) -> None:
        """Hang up."""
        super().close()
        self._far.close()
        self._board.close()


Make = Callable[[int], Team]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Teams of so many hands, on a node without Ray."""
    made: list[Team] = []

    def spawn(team: Team, member: Any) -> None:
        member.line, member.reports = Hand(team, member), {}

    monkeypatch.setattr(Team, "_spawn", spawn)
    monkeypatch.setattr(teams, "await_grant", lambda group, post: None)
    monkeypatch.setattr(teams, "_PATIENCE", 0.0)
    monkeypatch.setattr(ray, "put", lambda job: job)
    monkeypatch.setattr(ray, "kill", lambda actor: None)
    monkeypatch.setattr(ray.util, "remove_placement_group", lambda group: None)

    def of(workers: int) -> Team:
        job = helpers.federation(helpers.class_problem(), tmp_path).job
        made.append(Team(job, Post("id", "n", [Seat(Size())] * workers, block_timeout=500.0), None))
        return made[-1]

    yield of
    for team in made:
        team.close()


def hands(team: Team) -> list[Hand]:
    """Its workers."""
    return [member.line for member in team._members if isinstance(member.line, Hand)]


def begin(team: Team, number: int, take: int = 0) -> None:
    team.begin(Announcement(number, number, 1.0, take), team.down.tensors)


def cpu_seconds(team: Team) -> float:
    return sum(reading.cpu_seconds for reading in team.readings())


def test_what_a_round_took_is_counted_over_all_its_takes(make: Make) -> None:
    """When a node is lost the others begin a new take, and what they did in the first was done all the same."""
    team = make(1)
    hands(team)[0].asked = Hand.begin_and_hang
    begin(team, 1)
    assert sorted(team.work(ITEMS, lambda: False) or {}) == [0, 1]
    assert (cpu_seconds(team), team.retries) == (1.0, 1)
    begin(team, 1, take=1)
    assert sorted(team.work({7: ITEMS[0]}, lambda: False) or {}) == [7]
    assert (cpu_seconds(team), team.retries) == (2.0, 1)
    begin(team, 2)
    assert (cpu_seconds(team), team.retries) == (0.0, 0)


def test_a_late_worker_is_blamed_for_what_it_was_late_with(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if it goes on to the next item before it is replaced."""
    team = make(1)
    late = hands(team)[0]
    late.asked = Hand.begin_and_hang
    real = team._board.at

    def at_and_on(seat: int) -> tuple[int, float]:
        found = real(seat)
        if late in hands(team):
            late.take()
        return found

    monkeypatch.setattr(team._board, "at", at_and_on)
    begin(team, 1)
    assert sorted(team.work(ITEMS, lambda: False) or {}) == [0, 1]
    assert team._blame == Counter({0: 1})


def test_who_has_answered_is_not_late(make: Make) -> None:
    """However long the answer of another took to read."""
    team = make(2)
    first, second = hands(team)
    second.asked = Hand.take

    def meanwhile() -> None:
        second.do_all()
        second.hang()

    first.asked, first.read = Hand.answer, meanwhile
    begin(team, 1)
    assert sorted(team.work(ITEMS, lambda: False) or {}) == [0, 1]
    assert hands(team) == [first, second]
    assert team.retries == 0

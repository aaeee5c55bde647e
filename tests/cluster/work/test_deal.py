"""Whatever teams take, lose and bank: each item is done once, by somebody who may."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedray.cluster.work.deal import Deal
from fedray.run.worker import HoldoutChunk, Report, TestChunk, TestReport

PINS = (None, "north", "south")


@dataclass(eq=False)
class Crew:
    """A team of the model: what lies in its memory and is nowhere else."""

    seats: Mapping[str | None, int]
    memory: Counter[int] = field(default_factory=Counter)

    @property
    def pins(self) -> frozenset[str | None]:
        """What it takes."""
        return frozenset(self.seats)

    def takers(self, pin: str | None) -> int:
        """How many of it take such work."""
        return self.seats.get(pin, 0)


crews = st.builds(Crew, st.dictionaries(st.sampled_from(PINS), st.integers(1, 4), min_size=1))
work = st.lists(st.sampled_from(PINS), max_size=30)


def items(pins: list[str | None]) -> list[HoldoutChunk]:
    return [HoldoutChunk(index, np.zeros(0, dtype=np.int64), pin) for index, pin in enumerate(pins)]


def report(position: int) -> Report:
    return TestReport(position, {}, 0.0)


@given(work, st.lists(crews, min_size=1, max_size=4), st.data())
def test_each_item_is_in_the_sum_once(pins: list[str | None], teams: list[Crew], data: st.DataObject) -> None:
    deal = Deal(items(pins))
    banked: Counter[int] = Counter()
    nobodys: set[int] = set()
    in_vain = 0
    alive = list(teams)
    while not deal.complete:
        for position, item in deal.open(alive).items():
            assert not any(team.takers(item.pin) for team in alive)
            nobodys.add(position)
            deal.accept(None, {position: report(position)})
        busy = list(alive)
        while busy:
            team = data.draw(st.sampled_from(busy))
            share = deal.take(team)
            assert all(team.takers(item.pin) for item in share.values())
            if not share:
                busy.remove(team)
                continue
            match data.draw(st.sampled_from(["works", "works", "dies", "works, is banked, and dies"])):
                case "works":
                    team.memory.update(list(share))
                    deal.accept(team, {position: report(position) for position in share})
                    continue
                case "works, is banked, and dies":
                    team.memory.update(list(share))
                    deal.accept(team, {position: report(position) for position in share})
                    assert deal.unbanked(team)
                    deal.bank(team)
                    banked += team.memory
                    assert not deal.unbanked(team)
                    deal.lose(team)
                case "dies":
                    in_vain += len(set(share) | set(team.memory))
                    deal.lose(team)
            assert deal.lost == in_vain
            busy.remove(team)
            alive.remove(team)
    counted = sum((team.memory for team in alive), banked)
    assert counted == Counter(range(len(pins))) - Counter(nobodys)
    assert [one.index for one in deal.reports()] == list(range(len(pins)))


@given(st.integers(0, 200), st.lists(st.integers(1, 8), min_size=1, max_size=5))
def test_shares_shrink_and_leave_nobody_idle(count: int, seats: list[int]) -> None:
    """Taking in turns, each team gets something for each of its workers until a fair share is less than that."""
    teams = [Crew({None: n}) for n in seats]
    deal = Deal(items([None] * count))
    deal.open(teams)
    left, shares = count, []
    while left:
        for team in teams:
            share = deal.take(team)
            assert bool(share) == (left > 0)
            fair = left * team.takers(None) / sum(seats)
            assert len(share) >= min(team.takers(None), fair) or len(share) == left
            shares.append(len(share))
            left -= len(share)
    assert sum(shares) == count
    assert all(deal.take(team) == {} for team in teams)


def test_what_is_pinned_to_a_team_comes_first() -> None:
    """All of it at once: whoever of the team takes one pin must not wait for those who take another."""
    team, other = Crew(dict.fromkeys(PINS, 1)), Crew({None: 1})
    deal = Deal(items([None, "south", None, "north", "south"]))
    deal.open([team, other])
    assert list(deal.take(team)) == [3, 1, 4, 0]
    assert list(deal.take(other)) == [2]


def test_the_test_set_goes_to_silos_only_where_there_is_nobody_else() -> None:
    """And comes back from them when somebody else is there, whoever of them began with it."""
    chunks = TestChunk.cut(3000)
    north, south, everybody = Crew({"north": 1}), Crew({"south": 2}), Crew({None: 1, "west": 1})
    deal = Deal(chunks)
    assert deal.open([south, north]) == {}
    assert deal.take(south) == {}
    assert [item.pin for item in deal.take(north).values()] == ["north"] * len(chunks)
    deal.lose(north)
    assert deal.open([south]) == {}
    assert [item.pin for item in deal.take(south).values()] == ["south"] * len(chunks)
    deal.lose(south)
    assert deal.open([everybody]) == {}
    assert list(deal.take(everybody).values()) == chunks
    deal.lose(everybody)
    assert list(deal.open([])) == list(range(len(chunks)))

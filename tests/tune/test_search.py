"""The greedy search, with runs that are made up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import comb

import pytest

from fedray.core.errors import ConfigError, RunFailed
from fedray.tune.search import Candidate, Probe, Row, interval, pick, search

Measure = Callable[[tuple[str, ...]], Probe]


def machine(times: dict[str, float], stack: int = 8, noise: float = 0.01) -> Measure:
    """A machine on which each override multiplies the time of a client, which is 1 s for the config as it is."""

    def measure(changes: tuple[str, ...]) -> Probe:
        seconds = 1.0
        for change in changes:
            seconds *= times[change]
        return Probe(tuple(seconds * (1.0 + noise * turn) for turn in (0, 1, -1, 2, -2, 3, -3, 4, -4)), stack=stack)

    return measure


def knob(*changes: str) -> list[Candidate]:
    return [Candidate((change,)) for change in changes]


def chosen(knobs: Sequence[Sequence[Candidate]], measure: Measure) -> tuple[str, ...]:
    return list(search(8, knobs, measure))[-1][1].changes


def test_knobs_are_turned_one_after_the_other_each_with_what_was_picked_before() -> None:
    times = {"a=1": 0.5, "a=2": 0.8, "b=1": 2.0, "c=1": 0.7, "c=2": 0.9}
    asked = []

    def measure(changes: tuple[str, ...]) -> Probe:
        asked.append(changes)
        return machine(times)(changes)

    found = chosen([knob("a=1", "a=2"), knob("b=1"), knob("c=1", "c=2")], measure)
    assert found == ("a=1", "c=1")
    assert asked == [(), ("a=1",), ("a=2",), ("a=1", "b=1"), ("a=1", "c=1"), ("a=1", "c=2"), (), ("a=1", "c=1")]


def test_what_is_picked_must_be_faster_again() -> None:
    """The machine had other work while the config was measured for the first time, and has it no more."""
    asked = []

    def measure(changes: tuple[str, ...]) -> Probe:
        asked.append(changes)
        return Probe((2.0 if len(asked) == 1 else 1.0,) * 9, stack=8)

    rows = list(search(8, [knob("a=1")], measure))
    assert [(row.changes, row.again) for row, _ in rows] == [
        ((), False),
        (("a=1",), False),
        ((), True),
        (("a=1",), True),
    ]
    assert rows[1][1].changes == ("a=1",)
    assert rows[-1][1].changes == ()


@pytest.mark.parametrize("times", [0.97, 1.0, 1.5])
def test_what_is_not_clearly_faster_leaves_the_config_as_it_is(times: float) -> None:
    assert chosen([knob("a=1")], machine({"a=1": times}, noise=0.0)) == ()


def test_within_the_noise_of_the_rounds_the_config_stays_as_it_is() -> None:
    assert chosen([knob("a=1")], machine({"a=1": 0.8}, noise=0.01)) == ("a=1",)
    assert chosen([knob("a=1")], machine({"a=1": 0.8}, noise=0.08)) == ()


def test_of_two_that_are_as_fast_the_first_is_taken_whichever_was_a_little_faster() -> None:
    for one, other in ((0.500, 0.499), (0.499, 0.500)):
        assert chosen([knob("a=1", "a=2")], machine({"a=1": one, "a=2": other})) == ("a=1",)


def test_what_fails_or_steps_with_fewer_is_a_row_and_never_taken() -> None:
    def measure(changes: tuple[str, ...]) -> Probe:
        if "a=1" in changes:
            return Probe(error="CUDA out of memory")
        return Probe((0.1 if changes else 1.0,) * 9, stack=4 if changes else 8)

    rows = [row for row, _ in search(8, [[Candidate(("a=1",), 32), Candidate(("a=2",), 16)]], measure)]
    assert [row.seconds for row in rows] == [1.0, None, 0.1]
    assert rows[1].note == "CUDA out of memory"
    assert rows[2].note.startswith("4 clients stepped at once, not 16: ")
    assert pick(rows) is rows[0]


def test_a_config_that_has_no_room_is_run_with_what_has() -> None:
    def measure(changes: tuple[str, ...]) -> Probe:
        return Probe((1.0,) * 9, stack=8) if changes else Probe(error="killed")

    assert chosen([knob("a=1")], measure) == ("a=1",)


def test_where_nothing_runs_or_the_config_is_refused_the_reason_is_told() -> None:
    with pytest.raises(RunFailed, match=r"that of the config as it is for: client 3 raised"):
        list(search(8, [knob("a=1"), knob("b=1")], lambda changes: Probe(error="client 3 raised")))
    with pytest.raises(ConfigError, match=r"local\.epochs: wrong"):
        list(search(8, [knob("a=1")], lambda changes: Probe(error="local.epochs: wrong", refused=True)))


@pytest.mark.parametrize("count", range(1, 30))
def test_an_interval_is_the_narrowest_that_has_the_median_often_enough(count: int) -> None:
    """By all places of the median among the values: as likely as so many heads of so many coins."""
    low, high = interval(list(map(float, range(count))))

    def confidence(low: float, high: float) -> float:
        return sum(comb(count, heads) for heads in range(count + 1) if low < heads <= high) / 2.0**count

    assert low == count - 1 - high
    assert confidence(low, high) >= 0.95 or low == 0
    assert confidence(low + 1, high - 1) < 0.95


def test_a_row_is_read_back_as_it_was() -> None:
    row = Row.of(("a=1", "b=2"), 8, Probe((1.0, 2.0, 3.0), 8, 2, 5, 7))
    assert Row.from_json(row.to_json()) == row

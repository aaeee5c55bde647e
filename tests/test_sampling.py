"""Cohorts: functions of seed and round, with the probabilities they say."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fedray import FederatedData
from fedray.core.errors import ConfigError
from fedray.core.rng import numpy_generator
from fedray.run.checks import check_cohort
from fedray.sampling import AvailabilityTrace, Full, InTurns, Poisson, RoundRobin, Sampler, Separated, Uniform, Weighted
from tests.helpers import class_problem

SIZES = np.array([1, 2, 3, 5, 8, 13])
ALL: list[Sampler] = [Full(), Uniform(4), Poisson(0.4), Weighted(4), RoundRobin(4), Separated(1, 3)]
EVERY = pytest.mark.parametrize("sampler", ALL, ids=repr)


def shares(sampler: Sampler, rounds: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """How often each client was drawn."""
    drawn = np.concatenate([sampler.cohort(SIZES, 1, round) for round in range(1, rounds + 1)])
    return np.bincount(drawn, minlength=len(SIZES))


@EVERY
@given(st.integers(0, 2**40), st.integers(1, 1000))
def test_a_cohort_is_increasing_and_repeats(sampler: Sampler, seed: int, round: int) -> None:
    cohort = sampler.cohort(SIZES, seed, round)
    assert cohort.dtype == np.int64
    assert cohort.tolist() == sorted(set(cohort.tolist()) & set(range(len(SIZES))))
    assert cohort.tolist() == sampler.cohort(SIZES, seed, round).tolist()


@EVERY
def test_the_expected_size_is_the_mean_size(sampler: Sampler) -> None:
    sizes = [len(sampler.cohort(SIZES, 3, round)) for round in range(1, 2001)]
    # 2000 draws of at most 6 coins: the mean has a standard deviation below 0.03.
    assert abs(np.mean(sizes) - sampler.expected(SIZES)) < 0.1
    if not isinstance(sampler, Poisson):
        assert set(sizes) == {sampler.expected(SIZES)}


@pytest.mark.parametrize("sampler", ALL[1:-1], ids=repr)
def test_rounds_and_seeds_differ(sampler: Sampler) -> None:
    many = np.ones(100, dtype=np.int64)
    cohorts = {tuple(sampler.cohort(many, seed, round)) for seed in (1, 2) for round in range(1, 20)}
    assert len(cohorts) == 2 * 19


def test_uniform_is_uniform_over_sets() -> None:
    pairs = [tuple(Uniform(2).cohort(SIZES[:4], 5, round)) for round in range(1, 3001)]
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    assert len(found) == 6
    assert stats.chisquare(counts).pvalue > 1e-3


def test_poisson_draws_each_client_by_its_own_coin() -> None:
    rounds = 3000
    drawn = np.zeros((rounds, len(SIZES)))
    for round in range(rounds):
        drawn[round, Poisson(0.4).cohort(SIZES, 1, round + 1)] = 1.0
    for client in range(len(SIZES)):
        assert stats.binomtest(int(drawn[:, client].sum()), rounds, 0.4).pvalue > 1e-4
    correlation = np.corrcoef(drawn.T) - np.eye(len(SIZES))
    assert np.abs(correlation).max() < 0.08


def test_poisson_may_be_empty_and_with_certainty_is_everyone() -> None:
    assert any(len(Poisson(0.1).cohort(SIZES, 1, round)) == 0 for round in range(1, 30))
    assert Poisson(1.0).cohort(SIZES, 1, 1).tolist() == list(range(6))


@given(
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n), st.integers(1, n))),
    st.integers(0, 99),
)
def test_in_turns_nobody_comes_twice_within_the_separation_and_of_a_cycle_everybody_once(
    case: tuple[int, int, int], seed: int
) -> None:
    clients, size, separation = case
    sizes = np.ones(clients, dtype=np.int64)
    some: list[InTurns] = [RoundRobin(size)]
    if size * separation <= clients:
        some.append(Separated(size, separation))
    for sampler in some:
        turns = sampler.turns(clients)
        rounds = [set(sampler.cohort(sizes, seed, round).tolist()) for round in range(1, 3 * turns + 1)]
        for start in range(2 * turns + 1):
            window = rounds[start : start + turns]
            assert sum(map(len, window)) == len(set().union(*window))
            if isinstance(sampler, RoundRobin):
                assert set().union(*window) == set(range(clients))
        assert max(map(len, rounds)) <= size
        assert max(map(len, rounds)) - min(map(len, rounds)) <= 1


def test_separated_draws_each_of_a_group_alike_and_others_each_time() -> None:
    many = np.ones(12, dtype=np.int64)
    drawn = [tuple(Separated(2, 3).cohort(many, 5, round)) for round in range(1, 3001, 3)]
    found, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(found) == 6, "the pairs of four clients"
    assert stats.chisquare(counts).pvalue > 1e-3


def test_weighted_is_proportional_to_sizes() -> None:
    assert stats.chisquare(shares(Weighted(1), 4000), 4000 * SIZES / SIZES.sum()).pvalue > 1e-3


def test_weighted_is_successive_sampling() -> None:
    # Of two drawn without replacement: first i, then j from those left, by size.
    p = SIZES / SIZES.sum()
    inclusion = p + np.array([sum(p[i] * p[j] / (1 - p[i]) for i in range(6) if i != j) for j in range(6)])
    counts = shares(Weighted(2), 4000)
    for client in range(6):
        assert stats.binomtest(int(counts[client]), 4000, inclusion[client]).pvalue > 1e-4


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (Uniform(7), r"^sampler: clients=7: the data has only 6 clients$"),
        (Weighted(7), r"^sampler: clients=7: the data has only 6 clients$"),
        (Uniform(0), r"^sampler: clients=0: a cohort has at least 1 client$"),
        (RoundRobin(7), r"^sampler: clients=7: the data has only 6 clients$"),
        (Separated(1, 0), r"^sampler: min_separation=0: it must be at least 1$"),
        (Separated(2, 4), r"min_separation=4: .* take 8 clients, and the data has 6: take at most 3$"),
        (Weighted(-1), r"^sampler: clients=-1: a cohort has at least 1 client$"),
    ],
)
def test_a_cohort_that_cannot_be_drawn_is_one_clear_error(sampler: Sampler, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_cohort(sampler, SIZES)


@EVERY
def test_a_cohort_that_can_be_drawn_passes(sampler: Sampler) -> None:
    check_cohort(sampler, SIZES)


@pytest.mark.parametrize("make", [lambda: Poisson(0.0), lambda: Poisson(1.1), lambda: Poisson(float("nan"))])
def test_a_rate_is_a_probability(make: Callable[[], Sampler]) -> None:
    with pytest.raises(ValueError, match="rate="):
        make()


# Availability from a file


def trace(folder: Path, text: str, clients: int | None = None) -> AvailabilityTrace:
    (folder / "trace.csv").write_text(text)
    return AvailabilityTrace(str(folder / "trace.csv"), clients)


def named(*names: str) -> FederatedData:
    rows = np.zeros((len(names), 2), dtype=np.float32)
    return FederatedData.from_arrays(rows, np.arange(len(names)) % 2, list(names))


def test_a_trace_says_who_is_there_and_begins_again_after_its_last_round(tmp_path: Path) -> None:
    data = named("north", "south", "west")
    text = "client,note,round\nwest,x,1\nnorth,y,1\nsouth,,3\nsouth,,3\n"
    sampler = trace(tmp_path, text).prepare(data)
    (tmp_path / "trace.csv").unlink()  # read once, before the run
    names = [[data.client_id(i) for i in sampler.cohort(data.sizes, 1, round)] for round in range(1, 8)]
    there = [["north", "west"], [], ["south"]]
    assert [sorted(one) for one in names] == [*there, *there, there[0]]
    assert sampler.expected(data.sizes) == 1.0
    assert pickle.loads(pickle.dumps(sampler)).cohort(data.sizes, 1, 3).tolist() == [1]


def test_so_many_of_those_available_are_drawn_uniformly(tmp_path: Path) -> None:
    text = "round,client\n" + "".join(f"1,{client}\n" for client in (0, 2, 3, 5)) + "2,1\n"
    sampler = trace(tmp_path, text, clients=2).prepare(class_problem((3,) * 6).data)
    drawn = [sampler.cohort(SIZES, 1, round) for round in range(1, 6001, 2)]
    found, counts = np.unique(drawn, axis=0, return_counts=True)
    assert len(found) == 6
    assert set(found.flatten().tolist()) == {0, 2, 3, 5}
    assert stats.chisquare(counts).pvalue > 1e-3
    assert sampler.cohort(SIZES, 1, 2).tolist() == [1]
    assert sampler.expected(SIZES) == 1.5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("round,name\n1,a\n", "has no column 'client' in its first line, which is: round, name"),
        ("", "has no column 'round' in its first line, which is: nothing"),
        ("round,client\n", "has no row"),
        ("round,client\n1,north\n0,north\n", "line 3: '0' is no round; they are whole numbers from 1"),
        ("round,client\n1.5,north\n", r"line 2: '1\.5' is no round"),
        ("round,client\n99999999,north\n", "line 2: '99999999' is no round"),
        ("round,client\n1\n", "line 2: there is no client None"),
        ("round,client\n1,nort\n", r"line 2: there is no client 'nort' \(did you mean 'north'\?\)"),
    ],
)
def test_what_is_wrong_with_a_trace_is_said_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"^sampler\.file: .*trace\.csv.*{message}"):
        trace(tmp_path, text).prepare(named("north", "south"))


def test_a_trace_that_there_is_not_and_a_cohort_of_nobody(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^sampler\.file: none\.csv cannot be read: No such file"):
        AvailabilityTrace("none.csv").prepare(named("north", "south"))
    with pytest.raises(ValueError, match="clients=0: a cohort has at least 1 client"):
        AvailabilityTrace("none.csv", 0)


@pytest.mark.parametrize("count", [1, 7, 64, 65])
def test_draws_do_not_depend_on_how_many_are_made_at_once(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedray.sampling._AT_ONCE", count)
    sizes = np.random.default_rng(1).integers(1, 50, 65)
    for round in (1, 2):
        coins = numpy_generator(3, "cohort", round).random(65)
        assert Poisson(0.3).cohort(sizes, 3, round).tolist() == np.flatnonzero(coins < 0.3).tolist()
        score = np.log(sizes) + numpy_generator(3, "cohort", round).gumbel(size=65)
        largest = np.sort(np.argsort(-score, kind="stable")[:9])
        assert Weighted(9).cohort(sizes, 3, round).tolist() == largest.tolist()
        group = numpy_generator(3, "cohort", 0).permutation(65)[round - 1 :: 4]
        drawn = numpy_generator(3, "cohort", round).choice(group, 5, replace=False, shuffle=False)
        assert Separated(5, 4).cohort(sizes, 3, round).tolist() == sorted(drawn)


def test_of_equal_scores_the_first_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedray.sampling.numpy_generator", lambda *name: Flat())
    monkeypatch.setattr("fedray.sampling._AT_ONCE", 2)
    assert Weighted(3).cohort(np.array([1, 2, 1, 2, 1, 2, 2]), 0, 1).tolist() == [1, 3, 5]
    assert Weighted(5).cohort(np.array([1, 2, 1, 2, 1, 2, 2]), 0, 1).tolist() == [0, 1, 3, 5, 6]


class Flat:
    """A generator that draws zeros."""

    def gumbel(self, size: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.zeros(size)

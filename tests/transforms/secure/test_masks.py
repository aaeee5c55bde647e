"""Masks hide each client's numbers, cancel in the sum, and come off as long as enough clients are left."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from fedray.core.errors import ConfigError
from fedray.core.messages import Ints
from fedray.transforms.secure.graph import Graph, degree, least_of
from fedray.transforms.secure.masks import Parties, TooFew, centred, check_installed, expanded, wrapped


def numbers(count: int, size: int, bits: int, seed: int = 0) -> Ints:
    """Whole numbers whose sum over all clients fits in R bits."""
    most = max(1, 2 ** (bits - 1) // count - 1)
    return np.random.default_rng(seed).integers(-most, most, (count, size), endpoint=True)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(2, 12),
    threshold=st.sampled_from([0.3, 0.7, 1.0]),
    bits=st.sampled_from([8, 32, 33, 64]),
    data=st.data(),
)
def test_the_sum_is_that_of_those_left_or_there_is_none(
    count: int, threshold: float, bits: int, data: st.DataObject
) -> None:
    """Whoever drops out at whichever stage: as long as enough are left, the sum is exact; below, nothing comes out."""
    cohort = np.sort(np.random.default_rng(count).permutation(100)[:count])
    least, values = least_of(count, threshold), numbers(count, 5, bits, seed=count)
    some = st.sets(st.sampled_from(cohort.tolist()))
    lost = [data.draw(some, label=stage) for stage in ("before shares", "before masked", "before the end")]
    sharing = set(cohort.tolist()) - lost[0]
    arrived, answering = sharing - lost[1], sharing - lost[1] - lost[2]
    if len(sharing) < least:
        with pytest.raises(TooFew, match="keys and shares"):
            Parties.of(1, 2, cohort, bits, threshold, sharing=sharing)
        return
    parties = Parties.of(1, 2, cohort, bits, threshold, sharing=sharing)
    rows = {
        client: parties.masked(client, values[place])
        for place, client in enumerate(cohort.tolist())
        if client in sharing
    }
    total = np.zeros(5, dtype=np.int64)
    for client in sorted(arrived):
        total += rows[client]
    if len(answering) < least:
        with pytest.raises(TooFew):
            parties.unmasked(total, arrived, answering)
        return
    plain = sum(values[place] for place, client in enumerate(cohort.tolist()) if client in arrived)
    assert parties.unmasked(total, arrived, answering).tolist() == plain.tolist()


@pytest.mark.parametrize("seed", [1, 2])
def test_sums_over_a_sparse_graph_are_exact(seed: int) -> None:
    count, threshold = 64, 0.9
    draw = np.random.default_rng(seed)
    values, parties = numbers(count, 4, 40, seed), Parties.of(seed, 1, np.arange(count), 40, threshold)
    assert parties.graph.degree.neighbours < count - 1
    left = np.sort(draw.permutation(count)[: least_of(count, threshold)])
    total = np.sum([parties.masked(client, values[client]) for client in left.tolist()], axis=0)
    assert parties.unmasked(total, left).tolist() == values[left].sum(axis=0).tolist()


def test_a_whole_neighbourhood_that_is_lost_opens_nothing() -> None:
    count, threshold = 100, 0.5
    parties = Parties.of(1, 1, np.arange(count), 40, threshold)
    near = parties.graph.neighbours(0)
    lost = near[: least_of(count, threshold)]
    assert len(near) - len(lost) + 1 < parties.graph.degree.shares
    left = sorted(set(range(count)) - set(lost))
    assert len(left) >= parties.threshold
    with pytest.raises(TooFew, match="hold shares of one client's secret"):
        parties.unmasked(np.zeros(1, dtype=np.int64), left)


def test_two_groups_without_common_masks_are_not_opened() -> None:
    shape = degree(100, 0.5, 0.2)
    graph = Graph.of(np.arange(100), 1, 1, type(shape)(2, 2))
    parties = Parties(1, 1, graph, 40, 50)
    left = [client for place, client in enumerate(graph.ring) if place not in (10, 60)]
    with pytest.raises(TooFew, match="two groups"):
        parties.unmasked(np.zeros(1, dtype=np.int64), left)


def test_a_masked_row_is_uniform_whatever_it_holds() -> None:
    parties = Parties.of(3, 1, np.arange(5), bits=20, threshold=0.6)
    for row in (np.zeros(40_000, dtype=np.int64), np.full(40_000, 77)):
        masked = parties.masked(2, row)
        assert masked.min() >= 0
        assert masked.max() < 2**20
        assert kstest(masked / 2**20, "uniform").pvalue > 1e-3
        assert chisquare(np.bincount(masked & 255, minlength=256)).pvalue > 1e-3


def test_all_masks_but_one_still_hide() -> None:
    """What those who know all pairs' masks but one are left with is uniform; with the last one it is the row."""
    parties = Parties.of(3, 1, np.arange(4), bits=24, threshold=0.5)
    row = np.full(20_000, 5)
    masked = parties.masked(1, row).view(np.uint64).copy()
    for other in (0, 2, 3):
        key = parties._pair(1, parties._private(1), other)
        mask = expanded(key, len(row), 24).view(np.uint64)
        masked = masked - mask if other > 1 else masked + mask
    left = wrapped(masked, 24)
    assert kstest(left / 2**24, "uniform").pvalue > 1e-3
    own = expanded(parties._secret(1, "self"), len(row), 24).view(np.uint64)
    assert (wrapped(left - own, 24) == 5).all()


def test_both_ends_of_a_pair_agree_and_nobody_else_has_their_key() -> None:
    far, near = (Parties.of(3, 1, np.arange(5), bits=20, threshold=0.6) for _ in range(2))
    assert near._pair(1, near._private(1), 4) == far._pair(4, far._private(4), 1)
    keys = {near._pair(a, near._private(a), b) for a in range(5) for b in range(a)}
    assert len(keys) == 10
    other = Parties.of(3, 2, np.arange(5), bits=20, threshold=0.6)
    assert other._pair(1, other._private(1), 4) not in keys


def test_of_nobody_both_secrets_are_recovered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the server could take a late update's masks off: of the lost the key, of those who came their own mask's."""
    parties, asked = Parties.of(3, 1, np.arange(6), bits=20, threshold=0.5), list[tuple[int, str]]()
    whole = Parties._recovered

    def noted(self: Parties, client: int, secret: str, answers: set[int]) -> bytes:
        asked.append((client, secret))
        return whole(self, client, secret, answers)

    monkeypatch.setattr(Parties, "_recovered", noted)
    total = np.sum([parties.masked(client, np.arange(3)) for client in (0, 2, 3, 5)], axis=0)
    parties.unmasked(total, [0, 2, 3, 5])
    assert sorted(asked) == [(0, "self"), (1, "key"), (2, "self"), (3, "self"), (4, "key"), (5, "self")]


def test_masks_are_the_same_whoever_is_masked_beside() -> None:
    for bits in (20, 32, 33, 64):
        one, two = (Parties.of(3, 7, np.arange(7), bits, threshold=0.6) for _ in range(2))
        rows = numbers(3, 9, bits)
        block = rows.copy()
        two.mask_([5, 0, 3], block)
        assert block.tolist() == [one.masked(client, row).tolist() for client, row in zip((5, 0, 3), rows, strict=True)]


@pytest.mark.parametrize("bits", [1, 7, 32, 33, 63, 64])
def test_numbers_are_centred_around_zero(bits: int) -> None:
    edges = np.array([-(2 ** (bits - 1)), 2 ** (bits - 1) - 1, 0, -1], dtype=np.int64)
    assert centred(wrapped(edges, bits).view(np.int64), bits).tolist() == edges.tolist()


def test_without_cryptography_the_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(ConfigError, match=r"fedray\[secure\]"):
        check_installed()

"""What every aggregator promises: a commutative monoid, bit for bit, on what is sent and on nothing else."""

from __future__ import annotations

import pickle
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedray.aggregators import Aggregator
from fedray.aggregators.base import Accumulator, UpdateOutOfRange
from fedray.core.now import Now
from tests.aggregators.test_mean import update
from tests.laws.parts import AGGREGATORS, every

SENT = {"delta": 3, "control": 2}
every_one = every("rule", AGGREGATORS)


def folded(rule: Aggregator, clients: list[int]) -> Accumulator:
    """What a worker hands over that trained these clients."""
    into = rule.zero(rule.widths(SENT), "cpu")
    for client in clients:
        draw = np.random.default_rng(client)
        parts = {name: torch.from_numpy(draw.standard_normal((1, width)).astype("f4")) for name, width in SENT.items()}
        block = update(parts["delta"], [float(client + 1)], [client])
        block.parts["control"] = parts["control"]
        rule.add(into, block, weight=100.0)
    return into


def finished(rule: Aggregator, workers: list[list[int]]) -> list[bytes]:
    """The bits of the aggregate of some workers, merged from the first on."""
    first, *others = [folded(rule, clients) for clients in workers]
    for other in others:
        rule.merge(first, other)
    count = sum(map(len, workers))
    weight = float(sum(client + 1 for clients in workers for client in clients))
    now = Now(3, 2, rule.initial_state(SENT, "cpu"))
    parts = rule.finish(first, weight, 100.0, count, now).parts
    assert sorted(parts) == sorted(SENT)
    return [parts[name].numpy().tobytes() for name in SENT]


@every_one
@given(order=st.permutations(range(6)), cuts=st.sets(st.integers(0, 6), max_size=3))
@pytest.mark.one_in(3)
def test_neither_order_nor_grouping_changes_a_bit(rule: Aggregator, order: list[int], cuts: set[int]) -> None:
    edges = sorted({0, 6, *cuts})
    workers = [order[start:stop] for start, stop in pairwise(edges)]
    assert finished(rule, workers) == finished(rule, [list(range(6))])


@every_one
def test_a_worker_that_trained_nobody_changes_nothing(rule: Aggregator) -> None:
    assert finished(rule, [[], [0, 1, 2], []]) == finished(rule, [[0, 1, 2]])


@every_one
def test_what_it_leaves_out_is_less_than_half_on_each_side_or_nobody(rule: Aggregator) -> None:
    for count in range(1, 30):
        left_out = rule.left_out(count)
        assert left_out is None or 0 <= 2 * left_out < count


def test_who_is_out_of_range_is_known_to_whoever_catches_it() -> None:
    error = UpdateOutOfRange([0, 2], "delta is not finite", "delta")
    assert (str(error), error.positions, error.part) == ("delta is not finite", [0, 2], "delta")
    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(error))

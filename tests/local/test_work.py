"""Amounts of work: drawn by name, of everybody or of single clients."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from fedray import FederatedData
from fedray.config.local import LocalSection
from fedray.core.errors import ConfigError
from fedray.local.work import amounts, check_names, sections
from tests.helpers import class_problem

DRAWN = {"name": "uniform", "low": 2, "high": 6}
KEYS = np.arange(5000)


def named(*names: str) -> FederatedData:
    rows = np.zeros((len(names), 2), dtype=np.float32)
    return FederatedData.from_arrays(rows, np.arange(len(names)) % 2, list(names))


def test_draws_are_uniform_and_both_ends_are_drawn() -> None:
    values, counts = np.unique(amounts(DRAWN, KEYS, 1, 1), return_counts=True)
    assert values.tolist() == [2, 3, 4, 5, 6]
    assert stats.chisquare(counts).pvalue > 1e-3
    large = amounts({**DRAWN, "high": 10**9}, KEYS, 1, 1)
    assert stats.kstest(large, stats.uniform(2, 10**9 - 1).cdf).pvalue > 1e-3


def test_a_draw_is_named_by_seed_round_and_client() -> None:
    drawn = amounts(DRAWN, KEYS, 1, 1)
    assert amounts(DRAWN, KEYS[::-1], 1, 1)[::-1].tolist() == drawn.tolist()
    assert amounts(DRAWN, KEYS[7:8], 1, 1).tolist() == drawn[7:8].tolist()
    for seed, round in ((2, 1), (1, 2)):
        # Independent: of five values, one in five is the same.
        assert abs((amounts(DRAWN, KEYS, seed, round) == drawn).mean() - 0.2) < 0.03
    assert amounts(3, KEYS[:2], 1, 1).tolist() == [3, 3]


def test_some_clients_draw_and_the_others_do_the_most() -> None:
    drawn, all_draw = amounts({**DRAWN, "clients": 0.9}, KEYS, 1, 1), amounts(DRAWN, KEYS, 1, 1)
    whole = drawn != all_draw
    assert set(drawn[whole].tolist()) == {6}
    assert stats.binomtest(int(whole.sum()), len(KEYS), 0.1 * 0.8).pvalue > 1e-3  # a fifth of the others has drawn 6
    assert amounts({**DRAWN, "clients": 0.9}, KEYS[7:9], 1, 1).tolist() == drawn[7:9].tolist()
    again = amounts({**DRAWN, "clients": 0.9}, KEYS, 1, 2) != amounts(DRAWN, KEYS, 1, 2)
    assert (again & whole).sum() < 0.3 * whole.sum()  # others in another round
    assert set(amounts({**DRAWN, "clients": 0.0}, KEYS, 1, 1).tolist()) == {6}


def test_clients_are_known_by_their_names_and_by_their_numbers() -> None:
    args = LocalSection(1, by_client={"south": {"epochs": 7}, "1": {"steps": 2}})
    data = named("north", "south", "1")
    index = [data.client_id(i) for i in range(3)]
    found = {
        index[place]: (s.epochs, s.steps)
        for s, which in sections(args, data.keys(np.arange(3)))
        for place in np.arange(3)[which]
    }
    assert found == {"north": (1, None), "south": (7, None), "1": (1, 2)}
    unnamed = class_problem((4, 4, 4)).data
    steps = {s.steps: np.arange(3)[which].tolist() for s, which in sections(args, unnamed.keys(np.arange(3)))}
    assert steps == {2: [1], None: [0, 2]}


def test_a_client_that_there_is_not_is_named_before_the_run() -> None:
    check_names(LocalSection(by_client={"north": {"epochs": 1}}), named("north", "south"))
    with pytest.raises(
        ConfigError, match=r"^local\.by_client: no client 'nort' \(did you mean 'north'\?\); there are 2"
    ):
        check_names(LocalSection(by_client={"nort": {"epochs": 1}}), named("north", "south"))

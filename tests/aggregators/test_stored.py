"""Rows that lie elsewhere: whoever holds which, each rule gives the bits that it gives of rows that are here."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedray.aggregators import Aggregator, CenteredClip, GeometricMedian, Krum, Median, MultiKrum, TrimmedMean
from fedray.aggregators import gathered as module
from fedray.aggregators.gathered import CoordinateWise, Gathered, Rows
from fedray.aggregators.stored import StoredRows, brought
from fedray.attacks import ALIE
from fedray.attacks.attackers import Attacked, Attackers
from fedray.core.messages import Floats, Ints
from fedray.core.now import Now

RULES: list[Aggregator] = [
    Median(),
    TrimmedMean(0.2),
    Krum(1),
    MultiKrum(1),
    MultiKrum(0, 3),
    GeometricMedian(),
    CenteredClip(0.5, steps=2),
]


@dataclass
class Here:
    """A shelf of this process, which counts what is read of it at once."""

    clients: Ints
    weight: Floats
    parts: dict[str, NDArray[np.float32]]
    most: int = 0

    def read(self, part: str, rows: Ints, start: int, stop: int) -> NDArray[np.float32]:
        self.most = max(self.most, len(rows) * (stop - start))
        return self.parts[part][rows, start:stop]

    def close(self) -> None:
        """It lies here."""


def shelved(count: int, widths: dict[str, int], seed: int, shelves: int) -> tuple[StoredRows, dict[str, torch.Tensor]]:
    """Rows on some shelves in any order, and the same as an accumulator."""
    draw = np.random.default_rng(seed)
    clients = draw.permutation(100)[:count].astype(np.int64)
    weight = draw.random(count) + 0.5
    parts = {name: draw.standard_normal((count, width)).astype("f4") for name, width in widths.items()}
    places = [np.flatnonzero(draw.integers(shelves, size=count) == 0)]
    left = np.setdiff1d(np.arange(count), places[0])
    places += np.array_split(draw.permutation(left), max(1, shelves - 1))
    lying = [Here(clients[rows], weight[rows], {name: part[rows] for name, part in parts.items()}) for rows in places]
    accumulator = {
        "row.client": torch.from_numpy(clients),
        "row.weight": torch.from_numpy(weight),
        **{name: torch.from_numpy(part) for name, part in parts.items()},
    }
    return StoredRows(lying, widths), accumulator


@pytest.mark.parametrize("rule", RULES, ids=repr)
@given(st.integers(5, 20), st.integers(1, 90), st.integers(1, 4), st.integers(0, 2**16), st.sampled_from([40, 1 << 22]))
@pytest.mark.one_in(3)
def test_wherever_rows_lie_the_bits_are_the_same(
    rule: Gathered, count: int, width: int, shelves: int, seed: int, at_once: int
) -> None:
    widths = {"delta": width, "control": 3, "nothing": 0}
    stored, accumulator = shelved(count, widths, seed, shelves)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "COLUMNS", at_once)
        here, there = (Now(1, 1, state=rule.initial_state(widths, "cpu")) for _ in range(2))
        expected = rule.finish(accumulator, 1.0, 1.0, count, here).parts
        got = rule.finish(stored, 1.0, 1.0, count, there).parts
    assert got.keys() == expected.keys()
    assert all(torch.equal(got[name], part) for name, part in expected.items())
    assert (there.metrics, there.shares) == (here.metrics, here.shares)
    most = max(shelf.most for shelf in stored.shelves)  # type: ignore[attr-defined]
    assert not rule.by_columns or most <= max(at_once, count)


@pytest.mark.parametrize("rule", [Median(), TrimmedMean(0.2), TrimmedMean(0.0)], ids=repr)
@given(st.integers(1, 40), st.integers(1, 300), st.integers(0, 2**16), st.integers(1, 400))
def test_coordinate_by_coordinate_is_bit_by_bit_the_whole(
    rule: CoordinateWise, count: int, width: int, seed: int, at_once: int
) -> None:
    """However many columns are reduced at a time."""
    rows = np.random.default_rng(seed).standard_normal((count, width)).astype("f4")
    whole = rule.reduce(torch.from_numpy(rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "COLUMNS", at_once)
        got = rule.aggregate(Rows(np.arange(count), np.ones(count), {"delta": torch.from_numpy(rows)}), Now(1, 1))
    assert torch.equal(got["delta"], whole)


def test_the_number_of_threads_does_not_show() -> None:
    rows = torch.from_numpy(np.random.default_rng(1).standard_normal((60, 40_000)).astype("f4"))
    threads, found = torch.get_num_threads(), []
    for number in (1, 2, 3):
        torch.set_num_threads(number)
        found.append([rule.reduce(rows) for rule in (Median(), TrimmedMean(0.1))])
    torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_krum_reads_the_rows_that_it_has_chosen_and_no_others() -> None:
    stored, _ = shelved(9, {"delta": 7, "control": 5}, 3, 3)
    asked: list[tuple[str, int]] = []
    for shelf in stored.shelves:

        def read(part: str, rows: Ints, start: int, stop: int, shelf: Here = shelf) -> NDArray[np.float32]:  # type: ignore[assignment]
            asked.append((part, len(rows)))
            return Here.read(shelf, part, rows, start, stop)

        shelf.read = read  # type: ignore[method-assign]
    Krum(1).finish(stored, 1.0, 1.0, 9, Now(1, 1))
    assert sum(count for part, count in asked if part == "control") == 1
    assert sum(count for part, count in asked if part == "delta") == 9 + 1


def test_attackers_change_what_is_looked_at_and_not_what_is_stored() -> None:
    stored, accumulator = shelved(9, {"delta": 7}, 5, 2)
    clients = np.sort(stored.clients)[:3]
    attackers = Attackers(ALIE(0.3, z=2.0), clients, clients, 1)
    rule = Attacked(Median(), attackers)
    got = rule.finish(stored, 1.0, 1.0, 9, Now(1, 1)).parts["delta"]
    assert torch.equal(got, rule.finish(accumulator, 1.0, 1.0, 9, Now(1, 1)).parts["delta"])
    assert not torch.equal(
        got, Median().finish(shelved(9, {"delta": 7}, 5, 2)[0], 1.0, 1.0, 9, Now(1, 1)).parts["delta"]
    )
    assert not rule.by_columns


def test_a_whole_part_is_read_once() -> None:
    stored, _ = shelved(4, {"delta": 3}, 1, 2)
    assert stored["delta"] is stored["delta"]
    assert list(stored) == ["delta"]
    assert len(stored) == 1
    assert brought(stored, torch.device("cpu")) is stored
    assert brought({"delta": torch.ones(2)}, torch.device("cpu"))["delta"].tolist() == [1.0, 1.0]

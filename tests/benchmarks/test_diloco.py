"""The yardstick of DiLoCo, its table, and what it may lose."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import diloco
from benchmarks.diloco import ROWS, SITES, STEPS, SYNCHRONOUS, WARM, Row, decayed, missed, table
from fedray import DiLoCo, Int4
from fedray.models import Decoder

TINY = Decoder(dim=16, heads=2, layers=1)


def test_its_examples_are_true() -> None:
    assert doctest.testmod(diloco).failed == 0


@pytest.mark.slow
def test_examples_are_apart_and_of_one_length() -> None:
    sites, held, known = diloco.texts()
    assert len(sites) == len(SITES)
    for rows in (*sites, held):
        assert rows.shape[1] == diloco.LENGTH
        assert 100 < len(rows) <= diloco.WINDOWS
        assert 0 <= rows.min() <= rows.max() < known
    assert not {row.tobytes() for row in held[:50]} & {row.tobytes() for site in sites for row in site}


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few steps of a tiny model."""
    for name, value in {"STEPS": 12, "WARM": 4, "MODEL": TINY, "BATCH": 2}.items():
        monkeypatch.setattr(diloco, name, value)


@pytest.mark.slow
def test_it_learns_and_goes_on_from_the_warm_model(short: None) -> None:
    curve, warm = diloco.synchronous(seed=1, every=4)
    assert [step for step, _ in curve] == [4, 8, 12]
    assert curve[-1][1] < curve[0][1]
    there = diloco.built(1)
    there.load_state_dict(warm)
    assert diloco.held_out(there) == pytest.approx(curve[0][1])
    found, sent = diloco.diloco(Row(DiLoCo(), steps=4, transforms=[Int4()]), 1, warm)
    assert [step for step, _ in found] == [12]
    assert found[-1][1] < curve[0][1]
    size = sum(parameter.numel() for parameter in there.parameters())
    assert sent == 2 * ((size + 1) // 2 + 4 * -(-size // 256))
    again, _ = diloco.diloco(Row(DiLoCo(), steps=4, transforms=[Int4()]), 1, warm)
    assert again == found


def test_the_rate_goes_on_along_the_cosine() -> None:
    rounds = (STEPS - WARM) // 50
    rates = [diloco.Cosine().rate(1.0, round, rounds) for round in range(1, rounds + 1)]
    middles = [WARM + 50 * round + 25 for round in range(rounds)]
    assert rates == pytest.approx([decayed(step) for step in middles])
    assert np.diff([1.0, *rates, 0.0]).max() < 0


def found(**losses: float) -> dict[str, dict[str, Any]]:
    plain = {SYNCHRONOUS: 1.0} | dict.fromkeys(ROWS, 1.02)
    return {name: {"curve": [(STEPS, loss)], "sent": 2_000_000} for name, loss in (plain | losses).items()}


def test_the_table_says_what_each_costs() -> None:
    head, _, first, second, *_, last = table(found(), size=1_000)
    assert head.startswith("| from step 400 on | exchanges")
    assert first == "| synchronous | 800 | 3.2 | 1.0000 | +0.00 % |"
    assert second == "| DiLoCo, H = 50 | 16 | 2 | 1.0200 | +2.00 % |"
    assert last == "| one site alone | 0 | 0 | 1.0200 | +2.00 % |"


def test_what_loses_too_much_is_named() -> None:
    assert missed(found()) == []
    assert missed(found(**{"DiLoCo, H = 50": 1.03})) == ["DiLoCo, H = 50"]
    assert missed(found(**{"DiLoCo, H = 50, int4": 1.0221})) == ["DiLoCo, H = 50, int4"]


def test_the_picture_is_the_same_each_time(tmp_path: Path) -> None:
    curves = {name: {"curve": [(step, 3.0 - step / 1e3) for step in (50, 100, 150, 1200)]} for name in found()}
    for name in ("one.svg", "two.svg"):
        diloco.draw(curves, tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()

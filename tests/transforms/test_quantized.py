"""Int8 and int4: how far off a value may be, that on average it is not, and that nothing else is lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.messages import BlockUpdate
from fedray.transforms import BF16, Int4, Int8, Setting, TopK
from fedray.transforms.codec import Draws, encoded_bytes, travelled
from fedray.transforms.quantized import Quantized

SIZES = st.integers(1, 700)
CODECS, ROUNDINGS = [Int8, Int4], ["nearest", "stochastic"]
FLOATS = st.floats(-(2.0**60), 2.0**60, width=32)


def through(codec: Quantized, rows: torch.Tensor, round: int = 1) -> torch.Tensor:
    return travelled([codec], rows, Draws(1, "encode", round, range(len(rows))))


@given(SIZES, st.integers(0, 2**16), st.integers(-30, 30), st.sampled_from(CODECS), st.sampled_from(ROUNDINGS))
def test_a_value_is_off_by_a_scale_at_most(size: int, seed: int, power: int, codec: Any, rounding: str) -> None:
    draw = np.random.default_rng(seed)
    rows = (draw.standard_t(2, (2, size)) * 2.0**power).astype("f4")
    got = through(codec(rounding), torch.from_numpy(rows)).numpy()
    for start in range(0, size, 256):
        part, back = rows[:, start : start + 256].astype("f8"), got[:, start : start + 256].astype("f8")
        scale = np.abs(part).max(axis=1, keepdims=True) / codec.most
        assert (np.abs(back - part) <= scale * ((0.5 if rounding == "nearest" else 1.0) + 1e-4)).all()
        assert (np.abs(back) <= (codec.most + 1e-3) * scale).all()
        assert (back[part == 0] == 0).all()


@given(st.lists(FLOATS, min_size=1, max_size=40))
def test_any_numbers_stay_within_a_scale(values: list[float]) -> None:
    row = torch.tensor([values])
    got = through(Int8(), row)
    scale = row.double().abs().max() / 127
    # Below the smallest normal numbers a float32 scale has no digits left.
    assert bool(((got.double() - row.double()).abs() <= scale * 1.0001 + 127 * 2.0**-126).all())


@given(st.integers(0, 2**16), st.sampled_from(CODECS))
def test_whole_numbers_of_a_scale_arrive_as_they_are(seed: int, codec: Any) -> None:
    """And so what was decoded once is not changed by being sent again."""
    draw = np.random.default_rng(seed)
    whole = draw.integers(-codec.most, codec.most + 1, (2, 301)).astype("f4")
    whole[:, [0, 256]] = codec.most
    for rounding in ROUNDINGS:
        rows = torch.from_numpy(whole * 0.25)
        assert torch.equal(through(codec(rounding), rows), rows)


@pytest.mark.slow
def test_on_average_nothing_is_off() -> None:
    """A value of a twentieth of a scale: rounded to the nearest it never arrives, else once in twenty rounds."""
    row = torch.tensor([[1.0, 0.05 / 127, -0.4 / 127]])
    count = 4000
    mean = sum(through(Int8(), row, round).double() for round in range(count)) / count
    # Five standard errors of a draw of a whole scale or nothing.
    assert (mean - row).abs().max() <= 5 * 0.5 / 127 / count**0.5
    assert through(Int8("nearest"), row)[0, 1:].tolist() == [0.0, 0.0]


def test_the_draws_bear_the_names_of_round_and_client() -> None:
    rows = torch.linspace(-1, 1, 300).expand(3, -1)
    first = through(Int8(), rows)
    assert torch.equal(first, through(Int8(), rows))
    assert not torch.equal(first, through(Int8(), rows, round=2))
    assert not torch.equal(first[0], first[1])
    alone = travelled([Int8()], rows[:1], Draws(1, "encode", 1, [2]))
    assert torch.equal(alone[0], first[2])


def test_two_values_travel_in_a_byte() -> None:
    assert [encoded_bytes([Int4()], size) for size in (1, 2, 257)] == [1 + 4, 1 + 4, 129 + 8]
    whole = torch.arange(-7, 8, dtype=torch.float32)[None]
    sent = Int4("nearest").encode(whole, Draws())
    assert sent["values"].shape == (1, 8)
    assert torch.equal(Int4().decode(sent, 15), whole)
    broken = torch.tensor([[1.0, float("nan"), 2.0]])
    assert not through(Int4("nearest"), broken).isfinite().any()


@given(st.integers(0, 2**16), st.sampled_from(CODECS))
def test_what_is_rounded_off_is_sent_later(seed: int, codec: Any) -> None:
    """All that was sent, and what is left, are all that was to be sent; what is left stays below half a scale."""
    draw, one = np.random.default_rng(seed), np.ones(2)
    rounding, kept = codec("nearest", error_feedback=True), {"residual": torch.zeros(2, 300)}
    wanted, sent = torch.zeros(2, 300, dtype=torch.float64), torch.zeros(2, 300, dtype=torch.float64)
    for round in range(1, 6):
        delta = torch.from_numpy(draw.standard_normal((2, 300)).astype("f4"))
        wanted += delta
        update = BlockUpdate(round, np.arange(2), {"delta": delta.clone()}, kept, one, one, one.astype(int))
        rounding.on_clients(update)
        kept, arrived = update.state, through(rounding, update.parts["delta"], round)
        torch.testing.assert_close(arrived, update.parts["delta"], rtol=1e-6, atol=0)  # rounded once, not twice
        sent += arrived
        scale = (delta.abs().max() + kept["residual"].abs().max()) / codec.most
        assert kept["residual"].abs().max() <= scale
    torch.testing.assert_close(sent + kept["residual"], wanted, rtol=0, atol=1e-5)
    plain = codec("nearest")
    assert (plain.state, plain.changes_updates, rounding.state, rounding.changes_updates) == (
        (),
        False,
        ("residual",),
        True,
    )


def test_error_feedback_of_a_part_of_an_update_is_refused() -> None:
    setting = Setting(before=(TopK(0.1),))
    with pytest.raises(
        ValueError, match="topk, which stands before it, sends it in another form: leave error_feedback"
    ):
        Int8("nearest", error_feedback=True).prepare(setting)
    assert Int8().prepare(setting) == Int8()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Int8(rounding="up"), "rounding='up': it must be stochastic or nearest"),  # type: ignore[arg-type]
        (lambda: Int8(direction="left"), "direction='left': it must be up, down or both"),  # type: ignore[arg-type]
        (lambda: Int4(error_feedback=True), "stochastic rounding is right on average.*: take rounding: nearest"),
        (lambda: Int4("nearest", "down", True), "it is for updates, and direction is down: take up, or both"),
        (lambda: BF16("left"), "direction='left': it must be up, down or both"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_option_is_refused(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]

"""Int8: how far off a value may be, that on average it is not, and that nothing else is lost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedray.transforms import BF16, Int8
from fedray.transforms.codec import Draws, travelled

SIZES = st.integers(1, 700)
FLOATS = st.floats(-(2.0**60), 2.0**60, width=32)


def through(codec: Int8, rows: torch.Tensor, round: int = 1) -> torch.Tensor:
    return travelled([codec], rows, Draws(1, "encode", round, range(len(rows))))


@given(SIZES, st.integers(0, 2**16), st.integers(-30, 30), st.sampled_from(["nearest", "stochastic"]))
def test_a_value_is_off_by_a_scale_at_most(size: int, seed: int, power: int, rounding: str) -> None:
    draw = np.random.default_rng(seed)
    rows = (draw.standard_t(2, (2, size)) * 2.0**power).astype("f4")
    got = through(Int8(rounding), torch.from_numpy(rows)).numpy()  # type: ignore[arg-type]
    for start in range(0, size, 256):
        part, back = rows[:, start : start + 256].astype("f8"), got[:, start : start + 256].astype("f8")
        scale = np.abs(part).max(axis=1, keepdims=True) / 127
        assert (np.abs(back - part) <= scale * ((0.5 if rounding == "nearest" else 1.0) + 1e-4)).all()
        assert (np.abs(back) <= 127.001 * scale).all()
        assert (back[part == 0] == 0).all()


@given(st.lists(FLOATS, min_size=1, max_size=40))
def test_any_numbers_stay_within_a_scale(values: list[float]) -> None:
    row = torch.tensor([values])
    got = through(Int8(), row)
    scale = row.double().abs().max() / 127
    # Below the smallest normal numbers a float32 scale has no digits left.
    assert bool(((got.double() - row.double()).abs() <= scale * 1.0001 + 127 * 2.0**-126).all())


@given(st.integers(0, 2**16))
def test_whole_numbers_of_a_scale_arrive_as_they_are(seed: int) -> None:
    """And so what was decoded once is not changed by being sent again."""
    draw = np.random.default_rng(seed)
    whole = draw.integers(-127, 128, (2, 300)).astype("f4")
    whole[:, [0, 256]] = 127
    for rounding in ("nearest", "stochastic"):
        rows = torch.from_numpy(whole * 0.25)
        assert torch.equal(through(Int8(rounding), rows), rows)


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


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Int8(rounding="up"), "rounding='up': it must be stochastic or nearest"),  # type: ignore[arg-type]
        (lambda: Int8(direction="left"), "direction='left': it must be up, down or both"),  # type: ignore[arg-type]
        (lambda: BF16("left"), "direction='left': it must be up, down or both"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_option_is_refused(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()  # type: ignore[operator]

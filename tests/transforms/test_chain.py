"""The order of transforms: what may stand behind what, and what is said where it may not."""

from __future__ import annotations

import pytest
import torch

from fedray.core.errors import ConfigError
from fedray.transforms import BF16, Clip, Codec, Gaussian, Int8, TopK, Transform
from fedray.transforms.chain import chained
from fedray.transforms.codec import VALUES, Draws, travelled

PRIVATE: list[Transform] = [Clip(1.0), Gaussian(0.5)]


@pytest.mark.parametrize(
    ("transforms", "words"),
    [
        (
            [Int8(), Clip()],
            r"\[1\]: clip changes updates, and int8, which stands before it, encodes them: put it before",
        ),
        ([BF16("both"), TopK()], r"\[1\]: topk changes updates, and bf16, .*: put it before bf16$"),
        ([Int8(), BF16()], r"\[1\]: bf16 would encode again what int8 has rounded: leave one of them out$"),
        ([BF16("down"), Int8(direction="both")], r"\[1\]: int8 would encode again what bf16 has rounded"),
        ([*PRIVATE, Int8()], r"\[2\]: int8 may round an update to more than the clip that gaussian relies on: leave"),
        ([Clip(), BF16("both"), Gaussian()], r"\[1\]: bf16 may round .* or set its direction to down$"),
        ([Clip(), Gaussian(), TopK()], r"\[2\]: topk with error feedback undoes the clip that gaussian relies on"),
    ],
)
def test_what_is_refused(transforms: list[Transform], words: str) -> None:
    with pytest.raises(ConfigError, match="^transforms" + words) as raised:
        chained(transforms)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "transforms",
    [
        [Clip(), TopK(), Int8("nearest")],
        [TopK(), Clip(), BF16()],
        [TopK(0.5), TopK(0.1), Int8()],
        [BF16(), Int8(direction="down")],
        [Int8(direction="down"), *PRIVATE],
        [*PRIVATE, BF16("down")],
        [TopK(), *PRIVATE, BF16("down")],
    ],
)
def test_what_fits(transforms: list[Transform]) -> None:
    assert len(chained(transforms)) == len(transforms)


def test_each_encodes_what_the_one_before_has_left() -> None:
    """Of the largest values those that are sent are rounded; zeros take no scale of their own."""
    row = torch.zeros(1, 1000)
    row[0, ::10] = torch.linspace(1.0, 2.0, 100)
    chain: list[Codec] = [TopK(0.1), Int8("nearest")]
    got = travelled(chain, row, Draws())
    assert torch.equal(got != 0, row != 0)
    assert float((got - row).abs().max()) <= 2.0 / 127 / 2 * 1.001
    kept = TopK(0.1).encode(row, Draws())
    assert Int8().encode(kept[VALUES], Draws())["scale"].shape == (1, 1)

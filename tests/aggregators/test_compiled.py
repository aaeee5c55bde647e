"""The compiled loop of exact sums: the bits of numpy's passes, and never a library of another source."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedray.aggregators import compiled, exact
from fedray.aggregators.exact import GRID, LIMIT, add_change
from fedray.aggregators.short import SHORT_LIMIT
from hatch_build import SOURCE, build

CHUNK = 1024

needs_library = pytest.mark.skipif(
    compiled.library() is None and shutil.which("cc") is None, reason="no C compiler was there at the installation"
)


def by_numpy(total: Tensor, end: Tensor, start: Tensor, scale: float, limit: float) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "library", lambda: None)
        return add_change(total, end, start, scale, limit)


def sums(length: int, short: bool, draw: torch.Generator) -> Tensor:
    steps = torch.randint(-(2**29), 2**29, (length,), generator=draw)
    return steps.to(torch.int32 if short else torch.float64)


@needs_library
def test_an_installation_with_a_compiler_has_made_it() -> None:
    assert compiled.library() is not None


@needs_library
@given(
    length=st.sampled_from([1, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 17]),
    short=st.booleans(),
    scale=st.floats(-1.0, 1.0),
    seed=st.integers(0, 2**16),
)
@settings(deadline=None)
def test_its_bits_are_those_of_numpy(length: int, short: bool, scale: float, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    limit = SHORT_LIMIT if short else LIMIT
    total = sums(length, short, draw)
    start = torch.randn(length, generator=draw) * limit / 100
    # From far below a step of the grid up to the limit, and halves of steps, which are ties.
    end = start + torch.rand(length, generator=draw) * limit * 2.0 ** -torch.randint(2, 70, (length,), generator=draw)
    end[:: max(length // 7, 1)] = start[:: max(length // 7, 1)] + 0.5 * GRID
    expected = total.clone()
    assert by_numpy(expected, end, start, scale, limit)
    assert add_change(total, end, start, scale, limit)
    assert torch.equal(total, expected)


@needs_library
@pytest.mark.parametrize("short", [True, False])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), LIMIT, -LIMIT])
@pytest.mark.parametrize("place", [0, CHUNK, 3 * CHUNK + 4])
def test_what_is_out_of_range_leaves_no_trace(short: bool, bad: float, place: int) -> None:
    draw = torch.Generator().manual_seed(7)
    limit = SHORT_LIMIT if short else LIMIT
    total = sums(3 * CHUNK + 5, short, draw)
    start, end, before = torch.zeros(len(total)), torch.rand(len(total), generator=draw) * limit, total.clone()
    end[place] = bad
    assert not add_change(total, end, start, 0.3, limit)
    assert torch.equal(total, before)


@needs_library
def test_the_largest_difference_that_is_taken_is_the_one_below_the_limit() -> None:
    total, start = torch.zeros(1, dtype=torch.float64), torch.zeros(1)
    below = torch.nextafter(torch.tensor([LIMIT]), start)
    assert add_change(total, below, start, 1.0, LIMIT)
    assert float(total) * GRID == float(below)
    assert not add_change(total, torch.tensor([LIMIT]), start, 1.0, LIMIT)


def test_vectors_with_gaps_are_summed_too() -> None:
    draw = torch.Generator().manual_seed(8)
    start, end = torch.randn(2, 50, generator=draw)
    spread, dense = torch.zeros(100, dtype=torch.float64), torch.zeros(50, dtype=torch.float64)
    assert add_change(spread[::2], end, start)
    assert add_change(dense, end, start)
    assert torch.equal(spread[::2], dense)
    assert not spread[1::2].any()


def test_what_is_shorter_or_of_another_type_is_not_read_as_if_it_were_not() -> None:
    narrow, wide, start = torch.zeros(50, dtype=torch.float64), torch.zeros(50, dtype=torch.float64), torch.zeros(50)
    with pytest.raises(ValueError, match="shape"):
        add_change(narrow, torch.zeros(49), start)
    assert not narrow.any()
    end = torch.rand(50, generator=torch.Generator().manual_seed(9))
    assert add_change(narrow, end, start)
    assert add_change(wide, end.double(), start)
    assert torch.equal(narrow, wide)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return Path(shutil.copy(SOURCE, tmp_path))


@pytest.mark.parametrize("compiler", ["no-such-compiler", "false"])
def test_a_compiler_that_is_not_there_or_fails_leaves_nothing(
    source: Path, compiler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CC", compiler)
    assert build(source) is None
    assert list(source.parent.iterdir()) == [source]
    assert compiled.load(source) is None


@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_a_library_of_another_source_is_not_loaded_and_gives_way(source: Path) -> None:
    elsewhere = source.with_name("exact-sparc64-0123456789ab.library")
    elsewhere.touch()
    first = build(source)
    assert first is not None
    assert compiled.load(source) is not None
    source.write_text(source.read_text() + "/* another */\n")
    assert compiled.load(source) is None
    second = build(source)
    assert second not in {None, first}
    assert sorted(source.parent.glob("*.library")) == sorted([second, elsewhere])

"""The parts that ranks have of what clients keep of an optimizer: together the row of one process."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.multiprocessing.spawn import spawn

from fedray.core.fields import floats
from fedray.core.layout import Layout
from fedray.core.messages import OPTIMIZER
from fedray.core.places import NOWHERE, Places
from fedray.core.shards import Shard
from fedray.local.moments import Moments, moments_of
from fedray.run.rank_rows import RankRows, pieces
from fedray.rundir.held_rows import MEMORY, RowMemory
from fedray.rundir.state_rows import StateRows

CPU = torch.device("cpu")
LAYOUT = Layout.of(nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)))
MOMENTS = moments_of(partial(torch.optim.AdamW, lr=0.1), LAYOUT)
ROW = torch.randn(1, MOMENTS.width, generator=torch.Generator().manual_seed(0))
CLIENT = np.array([4])


@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
def test_ranks_have_each_moment_once_and_all_numbers_each(ranks: int) -> None:
    """With six ranks some have no row of any tensor."""
    parts = [pieces(MOMENTS, Shard(LAYOUT, rank, ranks)) for rank in range(ranks)]
    count = torch.zeros(MOMENTS.width)
    for part in parts:
        for piece in part:
            count[piece] += 1
    values = len(MOMENTS.tensors) * MOMENTS.trained
    assert count.tolist() == [1.0] * values + [float(ranks)] * (MOMENTS.width - values)


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_part_has_the_columns_of_the_ranks_own_layout(ranks: int) -> None:
    """So that an optimizer over its rows finds them, parameter by parameter."""
    for rank in range(ranks):
        shard = Shard(LAYOUT, rank, ranks)
        part = torch.cat([ROW[0, piece] for piece in pieces(MOMENTS, shard)]).unsqueeze(0)
        own: Moments = moments_of(partial(torch.optim.AdamW, lr=0.1), shard.layout)
        assert part.shape == (1, own.width)
        for entry, mine in zip(LAYOUT.parameters, shard.layout.parameters, strict=True):
            whole, found = MOMENTS.load(ROW, entry, entry.shape), own.load(part, mine, mine.shape)
            first = -(-entry.shape[0] // ranks) * rank
            rows = whole["exp_avg"][first : first + mine.shape[0]]
            assert torch.equal(found["exp_avg"], rows)
            assert found["step"] == whole["step"]


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of this process."""
    dist.init_process_group("gloo", f"file://{tmp_path}/meet", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_who_has_kept_nothing_begins_with_zeros_and_a_torn_file_is_said(alone: None, tmp_path: Path) -> None:
    rows = RankRows(tmp_path, MOMENTS, Shard(LAYOUT, 0, 1))
    found, known = rows.read(CLIENT, Places(), CPU)
    assert not found[OPTIMIZER].any()
    assert known.tolist() == [False]
    places = rows.write(1, CLIENT, {OPTIMIZER: ROW})
    (file,) = tmp_path.glob("*.rows")
    file.write_bytes(file.read_bytes()[:-4])
    with pytest.raises(OSError, match=r"client state .*\.rows row 0 is cut short"):
        RankRows(tmp_path, MOMENTS, Shard(LAYOUT, 0, 1)).read(CLIENT, places, CPU)


def test_rows_in_memory_are_written_and_read_there(alone: None, tmp_path: Path) -> None:
    rows = RankRows(tmp_path, MOMENTS, Shard(LAYOUT, 0, 1))
    rows.memory = RowMemory.of([4 * MOMENTS.width], limit=12 * MOMENTS.width)
    places = rows.write(1, CLIENT, {OPTIMIZER: ROW}, np.array([2]))
    assert (places.segments, places.number.tolist()) == ((MEMORY,), [2])
    assert not list(tmp_path.glob("*.rows"))
    found, known = rows.read(CLIENT, places, CPU)
    assert torch.equal(found[OPTIMIZER], ROW)
    assert known.tolist() == [True]
    shard = Shard(LAYOUT, 1, 2)
    other = RankRows(tmp_path, MOMENTS, shard)
    other.memory = rows.memory
    part = torch.cat([ROW[0, piece] for piece in pieces(MOMENTS, shard)])
    assert torch.equal(other.read(CLIENT, places, CPU)[0][OPTIMIZER][0], part)


def test_a_rank_that_writes_no_file_itself_closes_those_that_nobody_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has been deleted takes room on the disk until then."""
    monkeypatch.setattr(dist, "send", lambda part, to: None)
    places = StateRows(tmp_path, floats({OPTIMIZER: MOMENTS.width})).write(1, CLIENT, {OPTIMIZER: ROW})
    rows = RankRows(tmp_path, MOMENTS, Shard(LAYOUT, 1, 2))
    rows.read(CLIENT, places, CPU)
    for round, count in ((2, 1), (3, 0)):
        assert rows.write(round, CLIENT, {OPTIMIZER: ROW}) is NOWHERE
        assert len(rows._open) == count


def on_rank(rank: int, folder: Path) -> None:
    """Write a part and read it again, in a process of its own."""
    dist.init_process_group("gloo", f"file://{folder}/meet", rank=rank, world_size=2)
    rows = RankRows(folder, MOMENTS, Shard(LAYOUT, rank, 2))
    part = torch.cat([ROW[0, piece] for piece in pieces(MOMENTS, Shard(LAYOUT, rank, 2))]).unsqueeze(0)
    given = part.clone()
    if rank:
        given[:, len(MOMENTS.tensors) * MOMENTS.trained - MOMENTS.width :] = 0  # as of an optimizer without any rows
    told = [rows.write(1, CLIENT, {OPTIMIZER: given})]
    assert (told[0] is NOWHERE) == (rank == 1)
    dist.broadcast_object_list(told, 0)
    found, known = rows.read(CLIENT, told[0], CPU)
    assert torch.equal(found[OPTIMIZER], part)
    assert known.tolist() == [True]
    if rank == 0:
        torch.save(
            StateRows(folder, floats({OPTIMIZER: MOMENTS.width})).read(CLIENT, told[0], CPU)[0], folder / "whole"
        )
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_ranks_write_the_row_of_one_process_and_read_their_parts_of_it(tmp_path: Path) -> None:
    """Its numbers are those of the first rank."""
    spawn(on_rank, (tmp_path,), nprocs=2)
    assert torch.equal(torch.load(tmp_path / "whole")[OPTIMIZER], ROW)

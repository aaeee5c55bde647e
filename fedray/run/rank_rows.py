"""The kept state of clients' optimizers as a rank of a worker has it: its part of each row."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from fedray.core.fields import floats
from fedray.core.messages import OPTIMIZER, Ints, Parts
from fedray.core.places import NO_PLACES, NOWHERE, Places
from fedray.core.shards import Shard
from fedray.local.moments import Moments
from fedray.rundir.held_rows import MEMORY
from fedray.rundir.state_rows import StateRows, read_on


class RankRows(StateRows):
    """The rows of clients' optimizers, where any worker has them, so that a run goes on with another number of ranks.

    A rank reads its own part of a row, but of one in memory all of it.  To write one the ranks send theirs to the
    first, which puts them together and holds that whole row for as long.  The numbers in it are those of the first
    rank, as another one may have no rows of a tensor, and so no step of its optimizer.

    Args:
        folder: the folder of segments, visible to all ranks.
        moments: the columns of a row ``[W]``.
        shard: the rank's part of the model.
    """

    def __init__(self, folder: Path, moments: Moments, shard: Shard) -> None:
        super().__init__(folder, floats({OPTIMIZER: moments.width}))
        self._width, self._rank = moments.width, shard.rank
        self._pieces = [pieces(moments, Shard(shard.whole, rank, shard.ranks)) for rank in range(shard.ranks)]

    def read(self, clients: Ints, places: Places, device: torch.device) -> tuple[Parts, Tensor]:
        """Read the rank's part ``[1, k]`` of the row of a client, zero where there is none, and whether it has one."""
        own, (at,) = self._pieces[self._rank], places.at(clients).tolist()
        row = torch.zeros(sum(piece.stop - piece.start for piece in own))
        if at >= 0 and places.segments[places.segment[at]] == MEMORY:
            whole = super().read(clients, places, torch.device("cpu"))[0][OPTIMIZER][0]
            row = torch.cat([whole[piece] for piece in own])
        elif at >= 0:
            segment, number = places.segments[places.segment[at]], int(places.number[at])
            file, first, values = self._file(segment), 0, row.numpy().view("u1")
            for piece in own:
                length = 4 * (piece.stop - piece.start)
                got = read_on(file, [values[first : first + length].data], number * self.size + 4 * piece.start)
                if got != length:
                    raise OSError(f"client state {segment} row {number} is cut short: {got} of {length} bytes")
                first += length
        return {OPTIMIZER: row.unsqueeze(0).to(device)}, torch.tensor([at >= 0], device=device)

    def write(self, round: int, clients: Ints, state: Parts, room: Ints = NO_PLACES) -> Places:
        """Write the row of a client, of which each rank has its part; the first rank alone knows its place."""
        own = state[OPTIMIZER][0].cpu().contiguous()
        if self._rank:
            self._turn_to(round)
            dist.send(own, 0)
            return NOWHERE
        whole = torch.empty(self._width)
        for rank, theirs in reversed([*enumerate(self._pieces)]):  # numbers, which all send, are its own in the end
            lengths = [piece.stop - piece.start for piece in theirs]
            part = torch.empty(sum(lengths)) if rank else own
            if rank:
                dist.recv(part, rank)
            for piece, values in zip(theirs, part.split_with_sizes(lengths), strict=True):
                whole[piece] = values
        return super().write(round, clients, {OPTIMIZER: whole.unsqueeze(0)}, room)


def pieces(moments: Moments, shard: Shard) -> list[slice]:
    """Return the places of a rank's part in a row ``[W]``, in its own order: its rows of each tensor, and all numbers.

    >>> from fedray.core.layout import Layout
    >>> from fedray.local.moments import moments_of
    >>> layout = Layout.of(torch.nn.Linear(2, 3))
    >>> pieces(moments_of(lambda p: torch.optim.SGD(p, momentum=0.5), layout), Shard(layout, 1, 2))
    [slice(4, 6, None), slice(8, 9, None), slice(9, 11, None)]
    """
    own = [
        slice(number * moments.trained + piece.start, number * moments.trained + piece.stop)
        for number in range(len(moments.tensors))
        for piece in shard.pieces
    ]
    return [*own, slice(len(moments.tensors) * moments.trained, moments.width)]

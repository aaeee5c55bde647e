"""The rows that the server sends to single clients: written once a round, and read by who trains or evaluates them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from fedray.core.errors import RunFailed, one_line
from fedray.core.fields import floats
from fedray.core.messages import Block, Ints
from fedray.core.places import Places
from fedray.run.evaluation import HoldoutChunk
from fedray.rundir.index import Index
from fedray.rundir.state_rows import StateRows
from fedray.server import PerClient

FOLDER = "addressed"
"""The folder of a run's rows, below that of the clients' state."""

_Item = TypeVar("_Item")


class Addressed:
    """The driver's side: the rows of a round.

    Args:
        folder: a folder of their own, where all workers can read; what is left there of a killed run is deleted.
        widths: length of each part; none: nothing is sent so, and nothing done.
    """

    def __init__(self, folder: Path, widths: Mapping[str, int]) -> None:
        self._folder, self._widths = folder.absolute(), dict(widths)
        self._parts: Mapping[str, PerClient] = {}
        self._round = 0
        self._index = Index()
        if widths:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._rows = StateRows(self._folder, floats(widths))
            self._clear()

    def begin(self, round: int, parts: Mapping[str, PerClient]) -> None:
        """Take over the parts of a round; the rows of the one before are deleted."""
        if self._widths:
            self._clear()
            # A writer of its own, as a round may be published again: for its evaluation, and with its clients.
            self._rows = StateRows(self._folder, floats(self._widths))
            self._round, self._parts, self._index = round, parts, Index()

    def with_rows(self, item: _Item) -> _Item:
        """Return a work item with the places of its clients' rows, which are written if they are not yet."""
        if not self._widths or not isinstance(item, Block | HoldoutChunk):
            return item
        missing = item.clients[self._index.of(item.clients).at(item.clients) < 0]
        if len(missing):
            made = {name: torch.stack([self._row(name, one) for one in missing.tolist()]) for name in self._widths}
            new = self._rows.write(self._round, missing, made)
            files = tuple(str(self._folder / name) for name in new.segments)
            self._index.update(Places(new.clients, files, new.segment, new.number))
        return replace(item, addressed=self._index.of(item.clients))

    def _row(self, name: str, client: int) -> Tensor:
        """Return the row of one client, made for it alone, so that it does not depend on who else is asked for.

        Raises:
            RunFailed: the algorithm cannot make it, or makes another one than it has said.
        """
        where = f"round {self._round}: the server's {name} for client {client}"
        try:
            with torch.no_grad():
                row = self._parts[name].row(client).detach().to("cpu")
        except Exception as error:
            raise RunFailed(f"{where} fails: {one_line(error)}") from error
        if row.shape != (self._widths[name],) or not row.isfinite().all():
            raise RunFailed(f"{where} is {list(row.shape)}, or not finite; it must be finite [{self._widths[name]}]")
        return row.float()

    def _clear(self) -> None:
        for path in self._folder.glob("*"):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()


class AddressedRows:
    """The worker's side.

    Args:
        widths: length of each part.
        device: the device of what is read.
    """

    def __init__(self, widths: Mapping[str, int], device: torch.device) -> None:
        self._rows, self._widths, self._device = StateRows(Path("/"), floats(widths)), widths, device

    def of(self, clients: Ints, places: Places) -> dict[str, Tensor]:
        """Return the rows of clients, each ``[C, k]``."""
        if not self._widths:
            return {}
        found, there = self._rows.read(clients, places, self._device)
        if not there.all():
            raise RunFailed(
                f"the server's {', '.join(self._widths)} for some of {len(clients)} clients were not written"
            )
        return found

    def close(self) -> None:
        """Close the files, which are deleted after each round."""
        self._rows.close()

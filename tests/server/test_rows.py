"""What the server has of each client, in memory and in the client store."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from fedray.core.fields import Field
from fedray.rundir.client_state import ClientStore
from fedray.rundir.state_rows import StateRows
from fedray.server.rows import HeldRows, SentRows, StoredRows

FIELDS = {"mine": Field(2), "sent.a": Field(3), "sent.b": Field(1, torch.int64)}
WHO = np.array([1, 4, 9])


def parts(seed: int) -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    numbers = {name: 1e9 * torch.randn(len(WHO), field.width, generator=draw) for name, field in FIELDS.items()}
    return {name: part.to(FIELDS[name].dtype) for name, part in numbers.items()}


@pytest.fixture(params=["held", "stored"])
def rows(request: pytest.FixtureRequest, tmp_path: Path) -> SentRows:
    sent = parts(2)
    if request.param == "held":
        return HeldRows(WHO, {name.removeprefix("sent."): part for name, part in sent.items()})
    store, writer = ClientStore(tmp_path, FIELDS), StateRows(tmp_path, FIELDS)
    found = StoredRows(store, torch.device("cpu"))
    for round, seed in ((1, 1), (2, 2)):  # the last ones count
        store.commit(writer.write(round, WHO[::-1].copy(), {n: part.flip(0) for n, part in parts(seed).items()}))
        store.tidy(round)
    return found


def test_the_last_rows_of_clients_are_found_by_client(rows: SentRows) -> None:
    assert rows.clients.tolist() == WHO.tolist()
    assert torch.equal(rows.read("a", np.array([9, 1])), parts(2)["sent.a"][[2, 0]])
    assert torch.equal(rows.read("b", np.array([4])), parts(2)["sent.b"][[1]])


def test_pieces_are_all_rows_in_order(rows: SentRows, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedray.server.rows._AT_ONCE", 2)
    pieces = list(rows.pieces("a"))
    assert [clients.tolist() for clients, _ in pieces] == [[1, 4], [9]]
    assert torch.equal(torch.cat([part for _, part in pieces]), parts(2)["sent.a"])


def test_nobody_has_sent_anything_at_first() -> None:
    assert len(HeldRows().clients) == 0
    assert list(HeldRows().pieces("a")) == []

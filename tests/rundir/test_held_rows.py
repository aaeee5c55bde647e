"""Rows in memory: files have them once a checkpoint does, and whatever there is no room for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fedray.rundir.client_state import ClientStore, damage
from fedray.rundir.held_rows import MEMORY, HeldRows, RowMemory
from fedray.rundir.state_rows import StateRows
from tests.rundir.test_client_state import FIELDS, commit, held, ids, written


@pytest.fixture
def store(tmp_path: Path) -> ClientStore:
    return ClientStore(tmp_path / "state", FIELDS, HeldRows(RowMemory.of([12, 8], 400)))


def files(store: ClientStore) -> list[str]:
    return sorted(path.name for path in store.folder.iterdir())


def test_rows_are_in_no_file_until_a_checkpoint_and_then_in_one_without_what_is_dead(store: ClientStore) -> None:
    commit(store, 1, {1: 1.0, 2: 2.0})
    commit(store, 2, {2: 3.0, 3: 4.0})
    assert held(store, 1, 2, 3) == [1.0, 3.0, 4.0]
    assert not files(store)
    store.flush()
    columns, segments = store.index()
    assert files(store) == segments
    assert [(store.folder / name).stat().st_size for name in segments] == [3 * 20]
    assert damage(store.folder, store.seals()) is None
    other = ClientStore(store.folder, FIELDS)
    other.restore(columns, segments)
    assert held(other, 1, 2, 3) == held(store, 1, 2, 3) == [1.0, 3.0, 4.0]


def test_what_a_checkpoint_wrote_is_still_read_from_memory_and_written_no_more(store: ClientStore) -> None:
    commit(store, 1, {1: 1.0, 2: 2.0, 3: 3.0})
    store.flush()
    (name,) = files(store)
    (store.folder / name).rename(store.folder / "aside")
    assert held(store, 1, 2, 3) == [1.0, 2.0, 3.0]
    (store.folder / "aside").rename(store.folder / name)
    commit(store, 2, {2: 4.0})
    store.flush()
    assert len(files(store)) == 2
    store.flush()
    assert len(files(store)) == 2
    assert held(store, 1, 2, 3) == [1.0, 4.0, 3.0]


def test_an_index_that_is_saved_without_a_flush_is_refused(store: ClientStore) -> None:
    commit(store, 1, {1: 1.0})
    with pytest.raises(RuntimeError, match="in no file: flush the store"):
        store.index()


def test_files_of_checkpoints_go_once_few_of_their_rows_live(store: ClientStore) -> None:
    """As they do where workers write them: at most two and a half rows are stored for each client."""
    for round in range(1, 30):
        commit(store, round, {client: 10.0 * round + client for client in range(round % 3, 6)})
        store.tidy(round)
        if round % 2:
            store.flush()
            store.kept = frozenset(store.index()[1])
            assert sum((store.folder / name).stat().st_size for name in store.kept) <= 20 * 2.5 * 6 + 20 * 6
    for _ in range(2):
        store.tidy(30)
    assert files(store) == sorted(store.kept)
    assert damage(store.folder, store.seals()) is None


def test_rows_without_room_go_to_files_and_back_to_memory_once_there_is_some(tmp_path: Path) -> None:
    store = ClientStore(tmp_path / "state", FIELDS, HeldRows(RowMemory.of([12, 8], 60)))
    commit(store, 1, {1: 1.0, 2: 2.0})
    commit(store, 2, {3: 3.0, 4: 4.0})
    assert len(files(store)) == 1
    assert held(store, 4, 9, 2, 3, 1) == [4.0, 0.0, 2.0, 3.0, 1.0]
    for _ in range(2):  # the one place that was left was given, and not taken
        store.collect_garbage()
    commit(store, 3, {1: 5.0})
    for _ in range(2):
        store.collect_garbage()
    commit(store, 4, {3: 7.0})
    assert held(store, 1, 2, 3, 4) == [5.0, 2.0, 7.0, 4.0]
    assert set(store.of(ids(1, 2, 3)).segments) == {MEMORY}
    store.flush()
    other = ClientStore(store.folder, FIELDS)
    other.restore(*store.index())
    assert held(other, 1, 2, 3, 4) == [5.0, 2.0, 7.0, 4.0]


def test_a_row_that_is_replaced_is_there_until_the_second_call_that_finds_it_so(store: ClientStore) -> None:
    commit(store, 1, {1: 1.0})
    old = store.of(ids(1))
    commit(store, 2, {1: 2.0})
    store.collect_garbage()
    commit(store, 3, {2: 3.0})
    parts, _ = StateRows(store.folder, FIELDS, store.memory).read(ids(1), old, torch.device("cpu"))
    assert parts["control"][:, 0].tolist() == [1.0]
    store.collect_garbage()
    assert written(store, 4, {1: 4.0})[1] == old[1]


def test_rows_that_are_never_accepted_make_room_again(store: ClientStore) -> None:
    commit(store, 1, {1: 1.0})
    lost = written(store, 2, {1: 2.0, 2: 2.0})
    for _ in range(2):
        assert not set(written(store, 2, {1: 3.0}).number) & set(lost.number)
        store.collect_garbage()
    store.collect_garbage()
    assert set(written(store, 3, dict.fromkeys(range(4), 4.0)).number) > set(lost.number)
    assert held(store, 1) == [1.0]


def test_reports_are_committed_together_whether_their_rows_are_in_memory_or_in_files(tmp_path: Path) -> None:
    store = ClientStore(tmp_path / "state", FIELDS, HeldRows(RowMemory.of([12, 8], 60)))
    places = [written(store, 1, {1: 1.0, 2: 2.0}), written(store, 1, {5: 5.0}), written(store, 1, {3: 3.0, 4: 4.0})]
    assert [one.segments == (MEMORY,) for one in places] == [True, True, False]
    store.commit(*places)
    assert held(store, 1, 2, 3, 4, 5, 6) == [1.0, 2.0, 3.0, 4.0, 5.0, 0.0]
    for round in (1, 2):
        store.tidy(round)
    assert held(store, 1, 2, 3, 4, 5, 6) == [1.0, 2.0, 3.0, 4.0, 5.0, 0.0]


def test_rows_are_written_to_a_file_for_who_does_not_share_the_memory_and_then_once(store: ClientStore) -> None:
    commit(store, 1, {1: 1.0, 2: 2.0, 3: 3.0})
    assert store.held is not None
    for clients in (ids(1, 2), ids(2, 1), ids(1, 2, 9)):
        places = store.held.filed(store.of(clients))
        found, known = StateRows(store.folder, FIELDS).read(clients, places, torch.device("cpu"))
        assert found["control"][:, 0].tolist() == [{1: 1.0, 2: 2.0}.get(client, 0.0) for client in clients.tolist()]
        assert known.tolist() == [client < 9 for client in clients.tolist()]
    assert [(store.folder / name).stat().st_size for name in files(store)] == [2 * 20]
    assert store.of(ids(1)).segments == (MEMORY,), "who shares it goes on as before"
    assert store.held.filed(places) is places
    store.flush()
    assert sorted((store.folder / name).stat().st_size for name in files(store)) == [20, 2 * 20]


def test_places_of_who_was_lost_are_not_given_again(store: ClientStore) -> None:
    """Its process may be slow to die, and write to them until then."""
    assert store.held is not None
    kept, lost = store.held.reserve(2), store.held.reserve(3)
    store.held.accept(kept, replaced=kept[:0])
    store.held.burn()
    for _ in range(3):
        store.held.tidy()
    store.held.accept(kept[:0], replaced=kept)
    for _ in range(3):
        store.held.tidy()
    given = store.held.reserve(store.held.memory.most).tolist()
    assert set(given) == set(range(store.held.memory.most)) - set(lost.tolist())


def test_those_who_are_first_get_what_room_there_is(store: ClientStore) -> None:
    assert store.held is not None
    assert [len(room) for room in store.reserve(0, 15, 15, 1)] == [0, 15, 5, 0]
    for count in (0, 2):
        assert [len(room) for room in store.reserve(*[1] * count)] == [0] * count

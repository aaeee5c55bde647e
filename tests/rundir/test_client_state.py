"""Client state: what is committed is what counts, through retries, compaction and checkpoints."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from fedray.core.fields import DTYPES, Bytes, Field, as_bytes
from fedray.core.places import Places
from fedray.rundir import client_state
from fedray.rundir.client_state import ClientStore, damage
from fedray.rundir.held_rows import HeldRows, RowMemory
from fedray.rundir.state_rows import StateRows

FIELDS = {"control": Field(3), "residual": Field(2)}
CPU = torch.device("cpu")
MEMORY = st.sampled_from([None, 60, 400])
"""Bytes for rows of 20: none, for three rows, and for twenty."""


def state(*values: float) -> dict[str, Tensor]:
    """One row per value, filled with it (the residual with its negative)."""
    column = torch.tensor(values)[:, None]
    return {"control": column.expand(-1, 3).contiguous(), "residual": -column.expand(-1, 2).contiguous()}


def ids(*clients: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return np.array(clients, dtype=np.int64)


def held_rows(memory: int | None) -> HeldRows | None:
    return None if memory is None else HeldRows(RowMemory.of([12, 8], memory))


def held(store: ClientStore, *clients: int) -> list[float]:
    """The value that each client's row is filled with; 0 for a newcomer."""
    rows = StateRows(store.folder, store.fields, store.memory)
    parts, known = rows.read(ids(*clients), store.of(ids(*clients)), CPU)
    rows.close()
    assert parts["control"].shape == (len(clients), 3)
    assert torch.equal(parts["control"][:, :2], -parts["residual"])
    assert known.tolist() == [client in store.rows for client in clients]
    return parts["control"][:, 2].tolist()


def written(store: ClientStore, round: int, values: dict[int, float]) -> Places:
    rows = StateRows(store.folder, store.fields, store.memory)
    places = rows.write(round, ids(*values), state(*values.values()), *store.reserve(len(values)))
    rows.close()
    return places


def commit(store: ClientStore, round: int, values: dict[int, float]) -> None:
    store.commit(written(store, round, values))


@pytest.fixture
def store(tmp_path: Path) -> ClientStore:
    return ClientStore(tmp_path / "state", FIELDS)


def test_newcomers_have_zeros(store: ClientStore) -> None:
    assert held(store, 4, 2) == [0.0, 0.0]
    assert not store.of(ids(4, 2))


def test_what_is_committed_is_read_back_in_any_order(store: ClientStore) -> None:
    commit(store, 1, {5: 1.5, 2: 2.5, 9: 3.5})
    commit(store, 2, {2: 4.5})
    assert held(store, 9, 2, 7, 5) == [3.5, 4.5, 0.0, 1.5]
    assert set(store.of(ids(9, 7))) == {9}


def test_a_block_that_is_repeated_leaves_the_old_state_until_one_of_its_results_is_accepted(store: ClientStore) -> None:
    commit(store, 1, {1: 1.0, 2: 2.0})
    rows = StateRows(store.folder, FIELDS)
    lost = rows.write(2, ids(1, 2), state(10.0, 20.0))
    assert held(store, 1, 2) == [1.0, 2.0]
    again = rows.write(2, ids(1, 2), state(11.0, 21.0))
    assert held(store, 1, 2) == [1.0, 2.0]
    store.commit(again)
    assert held(store, 1, 2) == [11.0, 21.0]
    store.commit(lost)
    assert held(store, 1, 2) == [10.0, 20.0]
    rows.close()


def test_a_worker_reads_what_it_wrote_and_writes_a_segment_a_round(store: ClientStore) -> None:
    rows = StateRows(store.folder, FIELDS)
    for round in (1, 2, 3):
        for client in (1, 2):
            store.commit(rows.write(round, ids(client), state(10.0 * round + client)))
        parts, known = rows.read(ids(1, 2), store.of(ids(1, 2)), CPU)
        assert known.tolist() == [True, True]
        assert parts["control"][:, 0].tolist() == [10.0 * round + 1, 10.0 * round + 2]
    rows.close()
    segments = sorted(path.name for path in store.folder.iterdir())
    assert [name.split("-")[0] for name in segments] == ["00000001", "00000002", "00000003"]


def test_many_segments_are_read_with_few_files_open(store: ClientStore) -> None:
    for client in range(150):
        commit(store, 1, {client: float(client)})
    assert held(store, *range(150)) == [float(client) for client in range(150)]


def test_rows_that_the_system_reads_in_parts_are_read_whole(
    store: ClientStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux gives 2 GiB at once, which is the moments of AdamW of 270 million parameters; here it is five bytes."""
    commit(store, 1, {client: float(client) for client in range(3)})
    whole, read = StateRows(store.folder, store.fields).read(ids(0, 1, 2), store.of(ids(0, 1, 2)), CPU), os.preadv

    def in_parts(file: int, pieces: Sequence[memoryview], place: int) -> int:
        return read(file, [pieces[0][:5]], place)

    monkeypatch.setattr(os, "preadv", in_parts)
    found = StateRows(store.folder, store.fields).read(ids(0, 1, 2), store.of(ids(0, 1, 2)), CPU)
    assert found[0].keys() == whole[0].keys()
    assert all(torch.equal(found[0][name], part) for name, part in whole[0].items())


def test_files_that_a_round_did_not_ask_for_are_closed_in_the_next(store: ClientStore) -> None:
    rows = StateRows(store.folder, store.fields)
    for client in range(3):
        commit(store, client, {client: float(client)})
    for round, asked in ((3, (0, 1)), (4, (1,)), (5, ())):
        rows.read(ids(*asked), store.of(ids(*asked)), torch.device("cpu"))
        rows.write(round, ids(9), state(9.0))
    assert not rows._open
    rows.read(ids(1), store.of(ids(1)), torch.device("cpu"))
    rows.write(6, ids(9), state(9.0))
    assert len(rows._open) == 1
    rows.close()
    assert not rows._open


def test_the_index_is_restored_by_another_store(store: ClientStore, tmp_path: Path) -> None:
    commit(store, 1, {5: 1.5, 2: 2.5})
    commit(store, 2, {2: 4.5, 8: 5.5})
    columns, segments = store.index()
    assert all(column.dtype == torch.int64 for column in columns.values())
    other = ClientStore(store.folder, FIELDS)
    other.restore(columns, segments)
    assert other.rows == store.rows
    assert held(other, 2, 5, 8) == [4.5, 1.5, 5.5]
    again, names = other.index()
    assert names == segments
    assert all(torch.equal(again[name], columns[name]) for name in columns)


def test_an_empty_index_is_restored(store: ClientStore) -> None:
    columns, segments = store.index()
    commit(store, 1, {1: 1.0})
    store.restore(columns, segments)
    assert not store.rows


def test_a_segment_that_is_gone_is_named(store: ClientStore) -> None:
    commit(store, 1, {5: 1.5})
    columns, segments = store.index()
    (store.folder / segments[0]).unlink()
    with pytest.raises(FileNotFoundError, match=segments[0]):
        ClientStore(store.folder, FIELDS).restore(columns, segments)


@pytest.mark.parametrize("cut", [1, 4, 20, 21])
def test_a_torn_segment_is_an_error_not_a_wrong_value(store: ClientStore, cut: int) -> None:
    commit(store, 1, {1: 1.0, 2: 2.0})
    _, segments = store.index()
    path = store.folder / segments[0]
    path.write_bytes(path.read_bytes()[:-cut])
    rows = StateRows(store.folder, FIELDS)
    with pytest.raises(OSError, match=rf"{segments[0]} row 1 is cut short: {max(0, 20 - cut)} of 20 bytes"):
        rows.read(ids(2), store.of(ids(2)), CPU)
    rows.close()


def test_a_seal_notices_every_byte_that_counts_and_no_other(store: ClientStore) -> None:
    rows = StateRows(store.folder, FIELDS)
    places = rows.write(1, ids(1, 2, 3), state(1.0, 2.0, 3.0))
    rows.close()
    places = places.only(ids(1, 2))  # lost on the way, and never committed
    store.commit(places)
    seals = store.seals()
    ((name, (size, _)),) = seals.items()
    assert size == 40
    path = store.folder / name
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        path.write_bytes(damaged)
        found = damage(store.folder, seals)
        assert found == (f"client state {name} does not match its checksum" if place < size else None)
    path.write_bytes(whole[:size])
    assert damage(store.folder, seals) is None
    path.write_bytes(whole[: size - 3])
    assert damage(store.folder, seals) == f"client state {name}: {name} is cut short, 3 bytes are missing"
    path.unlink()
    assert damage(store.folder, seals) == f"client state {name}: No such file or directory"


def test_a_segment_is_sealed_once(store: ClientStore, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(store, 1, {1: 1.0, 2: 2.0})
    first, index = store.seals(), store.index()
    other = ClientStore(store.folder, FIELDS)
    other.restore(*index, first)
    monkeypatch.setattr("fedray.rundir.client_state._sha256", lambda path, size: f"{size} of {path.name}")
    for one in (store, other):
        # The last row of the segment is live no more, and still counts.
        commit(one, 2, {2: 3.0})
        (old, new) = one.seals()
        assert one.seals() == {**first, new: (20, f"20 of {new}")}
        assert list(first) == [old]


def test_a_write_that_fails_halfway_shifts_no_rows(store: ClientStore, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = StateRows(store.folder, FIELDS)
    write = os.pwrite

    def full(file: int, data: memoryview, place: int) -> int:
        if place:
            raise OSError(28, "No space left on device")
        return write(file, data[:7], place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            rows.write(1, ids(1), state(1.0))
    store.commit(rows.write(1, ids(1, 2), state(2.0, 3.0)))
    assert held(store, 1, 2) == [2.0, 3.0]


@pytest.mark.parametrize("copied", [1, 40, 1 << 20])
def test_compaction_keeps_every_value_and_frees_the_rest(
    store: ClientStore, monkeypatch: pytest.MonkeyPatch, copied: int
) -> None:
    monkeypatch.setattr(client_state, "_COPIED", copied)
    for round in range(1, 6):
        commit(store, round, {client: 10.0 * round + client for client in range(4)})
    before = held(store, *range(4))
    store.compact(5)
    assert held(store, *range(4)) == before
    _, segments = store.index()
    assert [(store.folder / name).stat().st_size for name in segments] == [20 * 4]


def test_compaction_copies_a_small_part_of_what_is_written_and_little_of_what_is_dead_stays(
    store: ClientStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied, whole = 0, StateRows.whole

    def counted(self: StateRows, places: Places) -> list[Bytes]:
        nonlocal copied
        copied += len(places)
        return whole(self, places)

    monkeypatch.setattr(StateRows, "whole", counted)
    draw, expected = np.random.default_rng(0), dict[int, float]()
    for round in range(1, 61):
        new = {client: 100.0 * round + client for client in draw.permutation(100)[:10].tolist()}
        commit(store, round, new)
        expected |= new
        store.tidy(round)
        size = sum((store.folder / name).stat().st_size for name in store.index()[1])
        assert size <= 20 * 2.5 * len(expected)
    assert held(store, *range(100)) == [expected.get(client, 0.0) for client in range(100)]
    assert 20 < copied < 600 / 4  # to rewrite all rows each time would copy about as many as are written


def test_compaction_leaves_alone_what_is_mostly_live(store: ClientStore) -> None:
    commit(store, 1, {1: 1.0, 2: 2.0, 3: 3.0})
    commit(store, 2, {1: 4.0})
    before = dict(store.rows)
    store.compact(2)
    assert store.rows == before


def test_garbage_goes_at_the_second_call_that_finds_it_so(store: ClientStore) -> None:
    commit(store, 1, {1: 1.0})
    _, old = store.index()
    commit(store, 2, {1: 2.0})
    _, live = store.index()
    # A worker in the middle of round 3 writes here, not yet committed.
    growing = written(store, 3, {1: 3.0})
    store.collect_garbage()
    assert {path.name for path in store.folder.iterdir()} == {*old, *live, growing[1].segment}
    store.commit(growing)
    store.collect_garbage()
    assert {path.name for path in store.folder.iterdir()} == {growing[1].segment, *live}
    assert held(store, 1) == [3.0]
    store.kept = frozenset(live)
    store.collect_garbage()
    assert {path.name for path in store.folder.iterdir()} == {growing[1].segment, *live}


def test_what_a_kept_checkpoint_needs_stays(store: ClientStore) -> None:
    commit(store, 1, {1: 1.0})
    columns, segments = store.index()
    commit(store, 2, {1: 2.0})
    store.kept = frozenset(segments)
    for _ in range(3):
        store.collect_garbage()
    store.restore(columns, segments)
    assert held(store, 1) == [1.0]


@given(
    st.lists(
        st.one_of(
            st.dictionaries(st.integers(0, 5), st.floats(-100, 100, width=32), min_size=1, max_size=4),
            st.sampled_from(["compact", "garbage", "checkpoint", "resume"]),
        ),
        max_size=12,
    ),
    MEMORY,
)
def test_whatever_happens_a_store_is_a_dictionary(
    tmp_path_factory: pytest.TempPathFactory, steps: list[object], memory: int | None
) -> None:
    store = ClientStore(tmp_path_factory.mktemp("state"), FIELDS, held_rows(memory))
    expected: dict[int, float] = {}
    saved = store.index()
    saved_values: dict[int, float] = {}
    for round, step in enumerate(steps, start=1):
        if isinstance(step, dict):
            commit(store, round, step)
            expected.update(step)
        elif step == "compact":
            store.compact(round)
        elif step == "garbage":
            store.collect_garbage()
        elif step == "checkpoint":
            store.flush()
            saved, saved_values = store.index(), dict(expected)
            store.kept = frozenset(saved[1])
        else:
            store = ClientStore(store.folder, FIELDS, held_rows(memory))
            store.restore(*saved)
            store.kept = frozenset(saved[1])
            expected = dict(saved_values)
        assert held(store, *range(6)) == [expected.get(client, 0.0) for client in range(6)]


# A segment is found while it is written, and all its rows move before the next round has read them.
@example([({0, 1, 2, 3, 4}, 0), ({0, 1, 2, 3}, 0), ({0, 1, 2}, 2), ({2}, 1)], None)
@example([({0, 1, 2, 3, 4}, 0), ({0, 1, 2, 3}, 0), ({0, 1, 2}, 2), ({2}, 1)], 400)
@given(st.lists(st.tuples(st.sets(st.integers(0, 5), min_size=1), st.integers(0, 2)), max_size=10), MEMORY)
def test_a_round_can_read_what_it_asked_for_whenever_the_store_is_tidied_beside_it(
    tmp_path_factory: pytest.TempPathFactory, rounds: list[tuple[set[int], int]], memory: int | None
) -> None:
    store = ClientStore(tmp_path_factory.mktemp("state"), FIELDS, held_rows(memory))
    expected: dict[int, float] = {}
    for round, (cohort, when) in enumerate(rounds, start=1):
        clients = sorted(cohort)
        if when == 0:
            store.tidy(round - 1)
        asked = store.of(ids(*clients))
        if when == 1:
            store.tidy(round - 1)
        new = written(store, round, {client: 10.0 * round + client for client in clients})
        if when == 2:
            store.tidy(round - 1)
        # A slow worker reads only now, when another has long written.
        reader = StateRows(store.folder, FIELDS, store.memory)
        parts, _ = reader.read(ids(*clients), asked, CPU)
        reader.close()
        assert parts["control"][:, 0].tolist() == [expected.get(client, 0.0) for client in clients]
        store.commit(new)
        expected |= {client: 10.0 * round + client for client in clients}
    assert held(store, *range(6)) == [expected.get(client, 0.0) for client in range(6)]


FIELD = st.builds(Field, st.integers(0, 4), st.sampled_from(DTYPES))
TYPED = st.dictionaries(st.text("abc", min_size=1), FIELD, min_size=1)


@given(TYPED, st.lists(st.sets(st.integers(0, 4), min_size=1), max_size=6), st.sampled_from([None, 90, 1 << 12]))
def test_fields_of_any_types_keep_their_bits(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Field], rounds: list[set[int]], memory: int | None
) -> None:
    """In memory, in files, and after they were copied."""
    sizes = [field.nbytes for field in fields.values()]
    folder = tmp_path_factory.mktemp("state")
    store = ClientStore(folder, fields, HeldRows(RowMemory.of(sizes, memory)) if memory and sum(sizes) else None)
    draw = np.random.default_rng(0)
    expected = {name: np.zeros((5, field.nbytes), np.uint8) for name, field in fields.items()}
    for round, cohort in enumerate(rounds, start=1):
        clients = ids(*sorted(cohort))
        for name, field in fields.items():
            limit = 2 if field.dtype == torch.bool else 256
            expected[name][clients] = draw.integers(0, limit, (len(clients), field.nbytes), np.uint8)
        rows = StateRows(folder, fields, store.memory)
        state = {name: field.tensor(expected[name][clients]) for name, field in fields.items()}
        store.commit(rows.write(round, clients, state, *store.reserve(len(clients))))
        store.tidy(round)
    store.flush()
    again = ClientStore(folder, fields)
    again.restore(*store.index(), store.seals())
    for each in (store, again):
        found, _ = StateRows(folder, fields, each.memory).read(np.arange(5), each.of(np.arange(5)), CPU)
        assert {name: Field.of(part) for name, part in found.items()} == fields
        assert all((as_bytes(part) == expected[name]).all() for name, part in found.items())


def test_a_field_of_no_width_is_compacted_like_others(tmp_path: Path) -> None:
    fields = {"none": Field(0)}
    store = ClientStore(tmp_path, fields)
    rows = StateRows(tmp_path, fields)
    for round in range(1, 8):
        clients = np.arange(11 - round)
        store.commit(rows.write(round, clients, {"none": torch.zeros(len(clients), 0)}))
        store.tidy(round)
    found, known = rows.read(np.arange(11), store.of(np.arange(11)), CPU)
    assert found["none"].shape == (11, 0)
    assert known.tolist() == [True] * 10 + [False]
    rows.close()


def test_segments_of_before_are_read_and_go_once_nobody_needs_them(store: ClientStore) -> None:
    commit(store, 1, {5: 1.5, 2: 2.5})
    columns, (name,) = store.index()
    before = name.replace(".rows", ".f32")
    (store.folder / name).rename(store.folder / before)
    store.restore(columns, [before])
    assert held(store, 2, 5) == [2.5, 1.5]
    commit(store, 2, {5: 3.5, 2: 4.5})
    for _ in range(2):
        store.collect_garbage()
    assert [path.suffix for path in store.folder.iterdir()] == [".rows"]


def test_an_algorithm_without_state_makes_no_folder(tmp_path: Path) -> None:
    ClientStore(tmp_path / "state", {})
    assert not (tmp_path / "state").exists()

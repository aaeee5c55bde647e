"""Rows reduced by the workers that hold them: any workers, in any order, and some that die, give one process's bits."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedray.aggregators import Krum, Median, MultiKrum, TrimmedMean
from fedray.aggregators import gathered as module
from fedray.aggregators.gathered import CoordinateWise, Gathered
from fedray.aggregators.stored import StoredRows
from fedray.cluster.place.placement import Size, Slot
from fedray.cluster.work import group as groups
from fedray.cluster.work.columns import NodeShare
from fedray.cluster.work.group import WorkerGroup
from fedray.cluster.work.rows import Held, RowFile
from fedray.cluster.work.worker import RoundHeader
from fedray.core.now import Now
from fedray.run.columns import ColumnRange
from fedray.run.worker import Job
from tests import helpers
from tests.cluster.work.fakes import FakeProcess, fake_group

RULES: list[Gathered] = [Median(), TrimmedMean(0.2), Krum(1), MultiKrum(1, 2)]
WIDTHS = {"delta": 61, "control": 9}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    """Some work whose updates are kept."""
    return helpers.federation(helpers.class_problem(), tmp_path_factory.mktemp("job"), aggregator=Median()).job


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges and pieces of a few columns, and no patience."""
    monkeypatch.setattr(groups, "_PATIENCE", 0.0)
    monkeypatch.setattr(module, "_LEAST_VALUES", 40)
    monkeypatch.setattr(module, "COLUMNS", 60)


def updates(count: int, seed: int) -> dict[str, torch.Tensor]:
    """An accumulator of all of them, in which two are so close that their distance is computed directly."""
    draw = np.random.default_rng(seed)
    parts = {name: draw.standard_normal((count, width)).astype("f4") for name, width in WIDTHS.items()}
    parts["delta"][-1] = parts["delta"][0] * (1 + np.float32(1e-5))
    clients, weight = draw.permutation(100)[:count], draw.random(count) + 0.5
    columns = {"row.client": torch.from_numpy(clients), "row.weight": torch.from_numpy(weight)}
    return columns | {name: torch.from_numpy(part) for name, part in parts.items()}


def written(group: WorkerGroup, rows: dict[str, torch.Tensor]) -> list[RowFile]:
    """Let workers have written these rows in turn, in a round."""
    group.fold.widths = WIDTHS
    group.begin(RoundHeader(1, 1, 1.0), group.down.tensors)
    files = [RowFile(WIDTHS) for _ in group.workers]
    for rank, file in enumerate(files):
        mine = slice(rank, None, len(files))
        writer = file.handle.open()
        writer.append({name: rows[name][mine] for name in WIDTHS})
        writer.close()
        group.fold.hold(file, Held(0, rows["row.client"][mine].numpy(), rows["row.weight"][mine].numpy()))
    return files


def behaviour(data: st.DataObject, asked: list[ColumnRange]) -> Callable[[FakeProcess], object]:
    """What a process does: all that is left, or one item, or it dies at one."""

    def behave(process: FakeProcess) -> None:
        plan = data.draw(st.sampled_from(["all", "one", "one", "die"]))
        while plan in ("all", "one") and process.take():
            if plan == "one":
                break
        if plan == "die":
            process.begin_and_die()
            return
        asked.extend(item for item in process.items if isinstance(item, ColumnRange))
        process.answer()

    return behave


@pytest.mark.parametrize("rule", RULES, ids=repr)
@given(st.integers(5, 9), st.integers(2, 3), st.integers(0, 2**16), st.data())
@pytest.mark.one_in(2)
def test_any_split_order_and_death_give_the_bits_of_one_process(
    job: Job, rule: Gathered, count: int, workers: int, seed: int, data: st.DataObject
) -> None:
    asked: list[ColumnRange] = []
    lives = {rank: [behaviour(data, asked)] * 3 for rank in range(workers)}
    rows = updates(count, seed)
    # Hypothesis may leave an example at any draw, and the processes' are drawn while the group works.
    with contextlib.ExitStack() as closed:
        group, _ = fake_group(job, [Slot(Size())] * workers, lives)
        closed.callback(group.close)
        for file in written(group, rows):
            closed.callback(file.close)
        total = group.collect()
        assert isinstance(total, StoredRows)
        shared = StoredRows(total.shelves, WIDTHS, NodeShare(group, 0))
        here, there = Now(1, 1), Now(1, 1)
        got = rule.finish(shared, 1.0, 1.0, count, there).parts
        expected = rule.finish(rows, 1.0, 1.0, count, here).parts
        assert got.keys() == expected.keys()
        assert all(torch.equal(got[name], part) for name, part in expected.items())
        assert (there.metrics, there.shares) == (here.metrics, here.shares)
        assert asked or group.retries, "they did some of it"


def shared_median(group: WorkerGroup, first: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """The median of rows that workers may reduce, and of the same rows here."""
    rows = updates(6, 3)
    files = written(group, rows)
    total = group.collect()
    assert isinstance(total, StoredRows)
    got = Median().finish(StoredRows(total.shelves, WIDTHS, NodeShare(group, first)), 1.0, 1.0, 6, Now(1, 1))
    for file in files:
        file.close()
    return got["delta"], Median().finish(rows, 1.0, 1.0, 6, Now(1, 1))["delta"]


def test_a_range_that_two_workers_die_of_is_left_to_the_driver(job: Job, caplog: pytest.LogCaptureFixture) -> None:
    group, spawner = fake_group(job, [Slot(Size())] * 2, {rank: [FakeProcess.begin_and_die] * 2 for rank in range(2)})
    got, expected = shared_median(group)
    assert torch.equal(got, expected)
    assert sorted(spawner.started) == [0, 0, 0, 1, 1, 1]
    assert caplog.text.count("died, and is replaced") == 4
    group.close()


def test_one_worker_is_not_asked_as_it_would_only_do_what_the_driver_can(job: Job) -> None:
    group, spawner = fake_group(job, behave={0: [FakeProcess.begin_and_die] * 99})
    got, expected = shared_median(group)
    assert torch.equal(got, expected)
    assert spawner.started == [0]
    group.close()


def test_a_function_of_no_module_is_understood(job: Job) -> None:
    """As a rule that a user wrote in a notebook has."""

    class Largest(CoordinateWise):
        def reduce(self, rows: torch.Tensor) -> torch.Tensor:
            return rows.amax(dim=0)

    group, spawner = fake_group(job, [Slot(Size())] * 2)
    rows = updates(6, 4)
    files = written(group, rows)
    total = group.collect()
    assert isinstance(total, StoredRows)
    got = Largest().finish(StoredRows(total.shelves, WIDTHS, NodeShare(group, 5)), 1.0, 1.0, 6, Now(1, 1))
    assert torch.equal(got["delta"], Largest().finish(rows, 1.0, 1.0, 6, Now(1, 1))["delta"])
    assert any(process.items for process in spawner.processes.values())
    group.close()
    for file in files:
        file.close()


def test_rows_for_a_gpu_of_the_driver_are_its_own(job: Job) -> None:
    """Of another device's bits."""
    group, spawner = fake_group(job, [Slot(Size())] * 2)
    files = written(group, updates(6, 5))
    total = group.collect()
    assert isinstance(total, StoredRows)
    stored = StoredRows(total.shelves, WIDTHS, NodeShare(group, 0))
    stored.device = torch.device("meta")
    assert stored.shared_out("delta", [(0, 9), (9, 61)], lambda pieces: torch.zeros(0)) == [None, None]
    assert not any(process.items for process in spawner.processes.values())
    group.close()
    for file in files:
        file.close()

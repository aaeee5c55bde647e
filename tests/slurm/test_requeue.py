"""Whether a job goes back into the queue."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.slurm.requeue import HISTORY, STOPPED, History, belongs_to_job, owner, safe_rounds, verdict

rounds = st.integers(0, 1000)
histories = st.lists(rounds, max_size=8).map(lambda seen: History(7, tuple(sorted(seen))))


@given(histories, rounds, st.integers(0, 10))
def test_a_run_that_has_ended_is_never_requeued(history: History, now: int, most: int) -> None:
    assert not verdict(0, [], history, now, most).requeue
    assert not verdict(0, ["n2"], history, now, most).requeue, "it finished without the lost node"
    for status in (1, 2, 137):
        assert not verdict(status, [], history, now, most).requeue


@given(histories, rounds, st.integers(0, 10))
def test_never_more_often_than_allowed(history: History, now: int, most: int) -> None:
    if verdict(STOPPED, [], history, now, most).requeue:
        assert len(history.rounds) < most


@pytest.mark.parametrize(
    ("before", "now", "again"),
    [
        ((), 0, True),
        ((0,), 0, True),
        ((0, 0), 0, False),
        ((0, 0), 1, True),
        ((3, 5), 5, True),
        ((5, 5), 5, False),
        ((1, 5, 5), 6, True),
    ],
)
def test_two_requeues_without_a_new_round_are_enough(before: tuple[int, ...], now: int, again: bool) -> None:
    decided = verdict(STOPPED, [], History(7, before), now, 10)
    assert decided.requeue is again
    assert again or "no round beyond" in decided.reason


@given(st.lists(st.integers(0, 1), min_size=1, max_size=40))
def test_a_job_that_gets_nowhere_ends(gains: list[int]) -> None:
    history, now = History(7), 0
    for gain in gains:
        now += gain
        if not verdict(STOPPED, [], history, now, 1000).requeue:
            assert history.rounds[-2:] == (now, now)
            return
        history = history.and_now(now)
    assert (0, 0, 0) not in zip(gains, gains[1:], gains[2:], strict=False)


def test_a_lost_node_is_told_by_name() -> None:
    decided = verdict(1, ["n2", "n3"], History(7), 4, 10)
    assert decided.requeue
    assert "n2, n3 lost" in decided.reason
    assert "max_requeues=0" in verdict(1, ["n2"], History(7), 4, 0).reason


@given(histories)
def test_a_history_is_read_back_by_its_own_job_alone(
    tmp_path_factory: pytest.TempPathFactory, history: History
) -> None:
    path = tmp_path_factory.mktemp("history") / "slurm.json"
    assert owner(path) is None
    history.write(path)
    assert owner(path) == 7
    assert History.read(path, 7) == history
    assert History.read(path, 8) == History(8)
    assert [file.name for file in path.parent.iterdir()] == ["slurm.json"]
    path.write_text("{")
    assert History.read(path, 7) == History(7)


def test_only_whole_checkpoints_are_safe(tmp_path: Path) -> None:
    assert safe_rounds(tmp_path) == 0
    for name in ("round-00000009", "round-00000012", ".tmp-round-00000020", "round-oddity"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    assert safe_rounds(tmp_path) == 12


@pytest.mark.parametrize("state", ["CANCELLED", "COMPLETING", "TIMEOUT", "PREEMPTED", None])
def test_a_job_that_slurm_ends_is_not_said_to_be_requeued(state: str | None) -> None:
    for decided in (verdict(STOPPED, [], History(7), 4, 10, state), verdict(1, ["n2"], History(7), 4, 10, state)):
        assert (decided.requeue, decided.by_slurm) == (False, True)
        assert "whether it is requeued is up to Slurm" in decided.reason
        assert (state or "says nothing") in decided.reason
    assert not verdict(0, [], History(7), 4, 10, state).by_slurm


def test_a_run_belongs_to_the_job_that_its_history_names(tmp_path: Path) -> None:
    env = {"SLURM_JOB_ID": "9", "SLURMD_NODENAME": "n1"}
    assert not belongs_to_job(tmp_path, env)
    History(9).write(tmp_path / HISTORY)
    assert belongs_to_job(tmp_path, env)
    assert not belongs_to_job(tmp_path, {})
    task = {**env, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1"}
    assert not belongs_to_job(tmp_path, task)
    History("7_1").write(tmp_path / HISTORY)
    assert belongs_to_job(tmp_path, task)

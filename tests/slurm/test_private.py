"""Folders of a job that nobody else can look into."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.slurm.allocation import Allocation
from fedray.slurm.private import Shared, node_folder, node_path, sweep, temporary_folder

JOB = Allocation(job=12345678, restart=2, nodes=1, node_list="n1", node="n1", cpus=1)


def mode(path: Path) -> int:
    """Permission bits."""
    return stat.S_IMODE(path.stat().st_mode)


def test_a_node_folder_is_closed_short_and_gone_afterwards(tmp_path: Path) -> None:
    assert len(str(node_path(JOB))) <= 45, "Ray's sockets must fit below it"
    (tmp_path / "scratch").mkdir()
    for there in ("scratch", node_path(JOB).name):
        temporary = tmp_path / there / "x"
        with node_folder(node_path(JOB, tmp_path), temporary) as folder:
            assert mode(folder) == mode(temporary) == 0o700
            (temporary / "data").touch()
        assert [path.name for path in tmp_path.rglob("*")] == ["scratch"]


def test_what_a_killed_start_of_the_job_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    stale, same = (node_path(Allocation(12345678, n, 1, "n1", "n1", 1), tmp_path) for n in (1, 2))
    other = node_path(Allocation(1234567, 0, 1, "n1", "n1", 1), tmp_path)
    for left in (stale, same, other):
        (left / "session").mkdir(parents=True)
    scratch = tmp_path / "scratch"
    (scratch / stale.name).mkdir(parents=True)
    with node_folder(node_path(JOB, tmp_path), scratch / same.name) as folder:
        assert not (folder / "session").exists()
        assert sorted(tmp_path.iterdir()) == sorted([folder, other, scratch])
        assert list(scratch.iterdir()) == [scratch / same.name]


def test_a_name_that_somebody_else_took_is_refused(tmp_path: Path) -> None:
    node_path(JOB, tmp_path).symlink_to(tmp_path)
    taken = node_path(JOB, tmp_path)
    with pytest.raises(ConfigError, match="cannot be made"), node_folder(taken, taken / "tmp"):
        pass
    assert taken.is_symlink()


def test_temporary_files_go_where_the_site_wants_them() -> None:
    assert temporary_folder(JOB).parent == node_path(JOB)
    scratch = Allocation(1, 0, 1, "n1", "n1", 1, scratch=Path("/scratch/1"))
    assert temporary_folder(scratch).parent == Path("/scratch/1")


def test_the_token_is_new_closed_and_gone_afterwards(tmp_path: Path) -> None:
    tokens = []
    for _ in range(2):
        with Shared(tmp_path / "shared").made() as shared:
            assert mode(shared.path) == 0o700
            assert mode(shared.token) == 0o600
            tokens.append(shared.token.read_text())
        assert list(tmp_path.iterdir()) == []
    assert len(set(tokens)) == 2
    assert min(map(len, tokens)) >= 32


def test_what_jobs_that_are_over_shared_is_swept_and_nothing_of_a_live_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In Slurm's own words.  Job 6 is an array, which its last task shares the id with; of 7 it does not say a thing.
    answers = {
        "1": "echo JobId=1 JobState=TIMEOUT",
        "2": "echo slurm_load_jobs error: Invalid job id specified >&2; exit 1",
        "3": "echo JobId=3 JobState=RUNNING",
        "4": "echo JobId=4 JobState=PENDING Restarts=1",
        "5": "echo JobId=5 JobState=COMPLETING",
        "6": "echo JobId=6 ArrayTaskId=1 JobState=COMPLETED; echo JobId=61 ArrayTaskId=0 JobState=RUNNING",
        "7": "echo slurm_load_jobs error: Unable to contact slurm controller >&2; exit 1",
        "8": "echo JobId=8 JobState=CANCELLED",
    }
    scontrol = tmp_path / "scontrol"
    cases = "".join(f"{job}) {said};; " for job, said in answers.items())
    scontrol.write_text(f'#!/bin/sh\n[ "$1 $2 $3" = "show job -o" ] || exit 2\ncase $4 in {cases}esac\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    run_dir = tmp_path / "run"
    for job in [*answers, "oddity"]:
        (run_dir / f".slurm-{job}").mkdir(parents=True)
        (run_dir / f".slurm-{job}" / "token").touch()
    sweep(run_dir, 8)
    assert {path.name for path in run_dir.iterdir()} == {f".slurm-{job}" for job in [*"345678", "oddity"]}


def test_failures_are_told_by_node(tmp_path: Path) -> None:
    with Shared(tmp_path / "shared").made() as shared:
        assert shared.failures() == {}
        shared.report_failure("n2", "no memory")
        assert shared.failures() == {"n2": "no memory"}

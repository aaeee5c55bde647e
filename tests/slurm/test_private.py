"""Folders of a job that nobody else can look into."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fedray.errors import ConfigError
from fedray.slurm.allocation import Allocation
from fedray.slurm.private import Shared, node_folder, node_path, temporary_folder

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


def test_failures_are_told_by_node(tmp_path: Path) -> None:
    with Shared(tmp_path / "shared").made() as shared:
        assert shared.failures() == {}
        shared.report_failure("n2", "no memory")
        assert shared.failures() == {"n2": "no memory"}

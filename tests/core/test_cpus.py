"""CPUs are those that a process may use."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from fedray.core.cpus import Mount, quota, slurm_cpus, usable_cpus

ONE = psutil.Process().cpu_affinity()[0] if hasattr(psutil.Process, "cpu_affinity") else None


@pytest.mark.skipif(ONE is None, reason="this system has no affinity of processes")
def test_a_process_bound_to_one_cpu_counts_one() -> None:
    code = (
        "import psutil; from fedray.core.cpus import usable_cpus; "
        f"psutil.Process().cpu_affinity([{ONE}]); found = usable_cpus({{}}); print(found.count, found.bound)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.startswith("1 ")
    assert psutil.cpu_count() == 1 or said == "1 affinity of this process\n"


def test_the_smallest_bound_counts_and_is_named() -> None:
    free = usable_cpus({})
    assert 1 <= free.count <= (psutil.cpu_count() or 1)
    assert usable_cpus({"SLURM_CPUS_PER_TASK": "9999"}) == free
    if free.count > 1:
        assert str(usable_cpus({"SLURM_CPUS_PER_TASK": "1"})) == "1 (SLURM_CPUS_PER_TASK)"


def test_slurm_gives_a_task_its_own_or_the_nodes() -> None:
    assert slurm_cpus({}) is None
    assert slurm_cpus({"SLURM_CPUS_ON_NODE": "8"}) == (8, "SLURM_CPUS_ON_NODE")
    assert slurm_cpus({"SLURM_CPUS_ON_NODE": "8", "SLURM_CPUS_PER_TASK": ""}) == (8, "SLURM_CPUS_ON_NODE")


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".", 1)).write_text(text + "\n")


def test_a_quota_of_version_2_is_that_of_the_tightest_group_above(tmp_path: Path) -> None:
    mounts = [Mount(tmp_path, 2)]
    assert quota("0::/user/job\n", mounts) is None
    write(tmp_path / "user/job", cpu__max="max 100000")
    write(tmp_path / "user", cpu__max="250000 100000")
    assert quota("0::/user/job\n", mounts) == 2.5
    write(tmp_path / "user/job", cpu__max="50000 100000")
    assert quota("0::/user/job\n", mounts) == 0.5
    assert quota("0::/elsewhere\n", mounts) is None


def test_a_quota_of_version_1_and_a_container_that_sees_only_its_own_group(tmp_path: Path) -> None:
    text = "4:memory:/docker/ab\n3:cpu,cpuacct:/docker/ab\n2:cpuset:/\n0::/\n"
    write(tmp_path, cpu__cfs_quota_us="-1", cpu__cfs_period_us="100000")
    assert quota(text, [Mount(tmp_path, 1)]) is None
    write(tmp_path, cpu__cfs_quota_us="300000", cpu__cfs_period_us="100000")
    assert quota(text, [Mount(tmp_path, 1)]) == 3.0
    assert quota("4:memory:/docker/ab\n", [Mount(tmp_path, 1)]) is None

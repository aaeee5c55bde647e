"""What a job is given, read from an environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedray.core.errors import ConfigError
from fedray.slurm.allocation import Allocation
from fedray.slurm.network import Ports
from fedray.slurm.node import memory_split, ray_command

JOB = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1"}
counts = st.integers(1, 512)


@given(st.integers(1, 1 << 30), st.integers(0, 20), counts, counts, st.integers(0, 16), st.integers(1, 1 << 22))
def test_what_slurm_writes_is_read(job: int, restart: int, nodes: int, cpus: int, gpus: int, megabytes: int) -> None:
    env = {
        "SLURM_JOB_ID": str(job),
        "SLURM_RESTART_COUNT": str(restart),
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_JOB_NODELIST": "n[1-4]",
        "SLURMD_NODENAME": "n3",
        "SLURM_CPUS_PER_TASK": str(cpus),
        "SLURM_CPUS_ON_NODE": str(2 * cpus),
        "SLURM_GPUS_ON_NODE": str(gpus),
        "CUDA_VISIBLE_DEVICES": ",".join(map(str, range(gpus))),
        "SLURM_MEM_PER_NODE": str(megabytes),
        "SLURM_TMPDIR": "/scratch/7",
    }
    expected = Allocation(
        job, restart, nodes, "n[1-4]", "n3", cpus, gpus, memory=megabytes << 20, scratch=Path("/scratch/7")
    )
    assert Allocation.from_env(env) == expected


def test_what_slurm_leaves_out_has_a_meaning() -> None:
    assert Allocation.from_env(JOB) == Allocation(7, 0, 1, "n1", "n1", 1, 0, memory=None, scratch=None)
    assert Allocation.from_env({**JOB, "SLURM_CPUS_ON_NODE": "6"}).cpus == 6
    assert Allocation.from_env({**JOB, "SLURM_MEM_PER_NODE": "0"}).memory is None, "0 is all that the node has"


def test_memory_by_cpu_counts_all_cpus_of_the_node() -> None:
    env = {**JOB, "SLURM_MEM_PER_CPU": "100", "SLURM_CPUS_PER_TASK": "2", "SLURM_CPUS_ON_NODE": "4"}
    assert Allocation.from_env(env).memory == 400 << 20


def test_memory_by_gpu_counts_the_gpus_of_the_node() -> None:
    env = {**JOB, "SLURM_MEM_PER_GPU": "100", "SLURM_GPUS_ON_NODE": "2"}
    assert Allocation.from_env(env).memory == 200 << 20


def test_a_task_of_an_array_is_called_by_its_place() -> None:
    assert Allocation.from_env(JOB).name == 7
    assert Allocation.from_env({**JOB, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "2"}).name == "7_2"


@pytest.mark.parametrize(
    ("told", "visible", "gpus"),
    [(None, None, 0), ("4", None, 4), (None, "0,3", 2), ("4", "0,3", 2), ("2", "", 0), ("1", "GPU-8a,GPU-8b", 1)],
)
def test_gpus_are_those_that_are_both_given_and_visible(told: str | None, visible: str | None, gpus: int) -> None:
    env = {"SLURM_GPUS_ON_NODE": told, "CUDA_VISIBLE_DEVICES": visible}
    assert Allocation.from_env({**JOB, **{k: v for k, v in env.items() if v is not None}}).gpus == gpus


def test_outside_of_a_job_and_with_nonsense() -> None:
    with pytest.raises(ConfigError, match="fedray slurm"):
        Allocation.from_env({})
    with pytest.raises(ConfigError, match="'many'"):
        Allocation.from_env({**JOB, "SLURM_CPUS_PER_TASK": "many"})


@given(st.integers(200 << 20, 1 << 42), st.integers(1 << 26, 1 << 40))
def test_memory_is_split_without_a_rest(memory: int, shm: int) -> None:
    tasks, store = memory_split(memory, shm)
    assert tasks + store == memory
    assert 80 << 20 <= store <= max(80 << 20, min(0.3 * memory, shm))


def test_ray_is_told_the_allocation_and_not_the_machine() -> None:
    share = Allocation(7, 0, 2, "n[1-2]", "n2", 3, 1, memory=4 << 30)
    head = ray_command(share, Ports(20000), "10.0.0.1", None, Path("/tmp/t"), 1 << 30)
    worker = ray_command(share, Ports(20016), "10.0.0.2", "10.0.0.1:20000", Path("/tmp/t"), 1 << 30)
    for command in (head, worker):
        assert {"--num-cpus=3", "--num-gpus=1", "--node-name=n2", "--temp-dir=/tmp/t", "--block"} <= set(command)
        given = dict(option.removeprefix("--").partition("=")[::2] for option in command)
        assert int(given["memory"]) + int(given["object-store-memory"]) == 4 << 30
    assert {"--head", "--port=20000", "--include-dashboard=false"} <= set(head)
    assert "--address=10.0.0.1:20000" in worker
    assert not any(option.startswith(("--head", "--port=")) for option in worker)

"""Every check in every outcome it has, on made-up machines."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from fedray.doctor import Facts, Finding, Folder, checks, examine
from fedray.doctor.checks import GB, MB
from fedray.doctor.facts import Slurm

HEALTHY = Facts(
    host="node1",
    python="3.12.4",
    packages={"fedray": "0.2.0", "torch": "2.13.0+cu126", "ray": "2.60.0", "numpy": "2.4.6"},
    cpu="AVX512",
    cuda="12.6",
    nccl="2.27.5",
    driver="12.8",
    devices=2,
    gpus=("H200", "H200"),
    open_files=65536,
    processes=-1,
    shm=8 * GB,
    temporary=Folder("/tmp", "ext4", 50 * GB),
    address="10.0.0.1",
    ports=8,
    auth="token",
    token="/home/me/token",
    token_mode=0o600,
    buffers="memfd",
    run_dir=Folder("/shared/runs", "nfs4", 500 * GB),
)

Check = Callable[[Facts], Iterator[Finding]]


def test_a_healthy_machine_has_nothing_to_be_told() -> None:
    findings = examine(HEALTHY)
    assert {finding.level for finding in findings} == {"ok"}
    assert {finding.advice for finding in findings} == {""}
    assert len(findings) == len(checks.CHECKS) + 4, "packages are four, the network two, all others one"


@pytest.mark.parametrize(
    ("check", "changed", "levels"),
    [
        (checks.python, {"python": "3.11.0"}, ["ok"]),
        (checks.python, {"python": "3.10.14"}, ["error"]),
        (checks.python, {"python": "3.14.0"}, ["error"]),
        (checks.packages, {"packages": {"torch": "2.11.0", "ray": "2.55.1"}}, ["ok", "ok"]),
        (checks.packages, {"packages": {"torch": "2.9.1+cpu", "ray": "2.9.3"}}, ["error", "error"]),
        (checks.packages, {"packages": {"fedray": None, "ray": None}}, ["warning", "error"]),
        (checks.gpus, {"devices": 0, "driver": None, "gpus": (), "cuda": None}, ["ok"]),
        (checks.gpus, {"devices": 0, "driver": None, "gpus": ()}, ["ok"]),
        (checks.gpus, {"cuda": None, "gpus": ()}, ["warning"]),
        (checks.gpus, {"nccl": None}, ["warning"]),
        (checks.gpus, {"driver": "12.2"}, ["ok"]),
        (checks.gpus, {"driver": "11.8", "gpus": ()}, ["error"]),
        (checks.gpus, {"driver": None, "gpus": ()}, ["error"]),
        (checks.gpus, {"gpus": ()}, ["error"]),
        (checks.open_files, {"open_files": 1024}, ["warning"]),
        (checks.open_files, {"open_files": 256}, ["error"]),
        (checks.open_files, {"open_files": -1}, ["ok"]),
        (checks.processes, {"processes": 8192}, ["ok"]),
        (checks.processes, {"processes": 2048}, ["warning"]),
        (checks.processes, {"processes": 512}, ["error"]),
        (checks.shared_memory, {"shm": GB}, ["warning"]),
        (checks.shared_memory, {"shm": 63 * MB}, ["error"]),
        (checks.shared_memory, {"shm": None}, ["error"]),
        (checks.buffers, {"buffers": "memfd of the C library"}, ["ok"]),
        (checks.buffers, {"buffers": "/dev/shm"}, ["warning"]),
        (checks.buffers, {"buffers": None}, ["error"]),
        (checks.temporary, {"temporary": Folder("/scratch", "lustre", GB)}, ["warning"]),
        (checks.temporary, {"temporary": Folder("/tmp", "ext4", GB)}, ["warning"]),
        (checks.temporary, {"temporary": Folder("/" + "t" * 60, "ext4", 50 * GB)}, ["error"]),
        (checks.temporary, {"temporary": Folder("/tmp", "ext4", 50 * GB, "Permission denied")}, ["error"]),
        (checks.network, {"address": None}, ["warning", "ok"]),
        (checks.network, {"address": "127.0.1.1", "ports": 3}, ["warning", "warning"]),
        (checks.network, {"ports": 0}, ["ok", "error"]),
        (checks.token, {"auth": ""}, ["warning"]),
        (checks.token, {"auth": "", "token_mode": None}, ["warning"]),
        (checks.token, {"token_mode": None}, ["error"]),
        (checks.token, {"token_mode": 0o644}, ["error"]),
        (checks.plugins, {"plugins": ("plugin 'a' cannot be imported",) * 2}, ["warning"] * 2),
        (checks.slurm, {"slurm": Slurm("23.11.4", ("gpu (the default, 4 nodes)",))}, ["ok"]),
        (checks.slurm, {"slurm": Slurm("23.11.4")}, ["warning"]),
        (checks.slurm, {"slurm": Slurm("", error="sinfo: no answer in 10 s")}, ["warning"]),
        (checks.run_folder, {"run_dir": None}, []),
        (checks.run_folder, {"run_dir": Folder("/shared", "nfs4", GB // 2)}, ["warning"]),
        (checks.run_folder, {"run_dir": Folder("/shared", "nfs4", 9 * GB, "Read-only file system")}, ["error"]),
    ],
)
def test_outcomes(check: Check, changed: dict[str, Any], levels: list[str]) -> None:
    findings = list(check(replace(HEALTHY, **changed)))
    assert [finding.level for finding in findings] == levels
    for finding in findings:
        assert (finding.advice != "") == (finding.level != "ok"), "whoever is warned is told what to do"


@pytest.mark.parametrize(("length", "level"), [(0, "ok"), (1, "error")])
def test_the_longest_temporary_folder(length: int, level: str) -> None:
    """A Unix socket's path holds 107 bytes."""
    room = checks.LONGEST_SOCKET - len(checks._SESSION)
    folder = Folder("/" + "x" * (room - 1 + length), "ext4", 50 * GB)
    (finding,) = checks.temporary(replace(HEALTHY, temporary=folder))
    assert finding.level == level
    assert len(f"{folder.path}{checks._SESSION}") == checks.LONGEST_SOCKET + length


def test_what_is_wrong_is_named() -> None:
    (finding,) = checks.gpus(replace(HEALTHY, driver="11.8", gpus=()))
    assert finding.text == "the driver takes CUDA 11.8, torch needs 12.6"
    (finding,) = checks.token(replace(HEALTHY, token_mode=0o644))
    assert "0644" in finding.text

"""``fedray doctor`` here, and on two real Ray nodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedray.core.errors import ConfigError
from fedray.doctor import gather, visit_cluster, visit_here
from fedray.doctor.facts import MARKER

ROOT = Path(__file__).resolve().parents[2]
NODES = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
cluster.add_node(num_cpus=1)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def two_nodes(environment: dict[str, str]) -> Iterator[str]:
    """The address of a Ray of two nodes that ends with this fixture."""
    process = subprocess.Popen(
        [sys.executable, "-c", NODES],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        yield next(line.strip() for line in lines if line[:1].isdigit())
        process.communicate("", timeout=60)
    finally:
        process.kill()


@pytest.mark.slow
def test_every_node_is_examined(two_nodes: str, environment: dict[str, str], tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "fedray", "doctor", "--cluster", "--json", "--run-dir", str(tmp_path / "runs")],
        env=environment | {"RAY_ADDRESS": two_nodes},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.stdout, ran.stderr
    report = json.loads(ran.stdout)
    together = {finding["subject"]: finding for finding in report.pop("cluster")}
    assert len(report) == 2
    for findings in report.values():
        said = {finding["subject"]: finding for finding in findings}
        assert said["torch"]["text"] == gather().packages["torch"]
        assert said["run folder"]["level"] == "ok"
    assert together["run folder"]["text"] == "the same on all nodes"
    for subject in ("python", "torch", "ray", "cpu", "clocks"):
        assert together[subject]["level"] == "ok"
    errors = [finding for findings in report.values() for finding in findings if finding["level"] == "error"]
    assert ran.returncode == (1 if errors else 0)
    assert list(tmp_path.iterdir()) == [], "it leaves nothing behind"


def test_this_machine_alone(tmp_path: Path) -> None:
    report = visit_here(tmp_path / "runs")
    ((host, findings),) = report.findings.items()
    assert host == os.uname().nodename
    assert {finding.subject for finding in findings} >= {"python", "gpu", "token", "run folder"}
    assert not (tmp_path / "runs").exists()
    json.dumps(report.to_json())


def test_a_folder_that_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").touch()
    visit_here(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert not (tmp_path / MARKER).exists()


def test_errors_are_an_exit_status(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert visit_here(tmp_path / "file" / "runs").errors >= 1


def test_no_cluster_is_joined_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match="RAY_ADDRESS"):
        visit_cluster(None)


def test_a_cluster_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(ConfigError, match=r"RAY_ADDRESS: nobody answers at .*refused"):
        visit_cluster(None)

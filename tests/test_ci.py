"""`.ci/run` ends as its suites do: here with a `make` that runs none of them, and says what they would."""

import os
import subprocess
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / ".ci/run"
SUMMARY = "=== 3 passed, 1 deselected in 0.5s ==="
NEEDED = ("chromium", "chromedriver", "slurmctld", "slurmd", "munged", "ip")


def ci(tmp_path: Path, make: str) -> subprocess.CompletedProcess[str]:
    """Run the checks with the script `make` in place of the real one."""
    (tools := tmp_path / "tools").mkdir()
    for name, script in {**dict.fromkeys(NEEDED, ""), "make": make}.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "TMPDIR": str(tmp_path)}
    return subprocess.run([RUN], env=environment, capture_output=True, text=True, timeout=60)


def test_what_passes_is_green_and_ends_with_the_summaries(tmp_path: Path) -> None:
    ended = ci(tmp_path, f"echo '{SUMMARY}'")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-4:] == [SUMMARY] * 4
    assert [path.name for path in tmp_path.iterdir()] == ["tools"]


@pytest.mark.parametrize("target", ["dev", "lint", "test", "test-trackers", "test-slow", "test-slurm"])
def test_a_target_that_fails_is_red(tmp_path: Path, target: str) -> None:
    ended = ci(tmp_path, f"echo '{SUMMARY}'; case \" $* \" in *' {target} '*) exit 2;; esac")
    assert ended.returncode != 0
    assert "Test summaries" not in ended.stdout


def test_a_suite_of_slurm_that_skips_is_red(tmp_path: Path) -> None:
    ended = ci(tmp_path, f"echo '{SUMMARY}'; case $1 in test-slurm) echo 'SKIPPED [1] no Slurm';; esac")
    assert ended.returncode == 1
    assert "the tests of slurm must run here" in ended.stderr

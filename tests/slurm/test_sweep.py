"""A sweep as a job array on a real Slurm cluster, and what is told of jobs that wait."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.slurm.lab import Lab, assert_nothing_left, hashes, rounds_done, until, wait_for_rounds

pytestmark = pytest.mark.slurm

HELD = """\
base: [paced.yaml]
rounds: 30
cluster: {name: slurm, nodes: 1, cpus_per_task: 1, sbatch: {hold: true}}
"""
SEARCHED = """\
base: [paced.yaml]
rounds: 402
checkpoint: {every: 50}
cluster: {name: slurm, cpus_per_task: 1}
"""
SHORT = """\
base: [paced.yaml]
rounds: 3
evaluate: {every: 1}
metrics: [accuracy, "paced_model:right"]
failures: {on_nonfinite: abort}
cluster: {name: slurm, cpus_per_task: 1}
"""


def told(lab: Lab, run_dir: Path) -> dict[str, Any]:
    """What ``fedray status`` says of Slurm."""
    done = lab.fedray("status", run_dir, "--json")
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    assert content["state"] == "waiting"
    slurm: dict[str, Any] = content["slurm"]
    return slurm


def test_a_job_that_waits_says_why(lab: Lab) -> None:
    run_dir = lab.folder / "waits"
    assert lab.fedray("slurm", "paced.yaml", f"run.dir={run_dir}", "--sbatch=begin=now+1hour").returncode == 0
    job = str(json.loads((run_dir / "slurm.json").read_text())["job"])
    expected = {"job": job, "state": "PENDING", "reason": "BeginTime", "forgotten": False}
    assert told(lab, run_dir) == expected
    lab.run("scancel", job)


def test_an_array_of_which_a_task_fails_says_so_in_its_table(lab: Lab, brake: Path) -> None:
    """Options of sbatch on the command line; short tasks that end at about the same time, on nodes of their own."""
    brake.unlink()
    (lab.folder / "short.yaml").write_text(SHORT)
    sweep = ["sweep", "short.yaml", "seed=1,2", "local.optimizer.lr=0.1,1e30"]
    done = lab.fedray(*sweep, "--slurm", "--nodes", 1, "--sbatch", "comment=array", "--account", "mine")
    assert done.returncode == 0, done.stderr
    array = done.stdout.split()[2].rstrip(":")
    shown = lab.run("scontrol", "show", "job", "-o", f"{array}_1")
    assert "Account=mine " in shown
    assert "Comment=array " in shown
    until(lambda: lab.run("squeue", "-h") == "", 180, lambda: lab.run("squeue"))
    folder = lab.folder / "sweeps" / "short"
    logs = "\n".join(path.read_text() for path in folder.glob("slurm-*.log"))
    rows = json.loads((folder / "table.json").read_text())
    assert [(row["runs"], row["failed"], row["missing"]) for row in rows] == [(2, 0, 0), (0, 2, 0)], logs
    assert "| 0/2, 2 failed |" in (folder / "table.md").read_text()
    assert sorted(rows[0]["metrics"]["test.accuracy"]["values"]) == ["1", "2"]
    # The model and a metric are of a file in the working directory, which each task has imported and hashed.
    assert set(rows[0]["metrics"]) >= {"test.right", "test.loss"}
    source = (lab.folder / "paced_model.py").read_bytes()
    for run_dir in folder.glob("seed=*"):
        (code,) = json.loads((run_dir / "code.json").read_text())
        assert code["files"] == {"paced_model.py": hashlib.sha256(source).hexdigest()}
        assert (
            f"model: paced_model:Model is code of your own, imported from {lab.folder}"
            in (run_dir / "log.txt").read_text()
        )


def test_an_array_runs_every_cell_once(lab: Lab, brake: Path) -> None:
    (lab.folder / "held.yaml").write_text(HELD)
    sweep = ["sweep", "held.yaml", "seed=1,2", "algorithm.name=fedprox", "algorithm.mu=0.01"]
    done = lab.fedray(*sweep, "--slurm")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 runs, 1 node each" in done.stdout
    assert f"table   {Path('sweeps', 'held', 'table.md')} " in done.stdout
    assert "| 0/2, 2 missing |" in (lab.folder / "sweeps" / "held" / "table.md").read_text()
    array = int(done.stdout.split()[2].rstrip(":"))
    folders = sorted((lab.folder / "sweeps" / "held").glob("seed=*"))
    held = {"job": f"{array}_1", "state": "PENDING", "reason": "JobHeldUser", "forgotten": False}
    assert told(lab, folders[1]) == held
    lab.run("scontrol", "release", array)
    for folder in folders:
        wait_for_rounds(folder, 2)
    # Slurm gives one of the tasks the id of the whole array; it must not take the other one with it.
    ids = [int(re.findall(r"JobId=(\d+)", lab.run("scontrol", "show", "job", "-o", f"{array}_{i}"))[0]) for i in (0, 1)]
    leader = ids.index(array)
    lab.run("scancel", "--batch", "--signal=USR1", f"{array}_{leader}")
    until(lambda: lab.job(f"{array}_{leader}").restarts == 1, 60, lambda: lab.run("squeue"))
    assert lab.job(f"{array}_{1 - leader}").restarts == 0
    brake.unlink()
    until(lambda: lab.run("squeue", "-h") == "", 90, lambda: lab.run("squeue"))
    logs = "\n".join(path.read_text() for path in (lab.folder / "sweeps" / "held").glob("slurm-*.log"))
    ran = [hashes(folder) for folder in folders]
    assert [sorted(rounds) for rounds in ran] == [[*range(1, 31)]] * 2, logs
    assert ran[0] != ran[1]
    for place, (job, folder) in enumerate(zip(ids, folders, strict=True)):
        assert json.loads((folder / "slurm.json").read_text())["job"] == f"{array}_{place}"
        assert_nothing_left(lab, job, folder)
    # The task that ended last has left the table, and nobody has asked for it.
    left = (lab.folder / "sweeps" / "held" / "table.md").read_text()
    assert "| 2/2 " in left
    assert "2/2" in lab.fedray(*sweep, "--table").stdout
    assert (lab.folder / "sweeps" / "held" / "table.md").read_text() == left
    assert "2/2" in lab.fedray(*sweep, "--slurm").stdout, "the table"
    assert lab.run("squeue", "-h") == "", "nothing is submitted again"
    assert ran == [hashes(folder) for folder in folders]


def test_a_search_submits_its_stages_by_itself_and_is_stopped_as_one(lab: Lab, brake: Path) -> None:
    """Stopped in its first stage nothing more is submitted; gone on with, the better setting comes to the end alone."""
    (lab.folder / "searched.yaml").write_text(SEARCHED)
    folder = lab.folder / "sweeps" / "searched"
    sweep = [
        "sweep",
        "searched.yaml",
        "local.optimizer.lr=0.01,0.1",
        "--rungs",
        400,
        "--factor",
        2,
        "--by",
        "train.loss",
    ]
    done = lab.fedray(*sweep, "--slurm", "--nodes", 1, "--sbatch", "comment=mine")
    assert done.returncode == 0, done.stderr
    waits = json.loads((folder / "stages.json").read_text())["job"]
    assert f"next    job {waits} submits those that go on" in done.stdout
    assert "Comment=mine " in lab.run("scontrol", "show", "job", "-o", str(waits))
    again = lab.fedray("sweep", folder, "--slurm")
    assert (again.returncode, f"job {waits} submits what comes next" in again.stderr) == (2, True), again.stderr
    runs = sorted(folder.glob("local.optimizer.lr=*"))
    wait_for_rounds(runs[0], 1)
    stopped = lab.fedray("stop", folder)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert f"job {waits}, which would have submitted the next stage: cancelled" in stopped.stdout
    until(lambda: lab.run("squeue", "-h") == "", 60, lambda: lab.run("squeue"))
    assert all(rounds_done(run) < 400 for run in runs)
    brake.unlink()
    assert lab.fedray("sweep", folder, "--slurm").returncode == 0
    until(lambda: lab.run("squeue", "-h") == "", 240, lambda: lab.run("squeue"))
    logs = "\n".join(path.read_text() for path in folder.glob("slurm-*.log"))
    assert sorted(map(rounds_done, runs)) == [400, 402], logs
    losses = [json.loads((run / "metrics.jsonl").read_text().splitlines()[399])["train"]["loss"] for run in runs]
    assert rounds_done(runs[losses.index(min(losses))]) == 402, logs
    assert "to round 400" in (folder / "table.md").read_text()

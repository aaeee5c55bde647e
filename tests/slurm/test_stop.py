"""``fedray stop`` of runs that Slurm has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedray.slurm.requeue import safe_rounds
from tests.slurm.conftest import Quiet, Submit
from tests.slurm.lab import Lab, assert_nothing_left, hashes, log_of, rounds_done, wait_for_rounds

pytestmark = pytest.mark.slurm


def test_a_running_job_saves_ends_and_goes_on_to_the_same_bits(
    lab: Lab, submit: Submit, quiet: Quiet, brake: Path
) -> None:
    config, run_dir = lab.folder / "paced.yaml", lab.folder / "stopped"
    job = submit(config, f"run.dir={run_dir}", "checkpoint.every=0", "--nodes", 2)
    wait_for_rounds(run_dir, 3)
    seen = rounds_done(run_dir)
    done = lab.fedray("stop", run_dir)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + log_of(run_dir)
    first, *_, last = done.stdout.splitlines()
    assert first == f"asked Slurm job {job} to stop with a checkpoint"
    saved = rounds_done(run_dir)
    assert last == f"stopped after round {saved}, its checkpoint is saved; go on with: fedray slurm {run_dir}"
    assert (safe_rounds(run_dir), saved >= seen) == (saved, True), log_of(run_dir)
    ended = lab.job(job)
    assert (ended.state, ended.restarts) == ("FAILED", 0), "it was the user's wish: no requeue"
    assert_nothing_left(lab, job, run_dir)
    again = lab.fedray("stop", run_dir)
    assert again.returncode == 2
    assert f"nothing runs in {run_dir}: the run is stopped, at round {saved}" in again.stderr
    brake.unlink()
    went_on = submit(run_dir)
    assert lab.ended(went_on).state == "COMPLETED", log_of(run_dir)
    assert json.loads((run_dir / "summary.json").read_text())["resumed_from"] == saved
    assert hashes(run_dir) == quiet(config, 100)


def test_a_job_that_has_not_begun_is_cancelled_and_its_folder_free(lab: Lab, submit: Submit) -> None:
    run_dir = lab.folder / "waiting"
    arguments = (lab.folder / "paced.yaml", f"run.dir={run_dir}", "rounds=2", "--nodes=1", "--sbatch=begin=now+1hour")
    job = submit(*arguments)
    done = lab.fedray("stop", run_dir)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.splitlines()[0] == f"Slurm job {job} was PENDING: cancelled"
    assert lab.job(job).state == "CANCELLED"
    assert not list(run_dir.glob(".slurm-*"))
    again = lab.fedray("slurm", run_dir)
    assert again.returncode == 0, again.stderr
    lab.run("scancel", again.stdout.split()[2])

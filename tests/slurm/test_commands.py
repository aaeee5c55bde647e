"""What Slurm says of a job, read in one place."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedray.slurm import commands
from fedray.slurm.commands import SlurmJob, look_up


@pytest.mark.parametrize(
    ("said", "found", "goes_on", "over"),
    [
        (
            "echo JobId=12 JobName=a b JobState=PENDING Reason=Resources Requeue=1",
            SlurmJob("12", "PENDING", "Resources"),
            True,
            False,
        ),
        ("echo JobState=RUNNING Reason=None", SlurmJob("12", "RUNNING"), True, False),
        ("echo JobState=COMPLETING Reason=None", SlurmJob("12", "COMPLETING"), True, False),
        ("echo JobState=SPECIAL_EXIT Reason=None", SlurmJob("12", "SPECIAL_EXIT"), True, False),
        ("echo JobState=PREEMPTED Reason=None", SlurmJob("12", "PREEMPTED"), False, True),
        ("echo JobState=REVOKED Reason=None", SlurmJob("12", "REVOKED"), False, True),
        ("echo JobState=COMPLETED; echo JobState=RUNNING Reason=None", SlurmJob("12", "RUNNING"), True, False),
        ("echo JobState=FAILED; echo JobState=COMPLETED", SlurmJob("12", "FAILED"), False, True),
        (
            "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1",
            SlurmJob("12", forgotten=True),
            False,
            True,
        ),
        ("echo 'error: Unable to contact slurm controller' >&2; exit 1", SlurmJob("12"), False, False),
        ("exec sleep 30", SlurmJob("12"), False, False),
        ("true", SlurmJob("12"), False, False),
    ],
)
def test_a_job(
    said: str, found: SlurmJob, goes_on: bool, over: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\n[ "$*" = "show job -o 12" ] || exit 9\n{said}\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(commands, "_PATIENCE", 0.5)
    assert look_up(12) == found
    assert (found.goes_on, found.over) == (goes_on, over)


@pytest.mark.parametrize(
    ("state", "waits"),
    [("PENDING", True), ("REQUEUE_HOLD", True), ("RUNNING", False), ("COMPLETING", False), ("FAILED", False)],
)
def test_a_job_of_which_nothing_runs_yet(state: str, waits: bool) -> None:
    assert SlurmJob("12", state).waits is waits


def test_a_state_is_of_one_kind() -> None:
    """A job that waits goes on, whatever word is added to either list."""
    assert not commands._WAITING & commands._ENDED


def test_without_slurm_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert look_up("12_3") == SlurmJob("12_3")

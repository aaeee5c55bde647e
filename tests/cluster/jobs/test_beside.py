"""A short job beside a run: what it is asked to do, and what is made of its answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from fedray.cluster.jobs.beside import PYTHON, RUN_DIR, state_of_run, stop_job
from fedray.cluster.jobs.client import Ended, Info
from fedray.core.errors import ConfigError

OURS = {RUN_DIR: "'/home/me/a run'", PYTHON: "python3"}


class FakeJobs:
    """A job server with one job, which takes another and answers it."""

    def __init__(self, info: Info, says: tuple[str, ...] = (), status: int | None = 0) -> None:
        self._info, self._says = info, says
        self._end = Ended("FAILED" if status else "SUCCEEDED", status, "")
        self.done: list[Any] = []

    def info(self, name: str) -> Info:
        return self._info

    def stop(self, name: str) -> None:
        self.done.append(("stop", name))

    def start(self, command: str, name: str, working_dir: str | None) -> None:
        self.done.append((command, name.rpartition("_")[0], working_dir))

    def follow(self, name: str) -> Iterator[str]:
        yield from self._says

    def end_of(self, name: str) -> Ended:
        return self._end


def info(ended: Ended | None = None, waits: bool = False, **metadata: str) -> Info:
    return Info({**OURS, **metadata}, "gcs://files.zip", waits, ended)


@pytest.mark.parametrize(("status", "expected"), [(0, 0), (75, 75), (None, 1)])
def test_a_run_is_stopped_by_its_own_command_among_its_files(status: int | None, expected: int) -> None:
    jobs = FakeJobs(info(), ("asked\n", "saved\n"), status)
    shown: list[str] = []
    assert stop_job(jobs, "job_1", shown.append) == expected  # type: ignore[arg-type]
    assert jobs.done == [("python3 -m fedray stop '/home/me/a run'", "job_1", "gcs://files.zip")]
    assert shown == ["asked\n", "saved\n"]


def test_a_job_that_has_not_begun_is_cancelled_as_there_is_nothing_to_save() -> None:
    jobs = FakeJobs(info(waits=True))
    assert stop_job(jobs, "job_1", print) == 0  # type: ignore[arg-type]
    assert jobs.done == [("stop", "job_1")]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (info(Ended("SUCCEEDED", 0, "")), "job_1: the job has ended: SUCCEEDED"),
        (Info({}, None, False, None), "no job of `fedray submit`; Ray's own stop is `ray job stop job_1`"),
    ],
)
def test_what_cannot_be_stopped_is_left_alone(found: Info, message: str) -> None:
    jobs = FakeJobs(found)
    with pytest.raises(ConfigError, match=message):
        stop_job(jobs, "job_1", print)  # type: ignore[arg-type]
    assert jobs.done == []


def test_the_state_of_a_run_is_found_in_whatever_else_is_said_there() -> None:
    said = ("a warning of Ray\n", '{"state": ', '"stopped", "round": 3}\nbye\n')
    jobs = FakeJobs(info(), said)
    assert state_of_run(jobs, "job_1") == "stopped"  # type: ignore[arg-type]
    assert jobs.done[0][0] == "python3 -m fedray status '/home/me/a run' --json"
    assert state_of_run(FakeJobs(info(), ("no run is there\n",), 2), "job_1") is None  # type: ignore[arg-type]
    assert state_of_run(FakeJobs(Info({}, None, False, None)), "job_1") is None  # type: ignore[arg-type]

"""Ray's job server as fedray asks it: the answers in our words, and every failure in one line."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray.job_submission
from ray.exceptions import AuthenticationError
from ray.job_submission import JobStatus

from fedray.cluster.jobs import client
from fedray.cluster.jobs.client import ADDRESS, Ended, Jobs
from fedray.core.errors import ConfigError


class FakeClient:
    """Ray's client; ``raises`` is what its calls raise."""

    def __init__(self, address: str) -> None:
        self.seen = os.environ[ADDRESS]
        self.raises: Exception | None = None
        self.status, self.closed = JobStatus.RUNNING, False
        self.submitted: dict[str, Any] = {}
        self.coming: Iterator[JobStatus] = iter(())

    def submit_job(self, **options: Any) -> None:
        self._fail()
        self.submitted = options

    def get_job_info(self, name: str) -> Any:
        self._fail()
        status = self.status = next(self.coming, self.status)
        code = None if status == JobStatus.RUNNING else 3
        return SimpleNamespace(status=status, driver_exit_code=code, message=" why \n", metadata=None, runtime_env=None)

    async def tail_job_logs(self, name: str) -> AsyncIterator[str]:
        try:
            for piece in ("a\n", "b\n"):
                yield piece
            self._fail()
        finally:
            self.closed = True

    def _fail(self) -> None:
        if self.raises is not None:
            raise self.raises


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    """A server that answers at once."""
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(client, "find_spec", lambda name: object())
    monkeypatch.setattr(ray.job_submission, "JobSubmissionClient", FakeClient)
    monkeypatch.setenv(ADDRESS, "http://another:1")
    return Jobs("http://head:8265/")


def test_the_address_that_is_given_wins_over_that_of_the_environment(jobs: Jobs) -> None:
    assert jobs._client.seen == "http://head:8265"
    assert os.environ[ADDRESS] == "http://another:1", "which is put back"


def test_what_a_job_is_given(jobs: Jobs) -> None:
    jobs.submit("python -m fedray run", Path("files.zip"), "job_1", {"fedray_run_dir": "x"})
    assert jobs._client.submitted == {
        "entrypoint": "python -m fedray run",
        "submission_id": "job_1",
        "runtime_env": {"working_dir": "files.zip"},
        "metadata": {"fedray_run_dir": "x"},
    }
    jobs.start("true", "job_2", None)
    assert jobs._client.submitted["runtime_env"] == {}, "a job without files has no working directory"


@pytest.mark.parametrize(
    ("status", "waits", "ended"),
    [
        (JobStatus.PENDING, True, None),
        (JobStatus.RUNNING, False, None),
        (JobStatus.FAILED, False, Ended("FAILED", 3, "why")),
        (JobStatus.STOPPED, False, Ended("STOPPED", 3, "why")),
    ],
)
def test_whether_a_job_waits_runs_or_has_ended(jobs: Jobs, status: Any, waits: bool, ended: Ended | None) -> None:
    jobs._client.status = status
    told = jobs.info("job_1")
    assert (told.waits, told.ended, told.metadata, told.working_dir) == (waits, ended, {}, None)


def test_the_end_of_a_job_is_waited_for(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    paused: list[float] = []
    monkeypatch.setattr(time, "sleep", paused.append)
    jobs._client.coming = iter([JobStatus.PENDING, JobStatus.RUNNING, JobStatus.FAILED])
    assert jobs.end_of("job_1") == Ended("FAILED", 3, "why")
    assert len(paused) == 2, "once for each answer that it goes on"


def test_a_log_is_followed_to_its_end_or_until_nobody_listens(jobs: Jobs) -> None:
    assert list(jobs.follow("job_1")) == ["a\n", "b\n"]
    jobs._client.closed = False
    pieces = jobs.follow("job_1")
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert jobs._client.closed
    jobs._client.raises = OSError("gone")
    with pytest.raises(ConfigError, match=r"^http://head:8265 was lost sight of; the job job_1 goes on: gone$"):
        list(jobs.follow("job_1"))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("\n\n  first line \nsecond"), "does not tell of the job job_1: first line$"),
        (OSError(), "does not tell of the job job_1: OSError$"),
        (AuthenticationError("x"), "asks for a token"),
        (RuntimeError("Request failed: Authentication"), "asks for a token"),
        (ValueError("Invalid gcs_address: http:"), "does not tell of the job job_1: Invalid gcs_address: http:$"),
    ],
)
def test_a_failure_is_one_line_with_the_address(jobs: Jobs, error: Exception, words: str) -> None:
    jobs._client.raises = error
    with pytest.raises(ConfigError, match=f"^http://head:8265 .*{words}") as told:
        jobs.end_of("job_1")
    assert "\nsecond" not in str(told.value)


def test_what_is_no_address_of_a_dashboard_is_said_before_anything_is_asked(jobs: Jobs) -> None:
    with pytest.raises(ConfigError, match=r"--address 10\.0\.0\.1:6379: expected the dashboard's URL"):
        Jobs("10.0.0.1:6379")

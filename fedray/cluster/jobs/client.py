"""Ray's Jobs API: submit a command with files, follow its log, learn how it ended."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ray.exceptions import AuthenticationError, RayError

from fedray.cluster.start.token import ASKS, token_wanted
from fedray.core.errors import ConfigError

ADDRESS = "RAY_API_SERVER_ADDRESS"
_PAUSE = 0.2


@dataclass(frozen=True)
class Ended:
    """The end of a job.

    Args:
        state: ``SUCCEEDED``, ``FAILED`` or ``STOPPED`` (by request).
        status: exit status of its command; None if it had none: it was stopped, or could not be started.
        message: Ray's own words.
    """

    state: str
    status: int | None
    message: str


@dataclass(frozen=True)
class Info:
    """The cluster's account of a job.

    Args:
        metadata: given when it was submitted.
        working_dir: Ray's address of its files; None without any.
        waits: it has not begun.
        ended: its end; None while it waits or runs.
    """

    metadata: Mapping[str, str]
    working_dir: str | None
    waits: bool
    ended: Ended | None


class Jobs:
    """The job server of a cluster.

    Args:
        address: ``http://HEAD:8265``; what the environment says is not looked at.

    Raises:
        ConfigError: the ``jobs`` extra is missing, the address is malformed or does not answer, or the token is wrong.
    """

    def __init__(self, address: str) -> None:
        if find_spec("aiohttp") is None or find_spec("requests") is None:
            raise ConfigError("submitting needs Ray's job client: pip install 'fedray[jobs]'")
        if not address.startswith(("http://", "https://")):
            raise ConfigError(f"--address {address}: expected the dashboard's URL, as in http://HEAD:8265")
        if wanted := token_wanted():
            raise ConfigError(wanted)
        from aiohttp import ClientError
        from ray.job_submission import JobSubmissionClient

        for module in ("dashboard_sdk", "job.sdk"):
            logging.getLogger(f"ray.dashboard.modules.{module}").setLevel(logging.WARNING)
        self._address = address.rstrip("/")
        self._kinds = (RayError, RuntimeError, OSError, ValueError, ClientError)
        with self._errors("cannot be used"), _in_environment(ADDRESS, self._address):
            # Ray prefers what the environment says to what it is given.
            self._client: Any = JobSubmissionClient(self._address)

    def submit(self, command: str, archive: Path, name: str, metadata: Mapping[str, str]) -> None:
        """Start a command with files.

        Args:
            command: for the shell.
            archive: ZIP file whose contents become its working directory.
            name: the job's id; not used before on this cluster.
            metadata: words that :meth:`info` is to tell of it.

        Raises:
            ConfigError: the cluster does not take it.
        """
        self.start(command, name, str(archive), metadata)

    def start(
        self, command: str, name: str, working_dir: str | None, metadata: Mapping[str, str] | None = None
    ) -> None:
        """Start a command in a working directory that Ray makes of an archive, or has already; see :meth:`submit`."""
        environment = {"working_dir": working_dir} if working_dir else {}
        with self._errors(f"does not take the job {name}"):
            self._client.submit_job(
                entrypoint=command, submission_id=name, runtime_env=environment, metadata=dict(metadata or {})
            )

    def info(self, name: str) -> Info:
        """Return what is known of a job.

        Raises:
            ConfigError: the cluster does not answer, or does not know the job.
        """
        with self._errors(f"does not tell of the job {name}"):
            told = self._client.get_job_info(name)
        working_dir = (told.runtime_env or {}).get("working_dir")
        return Info(told.metadata or {}, working_dir, told.status.value == "PENDING", _ended(told))

    def logs(self, name: str) -> str:
        """Return the job's log so far.

        Raises:
            ConfigError: the cluster does not answer, or does not know the job.
        """
        with self._errors(f"does not tell of the job {name}"):
            said: str = self._client.get_job_logs(name)
        return said

    def stop(self, name: str) -> None:
        """End a job by force, after three seconds.

        Raises:
            ConfigError: the cluster does not answer, or does not know the job.
        """
        with self._errors(f"does not stop the job {name}"):
            self._client.stop_job(name)

    def follow(self, name: str) -> Iterator[str]:
        """Yield the job's log as it grows, until the job has ended.

        Raises:
            ConfigError: the connection was lost.
        """
        loop = asyncio.new_event_loop()
        pieces = self._client.tail_job_logs(name)
        try:
            while True:
                with self._errors(f"was lost sight of; the job {name} goes on"):
                    try:
                        piece: str = loop.run_until_complete(anext(pieces))
                    except StopAsyncIteration:
                        return
                yield piece
        finally:
            loop.run_until_complete(pieces.aclose())
            loop.close()

    def end_of(self, name: str) -> Ended:
        """Wait for the end of a job, and return it.

        Raises:
            ConfigError: the cluster does not answer any more, or does not know the job.
        """
        # Ray has no call that waits.  A job may take days: there is no bound but that the cluster goes on answering.
        while (ended := self.info(name).ended) is None:
            time.sleep(_PAUSE)
        return ended

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except AuthenticationError:
            raise ConfigError(f"{self._address} {ASKS}") from None
        except self._kinds as error:
            if "Authentication" in str(error):  # of its job server Ray raises a plain RuntimeError
                raise ConfigError(f"{self._address} {ASKS}") from None
            first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ConfigError(f"{self._address} {what}: {first[:300]}") from None


def _ended(told: Any) -> Ended | None:
    if not told.status.is_terminal():
        return None
    return Ended(str(told.status.value), told.driver_exit_code, (told.message or "").strip())


@contextmanager
def _in_environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before

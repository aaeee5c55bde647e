"""A run folder: its files by name, and how it is claimed for a run."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedray.core.errors import ConfigError
from fedray.rundir import checkpoint, configs, durable
from fedray.rundir.code import keep_code
from fedray.rundir.lock import check_free, driving
from fedray.rundir.names import (
    CLIENTS,
    CODE,
    CONFIG,
    ENCODING,
    FEDERATION,
    INPUTS,
    LABELS,
    LOG,
    METRICS,
    SENT,
    SUMMARY,
    WITHHELD,
    config_of,
    read_object,
    to_go_on,
)
from fedray.rundir.tree import check_apart, check_writable


@dataclass(frozen=True)
class RunFolder:
    """The files of a run."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Checkpoint folders."""
        return self.path / "checkpoints"

    @property
    def log(self) -> Path:
        """The log of the run, tracebacks included."""
        return self.path / LOG

    @property
    def state(self) -> Path:
        """Segments of the clients' state."""
        return self.path / "state"

    @property
    def workers(self) -> Path:
        """The folder of the output of clients' code, a file for each worker."""
        return self.path / "workers"

    @property
    def clients(self) -> Path:
        """The folder of what each client got, see :mod:`fedray.rundir.client_table`."""
        return self.path / CLIENTS

    def claim(self, config: str, code: Mapping[str, str] | None = None) -> None:
        """Make the folder for a fresh run and write its config.

        Args:
            config: its text.
            code: the SHA-256 of each file of the user's own code; None: it needs none.

        Raises:
            ConfigError: it holds a run already, or cannot be written.
        """
        self.check_new()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
            made = durable.create(self.path / CONFIG, config.encode())
            if made:
                keep_code(self.path, code or {}, 1)
        except OSError as error:
            raise ConfigError(f"run.dir: {self.path} cannot be written: {error.strerror or error}") from None
        if not made:
            self.claim(config, code)  # another process was faster, and is refused to, or has given up

    def check(self, resume: bool) -> None:
        """Check that a run may go on in the folder, or begin, see :meth:`check_new`, and that it can be written."""
        if "\0" in str(self.path):
            raise ConfigError("run.dir: no file system takes the sign \\0 in a name; leave it out")
        try:
            if not resume:
                self.check_new()
            check_writable(self.path)
        except OSError as error:  # a name that is too long, a disk that is gone
            raise ConfigError(f"run.dir: {self.path} cannot be written: {error.strerror or error}") from None

    def check_new(self) -> None:
        """Check that there is no run in the folder, that it lies in none, and that none lies in it.

        Raises:
            ConfigError: there is one; says who drives it, or how to go on with it.
        """
        if (self.path / CONFIG).exists() or (self.path / METRICS).exists():
            check_free(self.path)
            raise ConfigError(
                f"run.dir: {self.path} already holds a run; "
                f"go on with `{to_go_on(self.path)}` or choose another run.dir"
            )
        check_apart(self.path)

    def unclaim(self) -> None:
        """Give up a fresh claim: a run that could not be started, or was stopped before its first round, leaves
        nothing behind.

        Does nothing if another process drives the run by now, or it has done a round.
        """
        with contextlib.suppress(ConfigError, OSError):
            with driving(self.path):
                metrics = self.path / METRICS
                if any(checkpoint.rounds_in(self.checkpoints)) or (metrics.exists() and metrics.stat().st_size):
                    return
                for folder in (self.checkpoints, self.state, self.workers, self.clients):
                    shutil.rmtree(folder, ignore_errors=True)
                for name in (
                    METRICS,
                    SUMMARY,
                    LOG,
                    ENCODING,
                    INPUTS,
                    FEDERATION,
                    LABELS,
                    SENT,
                    CODE,
                    CONFIG,
                    *WITHHELD,
                ):
                    (self.path / name).unlink(missing_ok=True)
            self.path.rmdir()

    def encoding(self) -> Mapping[str, Any] | None:
        """Return how the run's tables are encoded, by its newest checkpoint or its ``encoding.json``; None: not at all.

        A run of an earlier fedray has neither, until it goes on.

        Raises:
            ConfigError: ``encoding.json`` cannot be read.
        """
        saved: Mapping[str, Any] | None = checkpoint.newest_state(self.checkpoints).get("encoding")
        path = self.path / ENCODING
        if saved is not None or not path.exists():
            return saved
        try:
            content: dict[str, Any] = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from None
        return content

    def meaning(self) -> Mapping[str, Any] | None:
        """Return what the model's inputs and outputs are, by the newest checkpoint; None: none says it."""
        saved: Mapping[str, Any] | None = checkpoint.newest_state(self.checkpoints).get("meaning")
        return saved

    def keep_encoding(self, encoding: Mapping[str, Any] | None) -> None:
        """Write ``encoding.json``, if the run has tables."""
        if encoding is not None:
            durable.replace(self.path / ENCODING, as_json(encoding))

    def inputs(self) -> Any:
        """Return the changes of inputs that the run makes for its model, by its ``inputs.json``; None: it has not said.

        A list of sections of parts, or one for each column of inputs.

        Raises:
            ConfigError: the file cannot be read.
        """
        path = self.path / INPUTS
        try:
            return json.loads(path.read_bytes()) if path.exists() else None
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from None

    def keep_inputs(self, inputs: Any) -> None:
        """Write ``inputs.json``, if inputs are changed."""
        if inputs:
            durable.replace(self.path / INPUTS, as_json(inputs))

    def keep_config(self, config: str, first: int | None = None, defaults: Collection[str] = ()) -> None:
        """Write the config that the run goes on with, from round ``first`` or after its newest checkpoint."""
        saved = checkpoint.rounds_in(self.checkpoints)
        configs.keep_config(self.path, config, (saved[0] + 1 if saved else 1) if first is None else first, defaults)

    def summary(self) -> dict[str, Any]:
        """Return the content of ``summary.json``; empty before the run has ended; ConfigError if it is damaged."""
        return read_object(self.path / SUMMARY)

    def config(self) -> str:
        """Read the run's config.

        Raises:
            ConfigError: there is no run here.
        """
        return config_of(self.path)


def as_json(encoding: Any) -> bytes:
    """Return an encoding of tables as ``encoding.json`` holds it, or inputs as ``inputs.json`` does."""
    return json.dumps(encoding, indent=1, ensure_ascii=False).encode()

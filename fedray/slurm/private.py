"""Folders that only this user can look into: a node's temporary files, and what the nodes of a job share."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from fedray.core.errors import ConfigError
from fedray.rundir import durable
from fedray.slurm.allocation import Allocation
from fedray.slurm.commands import look_up

_SHARED, _TEMPORARY = ".slurm-", "tmp"


def node_path(allocation: Allocation, root: Path = Path("/tmp")) -> Path:
    """Return the folder of a job's start on each node's own disk; short, as Unix sockets lie below it (107 bytes).

    Args:
        allocation: the job.
        root: the local disk.
    """
    return root / f"fedray-{os.getuid()}-{allocation.job}.{allocation.restart}"


def temporary_folder(allocation: Allocation) -> Path:
    """Return the folder for temporary files of the run and of Ray's workers.

    That is the site's scratch folder for the job, if it makes one.
    """
    own = node_path(allocation)
    return allocation.scratch / own.name if allocation.scratch else own / _TEMPORARY


@contextmanager
def node_folder(folder: Path, temporary: Path) -> Iterator[Path]:
    """Make the folders of :func:`node_path` and :func:`temporary_folder`; removed at the end.

    It is closed, because Ray opens what it makes inside to everybody.  What an earlier start of the job left here,
    because it was killed, is removed.

    Raises:
        ConfigError: the name is taken by somebody else.
    """
    folders = folder, temporary
    for earlier in (path for one in folders for path in one.parent.glob(f"{folder.stem}.*")):
        if _mine(earlier):
            shutil.rmtree(earlier, ignore_errors=True)
    with ExitStack() as made:
        for one in folders:
            try:
                one.mkdir(mode=0o700)
            except OSError as error:
                raise ConfigError(f"{one} cannot be made: {error.strerror or error}") from None
            made.callback(shutil.rmtree, one, ignore_errors=True)
        yield folder


def _mine(folder: Path) -> bool:
    with suppress(OSError):
        found = folder.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
    return False


def shared_path(run_dir: Path, job: int | str) -> Path:
    """Return the folder that the nodes of a job share."""
    return run_dir / f"{_SHARED}{job}"


def sweep(run_dir: Path, job: int) -> None:
    """Remove what jobs other than ``job`` left in a run folder, once they are over: a killed one cannot do so."""
    for folder in run_dir.glob(f"{_SHARED}*"):
        other = folder.name.removeprefix(_SHARED)
        if other.isdigit() and int(other) != job and look_up(other).over:
            shutil.rmtree(folder, ignore_errors=True)


class Shared:
    """A folder that all nodes of a job see: the token, and the nodes' notes for the job.

    Args:
        path: the folder; below the run folder, so that the nodes share it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def token(self) -> Path:
        """The file with the token that guards the job's Ray cluster."""
        return self.path / "token"

    @contextmanager
    def made(self) -> Iterator[Shared]:
        """Make the folder, closed to others, with a new token, and remove it at the end of the context."""
        shutil.rmtree(self.path, ignore_errors=True)
        try:
            self.path.mkdir(mode=0o700)
            durable.create(self.token, secrets.token_hex(32).encode(), secret=True)
        except OSError as error:
            raise ConfigError(f"{self.path} cannot be made: {error.strerror or error}") from None
        try:
            yield self
        finally:
            shutil.rmtree(self.path, ignore_errors=True)

    def report_failure(self, node: str, reason: str) -> None:
        """Note that Ray could not start on a node, whole or not at all."""
        durable.replace(self.path / f"failed-{node}", reason.encode())

    def failures(self) -> dict[str, str]:
        """Return node to reason, of those noted so far."""
        return {note.name.removeprefix("failed-"): note.read_text() for note in sorted(self.path.glob("failed-*"))}

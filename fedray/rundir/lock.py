"""One driver to a run folder: a lock that names its owner, and can be taken over once that owner is provably dead.

The lock is a file that comes into being whole, by a hard link, which only one process can make, also over NFS.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache
from pathlib import Path

from fedray.core.errors import ConfigError
from fedray.rundir import durable
from fedray.rundir.boots import boot_id
from fedray.rundir.names import LOCK

# The namespaces of processes and host names that Linux boots with (linux/proc_ns.h): who is in both is in no container.
_FIRST = {"pid": "pid:[4026531836]", "uts": "uts:[4026531838]"}

_log = logging.getLogger("fedray")


@dataclass(frozen=True)
class Owner:
    """A process that drives a run.

    Args:
        host: its host name.
        pid: its process id.
        space: the scope of that id: boot id and process namespace.
        born: the time it was started, in clock ticks since boot; None where there is no ``/proc``.
        since: local time at which it took the folder.
        job: Slurm job, if it is in one.
        restart: the number of requeues of that job.
        token: tells it from every other owner.
        machine: id of its host's installation, which outlives a boot; empty in a container, or where there is none.
        launcher: the process on the same host whose SIGTERM asks the run to stop; 0: none does.
    """

    host: str
    pid: int
    space: str
    born: int | None
    since: str
    job: str | None
    restart: int
    token: str
    machine: str = ""
    launcher: int = 0

    @classmethod
    def me(cls, launcher: int = 0) -> Owner:
        """Return this process."""
        return cls(
            host=socket.gethostname(),
            pid=os.getpid(),
            space=_space(),
            born=_born(os.getpid()),
            since=datetime.now().isoformat(" ", "seconds"),
            job=os.environ.get("SLURM_JOB_ID"),
            restart=int(os.environ.get("SLURM_RESTART_COUNT") or 0),
            token=uuid.uuid4().hex,
            machine=_machine(),
            launcher=launcher,
        )

    def alive(self) -> bool | None:
        """Return True if the owner lives, False if it is dead; None where that cannot be known from here.

        It is dead if this machine's list of processes lacks it, if the machine was booted since, or if it belongs to an
        earlier start of the Slurm job that we are in.
        """
        here = Owner.me()
        if self.job is not None and self.job == here.job and self.restart < here.restart:
            return False
        booted = self.boot != here.boot and "" not in (self.machine, self.boot, here.boot)
        if booted and (self.host, self.machine) == (here.host, here.machine):
            return False
        if (self.host, self.space) != (here.host, here.space) or here.born is None:
            return None
        return _born(self.pid) == self.born

    @property
    def boot(self) -> str:
        """The boot id in ``space``."""
        return self.space.partition(" ")[0]

    def distance(self) -> str:
        """Say where an owner is whose processes cannot be seen from here."""
        here = Owner.me()
        if self.boot == here.boot != "":
            return "it is in another container of this machine"
        if self.host == here.host:
            return f"it is in another container or machine of the name {self.host}"
        return f"this is {here.host}"

    def words(self) -> str:
        """Return host, process, time and Slurm job in words."""
        job = f", Slurm job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host} since {self.since}{job}"


def signalled_process() -> int:
    """Return this process, if it can hear signals: they come to the main thread alone; else 0."""
    return os.getpid() if threading.current_thread() is threading.main_thread() else 0


def owner_of(folder: Path) -> Owner | None:
    """Return the owner that drives the run in ``folder``; None if nobody does."""
    return _read(folder / LOCK)


def check_free(folder: Path) -> None:
    """Raise ConfigError if another process drives the run in ``folder``, or may; it is named."""
    path = folder / LOCK
    if (owner := _read(path)) is not None:
        _refuse_unless_free(path, owner, None)


@contextmanager
def driving(folder: Path, launcher: int = 0, heir_of: str | None = None) -> Iterator[None]:
    """Keep every other process from driving the run in ``folder``, for the length of the context.

    Args:
        folder: the run folder.
        launcher: see :class:`Owner`.
        heir_of: token of the owner that started this driver and leaves it the folder, see :func:`starting_a_driver`.

    Raises:
        ConfigError: another process does, or may; or the lock cannot be written.
    """
    me = Owner.me(launcher)
    dead = _take(folder / LOCK, me, heir_of)
    if dead is not None:
        _log.warning("%s", taken_over_from(dead))
    with _held(folder / LOCK, me):
        yield


@contextmanager
def starting_a_driver(folder: Path) -> Iterator[tuple[str, Owner | None]]:
    """Let this process alone start a driver of the run in ``folder``, which is its heir, for the length of the context.

    A run that ended before its driver came up is then known as one that a dead process has left.

    Yields:
        The token for :func:`driving`, and the dead owner from whom the folder was taken over, if there was one.

    Raises:
        ConfigError: another process drives the run, or may; or the lock cannot be written.
    """
    me = Owner.me(signalled_process())
    dead = _take(folder / LOCK, me)
    with _held(folder / LOCK, me):
        yield me.token, dead


def taken_over_from(dead: Owner) -> str:
    """Say from whom the folder was taken over."""
    return f"taking the run folder over from a dead driver: {dead.words()}"


@contextmanager
def _held(path: Path, me: Owner) -> Iterator[None]:
    try:
        yield
    finally:
        if (owner := _read(path)) is not None and owner.token == me.token:
            path.unlink(missing_ok=True)


def release(folder: Path, owner: Owner) -> bool:
    """Take the run folder from an owner that is known to be dead, but from nobody who has taken it since.

    Args:
        folder: the run folder.
        owner: the driver of the run when that was found out.

    Returns:
        True if it was still the owner.

    Raises:
        ConfigError: another process is taking the folder over.
        OSError: the folder cannot be written.
    """
    path = folder / LOCK
    with _taking(path, Owner.me()):
        if _read(path) != owner:
            return False
        path.unlink()
        return True


def _take(path: Path, me: Owner, heir_of: str | None = None) -> Owner | None:
    """Make the lock at ``path`` ours; returns the dead owner who had it, if one had."""
    if _create(path, me):
        return None
    owner = _read(path)
    if owner is None:
        return _take(path, me, heir_of)  # let go of in the meantime
    _refuse_unless_free(path, owner, heir_of)
    with _taking(path, me):
        owner = _read(path)
        if owner is not None:
            _refuse_unless_free(path, owner, heir_of)
            path.unlink()
        if not _create(path, me):
            return _take(path, me)  # a newcomer was faster: it lives, and is named
    return None if owner is None or owner.token == heir_of else owner


@contextmanager
def _taking(path: Path, me: Owner) -> Iterator[None]:
    """Keep others from taking the lock at ``path`` away, for the length of the context."""
    # Without it, two who saw the same dead owner could both win: the second would delete the first one's lock.
    taking = path.with_name(f"{path.name}.taking")
    _take(taking, me)
    try:
        yield
    finally:
        taking.unlink(missing_ok=True)


def _refuse_unless_free(path: Path, owner: Owner, heir_of: str | None) -> None:
    """Refuse an owner who is not known to be dead, and has not left the folder to us."""
    alive = owner.alive()
    if alive is False or owner.token == heir_of:
        return
    first = f"run.dir: {path.parent} is in use by another driver: {owner.words()}"
    if alive:
        stop = f"fedray stop {shlex.quote(str(path.parent))}"
        raise ConfigError(f"{first}\nwait for it, stop it ({stop}), or choose another run.dir")
    raise ConfigError(
        f"{first}\n{owner.distance()}, so whether it still lives cannot be seen from here: wait for it or stop it; "
        f"if it is surely gone, delete {path}"
    )


def _create(path: Path, me: Owner) -> bool:
    """Make the file if there is none."""
    try:
        return durable.create(path, json.dumps(asdict(me)).encode())
    except OSError as error:
        raise ConfigError(f"run.dir: {path.parent} cannot be written: {error.strerror or error}") from None


def _read(path: Path) -> Owner | None:
    try:
        return Owner(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise ConfigError(f"{path} is damaged: if no other driver is at work in this folder, delete it") from None


@cache
def _space() -> str:
    return f"{boot_id() or ''} {_namespace('pid')}"


@cache
def _machine() -> str:
    # A container has its name and this id from its image or from who starts it, and another on another machine may have
    # both as well: to it, that one's boot would look like a later boot of its own machine.
    if any(_namespace(kind) != first for kind, first in _FIRST.items()):
        return ""
    with suppress(OSError):
        return Path("/etc/machine-id").read_text().strip()
    return ""


def _namespace(kind: str) -> str:
    with suppress(OSError):
        return str(Path(f"/proc/self/ns/{kind}").readlink())
    return ""


def _born(pid: int) -> int | None:
    """Return the time a process was started, in clock ticks since boot.

    None if it is gone, or only a dead one's remains.
    """
    # By hand, as psutil's time of creation is one of day, which moves when the clock is set.
    try:
        # The name of the program stands in parentheses and may hold anything.
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(rest[18])

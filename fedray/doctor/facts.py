"""The facts of a machine: gathered where the function runs, without a judgement."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import socket
import stat
import sys
import tempfile
import uuid
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from fedray.aggregators.compiled import library
from fedray.cluster.start.token import token_file
from fedray.config.plugins import load_plugins
from fedray.core.errors import ConfigError, RunFailed, counted
from fedray.rundir.boots import file_system
from fedray.slurm.commands import ask

PORTS = range(20_000, 32_000, 1_500)
"""Ports tried, one of each part of the range that runs take their ports from."""

_PATIENCE = 10.0

MARKER = ".fedray-doctor"
"""A file of the run folder by which nodes see whether it is the same folder."""


@dataclass(frozen=True)
class Folder:
    """A folder that a run is to use.

    Args:
        path: its path.
        kind: type of its file system, ``ext4``, ``nfs4``...; empty if unknown.
        free: bytes free.
        error: the reason why a file could not be written, renamed over another one and read back; None if it could.
        marker: contents of the file ``.fedray-doctor`` in it, written by whoever asked; None if it is not there.
    """

    path: str
    kind: str = ""
    free: int = 0
    error: str | None = None
    marker: str | None = None


@dataclass(frozen=True)
class Slurm:
    """The Slurm that a machine can talk to.

    Args:
        version: of its commands, ``23.11.4``.
        partitions: each in words: its name, nodes, and longest time.
        error: the reason why it does not tell them; None: it does.
    """

    version: str
    partitions: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class Facts:
    """A machine, as a process on it sees it.

    Args:
        host: its name.
        python: version.
        packages: version by package, ``fedray``, ``torch``, ``ray``, ``numpy``; None if not installed.
        cpu: instruction set that torch uses.
        cuda: version that torch was built for; None: for CPUs only.
        nccl: version in torch.
        driver: version of CUDA that the NVIDIA driver supports, ``12.4``; None without a driver.
        devices: GPUs that the machine has, by their device files.
        gpus: names of those that torch can use.
        open_files: files that a process may open.
        processes: processes and threads of the user; -1: no limit.
        shm: bytes of ``/dev/shm``; None if it is not there.
        temporary: the folder for temporary files; Ray's sockets lie below it.
        address: address that the host's own name stands for; None if for none.
        ports: the number of :data:`PORTS` that are free.
        auth: ``RAY_AUTH_MODE``.
        token: path of the token file.
        token_mode: its permissions; None if it is not there.
        buffers: the place of the memory that workers share, see
            :func:`fedray.cluster.work.memory.anonymous_file`; None if there is none.
        compiled: exact sums of large models have their compiled loop.
        plugins: one sentence for each plugin of ``fedray.parts`` that cannot be imported.
        slurm: the Slurm of this machine; None: there is none.
        run_dir: the folder of runs, if one was asked for.
    """

    host: str
    python: str
    packages: dict[str, str | None]
    cpu: str
    cuda: str | None
    nccl: str | None
    driver: str | None
    devices: int
    gpus: tuple[str, ...]
    open_files: int
    processes: int
    shm: int | None
    temporary: Folder
    address: str | None
    ports: int
    auth: str
    token: str
    token_mode: int | None
    buffers: str | None = None
    compiled: bool = True
    plugins: tuple[str, ...] = ()
    slurm: Slurm | None = None
    run_dir: Folder | None = None


def gather(run_dir: str | None = None) -> Facts:
    """Gather the facts of this machine.

    Args:
        run_dir: a folder to look at as well.
    """
    token = str(token_file())
    return Facts(
        host=socket.gethostname(),
        python=platform.python_version(),
        packages={name: _version(name) for name in ("fedray", "torch", "ray", "numpy")},
        cpu=torch.backends.cpu.get_cpu_capability(),
        cuda=torch.version.cuda,
        nccl=_nccl(),
        driver=_driver(),
        devices=len([path for path in Path("/dev").glob("nvidia*") if path.name.removeprefix("nvidia").isdigit()]),
        gpus=_gpus(),
        open_files=_limit("RLIMIT_NOFILE"),
        processes=_limit("RLIMIT_NPROC"),
        shm=shutil.disk_usage("/dev/shm").total if Path("/dev/shm").is_dir() else None,
        temporary=look_at(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()),
        address=_address(),
        ports=_free_ports(),
        auth=os.environ.get("RAY_AUTH_MODE", ""),
        token=token,
        token_mode=_mode(token),
        buffers=_buffers(),
        compiled=library() is not None,
        plugins=load_plugins(),
        slurm=_slurm(),
        run_dir=None if run_dir is None else look_at(run_dir),
    )


def look_at(path: str) -> Folder:
    """Look at a folder: write a file in it, rename it over another one, read it back and delete it."""
    folder = Path(path)
    files = [folder / f".fedray-doctor-{uuid.uuid4().hex}" for _ in range(2)]
    error, free = None, 0
    try:
        for file, text in zip(files, ("old", "new"), strict=True):
            file.write_text(text)
        files[1].replace(files[0])
        if files[0].read_text() != "new" or files[1].exists():
            error = "a file that was renamed over another one did not take its place"
        free = shutil.disk_usage(folder).free
    except OSError as raised:
        error = f"{raised.strerror or raised}"
    for file in files:
        with suppress(OSError):
            file.unlink(missing_ok=True)
    marker = None
    with suppress(OSError):
        marker = (folder / MARKER).read_text()
    return Folder(path, file_system(folder), free, error, marker)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        # A checkout on the path has no metadata.
        return None


def _nccl() -> str | None:
    if torch.version.cuda is None:
        return None
    try:
        found: tuple[int, ...] = torch.cuda.nccl.version()
    except (AttributeError, RuntimeError):
        return None
    return ".".join(map(str, found))


def _driver() -> str | None:
    number = ctypes.c_int()
    try:
        library = ctypes.CDLL("libcuda.so.1")
        if library.cuDriverGetVersion(ctypes.byref(number)) != 0:
            return None
    except (OSError, AttributeError):
        return None
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def _gpus() -> tuple[str, ...]:
    if torch.version.cuda is None or not torch.cuda.is_available():
        return ()
    return tuple(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))


def _address() -> str | None:
    try:
        return socket.gethostbyname(socket.gethostname())
    except OSError:
        return None


def _free_ports() -> int:
    free = 0
    with ExitStack() as stack:
        for port in PORTS:
            one = stack.enter_context(socket.socket())
            with suppress(OSError):
                one.bind(("", port))
                free += 1
    return free


def _limit(name: str) -> int:
    try:
        import resource
    except ImportError:  # Windows
        return -1
    return resource.getrlimit(getattr(resource, name))[0]


def _buffers() -> str | None:
    if sys.platform != "linux":
        return None
    from fedray.cluster.work.memory import anonymous_file

    try:
        file, where = anonymous_file(1)
    except RunFailed:
        return None
    os.close(file)
    return where


def _mode(token: str) -> int | None:
    try:
        return stat.S_IMODE(Path(token).stat().st_mode)
    except OSError:
        return None


def _slurm() -> Slurm | None:
    if shutil.which("sinfo") is None:
        return None
    try:
        version = ask("sinfo", "--version", patience=_PATIENCE).split()[-1]
        lines = ask("sinfo", "--noheader", "--format=%P|%a|%l|%D", patience=_PATIENCE).split("\n")
    except (ConfigError, IndexError) as error:
        return Slurm("", error=str(error))
    return Slurm(version, tuple(_partition(*line.split("|")) for line in lines if line.count("|") == 3))


def _partition(name: str, state: str, longest: str, nodes: str) -> str:
    """Return a partition in words.

    >>> _partition("gpu*", "up", "1-00:00:00", "4"), _partition("old", "down", "infinite", "1")
    ('gpu (the default, 4 nodes, up to 1-00:00:00)', 'old (down, 1 node)')
    """
    told = ["the default"] * name.endswith("*") + [state] * (state != "up")
    told += [counted(int(nodes), "node"), *([f"up to {longest}"] if longest != "infinite" else [])]
    return f"{name.rstrip('*')} ({', '.join(told)})"

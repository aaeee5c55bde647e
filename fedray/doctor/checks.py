"""Judgements of one machine, each a pure function of its facts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from rich.filesize import decimal

from fedray.core.errors import listed
from fedray.doctor.facts import PORTS, Facts, Folder

Level = Literal["ok", "warning", "error"]

MB, GB = 10**6, 10**9
LONGEST_SOCKET = 107
_SESSION = "/ray/session_2026-01-31_23-59-59_999999_1234567/sockets/plasma_store"
_NETWORK = ("nfs", "lustre", "gpfs", "beegfs", "cifs", "smb", "ceph", "fuse.sshfs", "afs", "panfs", "glusterfs")
_OLDEST = {"torch": (2, 11), "ray": (2, 55)}


@dataclass(frozen=True)
class Finding:
    """A judgement.

    Args:
        level: ``ok``, ``warning`` (a run may suffer) or ``error`` (a run cannot be).
        subject: the thing that was looked at.
        text: the finding.
        advice: a remedy; empty if nothing is to be done.
    """

    level: Level
    subject: str
    text: str
    advice: str = ""


def examine(facts: Facts) -> list[Finding]:
    """Judge a machine by every check."""
    return [finding for check in CHECKS for finding in check(facts)]


def python(facts: Facts) -> Iterator[Finding]:
    """Check Python's version."""
    fits = (3, 11) <= _numbers(facts.python) < (3, 14)
    advice = "" if fits else "make the environment anew with Python 3.11, 3.12 or 3.13"
    yield Finding("ok" if fits else "error", "python", facts.python, advice)


def packages(facts: Facts) -> Iterator[Finding]:
    """Check the versions of what fedray builds on."""
    for name, found in facts.packages.items():
        oldest = _OLDEST.get(name, ())
        if found is None and name == "fedray":
            yield Finding("warning", name, "a checkout, not installed", "on a cluster: pip install it on every node")
        elif found is None:
            yield Finding("error", name, "not installed", f"pip install {name}")
        elif _numbers(found) < oldest:
            least = ".".join(map(str, oldest))
            yield Finding("error", name, found, f"pip install '{name}>={least}'")
        else:
            yield Finding("ok", name, found)


def compiled(facts: Facts) -> Iterator[Finding]:
    """Check that an installation has compiled the loop of exact sums, which bits do not depend on."""
    if facts.compiled:
        yield Finding("ok", "exact sums", "compiled")
    else:
        again = "--force-reinstall --no-deps --no-cache-dir"
        advice = f"install a C compiler (Debian: gcc), then fedray as before with pip's {again}"
        text = "by numpy: on CPUs, rounds of models of tens of millions of parameters take up to half as long again"
        yield Finding("warning", "exact sums", text, advice)


def plugins(facts: Facts) -> Iterator[Finding]:
    """Check that packages with parts of their own can be imported."""
    for words in facts.plugins:
        yield Finding("warning", "plugins", words, "mend the package, or uninstall it")
    if not facts.plugins:
        yield Finding("ok", "plugins", "each can be imported, or there is none")


def gpus(facts: Facts) -> Iterator[Finding]:
    """Check GPUs, the driver, and the CUDA version of torch."""
    there = facts.devices or facts.driver
    if not there:
        yield Finding("ok", "gpu", "none: CPUs train")
    elif facts.cuda is None:
        advice = "to use the GPUs, install a CUDA build of torch"
        yield Finding("warning", "gpu", f"{facts.devices} here, but torch is built for CPUs", advice)
    elif facts.driver is None:
        yield Finding("error", "gpu", f"{facts.devices} here, but no NVIDIA driver", "ask for a driver (libcuda.so.1)")
    elif _numbers(facts.driver)[0] < _numbers(facts.cuda)[0]:
        advice = "update the driver, or install a build of torch for an older CUDA"
        yield Finding("error", "gpu", f"the driver takes CUDA {facts.driver}, torch needs {facts.cuda}", advice)
    elif not facts.gpus:
        advice = "look at CUDA_VISIBLE_DEVICES, at what the job asked for, and at nvidia-smi"
        yield Finding("error", "gpu", f"torch can use none of {facts.devices}", advice)
    else:
        names = ", ".join(dict.fromkeys(facts.gpus))
        text = f"{len(facts.gpus)} ({names}), CUDA {facts.cuda}, driver {facts.driver}, NCCL {facts.nccl or 'none'}"
        if facts.nccl is None:
            yield Finding("warning", "gpu", text, "GPUs of several nodes cannot reduce together: use a torch with NCCL")
        else:
            yield Finding("ok", "gpu", text)


def open_files(facts: Facts) -> Iterator[Finding]:
    """Check the number of files and sockets a process may have open: Ray's need some for each worker."""
    yield _limit("open files", facts.open_files, enough=8192, least=1024, advice="ulimit -n 65536 (or limits.conf)")


def processes(facts: Facts) -> Iterator[Finding]:
    """Check the number of processes and threads of the user: Ray starts dozens for each worker."""
    yield _limit("processes", facts.processes, enough=4096, least=1024, advice="ulimit -u 65536 (or limits.conf)")


def shared_memory(facts: Facts) -> Iterator[Finding]:
    """Check ``/dev/shm``, where Ray's objects live."""
    if facts.shm is None:
        yield Finding("error", "/dev/shm", "not there", "mount a tmpfs on it (container: --shm-size)")
    elif facts.shm < 64 * MB:
        yield Finding("error", "/dev/shm", decimal(facts.shm), "make it at least 2 GB (container: --shm-size=2g)")
    elif facts.shm < 2 * GB:
        advice = "a larger one keeps large models off the disk (container: --shm-size=2g)"
        yield Finding("warning", "/dev/shm", decimal(facts.shm), advice)
    else:
        yield Finding("ok", "/dev/shm", decimal(facts.shm))


def buffers(facts: Facts) -> Iterator[Finding]:
    """Check the memory that the workers of a node share."""
    if facts.buffers is None:
        advice = "train with cluster.name=inline, or on Linux with a /dev/shm that has room"
        yield Finding("error", "buffers", "no shared memory for workers", advice)
    elif facts.buffers == "/dev/shm":
        advice = "make it as large as a model of 12 bytes a parameter for each worker (container: --shm-size)"
        yield Finding("warning", "buffers", "in /dev/shm, as the system has no memfd_create", advice)
    else:
        yield Finding("ok", "buffers", facts.buffers)


def temporary(facts: Facts) -> Iterator[Finding]:
    """Check the folder for temporary files, below which Ray puts its sockets and logs."""
    folder = facts.temporary
    text = f"{folder.path} ({folder.kind or 'unknown file system'}, {decimal(folder.free)} free)"
    length = len(folder.path) + len(_SESSION)
    elsewhere = "choose another one: export TMPDIR=/tmp (for Ray alone: RAY_TMPDIR)"
    if folder.error:
        yield Finding("error", "temporary", f"{folder.path}: {folder.error}", elsewhere)
    elif length > LONGEST_SOCKET:
        over = f"{text}: {length - LONGEST_SOCKET} characters too long for Ray's sockets"
        yield Finding("error", "temporary", over, elsewhere)
    elif _over_network(folder):
        yield Finding("warning", "temporary", f"{text} is on the network", f"use a local disk; {elsewhere}")
    elif folder.free < 2 * GB:
        yield Finding("warning", "temporary", text, f"free some space, or {elsewhere}")
    else:
        yield Finding("ok", "temporary", text)


def network(facts: Facts) -> Iterator[Finding]:
    """Check the host's own address, and ports to listen on."""
    if facts.address is None:
        advice = "enter it in /etc/hosts or DNS, or name the interface: cluster.interface"
        yield Finding("warning", "address", f"the name {facts.host} stands for no address", advice)
    elif facts.address.startswith("127."):
        advice = "several nodes: name the interface, cluster.interface; one node: nothing"
        yield Finding("warning", "address", f"the name {facts.host} stands for the loopback {facts.address}", advice)
    else:
        yield Finding("ok", "address", facts.address)
    text = f"{facts.ports} of {len(PORTS)} tried in {PORTS.start} to {PORTS.stop - 1} are free"
    if facts.ports == 0:
        yield Finding("error", "ports", text, "see what listens there: ss -tlnp")
    elif facts.ports < len(PORTS) / 2:
        yield Finding("warning", "ports", text, "see what listens there: ss -tlnp")
    else:
        yield Finding("ok", "ports", text)


def token(facts: Facts) -> Iterator[Finding]:
    """Check Ray's token: whoever can read it, or needs none, can run code as this user."""
    if facts.auth != "token" and facts.token_mode is not None:
        text = f"{facts.token} makes `ray start --head` ask for a token, which this account then does not show"
        yield Finding("warning", "token", text, "export RAY_AUTH_MODE=token, here and on every node")
    elif facts.auth != "token":
        advice = "on a shared network: export RAY_AUTH_MODE=token, and a file of mode 0600 in RAY_AUTH_TOKEN_PATH"
        yield Finding("warning", "token", "Ray asks for none (RAY_AUTH_MODE is not token)", advice)
    elif facts.token_mode is None:
        advice = "write one: (umask 077; openssl rand -hex 32 > FILE), and set RAY_AUTH_TOKEN_PATH=FILE"
        yield Finding("error", "token", f"{facts.token} is not there", advice)
    elif facts.token_mode & 0o077:
        text = f"{facts.token} can be read by others (mode {facts.token_mode:04o})"
        yield Finding("error", "token", text, f"chmod 600 {facts.token}, and write another token into it")
    else:
        yield Finding("ok", "token", f"{facts.token} (mode {facts.token_mode:04o})")


def slurm(facts: Facts) -> Iterator[Finding]:
    """Check that Slurm answers, where its commands are, and has a partition to submit to."""
    found = facts.slurm
    if found is None:
        yield Finding("ok", "slurm", "no Slurm here")
    elif found.error is not None:
        advice = "on a cluster ask who runs it whether Slurm is up; elsewhere nothing: only `fedray slurm` needs it"
        yield Finding("warning", "slurm", found.error, advice)
    elif not found.partitions:
        advice = "ask who runs the cluster for a partition that this account may use"
        yield Finding("warning", "slurm", f"{found.version}, without a partition for this account", advice)
    else:
        yield Finding("ok", "slurm", f"{found.version}; partitions: {listed(found.partitions)}")


def run_folder(facts: Facts) -> Iterator[Finding]:
    """Check the folder of runs: checkpoints are written under another name, then renamed."""
    folder = facts.run_dir
    if folder is None:
        return
    text = f"{folder.path} ({folder.kind or 'unknown file system'}, {decimal(folder.free)} free)"
    if folder.error:
        yield Finding("error", "run folder", f"{folder.path}: {folder.error}", "choose another run.dir, or its owner")
    elif folder.free < GB:
        yield Finding("warning", "run folder", text, "free some space, or lower checkpoint.keep")
    else:
        yield Finding("ok", "run folder", text)


CHECKS: tuple[Callable[[Facts], Iterator[Finding]], ...] = (
    python,
    packages,
    compiled,
    plugins,
    gpus,
    open_files,
    processes,
    shared_memory,
    buffers,
    temporary,
    network,
    token,
    slurm,
    run_folder,
)


def _limit(subject: str, found: int, *, enough: int, least: int, advice: str) -> Finding:
    if found < 0 or found >= enough:
        return Finding("ok", subject, "no limit" if found < 0 else f"{found:,}")
    return Finding("warning" if found >= least else "error", subject, f"{found:,}", advice)


def _over_network(folder: Folder) -> bool:
    return folder.kind.startswith(_NETWORK)


def _numbers(version: str) -> tuple[int, ...]:
    """Return the leading numbers: ``2.11.0+cpu`` gives (2, 11, 0)."""
    words = version.partition("+")[0].split(".")
    return tuple(int(word) for word in words if word.isdigit())

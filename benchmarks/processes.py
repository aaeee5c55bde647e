"""A command in a process of its own, watched from outside with all the processes it starts."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent

Watch = Callable[[list[int], float], None]
"""Called again and again with the ids of the processes alive and the seconds since the start."""

# What would change a measurement, or send it to a cluster that is already there.
_UNSET = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONDONTWRITEBYTECODE", "RAY_ADDRESS", "RAY_JOB_ID")


_DYING = 10.0
"""Seconds a killed process may take to give back its memory."""


class CommandFailed(RuntimeError):
    """A command ended with an error or took too long; the message holds the end of what it said."""


class Family:
    """A process and all it has started, also what has outlived its own parent.

    Args:
        root: its id.
    """

    def __init__(self, root: int) -> None:
        # psutil tells a process from a later one with the same id.
        self._members: dict[psutil.Process, None] = {psutil.Process(root): None}  # the older ones first

    def alive(self) -> list[int]:
        """Its members' ids."""
        found: dict[psutil.Process, None] = {}
        for member in filter(_is_alive, self._members):
            if member not in found:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found |= dict.fromkeys([member, *filter(_is_alive, member.children(recursive=True))])
        self._members = found
        return sorted(member.pid for member in found)

    def end(self, patience: float) -> None:
        """Wait until all have ended, so that none disturbs the next measurement; end what stays."""
        self._outlast(patience)
        for member in self._members:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        self._outlast(_DYING)

    def _outlast(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.02)  # most are no children of ours, whose end nobody tells


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def pss(pid: int) -> int:
    """Proportional set size in bytes: a page that n processes share counts 1/n in each; 0 if the process is gone."""
    with contextlib.suppress(psutil.Error):
        return int(psutil.Process(pid).memory_full_info().pss)
    return 0


def peak_rss(pid: int) -> int:
    """The most resident memory the process has had, in bytes; shared pages count in full; 0 if it is gone."""
    # By hand, as psutil has no peaks on Linux.
    with contextlib.suppress(OSError, IndexError):  # what has just ended has no memory
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
        return 1024 * int(status.partition("VmHWM:")[2].split()[0])
    return 0


def title(pid: int) -> str:
    """The process's command line, which Ray workers replace by ``ray::<what they do>``; empty if it is gone."""
    with contextlib.suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline()).strip()
    return ""


def module(name: str, *arguments: object) -> list[str]:
    """The command that runs a Python module with this interpreter."""
    return [sys.executable, "-m", name, *map(str, arguments)]


def execute(command: list[str], watch: Watch | None = None, period: float = 0.5, timeout: float = 300.0) -> str:
    """Run a command from the repository's root and wait for it and all it started.

    Args:
        command: program and arguments.
        watch: looks at the processes every ``period`` seconds.
        period: seconds between looks; few, if the command is timed.
        timeout: seconds.

    Returns:
        What it wrote to stdout.

    Raises:
        CommandFailed: an exit status other than 0, or the time is over.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _UNSET}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        began = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        family = Family(process.pid)
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(period)
                    break
                elapsed = time.perf_counter() - began
                if elapsed > timeout:
                    raise CommandFailed(f"{_words(command)}: not done after {timeout:g} s")
                alive = family.alive()
                if watch is not None:
                    watch(alive, elapsed)
        finally:
            family.end(patience=10.0 if process.poll() == 0 else 0.0)
            process.wait()
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    if process.returncode != 0:
        # Results are published: where this machine keeps the repository is nobody's business.
        said = "\n".join((texts[1] or texts[0]).strip().splitlines()[-8:]).replace(f"{ROOT}/", "")
        raise CommandFailed(f"{_words(command)}: exit status {process.returncode}\n{said}")
    return texts[0]


def measurement(command: list[str], watch: Watch | None = None, period: float = 0.5) -> dict[str, Any]:
    """``execute`` for a command whose last line of output is a JSON object."""
    lines = execute(command, watch, period).strip().splitlines()
    found: dict[str, Any] = json.loads(lines[-1])
    return found


def program(words: str) -> str:
    """Return the kind of a process by its title.

    >>> [program(words) for words in ("ray::DriverActor.run", "python3 -u -m benchmarks.bare wide", "/bin/raylet -a")]
    ['ray::DriverActor', 'benchmarks.bare', 'raylet']
    """
    first, *rest = words.split() or [""]
    if first.startswith("ray::"):
        return first.partition(".")[0]
    if not Path(first).name.startswith("python"):
        return Path(first).name
    return next((Path(word).name for word in rest if not word.startswith("-")), "python")


class PeakPss:
    """A watch: the largest sum of proportional set sizes over all processes.

    Attributes:
        peak: bytes.
        programs: which kind of process had how much of it, in bytes, the most first.
        looks: how often it looked.
    """

    def __init__(self) -> None:
        self.peak = 0
        self.programs: dict[str, int] = {}
        self.looks = 0

    def __call__(self, pids: Iterable[int], elapsed: float) -> None:
        self.looks += 1
        sizes = [(pid, pss(pid)) for pid in pids]
        total = sum(size for _, size in sizes)
        if total > self.peak:
            programs: Counter[str] = Counter()
            for pid, size in sizes:
                programs[program(title(pid))] += size
            self.peak, self.programs = total, dict(programs.most_common())


class PeakRss:
    """A watch: the largest peak resident set of the processes whose title begins with ``prefix``, in bytes."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.peak = 0

    def __call__(self, pids: Iterable[int], elapsed: float) -> None:
        for pid in pids:
            if title(pid).startswith(self.prefix):
                self.peak = max(self.peak, peak_rss(pid))


def _words(command: list[str]) -> str:
    return " ".join(["python", *command[1:]])

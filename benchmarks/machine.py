"""The machine and the versions of a measurement, and what else ran there."""

from __future__ import annotations

import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import psutil

BUSY = 0.10
"""A machine that spends a larger share of its processor time on other things is not idle."""


def machine(gpu: bool = False) -> dict[str, str]:
    """Processor, cores, memory, system, and the first GPU if that is what is measured."""
    # By hand, as psutil names no processors.
    model = re.search(r"model name\s*:\s*(.+)", _read("/proc/cpuinfo"))
    system = re.search(r'PRETTY_NAME="(.+)"', _read("/etc/os-release"))
    kernel = re.match(r"[\d.]+", platform.release())
    query = ("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return {
        **({"gpu": _output(*query).partition("\n")[0] or "none"} if gpu else {}),
        "cpu": model[1].strip() if model else platform.machine(),
        "cores": str(psutil.cpu_count() or 1),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "os": f"{system[1] if system else platform.system()}, kernel {kernel[0] if kernel else 'unknown'}",
    }


def versions(root: Path) -> dict[str, str]:
    """Python, torch, ray, and fedray with its commit (``+changes``: the files are not those of the commit).

    Ray's extra ``default`` is named where it is installed: with it Ray takes a second longer to start.
    """
    found = {"python": platform.python_version()}
    for name in ("torch", "ray", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    if find_spec("aiohttp"):
        found["ray"] += " with its extra default"
    commit = _git(root, "rev-parse", "--short=12", "HEAD")
    changes = "+changes" if commit and _git(root, "status", "--porcelain", "fedray", "benchmarks/*.py") else ""
    return {**found, "fedray": (commit or "unknown") + changes}


def slug(machine: dict[str, str]) -> str:
    """A file name's word for a machine.

    >>> slug({"cpu": "Intel(R) Xeon(R) CPU @ 2.70GHz", "cores": "2"})
    'intel-xeon-2c'
    """
    words = re.sub(r"\((r|tm)\)|\bcpu\b|\bprocessor\b|@.*|\d+-core", " ", machine["cpu"].lower())
    gpu = machine.get("gpu", "").lower()
    return "-".join([*re.findall(r"[a-z0-9]+", f"{gpu} {words}"), f"{machine['cores']}c"])


def busy(seconds: float = 1.0) -> float:
    """The share of the machine's processor time in use, in [0, 1], while this process waits ``seconds``."""
    return float(psutil.cpu_percent(seconds)) / 100


def _git(root: Path, *arguments: str) -> str:
    return _output("git", "-C", str(root), *arguments)


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""

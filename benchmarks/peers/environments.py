"""The environments of the peers: each has an interpreter that the peer supports, and what it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import CommandFailed, execute

_INSTALLING = 1200.0
"""Seconds that an installation may take."""


@dataclass(frozen=True)
class Peer:
    """Another framework.

    Args:
        name: as its folder is called.
        requirements: what pip is asked for.
        pythons: versions of Python that it supports; the first that is here is taken.
        adapters: the ways in which it runs, ``MODULE.FUNCTION`` of this folder by the title of a column.
    """

    name: str
    requirements: tuple[str, ...]
    pythons: tuple[str, ...]
    adapters: dict[str, str]


_TORCH = "torch==2.13.0"

PEERS = (
    Peer("flower", ("flwr[simulation]==1.41.0", _TORCH), ("3.11", "3.12", "3.10"), {"Flower": "flower.measure"}),
    Peer(
        "pfl-research",
        ("pfl[pytorch]==0.6.0", _TORCH),
        ("3.11", "3.12", "3.10"),
        {"pfl-research": "pfl_research.measure"},
    ),
    Peer(
        "blazefl",
        ("blazefl[contrib,reproducibility]==2.0.3", _TORCH),
        ("3.13", "3.12"),
        {"BlazeFL, processes": "blaze.processes", "BlazeFL, threads": "blaze.threads"},
    ),
)


class NotInstalled(RuntimeError):
    """A peer cannot be had here; the message says why, in one line."""


def installed(peer: Peer, folder: Path) -> Path:
    """Return the interpreter of a peer's environment, which is made where it is not there, or is of other requirements.

    Args:
        peer: the peer.
        folder: of the environments.

    Raises:
        NotInstalled: no interpreter that it supports is here, or pip could not install it.
    """
    home = folder / peer.name
    python, stamp, wanted = home / "bin" / "python", home / ".installed", "\n".join((*peer.pythons, *peer.requirements))
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    base = next(filter(None, map(_interpreter, peer.pythons)), None)
    if base is None:
        raise NotInstalled(f"it supports Python {_either(peer.pythons)}, of which none is here")
    shutil.rmtree(home, ignore_errors=True)
    pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input"]
    try:
        execute([base, "-m", "venv", str(home)])
        execute([*pip, *peer.requirements], timeout=_INSTALLING)
    except CommandFailed as error:
        raise NotInstalled(str(error).strip().splitlines()[-1]) from error
    stamp.write_text(wanted)
    return python


def _interpreter(version: str) -> str | None:
    """Return the interpreter of a version that can make environments, from the path or from where pyenv keeps them."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for found in filter(None, (shutil.which(f"python{version}"), *map(str, kept.glob(f"{version}.*/bin/python3")))):
        # A shim of pyenv is on the path also where its version is not chosen.
        if subprocess.run([found, "-c", "import ensurepip, venv"], capture_output=True).returncode == 0:
            return found
    return None


def _either(words: tuple[str, ...]) -> str:
    """Join words for a sentence.

    >>> _either(("3.10", "3.11", "3.12"))
    '3.10, 3.11 or 3.12'
    """
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last

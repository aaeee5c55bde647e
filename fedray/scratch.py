"""Temporary folders that do not outlive their process, however it ends: a killed one's is swept by the next."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "fedray-data-"
_OWNER = "owner"
_YOUNG = 60.0


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A new private folder below ``$TMPDIR``, deleted at the end; also deletes those of processes that were killed."""
    sweep(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    with held(folder):
        yield folder


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Own a folder, made if it is not there, and delete it at the end."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The kernel lets go of the lock when its holder dies: more than a process id says, which containers share.
    file = os.open(folder / _OWNER, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(file)


def sweep(parent: Path) -> None:
    """Delete the scratch folders in ``parent`` that nobody holds, but for those that are being made."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _YOUNG and _abandoned(folder):
                shutil.rmtree(folder)


def _abandoned(folder: Path) -> bool:
    file = os.open(folder / _OWNER, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(file)

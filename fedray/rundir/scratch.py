"""Temporary folders that do not outlive their process, however it ends: a killed one's is swept by the next."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
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
    """Make a private folder below ``$TMPDIR``, and delete it at the end of the context.

    Folders of processes that were killed are deleted as well.
    """
    sweep(Path(tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    with held(folder):
        try:
            yield folder
        finally:
            # Whoever still holds it, where several nodes are on one machine, belongs to what has ended.
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder, made if it is not there, perhaps with others: the last holder deletes it at the end."""
    file = _share(folder)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough where a forked process has it open as well
        os.close(file)
        _delete_unless_held(folder)


def is_scratch(folder: Path) -> bool:
    """Return True if a folder is a scratch folder by its name: fedray's to hold and to delete."""
    return folder.name.startswith(_PREFIX)


def sweep(parent: Path) -> None:
    """Delete the scratch folders in ``parent`` that nobody holds, but for those that are being made."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - folder.stat().st_mtime > _YOUNG:
                _delete_unless_held(folder)


def _share(folder: Path) -> int:
    """Lock the folder against being deleted, and return the descriptor that has the lock."""
    # The kernel lets go of the lock when its holder dies: more than a process id says, which containers share.
    while True:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError), contextlib.ExitStack() as opened:  # deleted since it was made
            file = _open(folder)
            opened.callback(os.close, file)
            fcntl.flock(file, fcntl.LOCK_SH)
            if _is_current(file, folder):
                opened.pop_all()
                return file


def _delete_unless_held(folder: Path) -> None:
    with contextlib.suppress(OSError):
        file = _open(folder)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_current(file, folder):
                # Away at once: who comes now must not find a half of it.
                doomed = folder.rename(folder.with_name(f"{folder.name}-{secrets.token_hex(4)}"))
                shutil.rmtree(doomed, ignore_errors=True)
        finally:
            os.close(file)


def _open(folder: Path) -> int:
    return os.open(folder / _OWNER, os.O_RDWR | os.O_CREAT, 0o600)


def _is_current(file: int, folder: Path) -> bool:
    """Return True if the locked file still lies in the folder, and not in one that was deleted meanwhile."""
    return os.path.samestat(os.fstat(file), (folder / _OWNER).stat())

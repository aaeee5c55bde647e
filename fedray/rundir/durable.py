"""Files that are on the disk whole or not at all, whatever is killed, crashes, or runs out of room meanwhile.

Everything that a run leaves is written here.  Modes follow the umask, those of tensors as well; a secret is for its
owner alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import weakref
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

TEMPORARY = ".tmp-"
"""The first letters of names of files that a killed process may leave behind."""

Content: TypeAlias = "bytes | Iterable[bytes] | dict[str, Tensor]"
"""Bytes, whole or part by part; or tensors, which become a safetensors file without a copy in memory."""


def write(path: Path, content: Content, *, secret: bool = False) -> None:
    """Write a file and force it to the disk; a crash may leave a part.

    Args:
        path: the file; replaced if it is there.
        content: the content to write.
        secret: make a new file readable for its owner alone; else the umask decides.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    with open(path, "wb", opener=_for_owner if secret else None) as file:
        mode = os.fstat(file.fileno()).st_mode
        if not isinstance(content, dict):
            for part in [content] if isinstance(content, bytes) else content:
                file.write(part)
                file.flush()
    if isinstance(content, dict):
        _save(content, path)
        # The library makes a file of its own, for its owner alone.
        path.chmod(mode)
    sync(path)


def replace(path: Path, content: Content, *, through: Path | None = None, secret: bool = False) -> None:
    """Write a file so that a reader or a crash sees the old or the new content, never a part.

    Args:
        path: the file.
        content: the content to write.
        through: folder of the temporary file, on the same disk; default: that of ``path``.  For a folder whose
            readers take every file in it.
        secret: as for :func:`write`.

    Raises:
        OSError: as for :func:`write`; the old content is still there, and nothing else is left.
    """
    with _beside(path if through is None else through / path.name) as temporary:
        write(temporary, content, secret=secret)
        temporary.replace(path)
    sync(path.parent)


class Growing:
    """A file that lines are added to, made where there is none; it stays open between them, as a run adds one a round.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None
        self._close: Callable[[], object] | None = None

    def append(self, line: bytes, *, forced: bool = True) -> None:
        """Add a line and force it to the disk; a crash may leave a part of it.

        Args:
            line: the bytes to add.
            forced: wait until they are on the disk; else a machine that stops may lose them, and a process that is
                killed does not.

        Raises:
            OSError: the disk is full, or the file cannot be written; what was written of the line is taken off again.
        """
        file, before = self._opened()
        try:
            if os.write(file, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
            if forced:
                os.fsync(file)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(file, before)
            raise

    def _opened(self) -> tuple[int, int]:
        """Return the file, and its length."""
        if self._file is not None and self._close is not None:
            status = os.fstat(self._file)
            if status.st_nlink:
                return self._file, status.st_size
            self._close()  # it was removed, or another one put in its place
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        self._close = weakref.finalize(self, os.close, self._file)
        return self._file, os.fstat(self._file).st_size


def create(path: Path, content: Content, *, secret: bool = False) -> bool:
    """Make a file, whole, if there is none; of several processes that do so at once, on any node, one makes it.

    Args:
        path: the file.
        content: the content to write.
        secret: as for :func:`write`.

    Returns:
        True if it was made here.

    Raises:
        OSError: as for :func:`write`; nothing is left.
    """
    with _beside(path) as temporary:
        while True:
            write(temporary, content, secret=secret)
            # Whoever drives the run may tidy up our file before it is linked: then look again.
            with contextlib.suppress(FileNotFoundError):
                return _link(temporary, path)


@contextlib.contextmanager
def folder(path: Path, *, over: bool = False) -> Iterator[Path]:
    """Yield a folder of a temporary name to be filled; at the end of the context ``path`` is that folder, whole.

    Args:
        path: the folder.
        over: replace a folder that is there.

    Raises:
        OSError: another process has made ``path`` in the meantime, or the disk is full; nothing of ours is left, and
            what was there still is.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _beside(path) as temporary, _beside(path) as before:
        temporary.mkdir()
        yield temporary
        # Libraries that write tensors make files for their owner alone.
        mode = temporary.stat().st_mode & 0o666
        for file in temporary.rglob("*"):
            if file.is_file():
                file.chmod(mode)
        if over and path.exists():
            path.rename(before)
        try:
            temporary.rename(path)
        except OSError:
            if before.exists():
                before.rename(path)
            raise


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, to the disk."""
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def sweep(folder: Path) -> None:
    """Delete what a killed process left half written in ``folder``; only one process may write there."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        _remove(leftover)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """Yield a temporary name in the folder of ``path``; nothing stays under it."""
    # Processes of several nodes may write the same file, where their ids do not tell them apart.
    temporary = path.with_name(f"{TEMPORARY}{path.name}-{secrets.token_hex(8)}")
    try:
        yield temporary
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    # Here, because processes that write small files only need no torch.
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path)
    except SafetensorError as error:
        raise OSError(str(error)) from error


def _link(temporary: Path, path: Path) -> bool:
    try:
        os.link(temporary, path)
    except FileExistsError:
        # Over NFS the answer to a link that succeeded can be lost, and the repeated request finds its own work.
        return temporary.stat().st_nlink > 1
    sync(path.parent)
    return True


def _for_owner(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

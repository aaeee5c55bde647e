"""The output of clients' code, its log and its warnings.

They go to ``workers/*.log`` of the run folder, a file for each worker.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

SUFFIX = ".log"


def path_of(folder: Path, worker: str) -> Path:
    """Return the file of a worker.

    >>> path_of(Path("run/workers"), "node1/0").name
    'node1-0.log'
    """
    return folder / f"{worker.replace('/', '-')}{SUFFIX}"


def redirect(folder: Path, worker: str) -> None:
    """Send standard output and error of this process, a worker's own, to its file from here on.

    Where the run folder is not there, as on a node that does not share it, they stay where they are.
    """
    if not folder.parent.is_dir():
        return
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
        file = os.open(path_of(folder, worker), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for descriptor in (1, 2):
            os.dup2(file, descriptor)
        os.close(file)
        # By lines, so that a worker that is killed has said what it said.
        sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115


@contextlib.contextmanager
def copied(folder: Path | None, worker: str) -> Iterator[None]:
    """Copy what this thread writes to standard output and error to the worker's file, made with its first word.

    Args:
        folder: of the files; ``None``: copy nothing.
        worker: its name.
    """
    if folder is None:
        yield
        return
    with contextlib.ExitStack() as opened:
        copy = _Copy(path_of(folder, worker), opened)
        before = sys.stdout, sys.stderr
        sys.stdout, sys.stderr = _Tee(sys.stdout, copy), _Tee(sys.stderr, copy)
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before


class _Copy:
    def __init__(self, path: Path, opened: contextlib.ExitStack) -> None:
        self._path, self._opened, self._thread = path, opened, threading.get_ident()
        self._file: TextIO | None = None

    def write(self, text: str) -> None:
        # Not what others write meanwhile, such as the thread that shows the progress.
        if threading.get_ident() != self._thread:
            return
        # A full disk is no fault of the client that prints.
        with contextlib.suppress(OSError):
            if self._file is None:
                self._path.parent.mkdir(exist_ok=True)
                file = self._path.open("a", buffering=1, encoding="utf-8", errors="backslashreplace")
                self._file = self._opened.enter_context(file)
            self._file.write(text)


class _Tee:
    """A stream, and a copy of what is written to it; everything else is the stream's."""

    def __init__(self, stream: Any, copy: _Copy) -> None:
        self._stream, self._copy = stream, copy

    def write(self, text: str) -> int:
        self._copy.write(text)
        written: int = self._stream.write(text)
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def sweep(folder: Path) -> None:
    """Delete the files of workers that said nothing, and the folder if all of them did."""
    with contextlib.suppress(OSError):
        for file in folder.glob(f"*{SUFFIX}"):
            if file.stat().st_size == 0:
                file.unlink()
        folder.rmdir()

"""A run's work on its way to another node: the job, and the files that its data lie in."""

from __future__ import annotations

import contextlib
import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray
from numpy.typing import NDArray

from fedray.run.worker import Job
from fedray.rundir import durable
from fedray.rundir.scratch import held, is_scratch, sweep


@dataclass(frozen=True)
class Payload:
    """The message to a node: sent once, whatever its number of workers.

    Args:
        job: the pickled job.
        folder: the folder for its data, if they lie in files.
        files: their contents.
    """

    job: bytes
    folder: str | None
    files: Mapping[str, NDArray[np.uint8]]

    @classmethod
    def of(cls, job: Job) -> Payload:
        """Pack a job with its data."""
        folder = job.task.data.folder
        files = {file.name: np.fromfile(file, dtype=np.uint8) for file in folder.iterdir()} if folder else {}
        return cls(ray.cloudpickle.dumps(job), str(folder) if folder else None, files)

    def unpack(self, holding: contextlib.ExitStack) -> Job:
        """Return the job, its data beside it on this node's disk until ``holding`` is closed."""
        if self.folder is not None:
            self._bring(Path(self.folder), holding)
        # From the run's driver: only who is in its Ray can call an actor, and has run code there already.
        job: Job = pickle.loads(self.job)
        return job

    def _bring(self, final: Path, holding: contextlib.ExitStack) -> None:
        if is_scratch(final.parent):
            # Also where the data are there: who brought them may have been killed, and they would be swept.
            holding.enter_context(held(final.parent))
            if not final.exists():
                sweep(final.parent.parent)
                self._write(final)
        elif not final.exists():
            final.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._write(final)
            # The folder around it is of the user's choice: all else that is in it stays.
            holding.callback(shutil.rmtree, final, ignore_errors=True)

    def _write(self, final: Path) -> None:
        try:
            with durable.folder(final) as unfinished:
                for name, content in self.files.items():
                    content.tofile(unfinished / name)
        except OSError:
            if not final.exists():  # else an earlier group of this node was first
                raise

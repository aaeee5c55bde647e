"""A short real run in a process of its own: its memory is its own, and what ends it ends nothing else."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedray.run.interrupt import STOPPED, held
from fedray.rundir.names import METRICS
from fedray.tune.search import Probe

WARM_UP = 2
"""The first rounds, in which memory is allocated and kernels are chosen."""

MOST = 40
"""The most rounds that are measured."""

SPAN = 3.0
"""The seconds of rounds after which no more are measured, if there are as many as were asked for."""

_PAUSE, _PATIENCE = 0.05, 60.0
_REFUSED = 2

ALONE = (
    "evaluate.every=0", "evaluate.clients_every=0", "evaluate.finetune=null", "evaluate.before=false",
    "stop.metric=null", "stop.patience=10", "stop.min_delta=0.0", "stop.mode=auto",
    "checkpoint.every=0", "checkpoint.seconds=0", "checkpoint.best=null", "checkpoint.history=0",
    "budget.gpu_hours=null", "budget.cpu_hours=null", "budget.wall_hours=null", "budget.epsilon=null",
    "tracking=[]", "callbacks=[]", "run.profile=null",
)  # fmt: skip
"""Changes of a config, so that its rounds are nothing but rounds, and nobody hears of them."""


@dataclass(frozen=True)
class Processes:
    """The short runs of a config.

    Args:
        config: its file.
        overrides: those of the user.
        rounds: all rounds of the config, by which its schedules go.
        least: rounds that are measured at least.
        folder: an empty one, for run folders.
    """

    config: Path
    overrides: Sequence[str]
    rounds: int
    least: int
    folder: Path

    def __call__(self, changes: Sequence[str]) -> Probe:
        """Do a short run with further overrides, and return what was measured; nothing of it is left."""
        last = WARM_UP + max(MOST, self.least)
        ends = (f"rounds={max(self.rounds, last)}", f"budget.last_round={last}")
        run_dir, output = self.folder / "run", self.folder / "output.txt"
        words = [*self.overrides, *changes, *ALONE, *ends, f"run.dir={json.dumps(str(run_dir))}"]
        process: subprocess.Popen[bytes] | None = None
        try:
            with output.open("wb") as file, held():
                process = subprocess.Popen(
                    [sys.executable, "-m", "fedray", "run", str(self.config), *words, "--quiet"],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C at the terminal is heard here, and handed on once
                )
            while process.poll() is None and not enough(records_in(run_dir), self.least):
                time.sleep(_PAUSE)
        finally:
            if process is not None:
                _end(process)
        try:
            return told(records_in(run_dir), self.least, process.returncode, output.read_text(errors="replace"))
        finally:
            shutil.rmtree(run_dir, ignore_errors=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to stop, as `fedray stop` does, and wait for it; kill it where it does not."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
    try:
        process.wait(_PATIENCE)
    except BaseException as error:
        process.kill()
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise


def records_in(run_dir: Path) -> list[dict[str, Any]]:
    """Return the records of a run that may be under way: whole lines alone."""
    try:
        text = (run_dir / METRICS).read_text()
    except OSError:
        return []
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def enough(records: Sequence[dict[str, Any]], least: int) -> bool:
    """Tell if enough rounds are measured.

    >>> enough([{"seconds": 3.0}] * 8, least=6), enough([{"seconds": 3.0}] * 7, least=6)
    (True, False)
    """
    measured = records[WARM_UP:]
    return len(measured) >= least and (sum(one["seconds"] for one in measured) >= SPAN or len(measured) >= MOST)


def told(records: Sequence[dict[str, Any]], least: int, status: int, output: str) -> Probe:
    """Return what a run's records tell, or why they tell nothing.

    Args:
        records: of all its rounds.
        least: rounds that were to be measured; where they are, the process was asked to end, and may be on its way.
        status: its process's exit status; negative: the signal that ended it.
        output: its words.
    """
    if status not in (0, STOPPED) and not enough(records, least):
        lines = output.strip().splitlines()
        said = [line.removeprefix("fedray: ") for line in lines if line.startswith("fedray: ")]
        ended = f"its process ended with status {status}"
        if status == -signal.SIGKILL:
            said, ended = [], "its process was killed, as the system does where memory runs out"
        return Probe(error=(said or [ended])[0], refused=status == _REFUSED)
    measured = [one for one in records[WARM_UP:] if one["clients"]["ok"]]
    if not measured:
        return Probe(error="no round was measured")
    used = [one.get("usage", {}) for one in records]
    return Probe(
        seconds=tuple(one["phases"]["train"] / one["clients"]["ok"] for one in measured),
        stack=measured[-1]["stack"],
        workers=measured[-1]["workers"],
        rss=max((max(one.get("rss", [0])) for one in used), default=0),
        gpu_memory=max((max(one.get("gpu_memory", [0])) for one in used), default=0),
    )

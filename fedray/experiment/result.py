"""The result of a run from Python."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from fedray.core.errors import RunFailed
from fedray.core.monitor import Mode
from fedray.core.notebooks import cell
from fedray.core.record import RoundRecord
from fedray.core.target import Reached, rounds_to
from fedray.experiment.shell import Ended
from fedray.run.driver import Run
from fedray.run.snapshot import model_of
from fedray.rundir import checkpoint
from fedray.rundir.checkpoint import Checkpoint
from fedray.rundir.client_table import read_clients
from fedray.rundir.names import METRICS
from fedray.tracking.base import RunInfo
from fedray.tracking.csv import numbers
from fedray.tracking.jsonl import records_before
from fedray.tracking.panel import panel
from fedray.tracking.progress import Progress

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True, repr=False)
class Result:
    """The result of a run.

    >>> from pathlib import Path
    >>> Result(nn.Linear(4, 2).eval(), history=[], run_dir=Path("runs/first")).model.training
    False

    Args:
        model: the server's trained module, on the CPU, in evaluation mode; what clients keep of their own is in it as
            it was at the start, as the log says: ``fedray evaluate RUN_DIR --clients`` evaluates their models.
        history: one record for each round of the run, oldest first, those before a resume too; with
            ``evaluate_before`` the first is that of round 0.
        run_dir: the run folder.
        stopped: a signal or a callback has ended it before its last round, with a checkpoint saved.
        best: the module as it was after the best round by ``TrainArgs(checkpoint_best=)``; None if none was asked for.
        cell: the number of the notebook's cell that the run was shown below, where the result has one line; None: none.
    """

    model: nn.Module
    history: list[RoundRecord]
    run_dir: Path
    stopped: bool = False
    best: nn.Module | None = None
    cell: int | None = None

    def table(self) -> list[dict[str, float]]:
        """Return the history as one flat row for each round, for pandas or a spreadsheet.

        Columns are named by section and name, as in ``metrics.csv``: ``round``, ``train.loss``, ``test.accuracy``,
        ``clients_test.accuracy.p10``, ``bytes.up``.  What a round was not evaluated for is not in its row.

        >>> import pandas as pd
        >>> records = [RoundRecord(1, train={"loss": 0.7}), RoundRecord(2, train={"loss": 0.5}, test={"accuracy": 0.9})]
        >>> result = Result(nn.Linear(4, 2), records, Path("runs/first"))
        >>> pd.DataFrame(result.table())[["round", "train.loss", "test.accuracy"]]
           round  train.loss  test.accuracy
        0      1         0.7            NaN
        1      2         0.5            0.9
        """
        return [numbers(record) for record in self.history]

    def rounds_to(self, metric: str, target: float, mode: Mode = "auto") -> Reached | None:
        """Return the first round in which a metric reached a value, with bytes and seconds until then; None: in none.

        >>> records = [RoundRecord(round, test={"accuracy": round / 4}, bytes={"up": 8}) for round in (1, 2, 3)]
        >>> Result(nn.Linear(4, 2), records, Path("runs/first")).rounds_to("test.accuracy", 0.6)
        Reached(round=3, value=0.75, bytes=24, seconds=0.0)

        Args:
            metric: its name in records, ``test.accuracy`` or ``clients_test.loss.p90``.
            target: its value, in the unit of the metric.
            mode: ``min``: less is better; ``max``: more is better; ``auto``: ``min`` for losses and errors.

        Raises:
            ConfigError: no record can have such a metric, or none has it.
        """
        return rounds_to(self.history, metric, target, mode)

    def clients(self) -> pyarrow.Table:
        """Return what each client got, as far as clients were evaluated: see :func:`fedray.read_clients`.

        Raises:
            ConfigError: no client was evaluated; ``TrainArgs(evaluate_clients_every=10)`` evaluates them.
        """
        return read_clients(self.run_dir)

    def __repr__(self) -> str:
        rows = dict(self._told().table({}))
        numbers = ", ".join(f"{name} {value}" for name, value in rows.items() if name != "time")
        return f"Result({numbers}{', stopped' if self.stopped else ''}, run_dir={str(self.run_dir)!r})"

    def _repr_html_(self) -> str | None:
        """Return what a notebook shows of it, its curves and its last numbers; None: they stand right above."""
        if self.cell is not None and self.cell == cell():
            return None
        told = self._told()
        words = "stopped, with a checkpoint" if self.stopped else ""
        notes = [f"run folder: {self.run_dir}"]
        return panel(str(self.run_dir), told.round, told.round, words, self.history, told.table({}), notes)

    def _told(self) -> Progress:
        last = self.history[-1].round if self.history else 0
        told = Progress(RunInfo(self.run_dir, "", last))
        for record in self.history:
            told.add(record)
        return told


def result_of(run: Run, ended: Ended, shown: bool) -> Result:
    """Return the result of a run that did not fail.

    Args:
        run: the run.
        ended: its end.
        shown: its progress was shown.

    Raises:
        RunFailed: it was stopped before its first round.
    """
    history = ended.history
    saved = checkpoint.newest(run.folder.checkpoints)
    if saved is None:
        raise RunFailed(f"stopped before the first round; nothing was saved in {run.folder.path}")
    first = history[0].round if history else run.plan.rounds + 1
    earlier = records_before(run.folder.path / METRICS, first) if run.resume else []
    best, at = _best(run, saved), cell() if shown else None
    stopped = ended.stopped or ended.by_callback
    return Result(_module(run, saved), earlier + history, run.folder.path, stopped, best, at)


def _module(run: Run, saved: Checkpoint) -> nn.Module:
    module = run.plan.task.model_fn()
    run.plan.layout.load(module, model_of(saved))
    return module.eval()


def _best(run: Run, last: Checkpoint) -> nn.Module | None:
    best = checkpoint.best_of(last.state)
    if best is None:
        return None
    try:
        return _module(run, checkpoint.read(run.folder.checkpoints, best["round"]))
    except ValueError:  # damaged, as the log says
        return None

"""Runs that only pretend: a run folder with the records and the summary of a run, by a formula and without training."""

from __future__ import annotations

import json
from collections.abc import Callable

from fedray.core.record import RoundRecord
from fedray.rundir.names import CONFIG, METRICS, SUMMARY
from fedray.sweep import Cell
from fedray.sweep.stages import Stage

ROUNDS = 9

Loss = Callable[[dict[str, str], int], float | None]
"""The test loss of a run by its settings and the round; None: the run fails there."""


def pretend(stage: Stage, cell: Cell, loss: Loss) -> None:
    """Run a cell up to where its stage pauses."""
    last = min(stage.sweep.until or ROUNDS, ROUNDS)
    folder = stage.sweep.run_folder(cell)
    folder.path.mkdir(parents=True, exist_ok=True)
    (folder.path / CONFIG).touch()
    values = [loss(dict(cell.settings), round) for round in range(1, last + 1)]
    told = [value for value in values if value is not None]
    records = [RoundRecord(i, test={"loss": value}, clients={"ok": 1}).to_json() for i, value in enumerate(told, 1)]
    (folder.path / METRICS).write_text("".join(json.dumps(record) + "\n" for record in records))
    summary = {"status": "finished", "rounds": len(told), "final": {"test": {"loss": told[-1] if told else None}}}
    if len(told) < last:
        summary |= {"status": "failed"}
    elif last < ROUNDS:
        summary |= {"status": "budget", "budget": f"budget.last_round is done: {last}"}
    (folder.path / SUMMARY).write_text(json.dumps(summary))

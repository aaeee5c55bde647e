"""The best model of a run, beside its last one."""

from __future__ import annotations

import logging
from typing import Any

from fedray.run.models import frozen_in, write_model
from fedray.run.plan import Plan
from fedray.run.snapshot import model_of
from fedray.run.state import ServerState
from fedray.run.watch import BEST, Watch
from fedray.rundir import checkpoint
from fedray.rundir.folder import RunFolder
from fedray.rundir.names import BEST as BEST_MODEL

_log = logging.getLogger("fedray")


class Best:
    """The best model, which is written once the run has come to its end.

    Args:
        plan: of the run.
        folder: its folder.
        state: the state of the server.
    """

    def __init__(self, plan: Plan, folder: RunFolder, state: ServerState) -> None:
        self._plan, self._folder, self._state, self._written = plan, folder, state, False

    @property
    def _watch(self) -> Watch | None:
        watch = self._state.watches.get(BEST)
        return None if watch is None or watch.best is None else watch

    def write(self) -> None:
        """Export the model of the checkpoint of the best round, if there is one and it is whole."""
        watch, folder = self._watch, self._folder
        if watch is None:
            return
        try:
            saved = checkpoint.read(folder.checkpoints, watch.round)
        except ValueError as error:
            _log.warning("the best model is not exported, as its checkpoint is damaged: %s", error)
            return
        layout = self._plan.layout
        write_model(layout, model_of(saved), folder.path / BEST_MODEL, frozen_in(folder.path, layout))
        self._written = True

    def told(self) -> dict[str, Any]:
        """Return what the summary says of it."""
        watch = self._watch
        if watch is None:
            return {}
        found = {"metric": self._plan.monitors[BEST].metric, "value": watch.best, "round": watch.round}
        return {"best": {**found, "file": BEST_MODEL} if self._written else found}

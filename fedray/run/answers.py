"""The answers of a run's newest evaluation: a line at the end of the run where one class is the only one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from fedray.core.one_answer import ONE_ANSWER, told
from fedray.core.record import VIEWS, RoundRecord
from fedray.run.plan import Plan
from fedray.rundir.client_table import ClientTable
from fedray.rundir.each_client import SUPPORT
from fedray.tracking.base import Tracker

LEAST = 5
"""The examples of other classes from which a single client is named: of fewer, to miss all may be chance."""

_log = logging.getLogger("fedray")


class Answers(Tracker):
    """A tracker of what evaluations answer, which says at the end of a run where that is one class alone.

    Args:
        plan: the plan of the run.
        clients: the writer of what single clients got.
    """

    def __init__(self, plan: Plan, clients: ClientTable) -> None:
        self._plan, self._clients = plan, clients
        self._tables: dict[str, Mapping[str, Any]] = {}

    def round(self, record: RoundRecord) -> None:
        """Take the record of a round, of which each section has its newest evaluation."""
        self._tables |= {section: own[SUPPORT] for section, own in record.tables.items() if SUPPORT in own}

    def finish(self, summary: dict[str, Any]) -> None:
        """Say in the log what the summary says of the answers."""
        if words := summary.get(ONE_ANSWER):
            _log.warning("%s", words)

    def told(self) -> dict[str, str]:
        """Return for the summary where one class is the only answer, and what may help; nothing: nowhere."""
        task = self._plan.task
        clients = {
            VIEWS[view]: {task.data.client_id(client): one for client, one in only.items() if one.missed >= LEAST}
            for view, only in self._clients.only.items()
        }
        threshold = hasattr(task.about, "threshold") and len(task.about.classes) == 2
        words = told(self._tables, clients, threshold=threshold, weights=task.args.class_weights is not None)
        return {ONE_ANSWER: words} if words else {}

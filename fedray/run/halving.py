"""Fewer clients at once, where a device has too little memory for them."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fedray.core.messages import BlockReport
from fedray.run.evaluation import HoldoutReport
from fedray.run.plan import Plan
from fedray.run.state import ServerState
from fedray.run.worker import Report

_log = logging.getLogger(__name__)


def halve(plan: Plan, state: ServerState, reports: Sequence[Report]) -> bool:
    """Halve blocks, and the clients that are evaluated at once, from here on and for all workers, if some did not fit.

    If only those that did not fit were halved, the bits would depend on which worker they met.  A client that had no
    room alone is a failure, whatever the others do.

    Returns:
        True: the work that the reports are of must be done anew.
    """
    blocks = [[f for f in r.failures if f.stage == "memory"] for r in reports if isinstance(r, BlockReport)]
    short = next((failures[0] for failures in blocks if len(failures) > 1), None)
    if short is not None:
        state.halvings += 1
        size = plan.block_size(state.halvings)
        _log.warning(
            "round %d: out of memory (%s); from here on %d clients step at once", short.round, short.error, size
        )
    seen = next((r.short for r in reports if isinstance(r, HoldoutReport) and r.short), None)
    if seen is not None:
        if short is None:
            state.view_halvings += 1
        size = plan.block_size(state.halvings + state.view_halvings)
        words = "round %d: out of memory in the evaluation of clients (%s); from here on %d are evaluated at once"
        _log.warning(words, state.round, seen, size)
    return short is not None or seen is not None

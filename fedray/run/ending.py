"""The end of a run before its last round: by a budget, by a metric, or by whoever takes its records."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fedray.run.budget import used_up
from fedray.run.client_spending import ClientSpending
from fedray.run.plan import Plan
from fedray.run.spending import Spending
from fedray.run.state import ServerState
from fedray.run.watch import patience_used_up
from fedray.rundir.checkpoint import Checkpoint
from fedray.tracking.callbacks import callbacks

Ending = Callable[[], str | None]
"""The reason, in words, for which whoever takes the records ends the run, or None; asked between rounds."""

Stop = Callable[..., None]
"""The way to ask a run to stop with a checkpoint or, with a reason in words, to come to its end."""

OnStop = Callable[[Stop], None]
"""The taker of what asks a run to stop, once it can be asked."""

ENDED_BY = "ended_by"
"""The key of that reason in a checkpoint."""

GONE_ON = "gone_on_after"
"""The key of the round after which a run had come to its end, in the summaries of drivers that went on from there."""


def reason_to_end(
    plan: Plan, state: ServerState, spending: Spending | ClientSpending | None, ending: Ending
) -> tuple[str, str] | None:
    """Return as what a run ends before its last round, ``budget`` or ``early_stopped``, and the reason in words.

    None: it goes on, or has done all its rounds.
    """
    if state.round >= plan.rounds:
        return None
    reasons = {
        "budget": used_up(plan.budget, state.totals, state.round) or (spending and spending.used_up(state.round)),
        "early_stopped": patience_used_up(plan.stop, state.watches) or ending(),
    }
    return next(((kind, words) for kind, words in reasons.items() if words), None)


def gone_on_after(summary: Mapping[str, Any]) -> int:
    """Return the round after which a run had come to its end, and is gone on with; 0: it had not.

    A budget is no such end: what would have ended the run without it ends it once there is more of that.

    >>> gone_on_after({"status": "early_stopped", "rounds": 7}), gone_on_after({"status": "stopped", "rounds": 7})
    (7, 0)
    >>> gone_on_after({"status": "stopped", "rounds": 7, "gone_on_after": 7})
    7
    """
    ended = summary.get("status") in ("finished", "early_stopped")
    return int(summary["rounds"] if ended else summary.get(GONE_ON, 0))


def gone_on(summary: Mapping[str, Any]) -> dict[str, int]:
    """Return what the next summary has of :func:`gone_on_after`, so that a driver that is stopped loses nothing of it.

    >>> gone_on({"status": "early_stopped", "rounds": 7}), gone_on({"status": "stopped", "rounds": 7})
    ({'gone_on_after': 7}, {})
    """
    last = gone_on_after(summary)
    return {GONE_ON: last} if last else {}


def ended_by_callback(summary: Mapping[str, Any]) -> bool:
    """Tell by the summary of a run if a callback ended it.

    >>> words = ["callbacks[0]: mine:f ends the run", "stop.patience is used up: ..."]
    >>> [ended_by_callback({"status": "early_stopped", "early_stopped": said}) for said in words]
    [True, False]
    """
    return str(summary.get("early_stopped", "")).startswith("callbacks[")


def ending_again(saved: Checkpoint, summary: Mapping[str, Any]) -> Ending | None:
    """Return what gives the reason for which a run was ending as it was killed; None: it was not.

    It then ends after that round all the same.

    >>> saved = Checkpoint(7, {}, {"ended_by": "callbacks[0]: mine:f ends the run"})
    >>> ending_again(saved, {})()
    'callbacks[0]: mine:f ends the run'
    >>> ending_again(saved, {"status": "early_stopped", "rounds": 7}) is None
    True

    Args:
        saved: the checkpoint.
        summary: of the driver that came to an end last, or nothing.
    """
    words = saved.state.get(ENDED_BY)
    return None if words is None or gone_on_after(summary) == saved.round else lambda: str(words)


def lost_callbacks(saved: Mapping[str, Any], now: tuple[str, ...]) -> Iterator[str]:
    """Yield what is to be said where functions that Python alone had are not there any more.

    Args:
        saved: the state of the checkpoint.
        now: the names of the functions that are there.
    """
    # Of those that a config names, module:name or one that is registered, it is the config that has changed.
    gone = (name for name in saved.get("callbacks", ()) if name not in now)
    if lost := [name for name in gone if ":" not in name and name not in callbacks]:
        words = f"the callbacks of the Python that started this run ({', '.join(lost)}) are not there: it goes on "
        yield f"{words}without them; fedray.train(..., callbacks=[...], resume=True) has them"

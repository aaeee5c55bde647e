"""The state of a run in words, for who watches it."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedray.core.errors import counted
from fedray.core.one_answer import ONE_ANSWER
from fedray.core.record import VIEWS, RoundRecord, headline
from fedray.rundir.names import limit_in, to_go_on, to_look_at
from fedray.tracking.base import RunInfo

_PACE_OF = 20
_OF_THEIR_OWN = ("train", "update")
"""Stages in which a client's training fails by itself, so that `fedray debug` shows where."""


class Progress:
    """The state of a run as its records have told it so far.

    Args:
        run: the run.

    Attributes:
        round: the last round that was told.
    """

    def __init__(self, run: RunInfo) -> None:
        self.run = run
        self.round, self._failed, self._seconds = run.resumed_from, 0, 0.0
        self._recent: deque[float] = deque(maxlen=_PACE_OF)
        self._train: dict[str, float] = {}
        self._test: dict[str, float] = {}
        self._spent: dict[str, float] = {}
        self._clients: dict[str, dict[str, dict[str, float]]] = {}
        self._evaluated: dict[str, int] = {}
        self._first_failure = ""

    def add(self, record: RoundRecord) -> None:
        """Take a record."""
        self.round = record.round
        self._failed += record.clients.get("failed", 0)
        self._seconds += record.seconds
        told = [one for one in record.failures if one["stage"] in _OF_THEIR_OWN]
        if told and not self._first_failure:
            self._first_failure = (
                f"; first {told[0]['client']} in round {record.round:,} ({told[0]['stage']}), "
                f"look at it: {to_look_at(self.run.run_dir)}"
            )
        if record.round and record.seconds:
            self._recent.append(record.seconds)
        # What was not measured this time is shown as it was last measured.
        self._train = record.train or self._train
        self._test = record.test or self._test
        # Of an epsilon the last one alone is told: it rises with each round.
        privacy = record.metrics.get("privacy", {})
        self._spent = {name: value for name, value in privacy.items() if name in ("epsilon", "epsilon_rdp")}
        if record.evaluated:
            self._clients = {view: getattr(record, section) for view, section in VIEWS.items()}
            self._evaluated = record.evaluated

    def evaluated(self, otherwise: int) -> int:
        """Return the number of clients that were last evaluated; ``otherwise`` where none were."""
        return self._evaluated.get("clients", otherwise)

    def words(self) -> str:
        """Return pace, time left, loss, metric and failures, as far as they are known."""
        parts = []
        if self._recent:
            pace = sum(self._recent) / len(self._recent)
            parts += [_pace(pace), f"{duration(pace * (self.run.rounds - self.round))} left"]
        if "loss" in self._train:
            parts.append(f"train.loss {number(self._train['loss'])}")
        if self._test:
            name = headline(self._test)
            parts.append(f"test.{name} {number(self._test[name])}")
        elif whose := [view for view, found in self._clients.items() if found]:
            name = headline(found := self._clients[whose[-1]])
            parts.append(f"{VIEWS[whose[-1]]}.{name} {number(found[name]['mean'])}")
        if name := min(self._spent, default=""):  # the close one, of two
            parts.append(f"privacy.{name} {number(self._spent[name])}")
        if self._failed:
            parts.append(f"failed {self._failed}")
        return "  ".join(parts)

    @property
    def _has_tenths(self) -> bool:
        """True if a tenth of the clients is one at least; of fewer the table of clients says more."""
        return self._evaluated.get("clients", 0) >= 10

    def table(self, summary: dict[str, Any]) -> list[tuple[str, str]]:
        """Return the names and values of the end; of ``summary`` it reads times, totals, best and claim."""
        rows = [
            ("rounds", f"{self.round:,} of {self.run.rounds:,}"),
            ("time", duration(float(summary.get("seconds", self._seconds)))),
            *((f"train.{name}", number(value)) for name, value in self._train.items()),
            *((f"test.{name}", number(value)) for name, value in self._test.items()),
        ]
        for view, metrics in self._clients.items():
            for name, spread in metrics.items():
                mean, low, high = (number(spread.get(which)) for which in ("mean", "p10", "p90"))
                ends = f" (10 % of clients up to {low}, 10 % from {high} on)" if self._has_tenths else ""
                rows.append((f"{VIEWS[view]}.{name}", f"{mean}{ends}"))
        if best := summary.get("best"):
            kept = f", in {best['file']}" if "file" in best else ""
            rows.append(("best", f"{best['metric']} {number(best['value'])} in round {best['round']:,}{kept}"))
        if claim := summary.get("privacy", {}).get("claim"):
            rows.append(("privacy", claim))
        everybody, known = self._evaluated.get("clients", 0), self._evaluated.get("taken_part")
        if known is not None and known < everybody:
            new = f"{everybody - known:,} of {counted(everybody, 'client')}"
            rows.append(("newcomers", f"{new} have not taken part yet, and are evaluated as such"))
        if missing := self._evaluated.get("missing"):
            everybody += missing
            rows.append(
                ("not evaluated", f"{missing:,} of {counted(everybody, 'client')}, whose data nobody could reach")
            )
        # Those before a resume too, of which no record tells here.
        everyone = summary.get("totals", {}).get("failures")
        if failed := self._failed if everyone is None else sum(everyone.values()):
            rows.append(("failed", f"{counted(failed, 'time')} a client gave no update{self._first_failure}"))
        return rows


def at_the_end(run_dir: Path, summary: dict[str, Any], hints: Sequence[str]) -> list[str]:
    """Return the lines below the table at the end: a doubt, the run folder, how to go on, how to look at all."""
    lines = [str(summary[ONE_ANSWER])] if ONE_ANSWER in summary else []
    lines.append(f"run folder: {run_dir}")
    if limit := summary.get("budget") or summary.get("early_stopped"):
        lines.append(f"{limit}; to go on: {to_go_on(run_dir, limit_in(limit))}")
    return [*lines, *hints]


def number(value: float | None) -> str:
    """Return a value in four digits."""
    return "nan" if value is None else f"{value:.4g}"


def _pace(seconds: float) -> str:
    value, unit = (1 / seconds, "rounds/s") if seconds < 1 else (seconds, "s/round")
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:,.0f} {unit}"


def duration(seconds: float) -> str:
    """Return minutes and seconds, with hours where there are any.

    >>> duration(0.4), duration(61), duration(36061)
    ('0:00', '1:01', '10:01:01')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

"""The table of runs in a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fedray.cli.common import duration
from fedray.experiment.runs import Listed

_COLOURS = {"running": "cyan", "finished": "green", "failed": "red", "interrupted": "red", "damaged": "red"}
_UNBOUNDED = 1_000_000


@dataclass(frozen=True)
class RunTable:
    """A table of runs; where it has no room, without the columns that one can do without best.

    A metric that all runs have is named once, in the head; why runs failed stands below.

    Args:
        listed: the runs.
        now: seconds since the epoch, for ages.
    """

    listed: Sequence[Listed]
    now: float

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the table."""
        columns = {name: cells for name, cells in self._columns().items() if any(cells)}
        for spare in (None, "changed", "last", "time"):
            if spare is not None:
                columns.pop(spare, None)
            made = _grid(columns, [_COLOURS.get(one.state, "") for one in self.listed])
            if Measurement.get(console, options.update_width(_UNBOUNDED), made).maximum <= options.max_width:
                break
        yield made
        for one in self.listed:
            if one.error:
                yield Text(f"{one.folder}: {one.error}")

    def _columns(self) -> dict[str, list[str]]:
        listed = self.listed
        metrics = {one.metric for one in listed if one.metric}
        shared = next(iter(metrics)) if len(metrics) == 1 else None
        return {
            "run": [one.folder for one in listed],
            "state": [one.state for one in listed],
            "rounds": ["" if one.state == "damaged" else f"{one.round:,}/{_count(one.rounds)}" for one in listed],
            f"best {shared}" if shared else "best": [_best(one, shared) for one in listed],
            "last": ["" if one.metric is None else _value(one.last) for one in listed],
            "time": [_time(one) for one in listed],
            "changed": [f"{ago(max(0.0, self.now - one.changed))} ago" for one in listed],
        }


def _grid(columns: Mapping[str, Sequence[str]], colours: Sequence[str]) -> Table:
    made = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for name in columns:
        left = name in ("run", "state")
        made.add_column(name, justify="left" if left else "right", no_wrap=name != "run", overflow="fold")
    for line, colour in zip(zip(*columns.values(), strict=True), colours, strict=True):
        made.add_row(*(Text(cell, style=colour if i == 1 else "") for i, cell in enumerate(line)))
    return made


def _best(one: Listed, shared: str | None) -> str:
    if one.best is None:
        return ""
    return f"{'' if one.metric == shared else f'{one.metric} '}{one.best:.4g}, round {one.best_round:,}"


def _value(value: float | None) -> str:
    return "nan" if value is None else f"{value:.4g}"


def _count(rounds: int | None) -> str:
    return "?" if rounds is None else f"{rounds:,}"


def _time(one: Listed) -> str:
    if one.left is not None:
        return f"{duration(one.left)} left"
    return duration(one.seconds) if one.seconds else ""


def ago(seconds: float) -> str:
    """Return the largest unit of a duration.

    >>> ago(4.4), ago(7300)
    ('4 s', '2 h')
    """
    return " ".join(duration(seconds).split()[:2])

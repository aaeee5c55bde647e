"""The greedy search: one knob after the other, and another value only where it is faster beyond the noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from math import comb
from statistics import median
from typing import Any, Self

from fedray.core.errors import ConfigError, RunFailed

LEAST_GAIN = 0.05
"""The share of its time that another value must save: for less, a config is not worth another text."""


@dataclass(frozen=True)
class Probe:
    """The measurements of a short run.

    Args:
        seconds: of each measured round, the seconds of its training for each client; empty: there was none.
        stack: clients that stepped at once in the last of them.
        workers: the number of workers.
        rss: peak resident memory of a worker, in bytes.
        gpu_memory: peak memory that a worker has allocated on its GPUs, in bytes.
        error: the reason why there is nothing measured; empty: there is.
        refused: True if the config was refused before the run.
    """

    seconds: tuple[float, ...] = ()
    stack: int = 0
    workers: int = 0
    rss: int = 0
    gpu_memory: int = 0
    error: str = ""
    refused: bool = False


@dataclass(frozen=True)
class Candidate:
    """A value of a knob, as overrides of the config.

    Args:
        changes: the overrides.
        size: clients that are to step at once with it; None: as many as without it.
    """

    changes: tuple[str, ...]
    size: int | None = None


@dataclass(frozen=True)
class Row:
    """A candidate with what was measured of it.

    Args:
        changes: overrides, those of the knobs before included; empty: the config as it is.
        size: clients that were to step at once.
        seconds: the median of its rounds, in seconds of training for each client; None: there is none.
        low: the lower end of the median's interval, see :func:`interval`.
        high: the upper end.
        rounds: measured rounds.
        workers: as in :class:`Probe`, like the two that follow.
        rss: bytes.
        gpu_memory: bytes.
        note: the reason why it cannot be chosen; empty: it can.
        again: True of the second measurement of what was picked, and of the config beside it.
    """

    changes: tuple[str, ...]
    size: int
    seconds: float | None = None
    low: float = 0.0
    high: float = 0.0
    rounds: int = 0
    workers: int = 0
    rss: int = 0
    gpu_memory: int = 0
    note: str = ""
    again: bool = False

    @classmethod
    def of(cls, changes: tuple[str, ...], size: int, probe: Probe) -> Self:
        """Return the row of a measurement."""
        if not probe.seconds:
            return cls(changes, size, note=probe.error or "no round had a client")
        few = f"{probe.stack} clients stepped at once, not {size}: memory was short, or they do not step together so"
        low, high = interval(probe.seconds)
        return cls(
            changes, size, median(probe.seconds), low, high, len(probe.seconds), probe.workers, probe.rss,
            probe.gpu_memory, few if probe.stack < size else probe.error,
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return it ready for JSON."""
        return {**asdict(self), "changes": list(self.changes)}

    @classmethod
    def from_json(cls, said: dict[str, Any]) -> Self:
        """Return the row of what ``to_json`` has returned."""
        return cls(**{**said, "changes": tuple(said["changes"])})


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Return an interval of the median with at least 95 % confidence, by the order of the values alone.

    Of fewer than six values it has them all, with less confidence: 94 % of five.

    >>> interval([5.0, 1.0, 2.0, 3.0, 9.0, 4.0, 6.0, 7.0, 8.0])
    (2.0, 8.0)

    Args:
        values: independent ones, at least one.
    """
    ranked, count = sorted(values), len(values)
    # The median misses the interval if at most `left_out` values lie on one side: so many heads of `count` coins.
    left_out, ways = 0, 1
    while 2 * (ways := ways + comb(count, left_out + 1)) <= 0.05 * 2**count:
        left_out += 1
    return ranked[left_out], ranked[count - 1 - left_out]


def pick(rows: Sequence[Row]) -> Row:
    """Return the first row that is as fast as the fastest, by less than :data:`LEAST_GAIN` or within the noise.

    The first of all is the pick so far, which stays where it is among those.

    Args:
        rows: the pick so far, then candidates, those that differ least from it first.
    """
    usable = [row for row in rows if row.seconds is not None and (row is rows[0] or not row.note)]
    if not usable:
        return rows[0]
    fastest = min(usable, key=lambda row: row.seconds or 0.0)
    assert fastest.seconds is not None
    near = fastest.seconds / (1.0 - LEAST_GAIN)
    return next(row for row in usable if row.low <= fastest.high or (row.seconds or 0.0) <= near)


def search(
    size: int, knobs: Sequence[Sequence[Candidate]], measure: Callable[[tuple[str, ...]], Probe]
) -> Iterator[tuple[Row, Row]]:
    """Measure the config as it is, then the candidates of each knob, with what was picked of the knobs before.

    What is picked in the end is measured once more beside the config as it is, and must be faster again: between two
    runs that lie far apart a machine may have got other work.

    Args:
        size: clients that step at once in the config as it is.
        knobs: the candidates of each knob.
        measure: does a short run with such overrides.

    Yields:
        Each row as it is measured, with the pick so far.

    Raises:
        ConfigError: the config is refused as it is.
        RunFailed: neither the config nor any candidate of the first knob comes to an end.
    """
    probe = measure(())
    if probe.refused:
        raise ConfigError(probe.error)
    own = picked = Row.of((), size, probe)
    yield own, picked
    for knob in knobs:
        rows = [picked]
        for one in knob:
            changes = (*picked.changes, *one.changes)
            row = Row.of(changes, picked.size if one.size is None else one.size, measure(changes))
            rows.append(row)
            yield row, pick(rows)
        picked = pick(rows)
        if picked.seconds is None:
            break
    if picked.seconds is None:
        raise RunFailed(f"no short run came to its end, that of the config as it is for: {own.note}")
    if picked is own or own.seconds is None:
        return
    beside = [replace(Row.of(row.changes, row.size, measure(row.changes)), again=True) for row in (own, picked)]
    yield beside[0], picked
    yield beside[1], picked if pick(beside) is beside[1] else own

"""The first round in which a metric reached a value, and what it took until then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fedray.core.errors import ConfigError
from fedray.core.monitor import Mode, Monitor, Unknown
from fedray.core.record import RoundRecord


@dataclass(frozen=True)
class Reached:
    """The round in which a metric first reached its target.

    Args:
        round: the number of rounds to the target.
        value: of the metric after that round.
        bytes: bytes that clients have received and sent, or would over a network, in all rounds up to there.
        seconds: wall time of all rounds up to there.
    """

    round: int
    value: float
    bytes: int
    seconds: float


def rounds_to(records: Sequence[RoundRecord], metric: str, target: float, mode: Mode = "auto") -> Reached | None:
    """Return the first round in which a metric was at least as good as its target; None: in no round.

    Rounds to a target accuracy are what FedAvg's paper compares algorithms by (arXiv:1602.05629, Table 2); it draws a
    line between two evaluations, and this counts the first round that was evaluated and is there.

    >>> records = [
    ...     RoundRecord(round, seconds=2.0, test={"accuracy": value}, bytes={"up": 10, "down": 10})
    ...     for round, value in enumerate([0.4, 0.7, 0.9, 0.8], 1)
    ... ]
    >>> rounds_to(records, "test.accuracy", 0.8)
    Reached(round=3, value=0.9, bytes=60, seconds=6.0)
    >>> rounds_to(records, "test.accuracy", 0.95) is None
    True

    Args:
        records: of a run, in order.
        metric: its name in records, ``test.accuracy`` or ``clients_test.loss.p90``.
        target: its value, in the unit of the metric.
        mode: ``min``: less is better; ``max``: more is better; ``auto``: ``min`` for losses and errors.

    Raises:
        ConfigError: no record can have such a metric, or none has it.
    """
    try:
        monitor = Monitor(metric, mode)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    unknown, seen, sent, seconds = "no record has it: nothing was evaluated that gives it", False, 0, 0.0
    for record in records:
        sent += record.bytes.get("up", 0) + record.bytes.get("down", 0)
        seconds += record.seconds
        try:
            value = monitor.value(record)
        except Unknown as error:
            unknown = str(error)
            continue
        seen = seen or value is not None
        if value is not None and (value <= target if monitor.direction == "min" else value >= target):
            return Reached(record.round, value, sent, seconds)
    if not seen:
        raise ConfigError(f"metric={metric}: {unknown}")
    return None

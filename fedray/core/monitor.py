"""A metric of the records that decides something: by its name, and by which of two values is the better one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from fedray.core.errors import listed
from fedray.core.record import VIEWS, RoundRecord, more_is_better

Mode = Literal["auto", "min", "max"]

SECTIONS = ("train", "test", *VIEWS.values(), "metrics")
"""The sections of a record that hold metrics; those of ``metrics`` stand there by the part that tells them."""


class Unknown(LookupError):
    """The error of a metric that a record does not have, where it has others of its section."""


@dataclass(frozen=True)
class Monitor:
    """A metric, and the direction in which it improves.

    >>> loss = Monitor("test.loss")
    >>> loss.value(RoundRecord(1, test={"loss": 0.5})), loss.better(0.4, than=0.5), loss.better(0.45, 0.5, by=0.1)
    (0.5, True, False)
    >>> Monitor("clients_test.accuracy.p10").value(RoundRecord(1, clients_test={"accuracy": {"p10": 0.7}}))
    0.7

    Args:
        metric: section and name, as they stand in a record: ``train.loss``, ``test.accuracy``,
            ``clients_test.accuracy`` (of all examples together), ``clients_personal.accuracy.p10``; and
            ``metrics.fedexp.step``, which a part tells.
        mode: ``min``: less is better; ``max``: more is better; ``auto``: by :func:`more_is_better`.

    Raises:
        ValueError: no such section or mode.
    """

    metric: str
    mode: Mode = "auto"

    def __post_init__(self) -> None:
        if self.section not in SECTIONS or not all(self.metric.split(".")) or "." not in self.metric:
            known = ", ".join(f"{section}.NAME" for section in SECTIONS)
            raise ValueError(f"metric={self.metric}: it must be one of {known}, such as test.loss")
        if self.mode not in ("auto", "min", "max"):
            raise ValueError(f"mode={self.mode}: it must be auto, min or max")

    @property
    def section(self) -> str:
        """The section of a record that it stands in."""
        return self.metric.partition(".")[0]

    @property
    def direction(self) -> Literal["min", "max"]:
        """``min`` where less is better, else ``max``."""
        if self.mode == "auto":
            return "max" if more_is_better(self.metric) else "min"
        return self.mode

    def value(self, record: RoundRecord) -> float | None:
        """Return its value in a record; None where that has nothing of the section, as no evaluation was due.

        What a part tells must be in the record of each round that some client took part in.

        Raises:
            Unknown: the record has other metrics there, which the message lists.
        """
        found: Any = getattr(record, self.section)
        silent = not record.clients.get("ok") if self.section == "metrics" else not found
        if silent:
            return None
        names = self.metric.split(".")[1:]
        if self.section in VIEWS.values() and len(names) == 1:
            names.append("mean")
        for name in names:
            found = found[name] if isinstance(found, dict) and name in found else Unknown
        if found is Unknown or isinstance(found, dict):
            known = listed(self._known(record), none="nothing in its place")
            raise Unknown(f"no record has {self.metric}; there is {known}")
        return math.nan if found is None else float(found)  # a record that was read has nothing in the place of NaN

    def _known(self, record: RoundRecord) -> Iterator[str]:
        """Yield the metrics that a record has in the section."""
        for name, found in getattr(record, self.section).items():
            names = [f"{name}.{own}" for own in found] if self.section == "metrics" else [name]
            yield from (f"{self.section}.{name}" for name in names)

    def better(self, value: float, than: float | None, by: float = 0.0) -> bool:
        """Tell if a value is better than another (or none) by more than ``by``; one that is not finite never is."""
        if not math.isfinite(value):
            return False
        if than is None:
            return True
        return value < than - by if self.direction == "min" else value > than + by

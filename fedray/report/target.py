"""Rounds to a target: the first round in which each setting is as good as is asked, and what it took until then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fedray.core.errors import ConfigError
from fedray.core.record import RoundRecord
from fedray.core.target import Reached, rounds_to
from fedray.experiment.status import known_sections
from fedray.report.blocks import Block, Cell, Table
from fedray.report.told import Setting


@dataclass(frozen=True)
class Target:
    """A metric and the value that it is to reach.

    Args:
        metric: its name in records, such as ``test.accuracy``.
        value: in the unit of the metric.
    """

    metric: str
    value: float

    @classmethod
    def of(cls, text: str) -> Target:
        """Read it from a command line.

        >>> Target.of("test.accuracy=0.8")
        Target(metric='test.accuracy', value=0.8)

        Raises:
            ConfigError: there is no metric with a number.
        """
        metric, _, value = text.partition("=")
        try:
            return cls(metric, float(value))
        except ValueError:
            raise ConfigError(f"--target {text}: a metric and its value are needed, as in test.accuracy=0.8") from None


def target_blocks(settings: Sequence[Setting], target: Target | None) -> Iterator[Block]:
    """Yield the rounds to a target of some settings, each the mean over its runs that reached it.

    A setting whose runs have no such metric, as ``test.accuracy`` where no central model is tested, has a dash.

    Raises:
        ConfigError: no run has the metric.
    """
    if target is None:
        return
    rows: list[list[Cell]] = []
    known, lacking = False, ConfigError("no run")
    for one in settings:
        told = [[RoundRecord.from_json(known_sections(record)) for record in run.records] for run in one.runs]
        found, without = list[Reached](), 0
        for records in told:
            try:
                reached = rounds_to(records, target.metric, target.value)
            except ConfigError as error:
                lacking, without = error, without + 1
                continue
            known = True
            found += [] if reached is None else [reached]
        costs = [[one.round, one.bytes / 1e6, one.seconds] for one in found]
        means: list[Cell] = [float(value) for value in np.mean(costs, axis=0)] if costs else [None] * 3
        rows.append([one.label, None if without == len(told) else f"{len(found)}/{len(told)}", *means])
    if not known:
        raise lacking
    head = ["setting" if len(settings) > 1 else "run", "reached", "rounds", "MB down and up", "seconds"]
    yield Table(
        head,
        rows,
        f"Rounds to {target.metric} {target.value:g}: the first evaluated round with it, and what all rounds up to it "
        "took; the mean over the runs that reached it. Seconds depend on the machine and on what else it did.",
    )

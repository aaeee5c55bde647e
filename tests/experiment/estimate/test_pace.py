"""The pace of a run: one block measured, the rest by its local steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fedray.core.messages import Block
from fedray.experiment.capacity import worker_count
from fedray.experiment.estimate.pace import FirstRound, measure
from fedray.run.executor import InlineExecutor
from fedray.run.worker import Item, Report
from tests.experiment.estimate.plans import prepared


def test_the_pace_scales_by_local_steps_and_workers(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = []
    original = InlineExecutor.run

    def timed(self: InlineExecutor, items: Sequence[Item], stopping: Callable[[], bool]) -> list[Report] | None:
        reports = original(self, items, stopping)
        assert reports is not None
        ran.append([item.clients.tolist() for item in items if isinstance(item, Block)])
        return [replace(report, seconds=4.0) for report in reports]

    monkeypatch.setattr(InlineExecutor, "run", timed)
    for workers, expected in ((1, 16.0), (2, 8.0), (8, 4.0)):
        config, plan, server = prepared(small, "local.stack=2", "cluster.name=ray", f"cluster.workers={workers}")
        first = FirstRound.of(plan)
        assert first is not None
        pace = measure(plan, config.place, server, first)
        assert worker_count(config.place) == workers
        assert (pace.clients, pace.steps, pace.block, pace.failures) == (2, 6, 4.0, ())
        assert pace.round == pytest.approx(expected)
    assert ran == [[[0, 1]]] * 6

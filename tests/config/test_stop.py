"""The section stop refuses what would stop nothing, or cannot be looked at."""

from __future__ import annotations

from typing import Any

import pytest

from fedray.config.binding import bind
from fedray.config.stop import StopSection
from fedray.core.errors import ConfigError


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"metric": "test.loss", "patience": 0}, "stop: patience=0: it must be at least 1"),
        ({"metric": "test.loss", "min_delta": -0.1}, "stop: min_delta=-0.1: it must be at least 0"),
        ({"metric": "test.loss", "mode": "least"}, "stop.*mode"),
        ({"metric": "loss"}, "stop: metric=loss: it must be one of train.NAME, test.NAME, clients_test.NAME"),
        ({"patience": 5}, "stop: metric: a value is needed, such as test.loss"),
        ({"mode": "max"}, "stop: metric: a value is needed"),
        ({"min_delta": 0.1}, "stop: metric: a value is needed"),
        ({"metric": "test.loss", "patiance": 5}, r"stop.patiance: unknown key \(did you mean 'patience'\?\)"),
    ],
)
def test_what_makes_no_sense_is_named(node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        bind(StopSection, node, "stop")


def test_by_default_nothing_is_stopped() -> None:
    assert bind(StopSection, None, "stop").metric is None
    assert bind(StopSection, {"metric": "test.accuracy"}, "stop").monitor.direction == "max"
